// A connection without a socket: heads and bodies parsed one after the other, as the bytes come.
import EdgeCore
import Tracking

/// Takes bytes in pieces and notes what they are parsed as.
struct WireDriver {
    private enum Phase {
        case head(HeadProgress)
        case fixed(remaining: Int)
        case chunked(ChunkedDecoder)
        case closed
        case refused
    }

    private var phase = Phase.head(HeadProgress())
    private var isLast = false
    private var buffer: [UInt8] = []
    private var body = [UInt8](repeating: 0, count: 65_536)
    /// One text for each head, body and refusal.
    private(set) var events: [String] = []

    /// `accept` when the last message is whole and nothing is left to parse, `wait`, or `refuse STATUS`.
    var verdict: String {
        if case .refused = phase { return "refuse " + (events.last ?? "") }
        if case .closed = phase { return "accept" }
        if case .head = phase, buffer.isEmpty, !events.isEmpty { return "accept" }
        return "wait"
    }

    /// Takes more bytes; none after a refusal or a request that ends the connection.
    mutating func feed(_ bytes: [UInt8]) {
        buffer += bytes
        while step() {}
    }

    private mutating func step() -> Bool {
        switch phase {
        case .refused, .closed: return false
        case .head(var progress): return head(&progress)
        case .fixed(let remaining):
            let count = min(remaining, buffer.count)
            buffer.removeFirst(count)
            phase = .fixed(remaining: remaining - count)
            if remaining == count { end("body") }
            return remaining == count
        case .chunked(var decoder):
            let progress = buffer.withUnsafeBytes { input in
                body.withUnsafeMutableBytes { decoder.decode(input, into: $0) }
            }
            buffer.removeFirst(progress == .needMore ? buffer.count : decoder.consumed)
            phase = .chunked(decoder)
            switch progress {
            case .needMore: return false
            case .refused(let status): refuse(status)
            case .complete:
                end("body " + String(decoding: body[..<decoder.produced], as: UTF8.self))
            }
            return true
        }
    }

    private mutating func head(_ progress: inout HeadProgress) -> Bool {
        var head = RequestHead()
        let verdict = buffer.withUnsafeBytes {
            RequestParser.parse($0, limit: 16_384, into: &head, resuming: &progress)
        }
        phase = .head(progress)
        switch verdict {
        case .needMore: return false
        case .refused(let status): refuse(status)
        case .complete:
            events.append("head \(head.method) \(head.headBytes) \(head.keepAlive) \(head.host)")
            buffer.removeFirst(head.headBytes)
            isLast = !head.keepAlive
            if head.isChunked {
                phase = .chunked(ChunkedDecoder())
            } else if head.contentLength > 0 {
                phase = .fixed(remaining: head.contentLength)
            } else {
                phase = isLast ? .closed : .head(HeadProgress())
            }
        }
        return true
    }

    private mutating func end(_ event: String) {
        events.append(event)
        phase = isLast ? .closed : .head(HeadProgress())
    }

    private mutating func refuse(_ status: UInt16) {
        events.append("\(status)")
        phase = .refused
    }
}
