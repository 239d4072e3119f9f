// Opening a store, step by step: locks, identity, segments, rings; each step leaves the disk such
// that a death behind it loses nothing.
internal import LinuxIO
internal import Tracking

/// What an open store is made of.
struct OpenedStore {
    let ringLock: DirectoryLock
    let spoolLock: DirectoryLock
    let spooler: Spooler
    let spoolUUID: EntityID
    let machine: String
    let notices: [String]
    let isRingMemoryBacked: Bool
    let clockCorrection: Int64
}

/// Who opens a store: passed in, so that a test can be another boot or another machine.
struct HostIdentity: Sendable {
    /// Of the running kernel.
    var bootID: EntityID
    /// The machine's own ID; at most 63 bytes of it count.
    var machine: String
    /// Whether the spool's directory counts too, so that its copy on the same machine is told from it.
    var tellsPlaces = false
}

/// Opens ring and spool.
struct StoreOpening {
    let node: UInt8
    let workers: Int
    let ring: RingOptions
    let spool: SpoolOptions
    let files: any SpoolFileSystem
    let clock: @Sendable () -> Int64
    let bootID: EntityID
    private var machine: String
    private let tellsPlaces: Bool

    private var notices: [String] = []
    /// Ring files whose records are in the spool, to be removed once the identity says so.
    private var finished: [String] = []
    private var damaged: [String] = []
    /// The time that identities begin at, microseconds: the wall clock's where that is believed.
    private var start: Int64 = 0

    init(
        node: UInt8, workers: Int, ring: RingOptions, spool: SpoolOptions,
        files: any SpoolFileSystem, clock: @escaping @Sendable () -> Int64, host: HostIdentity
    ) throws(RingLogError) {
        self.node = node
        self.workers = workers
        self.files = files
        self.clock = clock
        bootID = host.bootID
        machine = String(decoding: host.machine.utf8.prefix(63), as: UTF8.self)
        tellsPlaces = host.tellsPlaces
        var ring = ring
        var spool = spool
        ring.bytes = (ring.bytes + 4095) / 4096 * 4096
        spool.segmentBytes = (spool.segmentBytes + 4095) / 4096 * 4096
        self.ring = ring
        self.spool = spool
        guard node <= RingLogLimits.maximumNode else { throw .option("node.id must be 0...127") }
        guard (1...RingLogLimits.maximumWorkers).contains(workers) else {
            throw .option("there must be 1...32 workers")
        }
        guard ring.bytes >= RingLogLimits.minimumRingBytes, ring.bytes <= 1 << 34 else {
            throw .option("ring.bytes must be 256KiB...16GiB")
        }
        guard spool.segmentBytes >= RingLogLimits.minimumSegmentBytes,
            spool.segmentBytes <= 1 << 34
        else { throw .option("spool.segment must be 136KiB...16GiB") }
        guard spool.quotaBytes / spool.segmentBytes > workers else {
            throw .option("spool.quota must hold one segment more than there are workers")
        }
        guard spool.syncMicroseconds > 0, spool.retainMicroseconds >= 0 else {
            throw .option("spool.sync must be positive and spool.retain not negative")
        }
    }

