// One click: look up, decide, mint, write the record and the answer. Per loop; no allocation, no
// reference counting, no call into a class.
public import Tracking

/// The visitor's address: 16 bytes in two big-endian halves, IPv4 in the first four bytes.
public struct ClientAddress: BitwiseCopyable, Sendable, Equatable {
    /// Bytes 0...7.
    public var high: UInt64
    /// Bytes 8...15.
    public var low: UInt64
    /// Whether it is IPv6.
    public var isIPv6: Bool

    /// An address by its halves.
    @inline(__always) public init(high: UInt64, low: UInt64, isIPv6: Bool) {
        self.high = high
        self.low = low
        self.isIPv6 = isIPv6
    }
}

/// How much of an address is stored; `privacy.ip`.
public enum AddressPrivacy: Sendable {
    /// The /24 or /48.
    case truncate
    /// All of it.
    case full
    /// Nothing.
    case none
}

/// Where the visitor's address is, as the GeoIP database says.
public struct ClickPlace: BitwiseCopyable {
    /// ISO 3166 letters, first letter in the low byte; 0 for unknown.
    public var country: UInt16
    /// The GeoNames identity of the city; 0 for unknown.
    public var cityID: UInt32
    /// The ISO 3166-2 region, ASCII; must outlive the call.
    public var region: UnsafeRawBufferPointer

    /// A place; nothing is known of it unless given.
    @inline(__always)
    public init(
        country: UInt16 = 0, cityID: UInt32 = 0,
        region: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        self.country = country
        self.cityID = cityID
        self.region = region
    }
}

/// What became of a request for a link.
public enum RedirectOutcome: UInt8, CaseIterable, Sendable, BitwiseCopyable {
    /// To its destination.
    case redirected
    /// To its `fallback_url` or `expired_url`.
    case fallback
    /// An unknown slug, to its domain's default.
    case domainDefault
    /// HEAD of a link that would redirect.
    case head
    /// A prefetch, redirected.
    case prefetch
    /// 404.
    case notFound
    /// 410.
    case gone
    /// 503: nothing was ever loaded.
    case notLoaded
}

/// What ``ClickEngine/answer(_:_:client:place:clock:tables:closing:isRapid:record:response:)`` has written.
public struct ClickAnswer: BitwiseCopyable, Sendable {
    /// Bytes of the response.
    public var responseBytes: Int
    /// Bytes of the record; 0 when there is nothing to record.
    public var recordBytes: Int
    /// What became of the request.
    public var outcome: RedirectOutcome
    /// Whether a record should have been written but there was no memory or no identity for it: count
    /// the loss.
    public var isDropped: Bool
    /// Whether the response says `Connection: close`.
    public var closes: Bool
    /// Whether no link has the slug.
    public var isUnknown = false
}

/// Answers requests for links, on one loop.
///
/// `@unchecked Sendable`: it owns its scratch memory alone, and a thread takes over all of it.
public struct ClickEngine: ~Copyable, @unchecked Sendable {
    /// The largest response that the engine writes.
    public static let maximumResponseBytes = LinkLimits.locationBytes + 512

    let clickKey: SipHashKey
    let privacy: AddressPrivacy
    let honoursGPC: Bool
    var minter: ClickIDMinter
    let scratch: UnsafeMutableRawPointer

    /// An engine.
    ///
    /// - Parameters:
    ///   - clickKey: The key that tokens are minted with.
    ///   - privacy: How much of an address is stored.
    ///   - honourGPC: Whether Global Privacy Control makes a visitor anonymous.
    ///   - minter: Of the loop's ring.
    public init(
        clickKey: SipHashKey, privacy: AddressPrivacy, honourGPC: Bool, minter: ClickIDMinter
    ) {
        self.clickKey = clickKey
        self.privacy = privacy
        honoursGPC = honourGPC
        self.minter = minter
        scratch = .allocate(byteCount: Scratch.bytes, alignment: 16)
    }

    deinit {
        scratch.deallocate()
    }

