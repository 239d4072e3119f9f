// What the fuzzers do with one input: parse it, and check what must hold whatever it is. The same
// bodies run under libFuzzer (`make fuzz`) and over the saved corpus (`make test`).
internal import EdgeCore
internal import Tracking

/// One thing to fuzz.
public enum FuzzTarget: String, CaseIterable, Sendable {
    /// A request's head, in one piece and in many.
    case requestHead = "request-head"
    /// A chunked body, in one piece and in many.
    case chunkedBody = "chunked-body"
    /// A query or form, and the postback made of it.
    case query
    /// A whole click: head, link, destination, record.
    case redirect
    /// PROXY headers, version 1 and 2.
    case proxy
    /// X-Forwarded-For and Forwarded.
    case forwarded
    /// JSON conversions.
    case json
}

/// The bodies, with what they work on.
///
/// Each takes an input and gives nil, or says what does not hold.
public final class FuzzBodies {
    let click: FuzzClick
    let conversions: FuzzConversions

    /// Bodies over a small platform of their own.
    public init() {
        click = FuzzClick()
        conversions = FuzzConversions()
    }

    /// Runs one input.
    public func run(_ target: FuzzTarget, _ input: UnsafeRawBufferPointer) -> String? {
        switch target {
        case .requestHead: FuzzWire.requestHead(input)
        case .chunkedBody: FuzzWire.chunkedBody(input)
        case .query: conversions.query(input)
        case .redirect: click.redirect(input)
        case .proxy: FuzzWire.proxy(input)
        case .forwarded: FuzzWire.forwarded(input)
        case .json: conversions.json(input)
        }
    }
}

/// Cuts an input into pieces: its first byte is the seed of their sizes, the rest is the payload.
struct Pieces {
    let payload: UnsafeRawBufferPointer
    private var state: UInt64

    init(_ input: UnsafeRawBufferPointer) {
        state = UInt64(input.first ?? 0) &* 0x9E37_79B9_7F4A_7C15 | 1
        payload = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    }

    /// The size of the next piece, 1...16, or 1...256 now and then.
    mutating func next() -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        let isLarge = state >> 60 == 0
        return Int(state >> 32 & (isLarge ? 0xFF : 0xF)) + 1
    }
}