    /// Opens everything.
    mutating func open(
        wake: SpoolerWake, judge: RingLogStore.ClockJudge
    ) throws(RingLogError) -> OpenedStore {
        let ringLock = try DirectoryLock(ring.directory)
        let spoolLock = try DirectoryLock(spool.directory)
        if tellsPlaces { machine = try place() }
        let isMemoryBacked = (try? FileSystem.isMemoryBacked(ring.directory)) ?? false
        if !isMemoryBacked {
            notices.append(
                "\(ring.directory) is not memory-backed: write-back will stall redirects; "
                    + "use a tmpfs such as /dev/shm")
        }
        let now = clock()
        let pool = SegmentPool(
            directory: spool.directory, files: files, segmentBytes: spool.segmentBytes,
            quotaBytes: spool.quotaBytes)
        var recovery = try SpoolRecovery(directory: spool.directory, pool: pool)
        let (identityFile, identity) = try openIdentity(recovery, now: now)
        start = judged(now, identity, judge)
        let memories = try openRings()
        try recovery.settle(
            spoolUUID: identity.spoolUUID, rings: memories.map(\.header), pool: pool,
            spare: max(2, workers))
        notices += recovery.notices
        do {
            // A killed process may have left names that are not durable yet.
            try files.syncDirectory(spool.directory)
        } catch {
            throw .inputOutput(path: spool.directory, error)
        }
        let epochs = memories.map { $0.epoch.load() } + [identity.epoch, recovery.highestEpoch]
        let epoch = (epochs.filter { $0 < 1 << 48 }.max() ?? 0) + 1
        var found = try sortRings(
            memories, identity: identity, logs: &recovery.logs, pool: pool, epoch: epoch, now: now)
        noteClock(found, now: now)
        let losses = addLosses(&found, identity: identity, now: now)
        var next = identity
        next.generation += 1
        next.bootID = bootID
        next.epoch = epoch
        next.isCleanStop = false
        next.losses = losses
        // A copy of a claimed spool has claimed nothing.
        if !isHere(identity) { next.isClaimed = false }
        next.machine = Array(machine.utf8)
        for index in next.rings.indices {
            let live = found.first { !$0.isRetired && Int($0.ringID) % 32 == index }
            next.rings[index].ringUUID = live?.ringUUID ?? .zero
            if let live { next.rings[index].leaseMilliseconds = live.leaseMilliseconds }
        }
        let spooler = try assemble(
            &found, pool: pool, identityFile: identityFile, identity: next, wake: wake, now: now)
        return OpenedStore(
            ringLock: ringLock, spoolLock: spoolLock, spooler: spooler,
            spoolUUID: identity.spoolUUID, machine: machine,
            notices: notices, isRingMemoryBacked: isMemoryBacked,
            clockCorrection: start - now)
    }

    /// The wall clock's time, or a better one where that is a day off the latest lease.
    private func judged(
        _ now: Int64, _ identity: SpoolIdentity, _ judge: RingLogStore.ClockJudge
    ) -> Int64 {
        let lease = identity.rings.map(\.leaseMilliseconds).max() ?? 0
        guard lease > 0, abs(now / 1000 - lease) > RingLogLimits.doubtMilliseconds else {
            return now
        }
        return judge(now, lease * 1000)
    }

    // MARK: Identity

    /// The machine and the spool's directory on it.
    private func place() throws(RingLogError) -> String {
        do {
            return MachineIdentity.place(
                machine, inode: try FileSystem.status(spool.directory).inode)
        } catch {
            throw .access(spool.directory, error)
        }
    }

    /// Whether this directory on this machine is where the spool was last used.
    private func isHere(_ identity: SpoolIdentity) -> Bool {
        MachineIdentity.isSame(String(decoding: identity.machine, as: UTF8.self), machine)
    }

    private mutating func openIdentity(
        _ recovery: SpoolRecovery, now: Int64
    ) throws(RingLogError) -> (IdentityFile, SpoolIdentity) {
        if let file = try IdentityFile(directory: spool.directory, files: files),
            let identity = try file.read()
        {
            guard identity.node == node else {
                throw .foreignNode(
                    path: spool.directory, found: identity.node, expected: node)
            }
            if !isHere(identity) {
                let other = String(decoding: identity.machine, as: UTF8.self)
                notices.append(
                    "\(spool.directory) was last used on another machine (\(other)) or in another "
                        + "directory: if that one is alive this is a copy; clicks are 503 until the "
                        + "database has told")
            }
            return (file, identity)
        }
        if let named = recovery.namedSpool {
            guard named.node == node else {
                throw .foreignNode(path: spool.directory, found: named.node, expected: node)
            }
            notices.append(
                "\(spool.directory)/identity is missing or damaged; made anew from the segments")
        }
        let first = SpoolIdentity(
            spoolUUID: recovery.namedSpool?.spoolUUID ?? Self.randomUUID(), bootID: bootID,
            createdMicroseconds: now, node: node,
            machine: Array(machine.utf8))
        let file = try IdentityFile(directory: spool.directory, files: files, first: first)
        return (file, first)
    }

    private static func randomUUID() -> EntityID {
        Randomness.bytes(16).withUnsafeBytes { EntityID(bigEndianBytes: $0) }.stamped(version: 4)
    }

    // MARK: Rings

