// The one thread that carries records from the rings to disk, and keeps lease and segments in
// order.
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// What wakes the spooler; shared with every appender.
final class SpoolerWake: Sendable {
    let event: EventDescriptor
    init() throws(Errno) { event = try EventDescriptor() }
}

/// The spooler's work.
///
/// One thread at a time: the opener, then the spooler's own, then the closer.
final class Spooler: @unchecked Sendable {
    // Sendable: all but the atomics belongs to the one thread that runs it; start and join hand
    // over.
    enum Command: Int { case run, stop, abandon }

    let handles: [RingHandle]
    let pool: SegmentPool
    let wake: SpoolerWake
    private let identityFile: IdentityFile
    private let identity: Mutex<SpoolIdentity>
    private let options: SpoolOptions
    private let clock: @Sendable () -> Int64
    private let command = Atomic<Int>(Command.run.rawValue)
    private let lost = Atomic<Bool>(false)
    private(set) var drains: [RingDrain]
    private var lastSync: Int64 = 0
    private var lastCare: Int64 = 0
    private var retryAt: Int64 = 0

    init(
        handles: [RingHandle], drains: [RingDrain], pool: SegmentPool, wake: SpoolerWake,
        identityFile: IdentityFile, identity: SpoolIdentity, options: SpoolOptions,
        clock: @escaping @Sendable () -> Int64
    ) {
        self.handles = handles
        self.drains = drains
        self.pool = pool
        self.wake = wake
        self.identityFile = identityFile
        self.identity = Mutex(identity)
        self.options = options
        self.clock = clock
    }

    var durabilityLost: Bool { lost.load(ordering: .acquiring) }
    var isClaimed: Bool { identity.withLock { $0.isClaimed } }
    /// Files kept ready for use.
    var spareLimit: Int { max(2, handles.count) }

    func order(_ command: Command) {
        self.command.store(command.rawValue, ordering: .releasing)
        wake.event.signal()
    }

    /// Runs until it is told to stop or to abandon everything.
    func run() {
        let tick = min(options.syncMicroseconds, RingLogLimits.maximumTickMicroseconds)
        let milliseconds = Int(max(1, tick / 1000))
        let preparing = startPreparer()
        pool.prepareSpares(now: clock())
        work(milliseconds: milliseconds)
        pool.preparer?.stop()
        pool.preparer = nil
        preparing?.join()
    }

    /// The thread that makes segments; nil, and they are made here, when there is none to be had.
    private func startPreparer() -> PreparerThread? {
        guard let preparer = try? SegmentPreparer(pool.maker),
            let thread = try? Thread.start(
                name: "segments",
                {
                    Thread.giveWay(nice: RingLogLimits.preparerNiceness)
                    preparer.run()
                })
        else { return nil }
        pool.preparer = preparer
        return PreparerThread(thread: thread)
    }

    /// A thread in an optional.
    private struct PreparerThread: ~Copyable {
        let thread: Thread
        consuming func join() { thread.join() }
    }

    private func work(milliseconds: Int) {
        while true {
            wake.event.wait(milliseconds: milliseconds)
            switch Command(rawValue: command.load(ordering: .acquiring)) {
            case .abandon: return
            case .stop:
                finish()
                return
            case .run, nil: turn(forced: false)
            }
        }
    }

    /// One turn: what is due is spooled and synced, lease and segments are looked after.
    func turn(forced: Bool) {
        let now = clock()
        let isDue = forced || now - lastSync >= options.syncMicroseconds || now < lastSync
        let mayTry = forced || now >= retryAt
        // Of all rings before the first sync, which may take its time.
        for index in drains.indices { drains[index].pages.follow() }
        for index in drains.indices {
            // Cleared before the head is read, so that a request made later is not swallowed.
            let isWaitedFor = drains[index].handle.cells.syncWanted.exchange(0) != 0
            let isFilling =
                drains[index].handle.ringUsedBytes * 2 > drains[index].handle.ringBytes
            guard isDue || isWaitedFor || isFilling else { continue }
            let isDone = mayTry && carry(index, now: now, forConversions: isWaitedFor)
            if isDone {
                if isWaitedFor { drains[index].handle.durableEvent.signal() }
            } else if isWaitedFor {
                _ = drains[index].handle.cells.syncWanted.exchange(1)
            }
        }
        if isDue { lastSync = now }
        renewLease()
        if now - lastCare >= 1_000_000 || now < lastCare {
            lastCare = now
            releaseFlushed(now: now)
            pool.prepareSpares(now: now)
        }
        let isHeld: UInt64 = pool.inUseBytes > pool.limitBytes(forConversions: false) ? 1 : 0
        for handle in handles { handle.cells.clicksHeld.store(isHeld) }
    }

