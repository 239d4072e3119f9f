// The flusher: one thread of its own that brings durable records into PostgreSQL, exactly once in
// effect (docs/architecture.md).
internal import LinuxIO
internal import Postgres
public import RingLog
internal import Synchronization
internal import Tracking

/// Reads durable records from ring and spool and writes them to PostgreSQL; never in the way of the
/// event loops.
///
/// Rows and cursor advance in one transaction, so that each record arrives once whatever happens.
/// All methods may be called from any thread.
public final class Flusher: Sendable {
    /// Someone who waits for a flush.
    private final class Ticket: Sendable {
        let heads: [EntityID: UInt64]
        let answered: EventDescriptor
        let answer = Mutex<FlushOutcome?>(nil)

        init(heads: [EntityID: UInt64]) throws(Errno) {
            self.heads = heads
            answered = try EventDescriptor()
        }

        func settle(_ value: FlushOutcome) {
            answer.withLock { $0 = value }
            answered.signal()
        }
    }

    private struct Shared {
        var status = FlusherStatus()
        var tickets: [Ticket] = []
        var isStopping = false
        var wantsFlush = false
        var isRunning = false
    }

    private let store: RingLogStore
    private let options: FlusherOptions
    private let onClaim: @Sendable (NodeClaimState) -> Void
    private let shared = Mutex(Shared())
    private let wake: EventDescriptor
    private let ended: EventDescriptor
    private let interruption: Interruption

    /// A flusher over a store; nothing runs before ``start()``.
    ///
    /// - Parameters:
    ///   - store: The rings and their spool.
    ///   - options: How it works.
    ///   - onClaim: Told on the flusher's thread when the claim of the node changes. After
    ///     `.refused` or `.fenced` nothing may be minted.
    public init(
        store: RingLogStore, options: FlusherOptions,
        onClaim: @escaping @Sendable (NodeClaimState) -> Void = { _ in }
    ) throws(FlusherError) {
        self.store = store
        self.options = options
        self.onClaim = onClaim
        do {
            wake = try EventDescriptor()
            ended = try EventDescriptor()
            interruption = try Interruption()
        } catch {
            throw FlusherError(message: "cannot make an eventfd: \(error)")
        }
    }

    /// Starts the thread.
    public func start() throws(FlusherError) {
        let isFirst = shared.withLock { shared in
            defer { shared.isRunning = true }
            return !shared.isRunning
        }
        guard isFirst else { return }
        do {
            // Not joined: a thread that waits for a dead server must not hold up the exit.
            _ = try Thread.start(name: "flusher", stackBytes: 4 << 20) { [self] in
                // Redirects first: what waits for the flusher is safe on the disk.
                Thread.giveWay(nice: FlusherLimits.niceness)
                run()
            }
        } catch {
            shared.withLock { $0.isRunning = false }
            throw FlusherError(message: "cannot start the flusher's thread: \(error)")
        }
    }

    /// Writes once more what is durable when the database is there, and ends the thread.
    ///
    /// - Parameter waitMilliseconds: How long the database may take for that; then its answer is
    ///   waited for no more, and what is not committed stays in the spool.
    /// - Returns: Whether the thread has ended: nothing reads the spool any more.
    @discardableResult public func stop(waitMilliseconds: Int = 3_000) -> Bool {
        let isRunning = shared.withLock { shared in
            shared.isStopping = true
            return shared.isRunning
        }
        guard isRunning else { return true }
        wake.signal()
        var hasEnded = ended.wait(milliseconds: waitMilliseconds)
        if !hasEnded {
            interruption.raise()
            hasEnded = ended.wait(milliseconds: FlusherLimits.interruptedMilliseconds)
        }
        if hasEnded { ended.signal() }  // For whoever asks again.
        return hasEnded
    }

    /// The state as of the last round.
    public var status: FlusherStatus { shared.withLock { $0.status } }

    /// The state as operators see it.
    public var facts: DatabaseFacts { DatabaseFacts(status) }

    /// Records in ring and spool, as of the last round.
    public var pendingRecords: UInt64 { status.pending }

    /// Makes the flusher write what is durable without waiting for a full batch.
    public func requestFlush() {
        shared.withLock { $0.wantsFlush = true }
        wake.signal()
    }

