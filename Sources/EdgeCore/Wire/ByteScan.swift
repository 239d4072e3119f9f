// Looking at bytes: character classes, eight bytes at a time where that pays, comparisons without
// case.
internal import Tracking

/// A pointer to bytes that the caller has bounds-checked.
typealias Bytes = UnsafePointer<UInt8>

/// Character classes and scans of the wire.
enum ByteScan {
    static let ones: UInt64 = 0x0101_0101_0101_0101
    static let tops: UInt64 = 0x8080_8080_8080_8080

    /// Eight bytes, the first in the low bits.
    @inline(__always) static func word(_ bytes: Bytes, _ index: Int) -> UInt64 {
        UInt64(
            littleEndian: UnsafeRawPointer(bytes).loadUnaligned(
                fromByteOffset: index, as: UInt64.self))
    }

    /// The top bit of each byte that is zero; above the first true one there may be false ones.
    @inline(__always) static func zeros(_ word: UInt64) -> UInt64 {
        (word &- ones) & ~word & tops
    }

    /// The top bit of each byte below `bound`; above the first true one there may be false ones.
    @inline(__always) static func below(_ word: UInt64, _ bound: UInt64) -> UInt64 {
        (word &- ones &* bound) & ~word & tops
    }

    /// The first byte of a field value that ends or breaks it: a control character but HTAB, or
    /// DEL.
    /// - Returns: Its index, or `end`.
    @inline(__always) static func endOfValue(_ bytes: Bytes, from start: Int, to end: Int) -> Int {
        var index = start
        while index &+ 8 <= end {
            let word = word(bytes, index)
            let hits = below(word, 0x20) | zeros(word ^ (ones &* 0x7F))
            if hits == 0 {
                index &+= 8
                continue
            }
            let at = index &+ hits.trailingZeroBitCount >> 3
            if bytes[at] != 0x09 { return at }
            index = at &+ 1
        }
        while index < end {
            let byte = bytes[index]
            if (byte < 0x20 && byte != 0x09) || byte == 0x7F { return index }
            index &+= 1
        }
        return end
    }

    /// The first byte that is no plain target byte: a space or control, `#`, `?`, DEL or beyond
    /// ASCII.
    /// - Returns: Its index, or `end`.
    @inline(__always) static func endOfTarget(_ bytes: Bytes, from start: Int, to end: Int) -> Int {
        var index = start
        while index &+ 8 <= end {
            let word = word(bytes, index)
            let hits =
                below(word, 0x21) | zeros(word ^ (ones &* 0x7F)) | zeros(word ^ (ones &* 0x23))
                | zeros(word ^ (ones &* 0x3F)) | (word & tops)
            if hits != 0 { return index &+ hits.trailingZeroBitCount >> 3 }
            index &+= 8
        }
        while index < end {
            let byte = bytes[index]
            if byte < 0x21 || byte >= 0x7F || byte == 0x23 || byte == 0x3F { return index }
            index &+= 1
        }
        return end
    }

    /// The colon behind a field's name, or the first space or control character before one.
    /// - Returns: Its index, or `end`.
    @inline(__always) static func endOfName(_ bytes: Bytes, from start: Int, to end: Int) -> Int {
        var index = start
        while index &+ 8 <= end {
            let word = word(bytes, index)
            let hits = below(word, 0x21) | zeros(word ^ (ones &* 0x3A))
            if hits != 0 { return index &+ hits.trailingZeroBitCount >> 3 }
            index &+= 8
        }
        while index < end {
            let byte = bytes[index]
            if byte < 0x21 || byte == 0x3A { return index }
            index &+= 1
        }
        return end
    }

    /// Whether all bytes are token characters: eight at a time as long as they are letters, digits
    /// and hyphens, as nearly all names are.
    ///
    /// - Parameter readable: Bytes that may be looked at, `count` or more.
    @inline(__always)
    static func isToken(_ bytes: Bytes, _ count: Int, readable: Int) -> Bool {
        if count < 8, readable >= 8 {
            // What lies behind the name is taken for a letter.
            let kept = ~(UInt64.max << UInt64(8 &* count))
            if isPlainName(word(bytes, 0) & kept | (ones &* 0x61) & ~kept) { return true }
        }
        var index = 0
        while index &+ 8 <= count {
            if !isPlainName(word(bytes, index)) { break }
            index &+= 8
            // The last word may look at some bytes twice.
            if index < count, index &+ 8 > count { index = count &- 8 }
        }
        while index < count {
            if !isToken(bytes[index]) { return false }
            index &+= 1
        }
        return true
    }

