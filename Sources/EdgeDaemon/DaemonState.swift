// What the daemon's threads tell each other: the drain, the claim of the node, the reload.
internal import EdgeServer
internal import EdgeServices
internal import LinuxIO
internal import RingLog
internal import Synchronization

/// Orders and facts that any thread may set and the main thread acts upon.
final class DaemonState: Sendable {
    private struct Facts {
        var wantsDrain = false
        var isDraining = false
        var claim = NodeClaimState.unknown
        var exitCode: Int32 = 0
        var edge: EdgeServer?
        var isDropping = false
        var store = StoreCondition()
        var configurationText: [UInt8] = []
    }

    private let facts = Mutex(Facts())
    private let attention: EventDescriptor

    init() throws(Errno) { attention = try EventDescriptor() }

    /// Readable when the main thread should look.
    var descriptor: CInt { attention.descriptor.rawValue }

    /// Ends the main thread's attention.
    func clear() { attention.clear() }

    /// Asks for a drain; the process ends with `code` (the first that is not 0 counts).
    func requestDrain(exitCode code: Int32 = 0) {
        facts.withLock {
            $0.wantsDrain = true
            if $0.exitCode == 0 { $0.exitCode = code }
        }
        attention.signal()
    }

    /// Whether somebody asked for a drain.
    var wantsDrain: Bool { facts.withLock { $0.wantsDrain } }

    /// What the process ends with.
    var exitCode: Int32 { facts.withLock { $0.exitCode } }

    /// Whether the drain has begun: `/readyz` says no from here on.
    var isDraining: Bool { facts.withLock { $0.isDraining } }

    /// Makes the node unready, before anything else of a drain.
    func beginDrain() { facts.withLock { $0.isDraining = true } }

    /// Whether clicks were dropped within the last seconds, for want of room.
    var isDropping: Bool {
        get { facts.withLock { $0.isDropping } }
        set { facts.withLock { $0.isDropping = newValue } }
    }

    /// How ring and spool stood a second ago at most.
    var store: StoreCondition {
        get { facts.withLock { $0.store } }
        set { facts.withLock { $0.store = newValue } }
    }

    /// The edge, once it serves: who reloads tells it.
    var edge: EdgeServer? {
        get { facts.withLock { $0.edge } }
        set { facts.withLock { $0.edge = newValue } }
    }

    /// The configuration file as it was last read.
    var configurationText: [UInt8] {
        get { facts.withLock { $0.configurationText } }
        set { facts.withLock { $0.configurationText = newValue } }
    }

    /// What the flusher says of the node's claim.
    var claim: NodeClaimState {
        get { facts.withLock { $0.claim } }
        set {
            facts.withLock { $0.claim = newValue }
            attention.signal()
        }
    }
}
