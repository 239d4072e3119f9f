// Record payloads: what is written comes back, what breaks off or lies is refused.
import Testing
import Tracking

@Suite("Records")
struct RecordTests {
    private func conversion() throws -> ConversionRecord {
        var record = ConversionRecord(
            conversionID: EntityID(high: 1, low: 2), merchantID: EntityID(high: 3, low: 4),
            event: .sale,
            status: .completed, channel: .api, flags: [.verified, .hasAmount],
            receivedAt: Timestamp(milliseconds: 5), eventTime: Timestamp(milliseconds: 6),
            amountMinor: 7,
            currency: try #require(Currency("EUR")), orderID: Array("A-1".utf8))
        record.couponCode = Array("SUMMER".utf8)
        record.customerID = []
        record.advertiserFields[4] = Array("five".utf8)
        record.messageDigest = [UInt8](0..<32)
        record.clickID = ClickID(rawValue: 99)
        record.clickPath = (0..<20).compactMap { ClickID(rawValue: $0) }
        record.items = Array("[{}]".utf8)
        return record
    }

    @Test("A conversion comes back whole")
    func conversionRoundTrip() throws {
        let record = try conversion()
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: ConversionRecord.maximumBytes, alignment: 8)
        defer { buffer.deallocate() }
        let count = record.write(to: buffer)
        #expect(
            ConversionRecord(payload: UnsafeRawBufferPointer(rebasing: buffer[..<count])) == record)
        for length in 0..<count {
            #expect(
                ConversionRecord(payload: UnsafeRawBufferPointer(rebasing: buffer[..<length]))
                    == nil)
        }
    }

    @Test("The largest conversion fits")
    func largestConversion() throws {
        var record = try conversion()
        let long = [UInt8](repeating: 65, count: 255)
        record.orderID = long
        record.refundID = long
        record.couponCode = long
        record.customerID = long
        record.messageID = long
        record.advertiserFields = Array(repeating: long, count: 5)
        record.items = [UInt8](repeating: 66, count: 65_536)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: ConversionRecord.maximumBytes, alignment: 8)
        defer { buffer.deallocate() }
        let count = record.write(to: buffer)
        #expect(count <= ConversionRecord.maximumBytes)
        #expect(
            ConversionRecord(payload: UnsafeRawBufferPointer(rebasing: buffer[..<count])) == record)
    }

    @Test("A click comes back whole, texts cut at a character, absent sub-ids absent")
    func clickRoundTrip() throws {
        let id = try #require(ClickID(rawValue: 12345))
        let agent = [UInt8](repeating: 0x61, count: 511) + Array("é".utf8)
        let sub = Array("sub".utf8)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: ClickRecord.maximumBytes, alignment: 8)
        defer { buffer.deallocate() }
        let count = agent.withUnsafeBytes { agentBytes in
            sub.withUnsafeBytes { subBytes in
                var record = ClickRecord(
                    clickID: id, linkID: EntityID(high: 1, low: 2),
                    merchantID: EntityID(high: 3, low: 4),
                    influencerID: EntityID(high: 5, low: 6))
                record.userAgent = agentBytes
                record.subIDs[2] = subBytes
                record.subIDCount = 3
                record.flags = [.ipv6, .hasAddress]
                record.invalidReason = InvalidReason.paused.rawValue
                record.visitorID = 77
                record.country = 0x5246
                return record.write(to: buffer)
            }
        }
        let payload = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        let read = try #require(ClickRecord(payload: payload))
        #expect(read.clickID == id && read.influencerID == EntityID(high: 5, low: 6))
        #expect(read.userAgent.count == 511)
        #expect(
            read.subIDCount == 3 && read.subIDs[0].baseAddress == nil
                && Array(read.subIDs[2]) == sub)
        #expect(
            read.visitorID == 77 && read.country == 0x5246 && read.flags == [.ipv6, .hasAddress])
        for length in 0..<count {
            #expect(
                ClickRecord(payload: UnsafeRawBufferPointer(rebasing: buffer[..<length])) == nil)
        }
    }

    @Test("Any bytes are read without a trap")
    func noise() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var noise = (0..<Int.random(in: 0...400, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if !noise.isEmpty { noise[0] = 1 }
            noise.withUnsafeBytes {
                _ = ClickRecord(payload: $0)
                _ = ConversionRecord(payload: $0)
                _ = RefusalRecord(payload: $0)
            }
        }
    }
}
