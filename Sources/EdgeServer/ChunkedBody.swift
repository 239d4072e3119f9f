// A chunked body (RFC 9112, 7.1), decoded in place as it comes, in time linear in its bytes.

/// The decoder's state between two pieces.
struct ChunkedBody: BitwiseCopyable {
    /// What came of a piece.
    enum Progress: Equatable {
        case needMore
        /// The body is whole.
        case complete
        /// Not a chunked body, or one with too much around its data: 400.
        case malformed
        /// More data than allowed: 413.
        case tooLarge
    }

    private enum Phase: UInt8, BitwiseCopyable {
        case size, sizeExtension, sizeLineFeed, data, dataReturn, dataLineFeed
        case trailerStart, trailer, trailerLineFeed, endLineFeed, done
    }

    private var phase = Phase.size
    private var digits: UInt8 = 0
    private var lineBytes: UInt16 = 0
    private var remaining: UInt32 = 0
    /// Decoded bytes so far.
    private(set) var decodedCount: UInt32 = 0

    init() {}

    /// Takes in raw bytes and moves their data down to the end of what was decoded before.
    ///
    /// - Parameters:
    ///   - bytes: Decoded bytes so far, then `rawCount` raw ones.
    ///   - consumed: How many raw bytes were used; beyond the body's end lies the next request.
    /// - Complexity: O(rawCount); no allocation.
    mutating func decode(
        _ bytes: UnsafeMutableRawBufferPointer, rawStart: Int, rawCount: Int, limit: Int,
        consumed: inout Int
    ) -> Progress {
        precondition(rawStart >= Int(decodedCount) && rawStart + rawCount <= bytes.count)
        var position = rawStart
        let end = rawStart + rawCount
        defer { consumed = position - rawStart }
        while position < end {
            if phase == .data {
                let count = min(Int(remaining), end - position)
                guard Int(decodedCount) + count <= limit else { return .tooLarge }
                if let base = bytes.baseAddress, Int(decodedCount) != position {
                    (base + Int(decodedCount)).copyMemory(from: base + position, byteCount: count)
                }
                decodedCount += UInt32(truncatingIfNeeded: count)
                remaining -= UInt32(truncatingIfNeeded: count)
                position += count
                if remaining == 0 { phase = .dataReturn }
                continue
            }
            let byte = bytes[position]
            position += 1
            let progress = step(byte, limit: limit)
            if progress != .needMore { return progress }
        }
        return .needMore
    }

    private mutating func step(_ byte: UInt8, limit: Int) -> Progress {
        switch phase {
        case .size: return size(byte, limit: limit)
        case .sizeExtension:
            lineBytes += 1
            guard lineBytes <= Limits.chunkLineBytes else { return .malformed }
            if byte == 13 { phase = .sizeLineFeed }
            return isText(byte) || byte == 13 ? .needMore : .malformed
        case .sizeLineFeed:
            guard byte == 10 else { return .malformed }
            lineBytes = 0
            digits = 0
            phase = remaining == 0 ? .trailerStart : .data
        case .data, .done: return .malformed
        case .dataReturn:
            guard byte == 13 else { return .malformed }
            phase = .dataLineFeed
        case .dataLineFeed:
            guard byte == 10 else { return .malformed }
            phase = .size
        case .trailerStart:
            if byte == 13 {
                phase = .endLineFeed
                return .needMore
            }
            phase = .trailer
            return trailer(byte)
        case .trailer: return trailer(byte)
        case .trailerLineFeed:
            guard byte == 10 else { return .malformed }
            phase = .trailerStart
        case .endLineFeed:
            guard byte == 10 else { return .malformed }
            phase = .done
            return .complete
        }
        return .needMore
    }

    private mutating func size(_ byte: UInt8, limit: Int) -> Progress {
        let value: UInt32
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): value = UInt32(byte) - 48
        case UInt8(ascii: "a")...UInt8(ascii: "f"): value = UInt32(byte) - 87
        case UInt8(ascii: "A")...UInt8(ascii: "F"): value = UInt32(byte) - 55
        case 13, UInt8(ascii: ";"), UInt8(ascii: " "), 9:
            guard digits > 0 else { return .malformed }
            phase = byte == 13 ? .sizeLineFeed : .sizeExtension
            return .needMore
        default: return .malformed
        }
        digits += 1
        // Seven digits hold any allowed size; leading zeros beyond them are nobody's need.
        guard digits <= 7 else { return .tooLarge }
        remaining = (digits == 1 ? 0 : remaining << 4) | value
        return Int(decodedCount) + Int(remaining) <= limit ? .needMore : .tooLarge
    }

    private mutating func trailer(_ byte: UInt8) -> Progress {
        lineBytes += 1
        guard lineBytes <= Limits.trailerBytes else { return .malformed }
        if byte == 13 {
            phase = .trailerLineFeed
            return .needMore
        }
        return isText(byte) ? .needMore : .malformed
    }

    private func isText(_ byte: UInt8) -> Bool { byte >= 32 && byte != 127 || byte == 9 }
}
