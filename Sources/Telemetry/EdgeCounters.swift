// The edge's counters: one block a loop, written by that loop only, summed by whoever asks.
internal import Synchronization

/// What the edge counts, since its start.
public enum EdgeCounter: Int, CaseIterable, Sendable {
    /// Requests answered with a link's destination and recorded as clicks.
    case requestsRedirected
    /// Requests for a slug or path that nothing answers to (404).
    case requestsNotFound
    /// Requests for an expired or archived link without a substitute (410).
    case requestsGone
    /// Requests answered with a fallback, expired or domain default URL.
    case requestsFallback
    /// Malformed, oversized or late requests, answered 4xx and closed.
    case requestsBadRequest
    /// Requests of an address that sends too many: 429, or a pixel not recorded.
    case requestsLimited
    /// Requests answered 503 because no links are loaded.
    case requestsNotLoaded
    /// HEAD requests for a link.
    case requestsHead
    /// Prefetches of a link.
    case requestsPrefetch
    /// Postbacks and JSON conversions, whatever became of them.
    case requestsConversion
    /// Conversion pixels, whatever became of them.
    case requestsPixel
    /// Everything else: robots.txt, healthz, favicon, the snippet, wrong methods.
    case requestsOther
    /// Click records written to a ring.
    case clicksRecorded
    /// Clicks that found ring and spool full: redirected, not recorded.
    case clicksDropped
    /// Recorded clicks of an address that clicks too fast, marked `velocity`.
    case clicksRapid
    /// Recorded clicks that are known bots.
    case clicksBots
    /// Conversion records written to a ring.
    case conversionsRecorded
    /// Conversion messages that were refused.
    case conversionsRejected
    /// Connections accepted.
    case connectionsAccepted
    /// Connections that have ended.
    case connectionsClosed
    /// Connections closed at once because a limit was reached.
    case connectionsRefused
    /// Connections closed for others' sake, when a limit left no room.
    case connectionsGivenWay
    /// Connections closed because a deadline passed.
    case connectionsTimedOut
    /// TLS handshakes that made a new session.
    case tlsHandshakesFull
    /// TLS handshakes that went on with a session of before.
    case tlsHandshakesResumed
    /// TLS handshakes that were begun and came to nothing.
    case tlsHandshakesFailed
    /// TLS handshakes that had to wait for a turn with time for them.
    case tlsHandshakesDeferred
    /// TLS connections accepted.
    case tlsConnectionsOpened
    /// TLS connections that have ended.
    case tlsConnectionsClosed
    /// Connections passed on to a successor, still open.
    case connectionsPassed
    /// Connections taken over from a predecessor.
    case connectionsAdopted
    /// Steps of the wall clock, as the first loop saw them.
    case clockSteps
    /// Bytes received from clients.
    case bytesReceived
    /// Bytes sent to clients.
    case bytesSent
    /// Waits for events: one a turn of a loop.
    case callsWait
    /// Calls that receive from a client.
    case callsReceive
    /// Calls that send to a client.
    case callsSend
    /// Calls that accept, watch, shut down or close a connection, and those on wake-ups.
    case callsOther
}

/// One loop's counters: the loop adds, anyone reads.
///
/// The memory lives as long as the process, so that the handle is plain data.
public struct CounterBlock: @unchecked Sendable {
    // Sendable: the words are atomics; that only one thread adds is the caller's promise.
    private let words: UnsafeMutablePointer<Atomic<Int>>

    /// Whole cache lines a block, so that no two loops write to one line.
    static let strideBytes = (EdgeCounter.allCases.count * 8 + 127) / 128 * 128

    /// A block of its own, all zero.
    public init() {
        self.init(words: CounterBlock.allocate(blocks: 1))
    }

    fileprivate init(words: UnsafeMutableRawPointer) {
        self.words = words.assumingMemoryBound(to: Atomic<Int>.self)
    }

    fileprivate static func allocate(blocks: Int) -> UnsafeMutableRawPointer {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: strideBytes * blocks, alignment: 128)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: strideBytes * blocks)
        return memory
    }

    /// Adds to a counter.
    ///
    /// Only the block's owner calls this. A relaxed load and store, no locked instruction: there is
    /// one writer, and readers only sum.
    @inline(__always) public func add(_ counter: EdgeCounter, _ count: Int = 1) {
        let word = words + counter.rawValue
        let value = word.pointee.load(ordering: .relaxed)
        // &+: 2^63 events are out of reach of any uptime.
        word.pointee.store(value &+ count, ordering: .relaxed)
    }

    /// What a counter stands at; any thread.
    @inline(__always) public func value(_ counter: EdgeCounter) -> Int {
        words[counter.rawValue].load(ordering: .relaxed)
    }
}

/// The counters of every loop.
public final class EdgeCounters: Sendable {
    private let blocks: [CounterBlock]

    /// Zeroed counters for so many loops.
    /// - Precondition: `loops` is positive.
    public init(loops: Int) {
        precondition(loops > 0)
        let memory = CounterBlock.allocate(blocks: loops)
        blocks = (0..<loops).map { CounterBlock(words: memory + $0 * CounterBlock.strideBytes) }
    }

    /// Loops that count.
    public var loops: Int { blocks.count }

    /// The block that loop `loop` writes.
    /// - Precondition: `loop` is below ``loops``.
    public func block(_ loop: Int) -> CounterBlock { blocks[loop] }

    /// The sum over all loops.
    public func total(_ counter: EdgeCounter) -> Int {
        blocks.reduce(0) { $0 &+ $1.value(counter) }
    }

    /// Connections open now.
    public var openConnections: Int {
        // Closed is read first, so that a connection between the two reads never makes it negative.
        let closed = total(.connectionsClosed)
        return max(0, total(.connectionsAccepted) &- closed)
    }

    /// TLS connections open now, those within a handshake too.
    public var openTLSConnections: Int {
        let closed = total(.tlsConnectionsClosed)
        return max(0, total(.tlsConnectionsOpened) &- closed)
    }
}
