// Makes the store of the golden files: every identity, secret and time fixed, so that the same code
// gives the same bytes. `CLICKD_WRITE_GOLDEN=1` writes them anew, for a new format version only.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

/// What the golden store was made of.
enum GoldenStore {
    static let ringUUID = EntityID(high: 0x0102_0304_0506_4708, low: 0x890A_0B0C_0D0E_0F10)
    static let spoolUUID = EntityID(high: 0x1112_1314_1516_4718, low: 0x991A_1B1C_1D1E_1F20)
    static let nonce = EntityID(high: 0x0001_0203_0405_0607, low: 0x0809_0A0B_0C0D_0E0F)
    static let bootID = EntityID(high: 0x2122_2324_2526_4728, low: 0xA92A_2B2C_2D2E_2F30)
    static let linkID = EntityID(high: 0x3132_3334_3536_4738, low: 0xB93A_3B3C_3D3E_3F40)
    static let merchantID = EntityID(high: 0x4142_4344_4546_4748, low: 0x894A_4B4C_4D4E_4F50)
    static let influencerID = EntityID(high: 0x5152_5354_5556_4758, low: 0x995A_5B5C_5D5E_5F60)
    static let conversionID = EntityID(high: 0x6162_6364_6566_5768, low: 0xA96A_6B6C_6D6E_6F70)
    static let node: UInt8 = 3
    static let machine = "golden-machine"
    static let createdMicroseconds: Int64 = 1_800_000_000_000_000
    static let clickID = ClickID(
        millisecondsSinceEpoch: 95_932_800_000, ring: 96, sequence: 7)

    /// The files, by their names here and what they are called in a store.
    static let files = [
        (golden: "ring", path: "ring/ring-96-01020304.ring"),
        (golden: "segment", path: "spool/ring-96-000000000001.segment"),
        (golden: "identity", path: "spool/identity"),
    ]