    /// Flushes at once and waits until all that was recorded before the call is committed.
    ///
    /// - Parameter timeoutMilliseconds: How long to wait.
    /// - Returns: At once what waits when the database is away.
    public func flush(timeoutMilliseconds: Int = 8_000) -> FlushOutcome {
        var heads: [EntityID: UInt64] = [:]
        for ring in store.rings { heads[ring.ringUUID] = ring.headSequence }
        guard let ticket = try? Ticket(heads: heads) else {
            return .pending(max(1, pendingRecords))  // No descriptor left to wait with.
        }
        let refusal: FlushOutcome? = shared.withLock { shared in
            // Before the first attempt nobody knows whether the database is away: the round tells.
            let isAway = !shared.status.isConnected && !shared.status.lastError.isEmpty
            guard !isAway, shared.isRunning, !shared.isStopping else {
                return .pending(Flusher.pending(shared.status, store))
            }
            guard shared.tickets.count < FlusherLimits.maximumTickets else {
                return .pending(max(1, shared.status.pending))
            }
            shared.tickets.append(ticket)
            return nil
        }
        if let refusal { return refusal }
        wake.signal()
        _ = ticket.answered.wait(milliseconds: timeoutMilliseconds)
        if let answer = ticket.answer.withLock({ $0 }) { return answer }
        return shared.withLock { shared in
            shared.tickets.removeAll { $0 === ticket }
            return .pending(max(1, shared.status.pending))
        }
    }

    /// The heads move on while the database is away, so they are read now.
    private static func pending(_ status: FlusherStatus, _ store: RingLogStore) -> UInt64 {
        var pending: UInt64 = 0
        for ring in store.rings {
            let flushed = ring.flushedSequence(.clicks)
            let head = ring.headSequence
            pending &+= head > flushed ? head - flushed : 0
        }
        return max(pending, status.pending)
    }

    // MARK: - The thread

    private func run() {
        let bytes = Randomness.bytes(16)
        let key = bytes.withUnsafeBytes { SipHashKey(bytes: $0) }
        let identity = NodeIdentity(
            node: options.node, spoolUUID: store.spoolUUID, machine: options.machine,
            keyFingerprint: options.keyFingerprint)
        var load = ProcessorLoad()
        let loop = FlusherLoop(
            rings: store.rings.map { SpoolRing($0) },
            database: PostgresFlushDatabase(
                dsn: options.dsn, node: options.node, key: key, interruption: interruption),
            identity: identity, options: options, clock: .system,
            isBusy: {
                load.look(now: SystemClock.monotonicNanoseconds() / 1000)
                return load.idleThousandths < FlusherLimits.busyIdleThousandths
            },
            markClaimed: { [store] in
                // A claim that cannot be noted is made again at the next start.
                if !store.isClaimed { try? store.markClaimed() }
            },
            gapsRecorded: { [store] in
                // A gap that cannot be forgotten is recorded again at the next start.
                for ring in store.rings { try? store.acknowledgeGaps(of: ring) }
            })
        var claim = NodeClaimState.unknown
        while true {
            let (isStopping, wantsFlush, tickets) = shared.withLock { shared in
                defer { shared.wantsFlush = false }
                return (shared.isStopping, shared.wantsFlush, shared.tickets)
            }
            let hasMore = loop.round(atOnce: isStopping || wantsFlush || !tickets.isEmpty)
            if loop.status.claim != claim {
                claim = loop.status.claim
                onClaim(claim)
            }
            // Before the answers: whoever has one reads a state that fits it.
            shared.withLock { $0.status = loop.status }
            settle(tickets, loop, isStopping: isStopping)
            if isStopping && (!hasMore || interruption.isRaised) { break }
            loop.summarise(hasBacklog: hasMore)
            if !hasMore { wait(hasTickets: !tickets.isEmpty) }
        }
        loop.leave()
        loop.close()
        shared.withLock { shared in
            shared.status = loop.status
            shared.isRunning = false
        }
        ended.signal()
    }

    /// While someone waits for the spool's sync, the rounds follow faster.
    private func wait(hasTickets: Bool) {
        let delay = max(5, min(1_000, options.batchDelayMicroseconds / 1000))
        _ = wake.wait(milliseconds: hasTickets ? 5 : Int(delay))
    }

    private func settle(_ tickets: [Ticket], _ loop: FlusherLoop, isStopping: Bool) {
        var settled: [Ticket] = []
        let isAway = !loop.status.isConnected && !loop.status.lastError.isEmpty
        for ticket in tickets {
            if loop.isFlushed(through: ticket.heads) {
                ticket.settle(.committed)
            } else if isAway || isStopping {
                ticket.settle(.pending(max(1, Flusher.pending(loop.status, store))))
            } else {
                continue
            }
            settled.append(ticket)
        }
        guard !settled.isEmpty else { return }
        shared.withLock { shared in
            shared.tickets.removeAll { ticket in settled.contains { $0 === ticket } }
        }
    }
}

extension FlusherClock {
    /// The kernel's clocks.
    static var system: FlusherClock {
        FlusherClock(
            wall: SystemClock.wallMicroseconds, boot: SystemClock.bootMicroseconds,
            monotonic: { SystemClock.monotonicNanoseconds() / 1000 })
    }
}

/// Why a flusher could not start.
public struct FlusherError: Error, Sendable {
    /// What happened.
    public var message: String
}