    /// Spools and syncs one ring; whether everything that was in it is durable now.
    private func carry(_ index: Int, now: Int64, forConversions: Bool) -> Bool {
        if drains[index].hasMore {
            var isComplete = true
            do {
                do {
                    try drains[index].spool(
                        checking: false, now: now, forConversions: forConversions,
                        makeRoom: { self.yieldFlushed() })
                } catch {
                    guard case .full = error else { throw error }
                    isComplete = false
                }
                try drains[index].sync()
            } catch {
                loseDurability()
                drains[index].abandonSegment()
                retryAt = now + RingLogLimits.fullRetryMicroseconds
                return false
            }
            guard isComplete else { return false }
        }
        let handle = drains[index].handle
        handle.note(durable: handle.durableSequence, at: now)
        return true
    }

    /// What is written from here on is not promised to last; from any thread.
    func loseDurability() {
        lost.store(true, ordering: .releasing)
        for handle in handles {
            handle.cells.durabilityLost.publish(1)
            handle.durableEvent.signal()
        }
    }

    /// Everything spooled and synced, then the mark of a clean stop.
    private func finish() {
        for _ in 0..<3 where drains.contains(where: { $0.hasMore }) { turn(forced: true) }
        guard !durabilityLost, !drains.contains(where: { $0.hasMore }) else { return }
        update { $0.isCleanStop = true }
    }

    // MARK: Lease and identity

    /// Writes leases further ahead before an event loop comes near the end of one.
    ///
    /// They follow what the loops tell, never the wall clock: a lease that a clock's step had carried
    /// off would hold for ever.
    private func renewLease() {
        let isNear = handles.contains { handle in
            !handle.isRetired
                && latest(handle) + RingLogLimits.leaseMarginMilliseconds
                    > handle.leaseMilliseconds
        }
        guard isNear else { return }
        let live = handles.filter { !$0.isRetired }
        let leases = live.map {
            max(latest($0) + RingLogLimits.leaseMilliseconds, $0.leaseMilliseconds)
        }
        let isWritten = update { identity in
            for (handle, lease) in zip(live, leases) {
                identity.rings[Int(handle.ringID) % RingLogLimits.maximumWorkers]
                    .leaseMilliseconds = lease
            }
        }
        guard isWritten else { return }
        for (handle, lease) in zip(live, leases) { handle.setLease(lease) }
    }

    private func latest(_ handle: RingHandle) -> Int64 {
        max(handle.idFloorMilliseconds, Int64(bitPattern: handle.cells.latestIdentity.load()))
    }

    /// Changes the identity file, durable before it returns; whether that worked.
    @discardableResult private func update(_ change: (inout SpoolIdentity) -> Void) -> Bool {
        do {
            try write(change)
            return true
        } catch {
            loseDurability()
            return false
        }
    }

    /// The identity file's path when somebody has removed it.
    var removedIdentity: [String] { identityFile.isRemoved ? [identityFile.path] : [] }

    /// Notes for good that the spool's node is claimed.
    func markClaimed() throws(Errno) { try write { $0.isClaimed = true } }

    /// Forgets the losses of a log that somebody else remembers now, and has had time to replicate.
    ///
    /// Younger ones are told again after the next open: a failover may have taken them back.
    func acknowledge(_ ringUUID: EntityID) throws(Errno) {
        let now = clock()
        let retain = options.retainMicroseconds
        func isSafe(_ loss: SpoolIdentity.Loss) -> Bool {
            loss.ringUUID == ringUUID && now - loss.noticedMicroseconds >= retain
        }
        guard identity.withLock({ $0.losses.contains(where: isSafe) }) else { return }
        try write { identity in identity.losses.removeAll(where: isSafe) }
    }

    private func write(_ change: (inout SpoolIdentity) -> Void) throws(Errno) {
        try identity.withLock { (identity) throws(Errno) in
            var changed = identity
            change(&changed)
            changed.generation += 1
            try identityFile.write(changed)
            identity = changed
        }
    }

    // MARK: Segments

    /// Gives back segments that have been flushed for long enough, oldest first.
    private func releaseFlushed(now: Int64) {
        for handle in handles {
            let flushed = handle.flushedSequence
            for segment in handle.segments where segment.isSealed {
                guard segment.lastSequence <= flushed else {
                    segment.flushedAt = 0
                    continue
                }
                if segment.flushedAt == 0 { segment.flushedAt = now }
            }
            while let first = handle.segments.first, first.isSealed, first.flushedAt != 0,
                now - first.flushedAt >= options.retainMicroseconds
            {
                handle.remove(first)
                pool.giveBack(first, spare: spareLimit)
            }
        }
    }

    /// Gives back the oldest flushed segment before its time; whether there was one.
    private func yieldFlushed() -> Bool {
        var oldest: (handle: RingHandle, segment: SpoolSegment)?
        for handle in handles {
            guard let first = handle.segments.first, first.isSealed,
                first.lastSequence <= handle.flushedSequence,
                first.header.number < oldest?.segment.header.number ?? .max
            else { continue }
            oldest = (handle, first)
        }
        guard let oldest else { return false }
        oldest.handle.remove(oldest.segment)
        pool.giveBack(oldest.segment, spare: spareLimit)
        return true
    }
}