    /// Milliseconds since the Unix epoch of the latest identity, for the lease.
    public var latestMilliseconds: Int64 { minter.latestMilliseconds }
    /// Takes in how far identities may be minted, in milliseconds since the Unix epoch.
    @inline(__always) public mutating func extend(leaseMilliseconds: Int64) {
        minter.extend(leaseMilliseconds: leaseMilliseconds)
    }
    /// No later click's identity lies before this, in milliseconds since the Unix epoch.
    @inline(__always) public func oldestMilliseconds(atMilliseconds now: Int64) -> Int64 {
        minter.oldestMilliseconds(atMilliseconds: now)
    }

    /// Answers `GET` or `HEAD` of a link.
    ///
    /// - Parameters:
    ///   - head: The parsed request, routed to ``Route/redirect(slug:)``; by its place, for it is too
    ///     large to be copied for each.
    ///   - bytes: The request's bytes, beginning with its first.
    ///   - client: The visitor's full address; it is hashed and cut before anything is written.
    ///   - place: Where the address is.
    ///   - clock: The loop's time.
    ///   - tables: Of ``TableReader/enter()``; nil makes it 503.
    ///   - closing: Whether the connection is to close whatever the client wants.
    ///   - isRapid: Whether the address clicks too fast, so that the click is marked `velocity`.
    ///   - record: Memory for ``ClickRecord/maximumBytes``; nil when ring and spool are full.
    ///   - response: Memory for ``maximumResponseBytes``.
    /// - Returns: What was written. The record must be committed before the response is sent.
    /// - Complexity: O(bytes); no allocation.
    public mutating func answer(
        _ head: UnsafePointer<RequestHead>, _ bytes: UnsafeRawBufferPointer, client: ClientAddress,
        place: ClickPlace, clock: borrowing LoopClock, tables: UnsafePointer<EdgeTableView>?,
        closing: Bool = false, isRapid: Bool = false, record: UnsafeMutableRawBufferPointer?,
        response: UnsafeMutableRawBufferPointer
    ) -> ClickAnswer {
        guard let tables, let output = response.baseAddress,
            response.count >= ClickEngine.maximumResponseBytes
        else {
            return fixed(.notLoaded, head, clock, closing, response)
        }
        var visit = Visit(head: head, bytes: bytes, place: place, now: clock.wall, scratch: scratch)
        guard let found = visit.find(in: tables) else {
            var answer = unknown(&visit, tables, clock, closing, response)
            answer.isUnknown = true
            return answer
        }
        guard let decision = LinkDecision(found.link, now: clock.wall) else {
            return fixed(.notFound, head, clock, closing, response)
        }
        guard let program = decision.program else {
            return fixed(decision.outcome, head, clock, closing, response)
        }
        visit.link = found.link
        visit.merchant = found.merchant
        visit.readQuery()
        visit.readReferrer()
        visit.readLanguage()
        var clickID: ClickID?
        if head.pointee.method == .get,
            let id = minter.mint(atMilliseconds: clock.wall.milliseconds)
        {
            clickID = id
            ClickToken.write(
                id, merchant: found.link.merchantID, key: clickKey,
                to: UnsafeMutableRawBufferPointer(
                    start: scratch + Scratch.token, count: ClickToken.length))
            visit.token = UnsafeRawBufferPointer(
                start: scratch + Scratch.token, count: ClickToken.length)
        }
        let closes = closing || !head.pointee.keepAlive || head.pointee.hasBody
        let written = visit.writeRedirect(
            program, status: decision.status, isDestination: decision.isDestination,
            closes: closes, clock: clock, to: output)
        guard written > 0 else { return fixed(.notFound, head, clock, closing, response) }
        var answer = ClickAnswer(
            responseBytes: written, recordBytes: 0, outcome: decision.outcome, isDropped: false,
            closes: closes)
        guard head.pointee.method == .get else {
            answer.outcome = .head
            return answer
        }
        let isPrefetch = visit.findPrefetch()
        if isPrefetch, answer.outcome == .redirected { answer.outcome = .prefetch }
        // Without an identity there is nothing to record and no token in the Location.
        guard let record, let clickID else {
            answer.isDropped = true
            return answer
        }
        answer.recordBytes = write(
            clickID, &visit, decision.invalidReason, isPrefetch: isPrefetch, isRapid: isRapid,
            client: client,
            visitorKey: tables.pointee.visitorKeys.key(of: clock.day), to: record)
        return answer
    }
}
