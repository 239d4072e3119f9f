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
