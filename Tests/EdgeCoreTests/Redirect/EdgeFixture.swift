// A small edge for tests: tables of a few links, an engine, and requests as text.
import EdgeCore
import Testing
import Tracking

/// What a request gave.
struct EdgeReply {
    var answer: ClickAnswer
    var text: String
    /// The record's payload.
    var record: [UInt8]

    var status: Int { Int(text.dropFirst(9).prefix(3)) ?? 0 }

    /// A header's value; nil when it is not there exactly once.
    func header(_ name: String) -> String? {
        // CR LF is one character in Swift; a redirect has no body that could look like a header.
        let lines = text.split(separator: "\r\n" as Character).filter {
            $0.hasPrefix("\(name): ")
        }
        guard lines.count == 1, let line = lines.first else { return nil }
        return String(line.dropFirst(name.count + 2))
    }

    var location: String? { header("Location") }

    /// Calls `body` with the record taken apart.
    func withRecord<Result>(_ body: (ClickRecord) throws -> Result) throws -> Result {
        try record.withUnsafeBytes { bytes in
            try body(try #require(ClickRecord(payload: bytes)))
        }
    }
}

/// Tables and an engine at a fixed time.
struct EdgeFixture: ~Copyable {
    static let merchant = EntityID(high: 0x1111_1111_1111_4111, low: 0x8111_1111_1111_1111)
    static let influencer = EntityID(high: 0x2222_2222_2222_4222, low: 0x8222_2222_2222_2222)
    static let link = EntityID(high: 0x3333_3333_3333_4333, low: 0x8333_3333_3333_3333)
    static let key = SipHashKey(first: 1, second: 2)
    static let seed = SipHashKey(first: 3, second: 4)
    /// 2026-03-01T12:00:00Z.
    static let now: Int64 = 1_772_366_400_000_000

    var engine: ClickEngine
    var clock = LoopClock()
    var tables: EdgeTables?
    var client = ClientAddress(high: 0x0102_0304_0000_0000, low: 0, isIPv6: false)
    var place = ClickPlace()

    init(
        privacy: AddressPrivacy = .truncate, honourGPC: Bool = true,
        leaseMilliseconds: Int64 = .max
    ) {
        engine = ClickEngine(
            clickKey: EdgeFixture.key, privacy: privacy, honourGPC: honourGPC,
            minter: ClickIDMinter(
                ring: 5, floorMilliseconds: 0, leaseMilliseconds: leaseMilliseconds))
        clock.update(wallMicroseconds: EdgeFixture.now)
    }

    /// A link of slug `a` to a destination.
    static func link(
        _ destination: String, slug: String = "a", domain: String = "",
        _ change: (inout LinkDefinition) -> Void = { _ in }
    ) -> LinkDefinition {
        var definition = LinkDefinition(
            id: link, merchantID: merchant, influencerID: influencer, domain: Array(domain.utf8),
            slug: Array(slug.utf8), destination: Array(destination.utf8))
        change(&definition)
        return definition
    }

    /// Loads links, each of which must be valid.
    mutating func load(
        _ links: [LinkDefinition], merchants: [MerchantDefinition] = [],
        domains: [DomainDefinition] = [], overlay: LinkTable? = nil
    ) {
        let (table, rejected) = LinkTable.build(
            links: links, merchants: merchants, domains: domains, seed: EdgeFixture.seed)
        #expect(rejected.isEmpty, "\(rejected)")
        tables = EdgeTables(
            links: table, overlay: overlay, merchants: MerchantDirectory(merchants),
            visitorKeys: VisitorKeys(
                VisitorKeys.Entry(day: clock.day, key: SipHashKey(first: 9, second: 9))),
            merchantsAsOf: nil)
    }

    /// Sends a request.
    mutating func send(
        _ target: String = "/a", method: String = "GET", host: String = "go.example",
        headers: [String] = [], version: String = "1.1", hasMemory: Bool = true,
        closing: Bool = false
    ) -> EdgeReply {
        let lines = headers.map { $0 + "\r\n" }.joined()
        let request = Array(
            "\(method) \(target) HTTP/\(version)\r\nHost: \(host)\r\n\(lines)\r\n".utf8)
        return send(bytes: request, hasMemory: hasMemory, closing: closing)
    }

    /// Sends the bytes of a request, which must be well formed.
    mutating func send(bytes: [UInt8], hasMemory: Bool = true, closing: Bool = false) -> EdgeReply {
        var record = [UInt8](repeating: 0xAA, count: ClickRecord.maximumBytes)
        var response = [UInt8](repeating: 0xAA, count: ClickEngine.maximumResponseBytes)
        var head = RequestHead()
        let verdict = bytes.withUnsafeBytes { RequestParser.parse($0, limit: 65_536, into: &head) }
        #expect(verdict == .complete)
        let answer = bytes.withUnsafeBytes { request in
            record.withUnsafeMutableBytes { record in
                response.withUnsafeMutableBytes { response in
                    let memory = hasMemory ? record : nil
                    guard let tables else {
                        return engine.answer(
                            &head, request, client: client, place: place, clock: clock, tables: nil,
                            closing: closing, record: memory, response: response)
                    }
                    return tables.withView { view in
                        engine.answer(
                            &head, request, client: client, place: place, clock: clock,
                            tables: view,
                            closing: closing, record: memory, response: response)
                    }
                }
            }
        }
        return EdgeReply(
            answer: answer,
            text: String(decoding: response[..<answer.responseBytes], as: UTF8.self),
            record: Array(record[..<answer.recordBytes]))
    }
}