    private mutating func openRings() throws(RingLogError) -> [RingMemory] {
        let names: [String]
        do {
            names = try FileSystem.list(ring.directory)
        } catch {
            throw .access(ring.directory, error)
        }
        var memories: [RingMemory] = []
        for name in names.prefix(RingLogLimits.maximumFiles) {
            let path = "\(ring.directory)/\(name)"
            if name.hasSuffix(".ring.new") { try? FileSystem.remove(path) }
            guard name.hasSuffix(".ring") else { continue }
            if let memory = try RingMemory.open(path) {
                guard memory.header.node == node else {
                    throw .foreignNode(path: path, found: memory.header.node, expected: node)
                }
                memories.append(memory)
            } else {
                damaged.append(path)
            }
        }
        return memories
    }

    /// Decides for each ring whether it goes on, and rescues what the others hold.
    private mutating func sortRings(
        _ memories: [RingMemory], identity: SpoolIdentity,
        logs: inout [EntityID: RecoveredLog], pool: SegmentPool, epoch: UInt64, now: Int64
    ) throws(RingLogError) -> [RingHandle.Found] {
        var live: [Int: RingMemory] = [:]
        var gaps: [EntityID: [RingGap]] = [:]
        for memory in memories {
            let header = memory.header
            let worker = Int(header.ringID) % RingLogLimits.maximumWorkers
            let spooled = logs[header.ringUUID]?.lastSequence ?? 0
            let isKnown =
                identity.rings[worker].ringUUID == header.ringUUID
                && header.spoolUUID == identity.spoolUUID && header.bootID == bootID
            let isSound = isKnown && memory.adoptPositions(spooled: spooled)
            if isSound, worker < workers, header.bodyBytes == ring.bytes {
                live[worker] = memory
                continue
            }
            gaps[header.ringUUID] = try rescue(
                memory, isSound: isSound, spoolUUID: identity.spoolUUID, logs: &logs, pool: pool,
                epoch: epoch, now: now)
            finished.append(memory.path)
        }
        try rescueDamaged(
            identity: identity, memories: memories, logs: &logs, gaps: &gaps, pool: pool,
            epoch: epoch, now: now)
        try checkRoom(missing: (0..<workers).filter { live[$0] == nil }.count)
        var found: [RingHandle.Found] = []
        for worker in 0..<workers {
            let memory: RingMemory
            if let sound = live[worker] {
                memory = sound
            } else {
                memory = try makeRing(worker, identity: identity, now: now)
            }
            memory.epoch.store(epoch)
            let floor = max(start / 1000, identity.rings[worker].leaseMilliseconds)
            let log = logs.removeValue(forKey: memory.header.ringUUID)
            found.append(
                RingHandle.Found(
                    ringID: memory.header.ringID, ringUUID: memory.header.ringUUID, epoch: epoch,
                    isRetired: false, gaps: [], idFloorMilliseconds: floor,
                    leaseMilliseconds: floor + RingLogLimits.leaseMilliseconds, memory: memory,
                    segments: log?.segments ?? [],
                    lastSequence: max(log?.lastSequence ?? 0, memory.tailSequence.load())))
        }
        return found + retired(logs, gaps: gaps, identity: identity, epoch: epoch)
    }

    /// The logs that no ring continues, those without a record but with a loss to report too.
    private func retired(
        _ logs: [EntityID: RecoveredLog], gaps: [EntityID: [RingGap]], identity: SpoolIdentity,
        epoch: UInt64
    ) -> [RingHandle.Found] {
        var found: [RingHandle.Found] = []
        for ringUUID in Set(logs.keys).union(gaps.filter { !$0.value.isEmpty }.keys) {
            let worker = identity.rings.firstIndex { $0.ringUUID == ringUUID }
            let log = logs[ringUUID]
            let ringID = log?.ringID ?? worker.map { UInt16(node) * 32 + UInt16($0) } ?? 0
            found.append(
                RingHandle.Found(
                    ringID: ringID, ringUUID: ringUUID, epoch: epoch, isRetired: true,
                    gaps: gaps[ringUUID] ?? [], idFloorMilliseconds: 0, leaseMilliseconds: 0,
                    memory: nil, segments: log?.segments ?? [],
                    lastSequence: log?.lastSequence ?? 0))
        }
        return found.sorted {
            ($0.ringID, $0.ringUUID) < ($1.ringID, $1.ringUUID)
        }
    }