    static func path(_ name: String, version: Int) -> String {
        let here = FileSystem.directory(of: #filePath)
        let root = CurrentProcess.environment("CLICKD_ROOT").map { "\($0)/Tests/RingLogTests" }
        return "\(root ?? here)/Golden/\(name)-\(version).hex"
    }

    /// Makes the store: five records spooled, three in the ring alone, the process gone.
    static func make(in directories: TestDirectories) throws {
        directories.bootID = bootID
        directories.machine = machine
        try FileSystem.makeDirectories(directories.root)
        try FileSystem.makeDirectories(directories.ring)
        try FileSystem.makeDirectories(directories.spool)
        var identity = SpoolIdentity(
            spoolUUID: spoolUUID, bootID: bootID, createdMicroseconds: createdMicroseconds,
            node: node, machine: Array(machine.utf8))
        identity.rings[0].ringUUID = ringUUID
        _ = try IdentityFile(directory: directories.spool, files: KernelFiles(), first: identity)
        _ = try RingMemory.create(
            "\(directories.root)/\(files[0].path)",
            header: RingHeader(
                ringUUID: ringUUID, nonce: nonce, spoolUUID: spoolUUID, bootID: bootID,
                bodyBytes: 262_144, createdMicroseconds: createdMicroseconds, ringID: 96,
                node: node))
        let store = try directories.open()
        var appender = store.appender(worker: 0)
        append(click, .click, to: &appender)
        append(conversion, .conversion, to: &appender)
        append(refusal, .refusal, to: &appender)
        append(emptyClick, .click, to: &appender)
        append(longConversion, .conversion, to: &appender)
        store.turnSpooler()
        append(drop, .drop, to: &appender)
        append(click, .click, to: &appender)
        append(conversion, .conversion, to: &appender)
        store.abandon()
    }

    private static func append(
        _ payload: [UInt8], _ kind: RecordKind, to appender: inout RingAppender
    ) {
        guard let room = appender.reserve(bytes: payload.count, priority: .conversion) else {
            Issue.record("no room")
            return
        }
        room.copyBytes(from: payload)
        _ = appender.commit(bytes: payload.count, kind: kind.rawValue)
    }

    // MARK: - Payloads

    static let click: [UInt8] = {
        var record = ClickRecord(
            clickID: clickID, linkID: linkID, merchantID: merchantID, influencerID: influencerID)
        record.flags = [.hasAddress, .qr]
        record.invalidReason = InvalidReason.prefetch.rawValue
        record.visitorID = 0x7172_7374_7576_7778
        record.address = (0x0000_0000_0002_00C0, 0)
        record.country = UInt16(UInt8(ascii: "F")) | UInt16(UInt8(ascii: "R")) << 8
        record.cityID = 2_988_507
        return text("Mozilla/5.0") { agent in
            text("fr") { language in
                text("sub") { sub in
                    record.userAgent = agent
                    record.language = language
                    record.subIDs[1] = sub
                    record.subIDCount = 2
                    return payload(ClickRecord.maximumBytes) { record.write(to: $0) }
                }
            }
        }
    }()

    static let emptyClick: [UInt8] = {
        var record = ClickRecord(
            clickID: clickID, linkID: linkID, merchantID: merchantID, influencerID: influencerID)
        return payload(ClickRecord.maximumBytes) { record.write(to: $0) }
    }()

    static func makeConversion(items: Int) -> ConversionRecord {
        var record = ConversionRecord(
            conversionID: conversionID, merchantID: merchantID, event: .subscription,
            status: .completed, channel: .api, flags: [.verified, .hasAmount, .hasCurrency],
            receivedAt: Timestamp(microseconds: createdMicroseconds + 1),
            eventTime: Timestamp(microseconds: createdMicroseconds + 2), amountMinor: 12_345,
            currency: Currency("EUR").unsafelyUnwrapped, orderID: Array("order-1".utf8))
        record.couponCode = Array("SAVE".utf8)
        record.clickID = clickID
        record.clickPath = [clickID]
        record.messageDigest = (0..<32).map { UInt8($0) }
        record.items = [UInt8](repeating: UInt8(ascii: " "), count: items)
        return record
    }

    static let conversion = payload(ConversionRecord.maximumBytes) {
        makeConversion(items: 2).write(to: $0)
    }
    static let longConversion = payload(ConversionRecord.maximumBytes) {
        makeConversion(items: 300).write(to: $0)
    }
    static let refusal = payload(RefusalRecord.maximumBytes) {
        RefusalRecord(
            receivedAt: Timestamp(microseconds: createdMicroseconds + 3), merchantID: merchantID,
            channel: .postback, httpStatus: 401, field: Array("sig".utf8),
            reason: Array("forged_token".utf8), orderID: nil
        ).write(to: $0)
    }
    static let drop = payload(DropRecord.bytes) {
        DropRecord(
            count: 9, firstAt: Timestamp(microseconds: createdMicroseconds + 4),
            lastAt: Timestamp(microseconds: createdMicroseconds + 5)
        ).write(to: $0)
    }

    private static func payload(
        _ limit: Int, _ write: (UnsafeMutableRawBufferPointer) -> Int
    ) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: limit, alignment: 16)
        defer { buffer.deallocate() }
        return Array(buffer[..<write(buffer)])
    }

    private static func text<Result>(
        _ text: StaticString, _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result {
        body(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
}

/// A file as text: its length, then 32 bytes a line; lines of zeros are left out.
enum HexDump {
    static func text(_ bytes: [UInt8]) -> String {
        var text = "bytes \(bytes.count)\n"
        for start in stride(from: 0, to: bytes.count, by: 32) {
            let line = bytes[start..<min(start + 32, bytes.count)]
            if line.allSatisfy({ $0 == 0 }) { continue }
            text += "\(start) \(hexadecimalText(line))\n"
        }
        return text
    }

    static func bytes(_ text: String) -> [UInt8]? {
        var result: [UInt8] = []
        for (index, line) in text.split(separator: "\n").enumerated() {
            let words = line.split(separator: " ")
            guard words.count == 2 else { return nil }
            if index == 0 {
                guard words[0] == "bytes", let count = Int(words[1]) else { return nil }
                result = [UInt8](repeating: 0, count: count)
                continue
            }
            guard let start = Int(words[0]) else { return nil }
            let digits = Array(words[1].utf8)
            for position in stride(from: 0, to: digits.count - 1, by: 2) {
                let pair = String(decoding: digits[position...position + 1], as: UTF8.self)
                guard let byte = UInt8(pair, radix: 16), start + position / 2 < result.count else {
                    return nil
                }
                result[start + position / 2] = byte
            }
        }
        return result
    }
}
