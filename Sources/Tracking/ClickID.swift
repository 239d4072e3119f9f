// The 63-bit identity of a click, how it is minted and how it leaves as a token (contract, 3).

/// `41 bit ms since 2024-01-01 | 12 bit ring | 10 bit sequence`: unique in the fleet, rising per ring.
public struct ClickID: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// The 63 bits; never negative as a `bigint`.
    public var rawValue: UInt64

    /// 2024-01-01T00:00:00Z in milliseconds since the Unix epoch.
    public static let epochMilliseconds: Int64 = 1_704_067_200_000
    /// Identities that one ring can mint in one millisecond.
    public static let perMillisecond: UInt64 = 1024
    /// The largest time that 41 bits hold, in milliseconds since 2024-01-01 (the year 2093).
    public static let maximumMilliseconds: UInt64 = (1 << 41) - 1

    /// An identity by its bits; nil when the sign bit of a `bigint` would be set.
    public init?(rawValue: UInt64) {
        guard rawValue >> 63 == 0 else { return nil }
        self.rawValue = rawValue
    }

    /// Composes an identity.
    /// - Precondition: each part fits its bits.
    public init(millisecondsSinceEpoch: UInt64, ring: UInt16, sequence: UInt16) {
        precondition(
            millisecondsSinceEpoch <= ClickID.maximumMilliseconds && ring < 4096 && sequence < 1024)
        rawValue = millisecondsSinceEpoch << 22 | UInt64(ring) << 10 | UInt64(sequence)
    }

    /// When the click came, to the millisecond: `clicked_at`.
    public var clickedAt: Timestamp {
        Timestamp(milliseconds: ClickID.epochMilliseconds + Int64(rawValue >> 22))
    }
    /// The ring that recorded it.
    public var ring: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 10) & 0xFFF }
    /// Its number within the millisecond.
    public var sequence: UInt16 { UInt16(truncatingIfNeeded: rawValue) & 0x3FF }

    /// Orders by time, then ring, then sequence.
    public static func < (left: ClickID, right: ClickID) -> Bool { left.rawValue < right.rawValue }
}

/// Mints the identities of one ring: strictly rising, whatever the clock does, and below a lease.
///
/// The lease is what the disk knows: an identity at or beyond it might be given again after a crash.
/// So the clock is held a little before the lease's end, and from there on the identities follow each
/// other without a gap, 1,024 to the millisecond, until none is left. The same happens behind a clock
/// that stands or steps back, and past 1,024 clicks in a millisecond: identities run ahead of the
/// clock by the excess.
public struct ClickIDMinter: BitwiseCopyable {
    /// How far before the lease's end the clock is held: half a million identities for as long as the
    /// lease is not renewed, however long that is.
    public static let reserveMilliseconds: Int64 = 500

    private let ring: UInt16
    private let reserve: Int64
    /// What follows the latest identity, by its milliseconds and sequence.
    private var next: UInt64
    /// The first that the lease does not cover.
    private var end: UInt64 = 0
    /// The furthest that the clock counts.
    private var held: UInt64 = 0

    /// A minter whose first identity lies above `floor`.
    ///
    /// - Parameters:
    ///   - ring: The ring number, 0...4095.
    ///   - floor: Milliseconds since the Unix epoch that every identity must lie above: the greatest
    ///     of wall clock, lease and cursor at start.
    ///   - lease: Milliseconds since the Unix epoch that every identity must lie below.
    ///   - reserve: How far before the lease's end the clock is held.
    /// - Precondition: `ring` is below 4096.
    public init(
        ring: UInt16, floorMilliseconds floor: Int64, leaseMilliseconds lease: Int64,
        reserveMilliseconds reserve: Int64 = reserveMilliseconds
    ) {
        precondition(ring < 4096)
        self.ring = ring
        self.reserve = reserve
        let since = UInt64(clamping: floor - ClickID.epochMilliseconds + 1)
        next = min(since, ClickID.maximumMilliseconds) << 10
        extend(leaseMilliseconds: lease)
    }

    /// Takes in how far the lease reaches now.
    @inline(__always) public mutating func extend(leaseMilliseconds lease: Int64) {
        let since = max(0, lease &- ClickID.epochMilliseconds)  // Of a clock: no overflow.
        end = min(UInt64(since), ClickID.maximumMilliseconds &+ 1) << 10
        held = min(UInt64(max(0, since &- reserve)), ClickID.maximumMilliseconds) << 10
    }

