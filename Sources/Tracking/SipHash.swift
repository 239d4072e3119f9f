// SipHash-2-4, the keyed hash behind click tokens, visitor identities and table seeds.

/// A 128-bit key for SipHash.
public struct SipHashKey: Hashable, Sendable, BitwiseCopyable {
    /// Key bytes 0...7, little-endian.
    public var first: UInt64
    /// Key bytes 8...15, little-endian.
    public var second: UInt64

    /// A key by its two little-endian halves.
    public init(first: UInt64, second: UInt64) {
        self.first = first
        self.second = second
    }

    /// A key by its 16 bytes.
    /// - Precondition: `bytes` holds at least 16 bytes.
    public init(bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= 16)
        first = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        second = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
}

/// SipHash-2-4 over words and bytes.
/// - SeeAlso: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
public struct SipHash24: BitwiseCopyable {
    private var v0: UInt64
    private var v1: UInt64
    private var v2: UInt64
    private var v3: UInt64

    /// Starts a hash under a key.
    @inline(__always) public init(key: SipHashKey) {
        v0 = key.first ^ 0x736f_6d65_7073_6575
        v1 = key.second ^ 0x646f_7261_6e64_6f6d
        v2 = key.first ^ 0x6c79_6765_6e65_7261
        v3 = key.second ^ 0x7465_6462_7974_6573
    }

    // &+ throughout: SipHash is defined over addition modulo 2^64.
    @inline(__always) private mutating func round() {
        v0 = v0 &+ v1
        v1 = (v1 << 13 | v1 >> 51) ^ v0
        v0 = v0 << 32 | v0 >> 32
        v2 = v2 &+ v3
        v3 = (v3 << 16 | v3 >> 48) ^ v2
        v0 = v0 &+ v3
        v3 = (v3 << 21 | v3 >> 43) ^ v0
        v2 = v2 &+ v1
        v1 = (v1 << 17 | v1 >> 47) ^ v2
        v2 = v2 << 32 | v2 >> 32
    }

    /// Takes in eight message bytes, read little-endian.
    @inline(__always) public mutating func combine(_ word: UInt64) {
        v3 ^= word
        round()
        round()
        v0 ^= word
    }

    /// Takes the last 0...7 bytes and the message length, and gives the hash.
    @inline(__always) public mutating func finish(tail: UInt64, totalBytes: Int) -> UInt64 {
        combine(UInt64(truncatingIfNeeded: totalBytes) << 56 | tail)
        v2 ^= 0xff
        round()
        round()
        round()
        round()
        return v0 ^ v1 ^ v2 ^ v3
    }

    /// The hash of a byte string.
    /// - Complexity: O(n); no allocation.
    public static func hash(_ bytes: UnsafeRawBufferPointer, key: SipHashKey) -> UInt64 {
        var state = SipHash24(key: key)
        var offset = 0
        while offset + 8 <= bytes.count {
            state.combine(
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            offset += 8
        }
        return state.finish(tail: tail(bytes, from: offset), totalBytes: bytes.count)
    }

    /// The last 0...7 bytes, little-endian, without reading beyond them.
    @inline(__always)
    private static func tail(_ bytes: UnsafeRawBufferPointer, from offset: Int) -> UInt64 {
        let count = bytes.count &- offset
        guard count > 0 else { return 0 }
        if bytes.count >= 8 {
            let last = bytes.loadUnaligned(fromByteOffset: bytes.count &- 8, as: UInt64.self)
            return UInt64(littleEndian: last) >> UInt64(8 &* (8 &- count))
        }
        if count >= 4 {
            // Two words that overlap where there are fewer than eight bytes.
            let low = bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self)
            let high = bytes.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
            return UInt64(UInt32(littleEndian: low))
                | UInt64(UInt32(littleEndian: high)) << UInt64(8 &* (count &- 4))
        }
        return UInt64(bytes[0]) | UInt64(bytes[count >> 1]) << UInt64(8 &* (count >> 1))
            | UInt64(bytes[count &- 1]) << UInt64(8 &* (count &- 1))
    }
}