    private func rescue(
        _ memory: RingMemory, isSound: Bool, spoolUUID: EntityID,
        logs: inout [EntityID: RecoveredLog], pool: SegmentPool, epoch: UInt64, now: Int64
    ) throws(RingLogError) -> [RingGap] {
        let header = memory.header
        var log =
            logs[header.ringUUID]
            ?? RecoveredLog(ringID: header.ringID, node: header.node, nonce: header.nonce)
        let hadSegments = !log.segments.isEmpty
        if isSound { log.lastSequence = max(log.lastSequence, memory.tailSequence.load()) }
        var work = RingRescue(
            pool: pool, spoolUUID: spoolUUID, epoch: epoch, now: now)
        try work.rescue(
            UnsafeRawBufferPointer(start: memory.body, count: header.bodyBytes), mirrored: true,
            ring: header, head: memory.headSequence.load(), log: &log)
        if hadSegments || !log.segments.isEmpty { logs[header.ringUUID] = log }
        return work.gaps
    }

    /// Rings that the identity knows and whose file is gone or has lost its own identity.
    private mutating func rescueDamaged(
        identity: SpoolIdentity, memories: [RingMemory], logs: inout [EntityID: RecoveredLog],
        gaps: inout [EntityID: [RingGap]], pool: SegmentPool, epoch: UInt64, now: Int64
    ) throws(RingLogError) {
        for (worker, entry) in identity.rings.enumerated() where entry.ringUUID != .zero {
            guard !memories.contains(where: { $0.header.ringUUID == entry.ringUUID }) else {
                continue
            }
            let before = logs[entry.ringUUID]?.lastSequence ?? 0
            for path in damaged {
                guard var log = logs[entry.ringUUID],
                    let body = try? RingMemory.rawBody(path)
                else { continue }
                let header = RingHeader(
                    ringUUID: entry.ringUUID, nonce: log.nonce, spoolUUID: identity.spoolUUID,
                    bootID: bootID, bodyBytes: body.count, createdMicroseconds: now,
                    ringID: UInt16(node) * 32 + UInt16(worker), node: node)
                var work = RingRescue(
                    pool: pool, spoolUUID: identity.spoolUUID, epoch: epoch, now: now)
                try body.withUnsafeBufferPointer { (bytes) throws(RingLogError) in
                    try work.rescue(
                        UnsafeRawBufferPointer(bytes), mirrored: false, ring: header, head: nil,
                        log: &log)
                }
                logs[entry.ringUUID] = log
                gaps[entry.ringUUID, default: []] += work.gaps
            }
            guard !identity.isCleanStop else { continue }
            let last = logs[entry.ringUUID]?.lastSequence ?? 0
            let cause: RingGap.Cause =
                !damaged.isEmpty || last > before
                ? .ringDamaged : identity.bootID == bootID ? .ringMissing : .machineStopped
            gaps[entry.ringUUID, default: []].append(
                RingGap(firstSequence: last + 1, lastSequence: nil, cause: cause))
            if cause == .ringMissing {
                notices.append(
                    "ring \(Int(node) * 32 + worker) is gone from \(ring.directory) though the "
                        + "machine was not restarted: what it held beyond the spool is lost "
                        + "(RemoveIPC, DynamicUser, or a new container?)")
            }
        }
    }

    private func makeRing(
        _ worker: Int, identity: SpoolIdentity, now: Int64
    ) throws(RingLogError) -> RingMemory {
        let ringID = UInt16(node) * 32 + UInt16(worker)  // At most 127 × 32 + 31.
        let nonce = Randomness.bytes(16).withUnsafeBytes { EntityID(bigEndianBytes: $0) }
        let header = RingHeader(
            ringUUID: Self.randomUUID(), nonce: nonce, spoolUUID: identity.spoolUUID,
            bootID: bootID, bodyBytes: ring.bytes, createdMicroseconds: now, ringID: ringID,
            node: node)
        let name = "ring-\(ringID)-\(header.ringUUID.description.prefix(8)).ring"
        do {
            return try RingMemory.create("\(ring.directory)/\(name)", header: header)
        } catch {
            guard error.isFull else {
                throw .cannotCreate(path: "\(ring.directory)/\(name)", error)
            }
            throw tooSmall(
                available: (try? FileSystem.availableBytes(ring.directory)) ?? 0)
        }
    }

    /// Refuses before any memory is taken when the rings cannot fit.
    private func checkRoom(missing: Int) throws(RingLogError) {
        guard let available = try? FileSystem.availableBytes(ring.directory) else { return }
        let needed = missing * (ring.bytes + RingLogLimits.fileHeadBytes)
        if needed > available { throw tooSmall(available: available) }
    }

