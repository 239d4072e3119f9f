// Addresses in text: IPv4 in four parts, IPv6 in groups, with or without port and brackets.
internal import Tracking

/// Addresses as proxies write them: with or without port, IPv6 with or without brackets.
public enum AddressText {
    /// The address in a text; nil for a name, `unknown`, or anything else that is none.
    public static func parse(_ text: UnsafeRawBufferPointer) -> ClientAddress? {
        let bytes = trim(text)
        guard !bytes.isEmpty, bytes.count <= 64 else { return nil }
        if bytes[0] == UInt8(ascii: "[") {
            guard let close = bytes.firstIndex(of: UInt8(ascii: "]")),
                isPort(UnsafeRawBufferPointer(rebasing: bytes[(close + 1)...]))
            else { return nil }
            return six(UnsafeRawBufferPointer(rebasing: bytes[1..<close]))
        }
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else { return four(bytes) }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[colon...])
        if rest.dropFirst().contains(UInt8(ascii: ":")) { return six(bytes) }
        guard isPort(rest) else { return nil }
        return four(UnsafeRawBufferPointer(rebasing: bytes[..<colon]))
    }

    /// A text without blanks at either end.
    static func trim(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var start = 0
        var end = text.count
        while start < end, text[start] == 0x20 || text[start] == 0x09 { start += 1 }
        while end > start, text[end - 1] == 0x20 || text[end - 1] == 0x09 { end -= 1 }
        return UnsafeRawBufferPointer(rebasing: text[start..<end])
    }

    /// Nothing, or a colon and up to five digits.
    private static func isPort(_ text: UnsafeRawBufferPointer) -> Bool {
        if text.isEmpty { return true }
        guard text[0] == UInt8(ascii: ":"), (2...6).contains(text.count) else { return false }
        return text.dropFirst().allSatisfy { $0 >= 48 && $0 <= 57 }
    }

    static func four(_ text: UnsafeRawBufferPointer) -> ClientAddress? {
        guard let value = dotted(text) else { return nil }
        return ClientAddress(high: UInt64(value) << 32, low: 0, isIPv6: false)
    }

    /// Four decimal parts without leading zeros.
    private static func dotted(_ text: UnsafeRawBufferPointer) -> UInt32? {
        var value: UInt32 = 0
        var part: UInt32 = 0
        var digits = 0
        var parts = 0
        for position in 0...text.count {
            if position == text.count || text[position] == UInt8(ascii: ".") {
                guard digits > 0, parts < 4 else { return nil }
                value = value << 8 | part
                parts += 1
                part = 0
                digits = 0
                continue
            }
            let byte = text[position]
            guard byte >= 48, byte <= 57, digits == 0 || part > 0 else { return nil }
            part = part * 10 + UInt32(byte - 48)
            digits += 1
            guard part <= 255 else { return nil }
        }
        return parts == 4 ? value : nil
    }

    /// Eight groups, `::` for zeros, perhaps an IPv4 tail (RFC 4291, 2.2).
    static func six(_ text: UnsafeRawBufferPointer) -> ClientAddress? {
        var groups = InlineArray<8, UInt16>(repeating: 0)
        var count = 0
        var gap: Int?
        var position = 0
        if text.count >= 2, text[0] == 0x3A, text[1] == 0x3A {
            gap = 0
            position = 2
        }
        while position < text.count {
            guard count < 8 else { return nil }
            var end = position
            while end < text.count, text[end] != UInt8(ascii: ":") { end += 1 }
            let part = UnsafeRawBufferPointer(rebasing: text[position..<end])
            if end == text.count, part.contains(UInt8(ascii: ".")) {
                guard count <= 6, let tail = dotted(part) else { return nil }
                groups[count] = UInt16(truncatingIfNeeded: tail >> 16)
                groups[count + 1] = UInt16(truncatingIfNeeded: tail)
                count += 2
                break
            }
            guard let value = hexadecimal(part) else { return nil }
            groups[count] = value
            count += 1
            guard end < text.count else { break }
            position = end + 1
            guard position < text.count else { return nil }
            if text[position] == UInt8(ascii: ":") {
                guard gap == nil else { return nil }
                gap = count
                position += 1
            }
        }
        guard count == 8 && gap == nil || count < 8 && gap != nil else { return nil }
        return assemble(groups, count: count, gap: gap ?? 8)
    }

    private static func hexadecimal(_ text: UnsafeRawBufferPointer) -> UInt16? {
        guard (1...4).contains(text.count) else { return nil }
        var value: UInt16 = 0
        for byte in text {
            switch byte {
            case 48...57: value = value << 4 | UInt16(byte - 48)
            case 65...70: value = value << 4 | UInt16(byte - 55)
            case 97...102: value = value << 4 | UInt16(byte - 87)
            default: return nil
            }
        }
        return value
    }

    private static func assemble(
        _ groups: InlineArray<8, UInt16>, count: Int, gap: Int
    ) -> ClientAddress {
        var halves: (UInt64, UInt64) = (0, 0)
        for place in 0..<8 {
            let behind = count - (8 - place)
            var group: UInt16 = 0
            if place < gap {
                group = groups[place]
            } else if behind >= gap {
                group = groups[behind]
            }
            if place < 4 {
                halves.0 = halves.0 << 16 | UInt64(group)
            } else {
                halves.1 = halves.1 << 16 | UInt64(group)
            }
        }
        return canonical(high: halves.0, low: halves.1)
    }

    /// An IPv6 address; an IPv4-mapped one is IPv4, as for a peer.
    static func canonical(high: UInt64, low: UInt64) -> ClientAddress {
        if high == 0, low >> 32 == 0xFFFF {
            return ClientAddress(high: low << 32, low: 0, isIPv6: false)
        }
        return ClientAddress(high: high, low: low, isIPv6: true)
    }
}
