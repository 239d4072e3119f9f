// The PROXY protocol, versions 1 and 2: the client's address ahead of everything else, written by a
// proxy that passes bytes on. Which version comes is configured, never guessed.
internal import Tracking

/// A version of the PROXY protocol.
public enum ProxyVersion: UInt8, Sendable, BitwiseCopyable {
    /// One line of text.
    case v1
    /// Binary.
    case v2
}

/// What became of an attempt to parse a PROXY header.
public enum ProxyParse: Equatable, Sendable {
    /// It is not complete; call again with more bytes.
    case needMore
    /// It is so many bytes long; without an address (a health check, an unknown or a Unix peer) the
    /// connection's own peer stays.
    case complete(bytes: Int, client: ClientAddress?)
    /// Not a header of this version: close, answer nothing, parse no later byte.
    case refused
}

/// Parses PROXY headers.
/// - SeeAlso: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, 2.1 and 2.2.
public enum ProxyHeader {
    /// Bytes of a header at most: 107 of version 1 by its definition, ``WireLimits/proxyHeaderBytes``
    /// of version 2.
    public static func maximumBytes(_ version: ProxyVersion) -> Int {
        version == .v1 ? 107 : WireLimits.proxyHeaderBytes
    }

    /// Parses the header at the start of `bytes`.
    ///
    /// - Parameters:
    ///   - bytes: All that has come of the connection so far.
    ///   - version: The one that is configured.
    /// - Complexity: O(n); no allocation.
    public static func parse(_ bytes: UnsafeRawBufferPointer, _ version: ProxyVersion) -> ProxyParse
    {
        version == .v1 ? text(bytes) : binary(bytes)
    }

    // MARK: - Version 1

