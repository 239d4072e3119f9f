// The fuzz body of a whole click: whatever a visitor sends, the answer is one well-formed redirect to
// the destination's own scheme and host, and the record can be read again.
internal import EdgeCore
internal import Tracking

final class FuzzClick {
    private var engine = ClickEngine(
        clickKey: SipHashKey(first: 1, second: 2), privacy: .full, honourGPC: true,
        minter: ClickIDMinter(ring: 5, floorMilliseconds: 0, leaseMilliseconds: .max))
    private var clock = LoopClock()
    private let tables: EdgeTables?
    private let response = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ClickEngine.maximumResponseBytes, alignment: 16)
    private let record = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ClickRecord.maximumBytes, alignment: 16)

    init() {
        clock.update(wallMicroseconds: 1_772_366_400_000_000)
        tables = FuzzClick.makeTables(day: clock.day)
    }

    deinit {
        response.deallocate()
        record.deallocate()
    }

    private static func makeTables(day: Day) -> EdgeTables? {
        let merchant = EntityID(high: 0x1111, low: 0x2222)
        let influencer = EntityID(high: 0x3333, low: 0x4444)
        func link(_ number: UInt64, _ slug: String, _ destination: String) -> LinkDefinition {
            var link = LinkDefinition(
                id: EntityID(high: 0x5555, low: number), merchantID: merchant,
                influencerID: influencer, slug: Array(slug.utf8),
                destination: Array(destination.utf8))
            link.forwardsQuery = true
            return link
        }
        let (table, rejected) = LinkTable.build(
            links: [
                link(1, "a", "https://shop.example/a?own=1#end"),
                link(
                    2, "b",
                    "https://shop.example/{sub1}/{_utm_source}?c={click_id}&s={sub2}&r={referrer_host}"
                        + "&l={language}&x={slug}"),
            ],
            merchants: [], domains: [], seed: SipHashKey(first: 3, second: 4))
        guard rejected.isEmpty else { return nil }
        return EdgeTables(
            links: table, overlay: nil, merchants: MerchantDirectory([]),
            visitorKeys: VisitorKeys(
                VisitorKeys.Entry(day: day, key: SipHashKey(first: 9, second: 9))),
            merchantsAsOf: nil)
    }

    /// The input is a request, or, when its first byte is below 0x80, what stands behind `GET /b?`.
    func redirect(_ input: UnsafeRawBufferPointer) -> String? {
        guard let tables, let first = input.first else { return tables == nil ? "no tables" : nil }
        var bytes = Array(input.dropFirst())
        if first < 0x80 {
            let slug = first & 1 == 0 ? "a" : "b"
            bytes =
                Array("GET /\(slug)?".utf8) + bytes
                + Array(
                    " HTTP/1.1\r\nHost: go.example\r\nReferer: https://www.instagram.com/p\r\n\r\n"
                        .utf8)
        }
        return bytes.withUnsafeBytes { request in
            var head = RequestHead()
            guard RequestParser.parse(request, limit: 16_384, into: &head) == .complete,
                case .redirect = Router.route(&head, request)
            else { return nil }
            let answer = tables.withView { view in
                engine.answer(
                    &head, request,
                    client: ClientAddress(high: 0x0102_0304 << 32, low: 0, isIPv6: false),
                    place: ClickPlace(), clock: clock, tables: view, record: record,
                    response: response)
            }
            return check(answer)
        }
    }

    private func check(_ answer: ClickAnswer) -> String? {
        guard answer.responseBytes > 0, answer.responseBytes <= response.count,
            answer.recordBytes <= record.count
        else { return "\(answer.responseBytes) bytes" }
        let text = UnsafeRawBufferPointer(rebasing: response[..<answer.responseBytes])
        var lines = 0
        var locations = 0
        var start = 0
        let opening = Array("Location: https://shop.example/".utf8)
        for index in 0..<text.count {
            let byte = text[index]
            if byte >= 0x7F || byte < 0x20 && byte != 0x0D && byte != 0x0A { return "byte \(byte)" }
            if byte == 0x0D, index + 1 >= text.count || text[index + 1] != 0x0A {
                return "a bare CR"
            }
            guard byte == 0x0A else { continue }
            lines += 1
            let line = text[start..<index]
            start = index + 1
            if line.starts(with: Array("Location:".utf8)) {
                locations += 1
                guard line.starts(with: opening) else { return "another host" }
                guard !line.dropFirst(10).dropLast().contains(0x20) else { return "a space" }
            }
        }
        guard lines <= 12 else { return "\(lines) lines" }
        let isRedirect = text.dropFirst(9).first == UInt8(ascii: "3")
        guard locations == (isRedirect ? 1 : 0) else { return "\(locations) Locations" }
        guard answer.recordBytes > 0 else { return nil }
        let written = UnsafeRawBufferPointer(rebasing: record[..<answer.recordBytes])
        return ClickRecord(payload: written) == nil ? "an unreadable record" : nil
    }
}
