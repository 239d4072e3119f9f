// Token buckets per address in fixed memory, for all loops together.
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// How fast one address may go: `burst` at once, then `perSecond`.
public struct ClientRate: Sendable, BitwiseCopyable, Equatable {
    /// Microseconds in which one token comes back, 1...3,600,000,000.
    public let intervalMicroseconds: Int64
    /// Tokens of a full bucket, 1...1,000,000.
    public let burst: Int64

    /// A rate by its tokens a second.
    public init(perSecond: Int64, burst: Int64) {
        self.init(intervalMicroseconds: 1_000_000 / max(perSecond, 1), burst: burst)
    }

    init(intervalMicroseconds: Int64, burst: Int64) {
        self.intervalMicroseconds = min(max(intervalMicroseconds, 1), 3_600_000_000)
        self.burst = min(max(burst, 1), 1_000_000)
    }
}

/// The rates of an edge (docs/operating.md tells why these).
public struct ClientRates: Sendable, BitwiseCopyable {
    /// Messages to the conversion paths; beyond it 429, and the pixel's image unrecorded.
    public var conversions = ClientRate(perSecond: 500, burst: 5000)
    /// Requests for slugs that no link has; beyond it 429.
    public var unknownSlugs = ClientRate(perSecond: 50, burst: 500)
    /// Clicks on known links; beyond it they are marked `velocity`, and redirected as ever.
    public var clicks = ClientRate(perSecond: 1000, burst: 10_000)

    /// The rates that every edge has.
    public init() {}
}

/// One bucket a cell, and two cells an address: the fuller bucket counts.
///
/// A cell is the moment at which its bucket is full again, which is all that a token bucket needs
/// (the generic cell rate algorithm). Nothing is ever evicted: cells are shared, chosen by a keyed
/// hash that no client knows, and taking for one address raises only what lies below that address's
/// own count. So whoever comes from many addresses can slow another one down only by keeping both
/// of its cells empty, and that takes the full rate in about every cell of the table at once.
///
/// `@unchecked Sendable`: the cells are atomics, the rest never changes. A copy is a handle; the
/// memory belongs to whoever calls ``deallocate()``.
struct RateTable: @unchecked Sendable {
    /// Cells of a row.
    static let columns = 1 << 15
    private static let attempts = 8

    private let cells: UnsafeMutablePointer<Atomic<Int64>>
    private let key: SipHashKey
    private let interval: Int64
    private let tolerance: Int64

    /// What was read of an address's bucket.
    struct Probe: BitwiseCopyable {
        fileprivate let first: Int
        fileprivate let second: Int
        /// Microseconds until there is a token; 0 when there is one.
        let waitMicroseconds: Int64
    }

    init(_ rate: ClientRate) {
        interval = rate.intervalMicroseconds
        tolerance = rate.intervalMicroseconds * (rate.burst - 1)
        key = Randomness.bytes(16).withUnsafeBytes { SipHashKey(bytes: $0) }
        cells = .allocate(capacity: 2 * RateTable.columns)
        for index in 0..<2 * RateTable.columns { (cells + index).initialize(to: Atomic(0)) }
    }

    func deallocate() { cells.deallocate() }

    /// Looks, and takes nothing.
    ///
    /// - Parameters:
    ///   - address: Its /64 counts when it is IPv6.
    ///   - now: Microseconds of the monotonic clock.
    @inline(__always) func probe(_ address: PeerAddress, at now: Int64) -> Probe {
        var hash = SipHash24(key: key)
        hash.combine(address.high)
        let value = hash.finish(tail: address.isIPv6 ? 1 : 0, totalBytes: 9)
        let mask = UInt64(RateTable.columns - 1)
        let first = Int(value & mask)
        let second = Int(value >> 32 & mask) + RateTable.columns
        // Relaxed, here and below: a bucket orders nothing else.
        let full = min(
            cells[first].load(ordering: .relaxed), cells[second].load(ordering: .relaxed))
        return Probe(
            first: first, second: second, waitMicroseconds: max(0, full - tolerance - now))
    }

    /// Takes the token that a probe has found; racing loops may take one token twice.
    @inline(__always) func take(_ probe: Probe, at now: Int64) {
        let full = min(
            cells[probe.first].load(ordering: .relaxed),
            cells[probe.second].load(ordering: .relaxed))
        let next = max(full, now) + interval
        raise(probe.first, to: next)
        raise(probe.second, to: next)
    }

    /// Takes a token if there is one; the microseconds until there is, 0 when it was taken.
    func take(_ address: PeerAddress, at now: Int64) -> Int64 {
        let probe = probe(address, at: now)
        if probe.waitMicroseconds == 0 { take(probe, at: now) }
        return probe.waitMicroseconds
    }

    @inline(__always) private func raise(_ index: Int, to value: Int64) {
        var current = cells[index].load(ordering: .relaxed)
        for _ in 0..<RateTable.attempts where current < value {
            let (done, seen) = cells[index].compareExchange(
                expected: current, desired: value, ordering: .relaxed)
            if done { return }
            current = seen
        }
    }

    /// The Retry-After of a wait, in whole seconds, at least one.
    static func retryAfter(_ waitMicroseconds: Int64) -> UInt16 {
        UInt16(clamping: max(1, (waitMicroseconds + 999_999) / 1_000_000))
    }
}
