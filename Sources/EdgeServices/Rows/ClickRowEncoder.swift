// From a spooled click to a row of `clicks_logs`, straight into the COPY buffer.
internal import EdgeCore
internal import Postgres
internal import Tracking

/// Encodes click records; one flusher's memory of classifications and visitors lives here.
struct ClickRowEncoder {
    /// The columns of a row, in the order that it is encoded.
    static let columns = """
        click_id, clicked_at, link_id, influencer_id, merchant_id, visitor_id, ip, country, \
        region, city, device, os, browser, source, referrer_host, language, sub_ids, \
        aff_click_id, source_id, utm_source, variant, is_bot, is_unique, billing_mark, \
        invalid_reason
        """
    private static let columnCount: Int16 = 25

    private var visitorTraits: TraitCache<VisitorTraits>
    private var sources: TraitCache<TrafficSource>
    private var visitors: UniqueVisitors
    private var subIDs: [UnsafeRawBufferPointer] = []
    private let devices = WordTable(DeviceClass.self) { $0.name }
    private let systems = WordTable(OperatingSystem.self) { $0.name }
    private let browsers = WordTable(BrowserFamily.self) { $0.name }
    private let sourceNames = WordTable(TrafficSource.self) { $0.name }
    private let reasons = WordTable(InvalidReason.self) { $0.name }

    /// An encoder whose memories hash under a secret key.
    init(key: SipHashKey) {
        visitorTraits = TraitCache(key: key)
        sources = TraitCache(key: key)
        visitors = UniqueVisitors(key: key)
    }

