// How `clickctl ring dump` shows a record. Nothing of a ring's secret, and of an address only what the
// record holds; texts from outside only on demand.
internal import LinuxIO
internal import RingLog
internal import Telemetry
internal import Tracking

enum RecordText {
    /// The kinds' names.
    static let kinds = ["click", "conversion", "refusal", "drop"]

    /// A kind's name; `unknown` for one that this release does not know.
    static func name(_ kind: UInt8) -> String {
        switch RecordKind(rawValue: kind) {
        case .click: "click"
        case .conversion: "conversion"
        case .refusal: "refusal"
        case .drop: "drop"
        case nil: "unknown"
        }
    }

    /// Whether the payload is what its kind says; an unknown kind is, since a later release made it.
    static func isReadable(_ record: StoredRecord) -> Bool {
        switch RecordKind(rawValue: record.kind) {
        case .click: ClickRecord(payload: record.payload) != nil
        case .conversion: ConversionRecord(payload: record.payload) != nil
        case .refusal: RefusalRecord(payload: record.payload) != nil
        case .drop: DropRecord(payload: record.payload) != nil
        case nil: true
        }
    }

    /// One record as an object.
    static func write(
        _ record: StoredRecord, ring: UInt16, uuid: EntityID, withTexts: Bool,
        to json: inout JSONText
    ) {
        json.beginObject()
        json.member("ring", ring)
        json.member("uuid", uuid.description)
        json.member("sequence", record.sequence)
        json.member("kind", name(record.kind))
        json.member("place", record.isSpooled ? "spool" : "ring")
        json.member("bytes", record.payload.count)
        switch RecordKind(rawValue: record.kind) {
        case .click:
            guard let click = ClickRecord(payload: record.payload) else { break }
            write(click, withTexts, to: &json)
        case .conversion:
            guard let conversion = ConversionRecord(payload: record.payload) else { break }
            write(conversion, withTexts, to: &json)
        case .refusal:
            guard let refusal = RefusalRecord(payload: record.payload) else { break }
            write(refusal, to: &json)
        case .drop:
            guard let drop = DropRecord(payload: record.payload) else { break }
            json.member("clicks_dropped", drop.count)
            json.member("first_at", drop.firstAt.description)
            json.member("last_at", drop.lastAt.description)
        case nil: break
        }
        if !isReadable(record) { json.member("undecodable", true) }
        json.endObject()
    }

    private static func write(_ click: ClickRecord, _ withTexts: Bool, to json: inout JSONText) {
        json.member("click_id", click.clickID.rawValue)
        json.member("clicked_at", click.clickID.clickedAt.description)
        json.member("link_id", click.linkID.description)
        json.member("merchant_id", click.merchantID.description)
        json.member("influencer_id", click.influencerID.description)
        json.member("visitor_id", click.visitorID == 0 ? nil : click.visitorID)
        json.member("ip", address(click))
        json.member("country", country(click.country))
        json.member("city", click.cityID == 0 ? nil : click.cityID)
        json.member("flags", click.flags.rawValue)
        json.member(
            "invalid_reason", InvalidReason(rawValue: click.invalidReason).map(\.name))
        guard withTexts else { return }
        for (name, text) in [
            ("user_agent", click.userAgent), ("referrer_host", click.referrerHost),
            ("language", click.language), ("utm_source", click.utmSource),
            ("aff_click_id", click.affiliateClickID), ("source_id", click.sourceID),
            ("variant", click.variant), ("region", click.region),
        ] where !text.isEmpty { json.member(name, String(decoding: text, as: UTF8.self)) }
        json.array("sub_ids") { json in
            for index in 0..<min(click.subIDCount, ClickRecord.maximumSubIDs) {
                let text = click.subIDs[index]
                if text.baseAddress == nil {
                    json.null()
                } else {
                    json.value(String(decoding: text, as: UTF8.self))
                }
            }
        }
    }

    private static func write(
        _ record: ConversionRecord, _ withTexts: Bool, to json: inout JSONText
    ) {
        func text(_ bytes: [UInt8]?) -> String? {
            bytes.map { String(decoding: $0, as: UTF8.self) }
        }
        json.member("conversion_id", record.conversionID.description)
        json.member("merchant_id", record.merchantID.description)
        json.member("event", record.event.name)
        json.member("status", record.status.name)
        json.member("channel", record.channel.name)
        json.member("verified", record.flags.contains(.verified))
        json.member("received_at", record.receivedAt.description)
        json.member("event_time", record.eventTime.description)
        json.member("order_id", text(record.orderID))
        json.member("refund_id", record.refundID.isEmpty ? nil : text(record.refundID))
        json.member("amount_minor", record.flags.contains(.hasAmount) ? record.amountMinor : nil)
        json.member("currency", record.currency.letters)
        json.member("click_id", record.clickID?.rawValue)
        json.array("click_path") { json in
            for click in record.clickPath { json.value(click.rawValue) }
        }
        json.member("items_bytes", record.items.count)
        guard withTexts else { return }
        json.member("coupon_code", text(record.couponCode))
        json.member("customer_id", text(record.customerID))
        json.member("message_id", text(record.messageID))
        for (index, field) in record.advertiserFields.enumerated() where field != nil {
            json.member("adv\(index + 1)", text(field))
        }
        json.member("items", record.items.isEmpty ? nil : text(record.items))
    }

    private static func write(_ record: RefusalRecord, to json: inout JSONText) {
        json.member("received_at", record.receivedAt.description)
        json.member(
            "merchant_id", record.merchantID == .zero ? nil : record.merchantID.description)
        json.member("channel", record.channel.name)
        json.member("http_status", record.httpStatus)
        json.member("field", String(decoding: record.field, as: UTF8.self))
        json.member("reason", String(decoding: record.reason, as: UTF8.self))
        json.member("order_id", record.orderID.map { String(decoding: $0, as: UTF8.self) })
    }

    private static func address(_ click: ClickRecord) -> String? {
        guard click.flags.contains(.hasAddress) else { return nil }
        let words = [click.address.0.littleEndian, click.address.1.littleEndian]
        let bytes = words.withUnsafeBytes { Array($0) }
        let isIPv6 = click.flags.contains(.ipv6)
        let text = SocketAddress(bytes: Array(bytes.prefix(isIPv6 ? 16 : 4)), port: 0).description
        return String(text.dropLast(2).filter { $0 != "[" && $0 != "]" })
    }

    private static func country(_ letters: UInt16) -> String? {
        guard letters != 0 else { return nil }
        let bytes = [UInt8(truncatingIfNeeded: letters), UInt8(letters >> 8)]
        return String(decoding: bytes, as: UTF8.self)
    }

    /// An object as `name=value` words on one line that no terminal takes for a command.
    static func line(_ json: String) -> String {
        Report.plain(String(json.dropFirst().dropLast()))
            .replacing("\":", with: "=").replacing(",\"", with: " ").dropFirst().description
    }
}