    private static func text(_ bytes: UnsafeRawBufferPointer) -> ProxyParse {
        let opening: StaticString = "PROXY "
        let lastReturn = maximumBytes(.v1) - 2
        var end = 0
        while end < bytes.count, bytes[end] != 0x0D {
            let isWanted =
                end < opening.utf8CodeUnitCount
                ? bytes[end] == opening.utf8Start[end] : bytes[end] >= 0x20 && bytes[end] < 0x7F
            guard isWanted, end < lastReturn else { return .refused }
            end += 1
        }
        guard end < bytes.count else { return .needMore }
        guard end > opening.utf8CodeUnitCount else { return .refused }
        guard end + 1 < bytes.count else { return .needMore }
        guard bytes[end + 1] == 0x0A else { return .refused }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[opening.utf8CodeUnitCount..<end])
        if ByteScan.isExactly(UnsafeRawBufferPointer(rebasing: rest.prefix(7)), "UNKNOWN") {
            // Whatever stands behind it is to be overlooked.
            guard rest.count == 7 || rest[7] == 0x20 else { return .refused }
            return .complete(bytes: end + 2, client: nil)
        }
        guard let client = proxied(rest) else { return .refused }
        return .complete(bytes: end + 2, client: client)
    }

    /// `TCP4 source destination port port`, one space between them.
    private static func proxied(_ text: UnsafeRawBufferPointer) -> ClientAddress? {
        var rest = text
        let family = word(&rest)
        let source = word(&rest)
        let destination = word(&rest)
        guard isPort(word(&rest)), isPort(rest) else { return nil }
        if ByteScan.isExactly(family, "TCP4") {
            guard AddressText.four(destination) != nil else { return nil }
            return AddressText.four(source)
        }
        guard ByteScan.isExactly(family, "TCP6"), AddressText.six(destination) != nil else {
            return nil
        }
        return AddressText.six(source)
    }

    /// Takes what stands before the first space, and the space.
    private static func word(_ rest: inout UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var end = 0
        while end < rest.count, rest[end] != 0x20 { end += 1 }
        let word = UnsafeRawBufferPointer(rebasing: rest[..<end])
        rest = UnsafeRawBufferPointer(rebasing: rest[min(end + 1, rest.count)...])
        return word
    }

    /// 0...65535 without sign or leading zeros.
    private static func isPort(_ text: UnsafeRawBufferPointer) -> Bool {
        guard (1...5).contains(text.count), text.count == 1 || text[0] != 0x30 else { return false }
        var value = 0
        for byte in text {
            guard byte &- 0x30 < 10 else { return false }
            value = value &* 10 &+ Int(byte &- 0x30)  // Five digits.
        }
        return value <= 65535
    }

    // MARK: - Version 2

    /// The twelve bytes that no other protocol begins with: CR LF CR LF NUL CR LF QUIT LF.
    private static let signature: StaticString = "\r\n\r\n\0\r\nQUIT\n"
    private static let fixedBytes = 16

    private static func binary(_ bytes: UnsafeRawBufferPointer) -> ProxyParse {
        for index in 0..<min(bytes.count, 12) where bytes[index] != signature.utf8Start[index] {
            return .refused
        }
        guard bytes.count > 12 else { return .needMore }
        // Version 2, command LOCAL or PROXY.
        guard bytes[12] == 0x20 || bytes[12] == 0x21 else { return .refused }
        guard bytes.count >= fixedBytes else { return .needMore }
        let total = fixedBytes + Int(bytes[14]) << 8 + Int(bytes[15])
        guard total <= WireLimits.proxyHeaderBytes else { return .refused }
        guard bytes.count >= total else { return .needMore }
        // LOCAL, a proxy's own health check: family and addresses are to be overlooked.
        if bytes[12] == 0x20 { return .complete(bytes: total, client: nil) }
        let header = UnsafeRawBufferPointer(rebasing: bytes[..<total])
        guard let addressBytes = addressBytes(bytes[13]), fixedBytes + addressBytes <= total,
            areSound(header, from: fixedBytes + addressBytes)
        else { return .refused }
        switch bytes[13] {
        case 0x11:
            let source = UInt64(word(header, 16)) << 32
            return .complete(
                bytes: total, client: ClientAddress(high: source, low: 0, isIPv6: false))
        case 0x21:
            let high = UInt64(word(header, 16)) << 32 | UInt64(word(header, 20))
            let low = UInt64(word(header, 24)) << 32 | UInt64(word(header, 28))
            return .complete(bytes: total, client: AddressText.canonical(high: high, low: low))
        default: return .complete(bytes: total, client: nil)
        }
    }

    /// Bytes of the addresses of a family and transport; nil for those that are none of a stream's.
    private static func addressBytes(_ family: UInt8) -> Int? {
        switch family {
        case 0x00: 0
        case 0x11: 12
        case 0x21: 36
        case 0x31: 216
        default: nil
        }
    }

    /// Whether the fields behind the addresses fill the header exactly, and its checksum, if there is
    /// one, is right.
    private static func areSound(_ header: UnsafeRawBufferPointer, from start: Int) -> Bool {
        var at = start
        var checksum: Int?
        while at < header.count {
            guard at + 3 <= header.count else { return false }
            let length = Int(header[at + 1]) << 8 + Int(header[at + 2])
            guard at + 3 + length <= header.count else { return false }
            if header[at] == 0x03 {
                guard length == 4, checksum == nil else { return false }
                checksum = at + 3
            }
            at += 3 + length
        }
        guard let checksum else { return true }
        return word(header, checksum) == crc32c(header, zeroing: checksum)
    }

    private static func word(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// CRC32C of a header, its own four bytes taken for zero; bit by bit, for it is once a
    /// connection, and only from a trusted proxy.
    static func crc32c(_ bytes: UnsafeRawBufferPointer, zeroing offset: Int) -> UInt32 {
        var sum = UInt32.max
        for index in 0..<bytes.count {
            let isSum = index >= offset && index < offset + 4
            sum ^= isSum ? 0 : UInt32(bytes[index])
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0x82F6_3B78 : 0) }
        }
        return ~sum
    }
}
