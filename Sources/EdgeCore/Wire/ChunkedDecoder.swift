// The chunked transfer coding, decoded as it comes, strictly and with bounds (RFC 9112, 7.1).
internal import Tracking

/// What a step of decoding gave.
public enum ChunkedProgress: Equatable, Sendable {
    /// All input was taken; the body goes on.
    case needMore
    /// The body has ended; input behind ``ChunkedDecoder/consumed`` is not part of it.
    case complete
    /// Malformed (400) or larger than the output (413): answer and close.
    case refused(status: UInt16)
}

/// Decodes one chunked body, in as many pieces as it comes.
public struct ChunkedDecoder: BitwiseCopyable, Sendable {
    private enum State: UInt8, BitwiseCopyable, Sendable {
        case size, extensions, sizeLineFeed, data, dataReturn, dataLineFeed
        case trailerStart, trailerName, trailer, trailerLineFeed, lastLineFeed, done
    }

    private var state = State.size
    private var digits = 0
    private var remaining = 0
    private var lineBytes = 0
    private var trailerBytes = 0
    private var framingBytes = 0
    /// Bytes of the input that the last call has taken.
    public private(set) var consumed = 0
    /// Bytes of the body so far.
    public private(set) var produced = 0

    /// A decoder at the first chunk.
    public init() {}

    /// Decodes more input, appending to what earlier calls have put into `output`.
    ///
    /// - Parameters:
    ///   - input: The bytes behind those that earlier calls have consumed.
    ///   - output: The same memory in each call; its size bounds the body. It may overlap the input
    ///     when it does not begin behind it: decoding never gets ahead of reading.
    /// - Complexity: O(n); no allocation.
    public mutating func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) -> ChunkedProgress {
        consumed = 0
        while consumed < input.count {
            if state == .data {
                let count = min(remaining, input.count &- consumed)
                guard count <= output.count &- produced, let source = input.baseAddress,
                    let target = output.baseAddress
                else { return .refused(status: 413) }
                (target + produced).copyMemory(from: source + consumed, byteCount: count)
                produced &+= count
                consumed &+= count
                remaining &-= count
                if remaining == 0 { state = .dataReturn }
                continue
            }
            let byte = input[consumed]
            consumed &+= 1
            framingBytes &+= 1
            guard framingBytes <= WireLimits.chunkFramingBytes, step(byte) else {
                return .refused(status: 400)
            }
            if state == .done { return .complete }
            // What is announced is refused before it comes.
            if remaining > output.count &- produced { return .refused(status: 413) }
        }
        return state == .done ? .complete : .needMore
    }

    /// Writes bytes that lead a new decoder to where this one is, `body` being what it has produced.
    ///
    /// How a half received body goes to another process: as bytes of the wire, which every release
    /// understands. Extensions and trailers that have come are shortened; the rest of theirs is still
    /// judged, and so is every bound.
    /// - Parameter target: At least ``spellingBytes`` more than `body`.
    /// - Returns: How many bytes were written; nil when there is no room, or nothing to go on with.
    public func spell(
        _ body: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        guard body.count == produced, state != .done,
            target.count >= body.count + ChunkedDecoder.spellingBytes
        else { return nil }
        var writer = Spelling(target)
        // All that has come as one chunk; the last of it may still be under way.
        let pending = state == .data ? remaining : 0
        let isInChunk = state == .data || state == .dataReturn || state == .dataLineFeed
        if isInChunk || !body.isEmpty {
            writer.size(body.count + pending, digits: 1)
            writer.text("\r\n")
            writer.bytes(body)
            if !isInChunk { writer.text("\r\n") }
            if state == .dataLineFeed { writer.text("\r") }
        }
        switch state {
        case .data, .dataReturn, .dataLineFeed, .done: break
        case .size: if digits > 0 { writer.size(remaining, digits: digits) }
        case .extensions:
            writer.size(remaining, digits: 1)
            writer.text(";")
        case .sizeLineFeed:
            writer.size(remaining, digits: 1)
            writer.text("\r")
        case .trailerStart: writer.text("0\r\n")
        case .trailerName: writer.text("0\r\nx")
        case .trailer: writer.text("0\r\nx:")
        case .trailerLineFeed: writer.text("0\r\nx:\r")
        case .lastLineFeed: writer.text("0\r\n\r")
        }
        return writer.count
    }

    /// Bytes that ``spell(_:into:)`` adds at most: two sizes, their line ends, a trailer's beginning.
    public static let spellingBytes = 40

    /// Takes one byte that is not data; false when it must not stand here.
    private mutating func step(_ byte: UInt8) -> Bool {
        switch state {
        case .size: return size(byte)
        case .extensions:
            lineBytes &+= 1
            if byte == 0x0D {
                state = .sizeLineFeed
                return true
            }
            return lineBytes <= WireLimits.chunkLineBytes && isText(byte)
        case .sizeLineFeed:
            state = remaining == 0 ? .trailerStart : .data
            digits = 0
            lineBytes = 0
            return byte == 0x0A
        case .dataReturn:
            state = .dataLineFeed
            return byte == 0x0D
        case .dataLineFeed:
            state = .size
            return byte == 0x0A
        case .trailerStart:
            if byte == 0x0D {
                state = .lastLineFeed
                return true
            }
            state = .trailerName
            trailerBytes &+= 1
            return ByteScan.isToken(byte) && trailerBytes <= WireLimits.trailerBytes
        case .trailerName:
            trailerBytes &+= 1
            if byte == 0x3A { state = .trailer }
            return (byte == 0x3A || ByteScan.isToken(byte))
                && trailerBytes <= WireLimits.trailerBytes
        case .trailer:
            trailerBytes &+= 1
            if byte == 0x0D {
                state = .trailerLineFeed
                return true
            }
            return trailerBytes <= WireLimits.trailerBytes && isText(byte)
        case .trailerLineFeed:
            state = .trailerStart
            return byte == 0x0A
        case .lastLineFeed:
            state = .done
            return byte == 0x0A
        case .data, .done: return false
        }
    }

    private mutating func size(_ byte: UInt8) -> Bool {
        let value = ByteScan.hexadecimal(byte)
        if value != 0xFF {
            digits &+= 1
            // Eight digits at most: below 2^32.
            guard digits <= 8 else { return false }
            remaining = remaining << 4 | Int(value)
            return true
        }
        guard digits > 0 else { return false }
        if byte == 0x0D {
            state = .sizeLineFeed
            return true
        }
        state = .extensions
        return byte == 0x3B
    }

    private func isText(_ byte: UInt8) -> Bool { (byte >= 0x20 && byte != 0x7F) || byte == 0x09 }
}

/// Bytes of the wire, appended to memory that has room for them.
private struct Spelling {
    private let target: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ target: UnsafeMutableRawBufferPointer) { self.target = target }

    mutating func text(_ text: StaticString) {
        bytes(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func bytes(_ bytes: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: target[count...]).copyMemory(from: bytes)
        count += bytes.count
    }

    /// A chunk's size, in at least so many digits.
    mutating func size(_ value: Int, digits: Int) {
        var least = 0
        while value >> (4 * least) > 0 { least += 1 }
        for place in (0..<max(least, digits)).reversed() {
            let digit = UInt8(truncatingIfNeeded: value >> (4 * place)) & 0xF
            target[count] = digit < 10 ? 0x30 + digit : 0x57 + digit
            count += 1
        }
    }
}
