// The public door: one store is one node's rings and their spool.
internal import LinuxIO
internal import Synchronization
public import Tracking

/// A node's rings and spool, open and locked.
///
/// Open it before any port is bound, start the spooler, give each event loop its appender, and stop
/// the spooler when the loops have ended.
/// - SeeAlso: docs/formats/ring.md, docs/formats/spool.md.
public final class RingLogStore: Sendable {
    /// The spool's identity; what claims the node in the database.
    public let spoolUUID: EntityID
    /// The machine and the spool's directory on it, as the spool's identity names them.
    public let machine: String
    /// Every log found on disk: the live rings first, by worker; then those of former rings.
    public let rings: [RingHandle]
    /// Bytes that the segments together may have.
    public let quotaBytes: Int
    /// Whether the ring directory's file system keeps its files in memory; if not, redirects stall.
    public let isRingMemoryBacked: Bool
    /// What the operator should know of the opening, one line each; empty when all was well.
    public let notices: [String]

    /// What is to be added to the wall clock of the start, microseconds; not 0 when it was not believed.
    public let clockCorrection: Int64

    /// Says what time it is when the wall clock is more than a day off the latest lease: the wall clock
    /// and the lease come in, microseconds since 1970, and the time that identities begin at comes out.
    public typealias ClockJudge = (_ wall: Int64, _ lease: Int64) -> Int64

    private let workers: Int
    private let wake: SpoolerWake
    let spooler: Spooler
    private let locks: Mutex<[DirectoryLock]>
    private let thread = Mutex<SpoolerThread?>(nil)

    /// A thread that a mutex can hold.
    private struct SpoolerThread: ~Copyable {
        let thread: Thread
        consuming func join() { thread.join() }
    }

    /// Opens, locks and recovers ring and spool; spools what the rings hold beyond the spool.
    ///
    /// - Parameters:
    ///   - node: 0...127; the directories must be this node's.
    ///   - workers: Live rings, 1...32.
    ///   - judge: Asked when the wall clock is in doubt; by default it is believed.
    /// - Throws: ``RingLogError/lockedBy(pid:path:)`` at once when another process holds a
    ///   directory.
    public convenience init(
        node: UInt8, workers: Int, ring: RingOptions, spool: SpoolOptions,
        judge: ClockJudge = { wall, _ in wall }
    ) throws(RingLogError) {
        try self.init(
            node: node, workers: workers, ring: ring, spool: spool, files: KernelFiles(),
            clock: SystemClock.wallMicroseconds,
            host: HostIdentity(
                bootID: EntityID(MachineIdentity.bootID()) ?? .zero,
                machine: MachineIdentity.machine(), tellsPlaces: true), judge: judge)
    }

    init(
        node: UInt8, workers: Int, ring: RingOptions, spool: SpoolOptions,
        files: any SpoolFileSystem, clock: @escaping @Sendable () -> Int64, host: HostIdentity,
        judge: ClockJudge = { wall, _ in wall }
    ) throws(RingLogError) {
        do {
            wake = try SpoolerWake()
        } catch {
            throw .inputOutput(path: "eventfd", error)
        }
        var opening = try StoreOpening(
            node: node, workers: workers, ring: ring, spool: spool, files: files, clock: clock,
            host: host)
        let opened = try opening.open(wake: wake, judge: judge)
        spoolUUID = opened.spoolUUID
        rings = opened.spooler.handles
        quotaBytes = spool.quotaBytes
        machine = opened.machine
        isRingMemoryBacked = opened.isRingMemoryBacked
        notices = opened.notices
        clockCorrection = opened.clockCorrection
        spooler = opened.spooler
        locks = Mutex([opened.ringLock, opened.spoolLock])
        self.workers = workers
    }

    /// The process that holds a ring or spool directory, or held it last; nil when nobody has.
    public static func holder(of directory: String) -> Int32? {
        DirectoryLock.holder(of: directory)
    }

    /// Whether this spool has claimed its node in the database before.
    public var isClaimed: Bool { spooler.isClaimed }

    /// Notes for good that this spool has claimed its node.
    public func markClaimed() throws(RingLogError) {
        do {
            try spooler.markClaimed()
        } catch {
            throw .inputOutput(path: spooler.pool.directory, error)
        }
    }

    /// Notes that a ring's ``RingHandle/recoveredGaps`` are recorded in the database; those that were
    /// noticed within the time of `spool.retain` come back at the next open all the same.
    public func acknowledgeGaps(of ring: RingHandle) throws(RingLogError) {
        guard !ring.recoveredGaps.isEmpty else { return }
        do {
            try spooler.acknowledge(ring.ringUUID)
        } catch {
            throw .inputOutput(path: spooler.pool.directory, error)
        }
        ring.forgetGaps()
    }

    /// The producing end of a live ring; once for each worker.
    ///
    /// - Precondition: `worker` is below the number of workers and has no appender yet.
    public func appender(worker: Int) -> RingAppender {
        precondition(worker >= 0 && worker < workers, "no such worker")
        let handle = rings[worker]
        guard let memory = handle.memory else { preconditionFailure("a live ring has memory") }
        let wasTaken = handle.isAppenderTaken.exchange(true, ordering: .sequentiallyConsistent)
        precondition(!wasTaken, "a ring has one appender")
        return RingAppender(handle: handle, memory: memory, wake: wake)
    }

    /// Starts the spooler's thread.
    /// - Precondition: It has not been started.
    public func startSpooler() throws(RingLogError) {
        let spooler = self.spooler
        do {
            try thread.withLock { (slot) throws(Errno) in
                precondition(slot == nil, "the spooler runs already")
                slot = SpoolerThread(
                    thread: try Thread.start(name: "spooler") { spooler.run() })
            }
        } catch {
            throw .inputOutput(path: "thread", error)
        }
    }

    /// Spools and syncs everything that was appended, marks the stop as clean and ends the thread.
    ///
    /// Appenders must not be used any more.
    public func stopSpooler() { end(.stop) }

    /// Lets another process open ring and spool, once the spooler has ended: from here on nothing of
    /// this store may be used.
    public func release() { locks.withLock { $0 = [] } }

    /// Lets go of everything as a killed process would: nothing more is spooled, nothing is marked.
    func abandon() {
        end(.abandon)
        locks.withLock { $0 = [] }
    }

    private func end(_ command: Spooler.Command) {
        spooler.order(command)
        let running = thread.withLock { slot in
            var taken: SpoolerThread?
            swap(&taken, &slot)
            return taken
        }
        if let running { running.join() } else if command == .stop { spooler.run() }
    }

    /// Whether the disk has reported an error since the start: conversions must be refused.
    public var durabilityLost: Bool { spooler.durabilityLost }

    /// Bytes of all segments that hold records not yet flushed.
    public func spoolUsedBytes() -> Int { rings.reduce(0) { $0 + $1.spoolUsedBytes } }

    /// Promises nothing any more (``durabilityLost``): somebody has seen what syncs do not show.
    public func loseDurability() { spooler.loseDurability() }

    /// One turn of the spooler on the calling thread, for tests without a thread.
    func turnSpooler() { spooler.turn(forced: true) }
}
