// Base64 with the URL alphabet and no padding (RFC 4648, 5), byte by byte.

/// Base64url as click tokens use it.
public enum Base64URL {
    private static let digits: StaticString =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    /// The digit of the low six bits.
    ///
    /// By a table: the digits of a token are random, so branches would be guessed wrong.
    @inline(__always) static func digit(_ value: UInt64) -> UInt8 {
        digits.utf8Start[Int(truncatingIfNeeded: value & 63)]
    }

    /// The six bits of a digit; nil for any other byte.
    @inlinable static func value(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0") + 52
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}

/// Standard base64 (RFC 4648, 4) for key files and signing secrets.
public enum Base64 {
    /// Encodes with padding.
    public static func encode(_ bytes: [UInt8]) -> String {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        var index = 0
        while index < bytes.count {
            let count = min(3, bytes.count - index)
            var group: UInt32 = 0
            for offset in 0..<3 {
                group = group << 8 | (offset < count ? UInt32(bytes[index + offset]) : 0)
            }
            for digit in 0..<4 {
                text.append(
                    digit <= count
                        ? alphabet[Int(group >> UInt32(18 - digit * 6) & 63)] : UInt8(ascii: "="))
            }
            index += 3
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Decodes padded or unpadded text; nil for a foreign byte, a wrong length or spare bits that
    /// are not zero, so that each value has one text.
    public static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
        var digits = Array(text)
        let padded = digits.count % 4 == 0
        var padding = 0
        while padded, padding < 2, digits.last == UInt8(ascii: "=") {
            digits.removeLast()
            padding += 1
        }
        guard digits.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        var accumulator: UInt32 = 0
        var bits = 0
        for byte in digits {
            let value: UInt8
            switch byte {
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "-"), UInt8(ascii: "_"): return nil
            default:
                guard let common = Base64URL.value(byte) else { return nil }
                value = common
            }
            accumulator = accumulator << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: accumulator >> UInt32(bits)))
                accumulator &= (1 << UInt32(bits)) - 1
            }
        }
        return accumulator == 0 ? bytes : nil
    }
}
