// The 128-bit identifiers (UUIDs) of merchants, influencers, links and conversions.

/// A UUID as its 16 bytes, kept as two big-endian halves so that comparing and hashing stay cheap.
///
/// Named apart from Foundation's `UUID`, which the core does not import.
/// - SeeAlso: RFC 9562.
public struct EntityID: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Bytes 0...7, big-endian.
    public var high: UInt64
    /// Bytes 8...15, big-endian.
    public var low: UInt64

    /// The identifier that no row has: all zero.
    public static let zero = EntityID(high: 0, low: 0)

    /// Joins two big-endian halves.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads 16 bytes in network order.
    /// - Precondition: `bytes` holds at least 16 bytes.
    public init(bigEndianBytes bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= 16)
        high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }

    /// Parses the canonical text form, either case; nil for anything but exactly that form.
    /// - Complexity: O(1); no allocation.
    public init?(text: UnsafeRawBufferPointer) {
        guard text.count == 36 else { return nil }
        var halves: (UInt64, UInt64) = (0, 0)
        var digits = 0
        for index in 0..<36 {
            let byte = text[index]
            if index == 8 || index == 13 || index == 18 || index == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let value = hexadecimalValue(of: byte) else { return nil }
            if digits < 16 {
                halves.0 = halves.0 << 4 | UInt64(value)
            } else {
                halves.1 = halves.1 << 4 | UInt64(value)
            }
            digits += 1
        }
        self.init(high: halves.0, low: halves.1)
    }

    /// Parses the canonical text form, either case.
    public init?(_ text: some StringProtocol) {
        var copy = String(text)
        guard let value = copy.withUTF8({ EntityID(text: UnsafeRawBufferPointer($0)) }) else {
            return nil
        }
        self = value
    }

    /// Writes the 16 bytes in network order.
    /// - Precondition: `bytes` holds at least 16 bytes.
    public func write(to bytes: UnsafeMutableRawBufferPointer) {
        precondition(bytes.count >= 16)
        bytes.storeBytes(of: high.bigEndian, toByteOffset: 0, as: UInt64.self)
        bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }

    /// The 16 bytes in network order.
    public var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
            write(to: UnsafeMutableRawBufferPointer(buffer))
            count = 16
        }
    }

    /// The same bytes with the version and variant bits of RFC 9562 set.
    public func stamped(version: UInt8) -> EntityID {
        EntityID(
            high: high & ~0xF000 | UInt64(version & 0xF) << 12,
            low: low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
    }

    /// Writes the 36-byte lower-case text form.
    /// - Precondition: `text` holds at least 36 bytes.
    public func writeText(to text: UnsafeMutableRawBufferPointer) {
        precondition(text.count >= 36)
        var offset = 0
        for digit in 0..<32 {
            if digit == 8 || digit == 12 || digit == 16 || digit == 20 {
                text[offset] = UInt8(ascii: "-")
                offset += 1
            }
            let half = digit < 16 ? high : low
            let nibble = UInt8(truncatingIfNeeded: half >> UInt64(60 - (digit & 15) * 4)) & 0xF
            text[offset] = lowercaseHexadecimalDigit(nibble)
            offset += 1
        }
    }

    /// Orders as the bytes do, which is how PostgreSQL orders `uuid`.
    public static func < (left: EntityID, right: EntityID) -> Bool {
        left.high != right.high ? left.high < right.high : left.low < right.low
    }
}

extension EntityID: CustomStringConvertible {
    /// The 36-character lower-case text form.
    public var description: String {
        String(unsafeUninitializedCapacity: 36) { buffer in
            writeText(to: UnsafeMutableRawBufferPointer(buffer))
            return 36
        }
    }
}