    /// Where a click record's ID lies, for sorting by day without reading the rest; nil for bytes
    /// that are no click.
    static func clickID(of payload: UnsafeRawBufferPointer) -> ClickID? {
        guard payload.count >= ClickRecord.fixedBytes else { return nil }
        return ClickID(
            rawValue: UInt64(
                littleEndian: payload.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    /// Encodes a click and counts it; false for a payload that cannot be read, which adds nothing.
    ///
    /// - Complexity: O(payload); no allocation but the buffers' growth.
    mutating func encode(
        _ payload: UnsafeRawBufferPointer, into rows: inout CopyBuffer,
        counting hours: inout HourlyCounters, bots: inout Int
    ) -> Bool {
        guard let record = ClickRecord(payload: payload) else { return false }
        let agentHash = visitorTraits.hash(record.userAgent)
        let visitor = visitorTraits.value(of: agentHash) {
            VisitorTraits(userAgent: record.userAgent)
        }
        let source = source(of: record, agentHash: agentHash)
        let reason = invalidReason(of: record, visitor)
        if reason != 0, reasons.text(reason).isEmpty { return false }
        let day = record.clickID.clickedAt.day
        let isUnique =
            reason == 0 && !visitor.isBot && record.visitorID != 0
            && visitors.isFirst(
                day: day.number, visitor: record.visitorID, link: record.linkID,
                click: record.clickID.rawValue)
        appendRow(record, visitor, source, reason: reason, isUnique: isUnique, to: &rows)
        if visitor.isBot { bots += 1 }
        hours.count(
            HourlyCounters.Key(
                merchant: record.merchantID, link: record.linkID,
                hour: Int32(clamping: record.clickID.clickedAt.seconds / 3600)),
            influencer: record.influencerID, isBot: visitor.isBot, isInvalid: reason != 0,
            isUnique: isUnique)
        return true
    }

    private mutating func source(of record: ClickRecord, agentHash: UInt64) -> TrafficSource {
        let isQR = record.flags.contains(.qr)
        let referrer = record.referrerHost
        let agent = record.userAgent
        let utm = record.utmSource
        var hash = agentHash ^ (isQR ? 0x9E37_79B9_7F4A_7C15 : 0)
        // Rotations keep the three texts' hashes apart.
        if !referrer.isEmpty { hash ^= sources.hash(referrer) << 1 | sources.hash(referrer) >> 63 }
        if !utm.isEmpty { hash ^= sources.hash(utm) << 7 | sources.hash(utm) >> 57 }
        return sources.value(of: hash) {
            VisitorClassifier.source(
                referrerHost: referrer, userAgent: agent, utmSource: utm, isQR: isQR)
        }
    }

    /// What the edge decided stands; a bot that it did not look for is found here.
    private func invalidReason(of record: ClickRecord, _ visitor: VisitorTraits) -> UInt8 {
        if record.invalidReason != 0 { return record.invalidReason }
        if visitor.isBot { return InvalidReason.bot.rawValue }
        if record.flags.contains(.nonNavigational) { return InvalidReason.nonNavigational.rawValue }
        return 0
    }

    private mutating func appendRow(
        _ record: ClickRecord, _ visitor: VisitorTraits, _ source: TrafficSource,
        reason: UInt8, isUnique: Bool, to rows: inout CopyBuffer
    ) {
        rows.beginRow(columns: ClickRowEncoder.columnCount)
        rows.append(int64: Int64(truncatingIfNeeded: record.clickID.rawValue))  // 63 bits.
        rows.append(timestamp: record.clickID.clickedAt)
        rows.append(uuid: record.linkID)
        rows.append(uuid: record.influencerID)
        rows.append(uuid: record.merchantID)
        if record.visitorID == 0 || record.flags.contains(.anonymous) {
            rows.appendNull()
        } else {
            rows.append(int64: Int64(truncatingIfNeeded: record.visitorID & (UInt64.max >> 1)))
        }
        appendAddress(record, to: &rows)
        appendCountry(record.country, to: &rows)
        appendText(record.region, to: &rows)
        if record.cityID == 0 {
            rows.appendNull()
        } else {
            rows.append(text: String(record.cityID))
        }
        rows.append(text: devices.text(visitor.device.rawValue))
        rows.append(text: systems.text(visitor.system.rawValue))
        rows.append(text: browsers.text(visitor.browser.rawValue))
        rows.append(text: sourceNames.text(source.rawValue))
        appendText(record.referrerHost, to: &rows)
        appendText(record.language, to: &rows)
        appendSubIDs(record, to: &rows)
        appendText(record.affiliateClickID, to: &rows)
        appendText(record.sourceID, to: &rows)
        appendText(record.utmSource, to: &rows)
        appendText(record.variant, to: &rows)
        rows.append(bool: visitor.isBot)
        rows.append(bool: isUnique)
        appendBillingMark(record.flags, to: &rows)
        appendText(reasons.text(reason), to: &rows)
    }

    private func appendText(_ text: UnsafeRawBufferPointer, to rows: inout CopyBuffer) {
        if text.isEmpty { rows.appendNull() } else { rows.append(text: text) }
    }

    private func appendBillingMark(_ flags: ClickRecord.Flags, to rows: inout CopyBuffer) {
        if flags.contains(.merchantSuspended) {
            appendWord("merchant_suspended", to: &rows)
        } else if flags.contains(.overQuota) {
            appendWord("over_quota", to: &rows)
        } else {
            rows.appendNull()
        }
    }

    private func appendWord(_ word: StaticString, to rows: inout CopyBuffer) {
        rows.append(
            text: UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
    }

    private func appendCountry(_ country: UInt16, to rows: inout CopyBuffer) {
        guard country != 0 else { return rows.appendNull() }
        withUnsafeBytes(of: country.littleEndian) { rows.append(text: $0) }
    }

    /// The stored address with the prefix that its zero bits tell: /24 and /48 where it was
    /// truncated.
    private func appendAddress(_ record: ClickRecord, to rows: inout CopyBuffer) {
        guard record.flags.contains(.hasAddress) else { return rows.appendNull() }
        if record.flags.contains(.ipv6) {
            let high = record.address.0.byteSwapped
            let low = record.address.1.byteSwapped
            rows.append(inet6: high, low, prefix: low == 0 && high & 0xFFFF == 0 ? 48 : 128)
        } else {
            let address = UInt32(truncatingIfNeeded: record.address.0).byteSwapped
            rows.append(inet4: address, prefix: address & 0xFF == 0 ? 24 : 32)
        }
    }

    private mutating func appendSubIDs(_ record: ClickRecord, to rows: inout CopyBuffer) {
        guard record.subIDCount > 0 else { return rows.appendNull() }
        subIDs.removeAll(keepingCapacity: true)
        for index in 0..<record.subIDCount { subIDs.append(record.subIDs[index]) }
        rows.append(textArray: subIDs)
    }
}
