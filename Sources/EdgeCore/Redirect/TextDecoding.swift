// Visitor's bytes to text: percent-decoding, and UTF-8 that PostgreSQL takes.
internal import Tracking

/// Decoding of texts that a visitor sent.
enum TextDecoding {
    private static let replacement: UInt8 = 0x3F

    /// The byte that stands at an index of query text, and where the next one begins.
    ///
    /// A `%` without two digits stands for itself.
    @inline(__always)
    static func next(_ raw: UnsafeRawBufferPointer, _ index: inout Int) -> UInt8 {
        let byte = raw[index]
        index &+= 1
        if byte == 0x2B { return 0x20 }
        guard byte == 0x25, index &+ 2 <= raw.count else { return byte }
        let high = ByteScan.hexadecimal(raw[index])
        let low = ByteScan.hexadecimal(raw[index &+ 1])
        guard high != 0xFF, low != 0xFF else { return byte }
        index &+= 2
        return high << 4 | low
    }

    /// Whether decoding would change nothing.
    @inline(__always) static func isPlain(_ raw: UnsafeRawBufferPointer) -> Bool {
        for byte in raw where byte == 0x25 || byte == 0x2B { return false }
        return true
    }

    /// Query text as valid UTF-8 without NUL, cut to `limit`; in place when it needs no decoding.
    ///
    /// - Parameter scratch: Room for `limit` bytes.
    static func text(
        _ raw: UnsafeRawBufferPointer, limit: Int, scratch: UnsafeMutableRawPointer
    ) -> UnsafeRawBufferPointer {
        if isPlain(raw) {  // The parser lets only ASCII into a target.
            return UnsafeRawBufferPointer(start: raw.baseAddress, count: min(raw.count, limit))
        }
        var index = 0
        var count = 0
        while index < raw.count, count < limit {
            let byte = next(raw, &index)
            scratch.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
            count &+= 1
        }
        return sanitised(scratch, count, isCut: index < raw.count)
    }

    /// A header's value as valid UTF-8 without NUL, cut to `limit`; in place when it is ASCII.
    static func header(
        _ raw: UnsafeRawBufferPointer, limit: Int, scratch: UnsafeMutableRawPointer
    ) -> UnsafeRawBufferPointer {
        guard let base = raw.baseAddress else { return raw }
        let count = min(raw.count, limit)
        if isASCII(base, count) { return UnsafeRawBufferPointer(start: base, count: count) }
        scratch.copyMemory(from: base, byteCount: count)
        return sanitised(scratch, count, isCut: count < raw.count)
    }

    @inline(__always) private static func isASCII(_ base: UnsafeRawPointer, _ count: Int) -> Bool {
        var index = 0
        var seen: UInt64 = 0
        while index &+ 8 <= count {
            seen |= base.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            index &+= 8
        }
        while index < count {
            seen |= UInt64(base.load(fromByteOffset: index, as: UInt8.self))
            index &+= 1
        }
        return seen & ByteScan.tops == 0
    }

    /// Puts `?` in place of NUL and of bytes that are not UTF-8; a sequence that a cut has broken
    /// goes.
    private static func sanitised(
        _ base: UnsafeMutableRawPointer, _ count: Int, isCut: Bool
    ) -> UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(start: base, count: count)
        var index = 0
        while index < count {
            let length = sequenceLength(UnsafeRawBufferPointer(bytes), index)
            if length > 0 {
                index &+= length
            } else if isCut, length < 0 {
                return UnsafeRawBufferPointer(start: base, count: index)
            } else {
                bytes[index] = replacement
                index &+= 1
            }
        }
        return UnsafeRawBufferPointer(start: base, count: count)
    }

    /// The length of the UTF-8 sequence at an index; 0 when there is none, -1 when it only breaks
    /// off.
    /// - SeeAlso: The Unicode Standard, table 3-7.
    private static func sequenceLength(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> Int {
        let first = bytes[index]
        if first < 0x80 { return first == 0 ? 0 : 1 }
        let length: Int
        switch first {
        case 0xC2...0xDF: length = 2
        case 0xE0...0xEF: length = 3
        case 0xF0...0xF4: length = 4
        default: return 0
        }
        for offset in 1..<length {
            guard index &+ offset < bytes.count else { return -1 }
            let byte = bytes[index &+ offset]
            var lower: UInt8 = 0x80
            var upper: UInt8 = 0xBF
            if offset == 1 {
                switch first {
                case 0xE0: lower = 0xA0
                case 0xED: upper = 0x9F
                case 0xF0: lower = 0x90
                case 0xF4: upper = 0x8F
                default: break
                }
            }
            guard byte >= lower, byte <= upper else { return 0 }
        }
        return length
    }
}
