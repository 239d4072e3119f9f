// Ranges of addresses in CIDR notation.
public import LinuxIO

/// A range of addresses such as `10.0.0.0/8` or `fd00::/8`; a bare address is a range of one.
public struct AddressRange: Hashable, Sendable, CustomStringConvertible {
    /// The first address.
    public let first: PeerAddress
    /// Bits that all addresses of the range share, 0...32 or 0...128.
    public let prefixBits: Int

    /// Parses CIDR notation; nil for anything else, and for bits set behind the prefix.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let host = parts.first, !host.isEmpty else { return nil }
        let isIPv6 = host.contains(":")
        let allowed = isIPv6 ? "0123456789abcdefABCDEF:." : "0123456789."
        guard host.allSatisfy({ allowed.contains($0) }),
            let address = SocketAddress(isIPv6 ? "[\(host)]:0" : "\(host):0")
        else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for (index, byte) in address.bytes.enumerated() {
            if index < 8 {
                high |= UInt64(byte) << UInt64(56 - index * 8)
            } else {
                low |= UInt64(byte) << UInt64(120 - index * 8)
            }
        }
        let width = isIPv6 ? 128 : 32
        var bits = width
        if parts.count == 2 {
            let digits = parts[1]
            guard (1...3).contains(digits.utf8.count),
                digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let value = Int(digits),
                value <= width
            else { return nil }
            bits = value
        }
        let mask = AddressRange.mask(bits)
        guard high & ~mask.high == 0, low & ~mask.low == 0 else { return nil }
        first = PeerAddress(high: high, low: low, isIPv6: isIPv6)
        prefixBits = bits
    }

    /// Whether an address lies in the range.
    public func contains(_ address: PeerAddress) -> Bool {
        let mask = AddressRange.mask(prefixBits)
        return address.isIPv6 == first.isIPv6 && address.high & mask.high == first.high
            && address.low & mask.low == first.low
    }

    /// The text form.
    public var description: String {
        var bytes: [UInt8] = []
        for index in 0..<16 {
            let half = index < 8 ? first.high : first.low
            bytes.append(UInt8(truncatingIfNeeded: half >> UInt64(56 - index % 8 * 8)))
        }
        guard first.isIPv6 else {
            return bytes.prefix(4).map { String($0) }.joined(separator: ".") + "/\(prefixBits)"
        }
        let groups = (0..<8).map {
            String(UInt16(bytes[$0 * 2]) << 8 | UInt16(bytes[$0 * 2 + 1]), radix: 16)
        }
        return groups.joined(separator: ":") + "/\(prefixBits)"
    }

    private static func mask(_ bits: Int) -> (high: UInt64, low: UInt64) {
        let high = bits >= 64 ? UInt64.max : bits == 0 ? 0 : UInt64.max << UInt64(64 - bits)
        let low = bits >= 128 ? UInt64.max : bits <= 64 ? 0 : UInt64.max << UInt64(128 - bits)
        return (high, low)
    }
}
