// What a client may take of the edge: the configurable limits (contract, 2) and the fixed ones.

/// The limits that an operator sets.
public struct EdgeLimits: Sendable, BitwiseCopyable {
    /// Bytes of a request's head.
    public var headerBytes = 16 << 10
    /// Bytes of a request's body, decoded.
    public var bodyBytes = 64 << 10
    /// Microseconds from a head's first byte to its last, and as long again for a body.
    public var headerTimeoutMicroseconds: Int64 = 10_000_000
    /// Microseconds that a connection may stand idle between requests, or leave an answer unread.
    public var idleTimeoutMicroseconds: Int64 = 15_000_000
    /// Open connections of the process.
    public var connections = 100_000
    /// Open connections of one address (a /64 for IPv6).
    public var connectionsPerAddress = 1024
    /// Bytes of unfinished requests and unsent answers, in the whole process.
    public var bufferedBytes = 256 << 20
    /// Microseconds that a conversion's answer waits for the disk.
    public var commitWaitMicroseconds: Int64 = 5_000_000

    /// The defaults of the contract.
    public init() {}
}

/// The limits that nobody needs to set.
enum Limits {
    /// Event loops of a process; a ring number has five bits for the worker.
    static let loops = 32
    /// Bytes of a loop's receive slab: what one recv takes when nothing is left over.
    static let receiveBytes = 64 << 10
    /// Bytes of a loop's send slab: what one send gives.
    static let sendBytes = 64 << 10
    /// Bytes of the largest answer but those of conversions: 8 KiB of Location and its head.
    static let responseBytes = 12 << 10
    /// Bytes of a conversion's answer: 100 results.
    static let conversionResponseBytes = 48 << 10
    /// Events of one wait.
    static let eventsPerTurn = 512
    /// Connections accepted in a row before others have their turn.
    static let acceptsPerTurn = 64
    /// Connections that give way to one newcomer at most: other loops may be faster to their places.
    static let yieldsPerNewcomer = 4
    /// Connections of the process beyond its limit while other loops give theirs up; descriptors are
    /// kept for them (`DescriptorBudget.others`).
    static let overdrawnConnections = 64
    /// Bytes of a connection that the kernel holds before it has sent them; what a client does not read
    /// stays in the edge, where it is counted.
    static let unsentBytes = 64 << 10
    /// Deadlines looked at in a turn, so that many at once do not keep the others waiting.
    static let deadlinesPerTurn = 512
    /// Bytes in a second that a client reads at least of an answer that its socket cannot hold.
    static let readBytesPerSecond: Int64 = 4 << 10
    /// Milliseconds after which the kernel gives up what a client does not acknowledge or take, be it
    /// that the connection was closed long ago.
    static let unreadMilliseconds = 30_000
    /// Bytes that a lingering connection may still send before it is cut.
    static let lingerBytes: UInt32 = 256 << 10
    /// Microseconds that a connection lingers after a refusal, for the client to read it.
    static let lingerMicroseconds: Int64 = 2_000_000
    /// Conversions of one loop that wait for the disk at once.
    static let parked = 1 << 16
    /// Free blocks of a size that a loop keeps for reuse.
    static let keptBlocks = 64
    /// The same while the process drains: who has not read by then has had its answer sent.
    static let drainLingerMicroseconds: Int64 = 500_000
    /// Microseconds from the start of a drain in which an idle connection may still send a request.
    static let drainGraceMicroseconds: Int64 = 300_000
    /// Microseconds after which a drain leaves what is unfinished.
    static let drainMicroseconds: Int64 = 6_000_000
    /// Microseconds from the start of a drain in which TLS connections are carried to a successor: with
    /// their last moments it is over before the ten seconds that a drain has.
    static let relayMicroseconds: Int64 = 8_000_000
    /// Microseconds that a drain waits for its loops to empty the listeners' queues.
    static let queueMicroseconds: Int64 = 500_000
    /// Microseconds that the loops wait for each other's first step.
    static let startMicroseconds: Int64 = 1_000_000
    /// Bytes that sealing adds to a full send slab, tickets and alerts included.
    static let sealingBytes = 4 << 10
    /// Bytes that a TLS handshake under way holds in OpenSSL, by measurement: 45 KiB of process memory.
    static let handshakeBytes = 48 << 10
    /// Bytes that OpenSSL holds for a TLS connection of which a part of a record has come.
    static let partialRecordBytes = 34 << 10
    /// Full TLS handshakes that one loop begins in a turn; more wait for the next.
    static let fullHandshakesPerTurn = 8
    /// TLS handshakes with a ticket that one loop begins in a turn.
    static let resumedHandshakesPerTurn = 64
    /// TLS handshakes of one loop that wait for their turn.
    static let deferredHandshakes = 4096
    /// Microseconds at one turn after which a loop counts as silent.
    static let silenceMicroseconds: Int64 = 1_000_000
    /// Microseconds at one turn after which other loops take what waits at a loop's sockets, whatever
    /// they have themselves.
    static let standstillMicroseconds: Int64 = 10_000
    /// Microseconds between two looks of the watchdog.
    static let watchMicroseconds: Int64 = 200_000
    /// Listening addresses of a process.
    static let listeners = 64
}
