// What is written of a click: the record, and the answers that record nothing.
internal import Tracking

extension ClickEngine {
    /// Writes the record of a click.
    /// - Returns: Its bytes.
    @inline(__always)
    func write(
        _ clickID: ClickID, _ visit: inout Visit, _ reason: UInt8, isPrefetch: Bool,
        isRapid: Bool, client: ClientAddress, visitorKey: SipHashKey?,
        to memory: UnsafeMutableRawBufferPointer
    ) -> Int {
        guard let link = visit.link else { return 0 }
        var record = ClickRecord(
            clickID: clickID, linkID: link.id, merchantID: link.merchantID,
            influencerID: link.influencerID)
        let isAnonymous = visit.noTrack || (honoursGPC && visit.hasGPC)
        let isNonNavigational = visit.isNonNavigational
        if isAnonymous { record.flags.insert(.anonymous) }
        if visit.isQR { record.flags.insert(.qr) }
        if visit.merchant.isSuspended { record.flags.insert(.merchantSuspended) }
        if visit.merchant.isOverQuota { record.flags.insert(.overQuota) }
        if isNonNavigational { record.flags.insert(.nonNavigational) }
        record.invalidReason =
            reason != 0
            ? reason
            : visit.noTrack
                ? InvalidReason.noTrack.rawValue
                : isPrefetch
                    ? InvalidReason.prefetch.rawValue
                    : isRapid
                        ? InvalidReason.velocity.rawValue
                        : isNonNavigational ? InvalidReason.nonNavigational.rawValue : 0
        record.userAgent = TextDecoding.header(
            visit.head.pointee.userAgent.slice(of: visit.bytes), limit: Scratch.userAgentBytes,
            scratch: scratch + Scratch.userAgent)
        if !isAnonymous, let visitorKey {
            record.visitorID = visitorIdentity(client, record.userAgent, visitorKey)
        }
        store(client, in: &record)
        record.country = visit.place.country
        record.cityID = visit.place.cityID
        record.region = visit.place.region
        record.referrerHost = visit.referrerHost
        record.language = visit.language
        record.utmSource = visit.utmSource
        record.affiliateClickID = visit.affiliateClickID
        record.sourceID = visit.sourceID
        if visit.subIDCount > 0 {
            record.subIDs = visit.subIDs
            record.subIDCount = visit.subIDCount
        }
        return record.write(to: memory)
    }

    /// The day's identity of a visitor: 63 bits over the full address and the user agent, never 0.
    @inline(__always)
    private func visitorIdentity(
        _ client: ClientAddress, _ userAgent: UnsafeRawBufferPointer, _ key: SipHashKey
    ) -> UInt64 {
        let agent = SipHash24.hash(userAgent, key: key)
        let parts = (client.high.littleEndian, client.low.littleEndian, agent.littleEndian)
        let identity = withUnsafeBytes(of: parts) { SipHash24.hash($0, key: key) } >> 1
        return identity == 0 ? 1 : identity
    }

    /// The address as the privacy setting lets it be stored: /24, /48, all or nothing.
    ///
    /// The swap puts its bytes into the record in network order.
    @inline(__always)
    private func store(_ client: ClientAddress, in record: inout ClickRecord) {
        switch privacy {
        case .none: return
        case .full: record.address = (client.high.byteSwapped, client.low.byteSwapped)
        case .truncate:
            let mask: UInt64 = client.isIPv6 ? 0xFFFF_FFFF_FFFF_0000 : 0xFFFF_FF00_0000_0000
            record.address = ((client.high & mask).byteSwapped, 0)
        }
        record.flags.insert(.hasAddress)
        if client.isIPv6 { record.flags.insert(.ipv6) }
    }

    /// An unknown slug: the domain's default, else 404.
    ///
    /// Nothing is recorded.
    func unknown(
        _ visit: inout Visit, _ tables: UnsafePointer<EdgeTableView>, _ clock: borrowing LoopClock,
        _ closing: Bool, _ response: UnsafeMutableRawBufferPointer
    ) -> ClickAnswer {
        guard !visit.meetsDamage else {
            return fixed(.notLoaded, visit.head, clock, closing, response)
        }
        guard let program = visit.domainDefault(in: tables), let output = response.baseAddress
        else {
            return fixed(.notFound, visit.head, clock, closing, response)
        }
        let closes = closing || !visit.head.pointee.keepAlive || visit.head.pointee.hasBody
        visit.readQuery()
        visit.readReferrer()
        visit.readLanguage()
        let written = visit.writeRedirect(
            program, status: 302, isDestination: false, closes: closes, clock: clock, to: output)
        guard written > 0 else { return fixed(.notFound, visit.head, clock, closing, response) }
        return ClickAnswer(
            responseBytes: written, recordBytes: 0, outcome: .domainDefault, isDropped: false,
            closes: closes)
    }

    /// 404, 410 and 503.
    func fixed(
        _ outcome: RedirectOutcome, _ head: UnsafePointer<RequestHead>,
        _ clock: borrowing LoopClock,
        _ closing: Bool, _ response: UnsafeMutableRawBufferPointer
    ) -> ClickAnswer {
        let status: UInt16
        let text: StaticString
        switch outcome {
        case .gone: (status, text) = (410, "Gone\n")
        case .notLoaded: (status, text) = (503, "Not ready\n")
        case .redirected, .fallback, .domainDefault, .head, .prefetch, .notFound:
            (status, text) = (404, "Not found\n")
        }
        let closes = closing || !head.pointee.keepAlive || head.pointee.hasBody
        var options = ResponseOptions(
            contentType: "text/plain; charset=utf-8", cacheControl: "no-store",
            retryAfterSeconds: outcome == .notLoaded ? 1 : 0,
            extraLines: "X-Robots-Tag: noindex\r\n")
        options.isOldRequest = head.pointee.minorVersion == 0
        let written = FixedResponse.write(
            status: status, text: text, options: options, closing: closes,
            omittingBody: head.pointee.method == .head, clock: clock, to: response)
        return ClickAnswer(
            responseBytes: written, recordBytes: 0, outcome: outcome, isDropped: false,
            closes: closes)
    }
}