    /// Whether eight bytes are letters, digits and hyphens.
    ///
    /// Below 0x80 no sum carries into the next byte.
    @inline(__always) private static func isPlainName(_ word: UInt64) -> Bool {
        guard word & tops == 0 else { return false }
        let lower = word | (ones &* 0x20)
        let letters = (lower &+ (ones &* 0x1F)) & ~(lower &+ (ones &* 0x05))
        let digits = (word &+ (ones &* 0x50)) & ~(word &+ (ones &* 0x46))
        let hyphens = ~((word ^ (ones &* 0x2D)) &+ (ones &* 0x7F))
        return (letters | digits | hyphens) & tops == tops
    }

    /// Whether a token of at least four bytes is `name`, which is lower case, in either case.
    ///
    /// Of token characters only a letter's two cases differ in the bit that is set here.
    @inline(__always)
    static func isName(_ token: Bytes, _ count: Int, _ name: StaticString) -> Bool {
        guard count == name.utf8CodeUnitCount, count >= 4 else { return false }
        let wanted = name.utf8Start
        let bit = ones &* 0x20
        guard count >= 8 else {
            let last = count &- 4
            return (half(token, 0) | UInt32(truncatingIfNeeded: bit)) == half(wanted, 0)
                && (half(token, last) | UInt32(truncatingIfNeeded: bit)) == half(wanted, last)
        }
        var index = 0
        while index &+ 8 < count {
            if word(token, index) | bit != word(wanted, index) { return false }
            index &+= 8
        }
        return word(token, count &- 8) | bit == word(wanted, count &- 8)
    }

    @inline(__always) private static func half(_ bytes: Bytes, _ index: Int) -> UInt32 {
        UInt32(
            littleEndian: UnsafeRawPointer(bytes).loadUnaligned(
                fromByteOffset: index, as: UInt32.self))
    }

    /// `tchar` of RFC 9110, 5.6.2.
    @inline(__always) static func isToken(_ byte: UInt8) -> Bool {
        // A bit per ASCII character: !#$%&'*+-. digits, letters, ^_`|~
        let low: UInt64 = 0x03FF_6CFA_0000_0000
        let high: UInt64 = 0x57FF_FFFF_C7FF_FFFE
        let word = byte < 64 ? low : high
        return byte < 128 && word >> UInt64(byte & 63) & 1 == 1
    }

    /// RFC 3986 unreserved: what a slug is made of and what percent-encoding leaves bare.
    @inline(__always) static func isUnreserved(_ byte: UInt8) -> Bool {
        let low: UInt64 = 0x03FF_6000_0000_0000
        let high: UInt64 = 0x47FF_FFFE_87FF_FFFE
        let word = byte < 64 ? low : high
        return byte < 128 && word >> UInt64(byte & 63) & 1 == 1
    }

    /// What a URL may hold as it stands: unreserved, reserved and `%` (RFC 3986, 2).
    @inline(__always) static func isURLSafe(_ byte: UInt8) -> Bool {
        // Without space " < > \ ^ ` { | } and everything outside printable ASCII.
        let low: UInt64 = 0xAFFF_FFFA_0000_0000
        let high: UInt64 = 0x47FF_FFFE_AFFF_FFFF
        let word = byte < 64 ? low : high
        return byte < 128 && word >> UInt64(byte & 63) & 1 == 1
    }

    /// ASCII lower case; other bytes as they are.
    @inline(__always) static func lowercase(_ byte: UInt8) -> UInt8 {
        byte &- 0x41 < 26 ? byte | 0x20 : byte
    }

    /// The value of a hexadecimal digit; 0xFF for any other byte.
    @inline(__always) static func hexadecimal(_ byte: UInt8) -> UInt8 {
        if byte &- 0x30 < 10 { return byte &- 0x30 }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter &+ 10 : 0xFF
    }

    /// Whether the bytes are `text`, which is lower case, in either case.
    @inline(__always)
    static func isCaseless(_ bytes: Bytes, _ count: Int, _ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        let wanted = text.utf8Start
        var index = 0
        while index < count {
            if lowercase(bytes[index]) != wanted[index] { return false }
            index &+= 1
        }
        return true
    }

    /// Whether the bytes are exactly `text`.
    @inline(__always)
    static func isExactly(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        guard bytes.count == text.utf8CodeUnitCount else { return false }
        let wanted = text.utf8Start
        var index = 0
        while index < bytes.count {
            if bytes[index] != wanted[index] { return false }
            index &+= 1
        }
        return true
    }

    /// Whether the bytes begin with `text`, which is lower case, in either case.
    @inline(__always)
    static func hasCaselessPrefix(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard bytes.count >= count, let base = bytes.baseAddress else { return false }
        return isCaseless(base.assumingMemoryBound(to: UInt8.self), count, text)
    }

    /// Whether two byte strings are the same.
    @inline(__always)
    static func areEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        var index = 0
        while index &+ 8 <= left.count {
            let one = left.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            let other = right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            if one != other { return false }
            index &+= 8
        }
        while index < left.count {
            if left[index] != right[index] { return false }
            index &+= 1
        }
        return true
    }
}