    /// The next identity at a wall-clock time in milliseconds since the Unix epoch; nil when all that
    /// the lease covers are given.
    ///
    /// - Complexity: O(1); no allocation.
    @inline(__always) public mutating func mint(atMilliseconds now: Int64) -> ClickID? {
        let since = now > ClickID.epochMilliseconds ? UInt64(now &- ClickID.epochMilliseconds) : 0
        let candidate = min(min(since, ClickID.maximumMilliseconds) << 10, held)
        let chosen = candidate > next ? candidate : next
        guard chosen < end else { return nil }
        next = chosen &+ 1  // 51 bits at most.
        return ClickID(
            millisecondsSinceEpoch: chosen >> 10, ring: ring,
            sequence: UInt16(truncatingIfNeeded: chosen & 0x3FF))
    }

    /// The milliseconds since the Unix epoch of the latest identity (or of the floor before the first).
    public var latestMilliseconds: Int64 { Int64(next >> 10) + ClickID.epochMilliseconds }

    /// A time, in milliseconds since the Unix epoch and not after `now`, that no later identity lies
    /// before, as long as the clock does not go back behind `now`.
    @inline(__always) public func oldestMilliseconds(atMilliseconds now: Int64) -> Int64 {
        let reached = max(Int64(held >> 10), Int64(next >> 10)) &+ ClickID.epochMilliseconds
        return min(now, reached)
    }
}

/// The token of a click: 22 base64url characters of 8 bytes ID and 8 bytes keyed hash, good for one
/// merchant only.
public enum ClickToken {
    /// Characters in a token.
    public static let length = 22

    /// The keyed hash of an ID for a merchant: SipHash-2-4 over the ID's 8 bytes, big-endian, and the
    /// merchant's 16.
    @inline(__always)
    public static func tag(of id: ClickID, merchant: EntityID, key: SipHashKey) -> UInt64 {
        var hash = SipHash24(key: key)
        hash.combine(id.rawValue.byteSwapped)  // Big-endian bytes, taken in as little-endian words.
        hash.combine(merchant.high.byteSwapped)
        hash.combine(merchant.low.byteSwapped)
        return hash.finish(tail: 0, totalBytes: 24)
    }

    /// Writes a token's 22 characters.
    ///
    /// - Precondition: `text` holds at least 22 bytes.
    /// - Complexity: O(1); no allocation.
    public static func write(
        _ id: ClickID, merchant: EntityID, key: SipHashKey, to text: UnsafeMutableRawBufferPointer
    ) {
        precondition(text.count >= length)
        // 128 bits, most significant first: the ID, then the tag's little-endian bytes.
        let high = id.rawValue
        let low = tag(of: id, merchant: merchant, key: key).byteSwapped
        for index in 0..<10 {
            text[index] = Base64URL.digit(high >> UInt64(58 &- 6 &* index))
            text[11 &+ index] = Base64URL.digit(low >> UInt64(56 &- 6 &* index))
        }
        text[10] = Base64URL.digit(high << 2 | low >> 62)
        text[21] = Base64URL.digit(low << 4)
    }

    /// A token's text.
    public static func text(_ id: ClickID, merchant: EntityID, key: SipHashKey) -> String {
        String(unsafeUninitializedCapacity: length) { buffer in
            write(id, merchant: merchant, key: key, to: UnsafeMutableRawBufferPointer(buffer))
            return length
        }
    }

    /// The ID and tag that a token claims, unverified; nil when it is not 22 base64url characters with
    /// zero spare bits or the ID exceeds 63 bits.
    public static func parse(_ text: UnsafeRawBufferPointer) -> (id: ClickID, tag: UInt64)? {
        guard text.count == length else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for index in 0..<21 {
            guard let value = Base64URL.value(text[index]) else { return nil }
            high = high << 6 | low >> 58
            low = low << 6 | UInt64(value)
        }
        // 21 digits are 126 bits; the last digit brings two more and four spare ones.
        guard let last = Base64URL.value(text[21]), last & 0xF == 0 else { return nil }
        high = high << 2 | low >> 62
        low = low << 2 | UInt64(last >> 4)
        guard let id = ClickID(rawValue: high) else { return nil }
        return (id, low.byteSwapped)
    }

    /// The ID of a token that one of the keys made for this merchant; nil for any other.
    ///
    /// - Complexity: O(keys); no storage is touched.
    public static func verify(
        _ text: UnsafeRawBufferPointer, merchant: EntityID, keys: [SipHashKey]
    ) -> ClickID? {
        guard let (id, tag) = parse(text) else { return nil }
        var matches = false
        for key in keys where self.tag(of: id, merchant: merchant, key: key) ^ tag == 0 {
            matches = true
        }
        return matches ? id : nil
    }
}