    private func tooSmall(available: Int) -> RingLogError {
        .tooSmall(
            path: ring.directory,
            neededBytes: workers * (ring.bytes + RingLogLimits.fileHeadBytes),
            availableBytes: available)
    }

    // MARK: The rest

    /// Joins the losses that were not acknowledged with those found now, and gives each to its log.
    private mutating func addLosses(
        _ found: inout [RingHandle.Found], identity: SpoolIdentity, now: Int64
    ) -> [SpoolIdentity.Loss] {
        var losses = identity.losses
        for log in found {
            for gap in log.gaps where gap.lastSequence ?? .max > log.lastSequence {
                losses.append(
                    SpoolIdentity.Loss(
                        ringUUID: log.ringUUID, ringID: log.ringID, gap: gap,
                        noticedMicroseconds: now))
            }
        }
        for loss in losses where !found.contains(where: { $0.ringUUID == loss.ringUUID }) {
            found.append(
                RingHandle.Found(
                    ringID: loss.ringID, ringUUID: loss.ringUUID, epoch: identity.epoch + 1,
                    isRetired: true, gaps: [], idFloorMilliseconds: 0, leaseMilliseconds: 0,
                    memory: nil, segments: [], lastSequence: 0))
        }
        for index in found.indices {
            let log = found[index]
            found[index].damage = log.gaps.filter { $0.lastSequence ?? .max <= log.lastSequence }
            found[index].gaps = losses.filter { $0.ringUUID == log.ringUUID }.map(\.gap)
        }
        // This run knows of all; the next one of as many as the identity file has places for.
        let excess = losses.count - SpoolIdentity.maximumLosses
        if excess > 0 {
            notices.append(
                "\(excess) losses of former rings have no place in \(spool.directory)/identity: they are "
                    + "recorded only if the database is reached before this process ends")
        }
        return losses.suffix(SpoolIdentity.maximumLosses)
    }

    private mutating func noteClock(_ found: [RingHandle.Found], now: Int64) {
        for ring in found
        where !ring.isRetired
            && ring.idFloorMilliseconds - now / 1000 > RingLogLimits.doubtMilliseconds
        {
            notices.append(
                "the wall clock is more than a day behind the identities of ring \(ring.ringID); "
                    + "they go on from where they were")
        }
    }

    /// Makes the handles, spools what live rings hold, and writes the identity that makes it all
    /// so.
    private mutating func assemble(
        _ found: inout [RingHandle.Found], pool: SegmentPool, identityFile: IdentityFile,
        identity: SpoolIdentity, wake: SpoolerWake, now: Int64
    ) throws(RingLogError) -> Spooler {
        do {
            try identityFile.write(identity)
        } catch {
            throw .inputOutput(path: "\(spool.directory)/identity", error)
        }
        var handles: [RingHandle] = []
        var drains: [RingDrain] = []
        for index in found.indices {
            let spooled = found[index].lastSequence
            guard let memory = found[index].memory else {
                handles.append(try handle(found[index], now: now))
                continue
            }
            let first = try handle(found[index], now: now)
            var drain = RingDrain(
                handle: first, memory: memory, pool: pool, spoolUUID: identity.spoolUUID,
                after: spooled)
            do {
                try drain.spool(checking: true, now: now, forConversions: true) { false }
                try drain.sync()
            } catch {
                switch error {
                case .failed(let errno, let path): throw .inputOutput(path: path, errno)
                case .full:
                    notices.append(
                        "\(spool.directory) is full: ring \(first.ringID) keeps its records")
                }
            }
            handles.append(first)
            drains.append(drain)
        }
        for path in finished { try? FileSystem.remove(path) }
        for path in damaged { try? FileSystem.rename(path, to: "\(path).damaged") }
        return Spooler(
            handles: handles, drains: drains, pool: pool, wake: wake, identityFile: identityFile,
            identity: identity, options: spool, clock: clock)
    }

    private func handle(_ found: RingHandle.Found, now: Int64) throws(RingLogError) -> RingHandle {
        let handle = try RingHandle(found, openedAtMicroseconds: now)
        if let first = found.segments.first {
            handle.noteRecovered(
                sequence: found.lastSequence, since: first.header.createdMicroseconds)
        }
        handle.noteDamage(found.damage)
        return handle
    }
}
