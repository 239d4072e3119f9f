// Which bytes are text that PostgreSQL takes and people can read.

/// Checks on bytes from outside.
enum TextChecks {
    /// Whether the bytes are well-formed UTF-8 (Unicode 15, table 3-7) without NUL.
    static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var index = 0
        while index < bytes.count {
            let lead = bytes[index]
            index += 1
            if lead < 0x80 {
                if lead == 0 { return false }
                continue
            }
            let following: Int
            var range: ClosedRange<UInt8> = 0x80...0xBF
            switch lead {
            case 0xC2...0xDF: following = 1
            case 0xE0: (following, range) = (2, 0xA0...0xBF)
            case 0xE1...0xEC, 0xEE...0xEF: following = 2
            case 0xED: (following, range) = (2, 0x80...0x9F)
            case 0xF0: (following, range) = (3, 0x90...0xBF)
            case 0xF1...0xF3: following = 3
            case 0xF4: (following, range) = (3, 0x80...0x8F)
            default: return false
            }
            guard bytes.count - index >= following, range.contains(bytes[index]) else {
                return false
            }
            for offset in 1..<3 where offset < following {
                guard bytes[index + offset] & 0xC0 == 0x80 else { return false }
            }
            index += following
        }
        return true
    }

    /// Whether the bytes are well-formed UTF-8 without NUL.
    static func isUTF8(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { isUTF8($0) } }

    /// Whether valid UTF-8 holds a control character (C0, DEL or C1).
    static func hasControl(_ bytes: [UInt8]) -> Bool {
        var previous: UInt8 = 0
        for byte in bytes {
            if byte < 0x20 || byte == 0x7F { return true }
            if previous == 0xC2, byte < 0xA0 { return true }
            previous = byte
        }
        return false
    }

    /// Whether there is at least one byte and all are decimal digits.
    static func isDigits(_ bytes: some Collection<UInt8>) -> Bool {
        !bytes.isEmpty && bytes.allSatisfy(isDigit)
    }

    static func isDigit(_ byte: UInt8) -> Bool {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }

    /// Unix seconds of up to twelve digits.
    static func unixSeconds(_ bytes: some Collection<UInt8>) -> Int64? {
        guard isDigits(bytes), bytes.count <= 12 else { return nil }
        return bytes.reduce(Int64(0)) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) }
    }
}
