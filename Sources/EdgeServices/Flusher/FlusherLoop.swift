// One round after another: gather, write, keep watermarks and leaves, answer who waits. Runs on the
// flusher's thread; every blocking call goes through FlushDatabase.
internal import Tracking

/// The clocks of the flusher, passed in.
struct FlusherClock {
    /// The wall clock in microseconds, which may step.
    var wall: () -> Int64
    /// Microseconds since boot, by which the loops carry their wall time on.
    var boot: () -> Int64
    /// Microseconds that never step.
    var monotonic: () -> Int64
}

/// The flusher without its thread.
final class FlusherLoop {
    private let database: any FlushDatabase
    private let clock: FlusherClock
    private let identity: NodeIdentity
    private let delay: Int64
    /// Whether the machine has no time to spare; visitors come first then.
    private let isBusy: () -> Bool
    private let markClaimed: () -> Void
    private let gapsRecorded: () -> Void
    /// Click lanes first: a sale should find its click.
    let lanes: [FlushLane]

    private(set) var status = FlusherStatus()
    private var nextConnect: Int64 = 0
    private var backOff = FlusherLimits.firstBackOffMicroseconds
    private var nextWatermark: Int64 = 0
    private var nextPartitions: Int64 = 0
    private var nextNode: Int64 = 0
    private var nextSummary: Int64 = 0
    private var partitionDay: Day?
    private var batchesSinceSummary = 0
    private(set) var gaps: GapBook

    /// A loop over rings; nothing happens before ``round(atOnce:)``.
    init(
        rings: [any RecordRing], database: any FlushDatabase, identity: NodeIdentity,
        options: FlusherOptions, clock: FlusherClock, isBusy: @escaping () -> Bool = { false },
        markClaimed: @escaping () -> Void, gapsRecorded: @escaping () -> Void = {}
    ) {
        self.database = database
        self.clock = clock
        self.identity = identity
        self.isBusy = isBusy
        self.markClaimed = markClaimed
        self.gapsRecorded = gapsRecorded
        delay = options.batchDelayMicroseconds
        lanes = RecordStream.allCases.flatMap { stream in
            rings.map { FlushLane($0, stream, batchRows: options.batchRows) }
        }
        let lasting = rings.flatMap { ring in
            RecordStream.allCases.flatMap { stream in
                let lane = LaneID(ring: ring.ringID, ringUUID: ring.ringUUID, stream: stream)
                return ring.recoveredLosses.map { IngestGap($0, in: lane) }
            }
        }
        gaps = GapBook(lasting: lasting)
    }

    /// One round: all that can be done now.
    /// - Parameter atOnce: Someone waits: write without waiting for a full batch.
    /// - Returns: Whether a full batch was written, so that the next round should follow at once.
    func round(atOnce: Bool) -> Bool {
        let now = clock.monotonic()
        let wall = Timestamp(microseconds: stampingClock())
        if !status.isConnected, now >= nextConnect { connect(wall: wall) }
        for lane in lanes {
            lane.observe(wall: Timestamp(microseconds: clock.wall()))
            gather(lane) { $0.gather(now: now) }
        }
        if status.isConnected { writeGaps() }
        // Losses wait for their cursors, and reading waits for the losses.
        let isCrowded = !gaps.hasRoom
        let wroteFullBatch = status.isConnected && writeReady(atOnce: atOnce || isCrowded)
        if status.isConnected, isCrowded { _ = advanceCursors() }
        if status.isConnected { maintain(wall: wall) }
        for lane in lanes { gaps.passed(lane.id, next: lane.durableCursor) }
        countPending()
        return (wroteFullBatch || isCrowded) && status.isConnected
    }

    /// Reads a lane if what it may miss has room, so that no gap is dropped.
    private func gather(_ lane: FlushLane, _ read: (FlushLane) -> Void) {
        guard gaps.hasRoom else { return }
        read(lane)
        gaps.note(lane.takeLosses(), in: lane.id)
    }

    /// Whether all through a head per ring is committed, cursors included.
    ///
    /// By UUID: a retired ring and its successor share a number and count each for itself.
    func isFlushed(through heads: [EntityID: UInt64]) -> Bool {
        let isThrough = lanes.allSatisfy { lane in
            lane.through >= heads[lane.id.ringUUID, default: 0]
        }
        guard isThrough, status.isConnected else { return false }
        return advanceCursors()
    }

    /// Heads of all rings now.
    var heads: [EntityID: UInt64] {
        var result: [EntityID: UInt64] = [:]
        for lane in lanes { result[lane.id.ringUUID] = lane.ring.headSequence }
        return result
    }

    /// Tells the fleet that the node's process ends in order.
    func leave() {
        guard status.isConnected, case .claimed = status.claim else { return }
        // Not told, the next process on another machine waits a little.
        try? database.leaveNode(identity)
    }

    /// Ends the connection.
    func close() {
        database.close()
        status.isConnected = false
    }

    /// The time by which the latest clicks are stamped: no step of the wall clock makes leaves for
    /// days that no click will see.
    private func stampingClock() -> Int64 {
        let boot = clock.boot()
        return lanes.compactMap { $0.ring.isRetired ? nil : $0.ring.clockOffset }.max().map {
            boot + $0  // Clock readings, far from overflow.
        } ?? clock.wall()
    }

    // MARK: - Connection

    private func connect(wall: Timestamp) {
        if case .fenced = status.claim { return }
        do {
            try database.open()
            switch try database.claimNode(identity) {
            case .claimed:
                status.claim = .claimed
                markClaimed()
            case .refused(let reason):
                status.claim = .refused(reason)
                return away(FlushFailure(kind: .away, message: reason))
            }
            let states = try database.claimCursors(lanes.map { $0.claim })
            guard states.count == lanes.count else {
                return away(FlushFailure(kind: .away, message: "cursors are missing"))
            }
            for (lane, state) in zip(lanes, states) { lane.adopt(state) }
            if lanes.contains(where: { $0.isFenced }) { return fence() }
            try database.retireOthers(lanes.map { $0.id })
            try makePartitions(wall: wall)
        } catch {
            return away(error)
        }
        gaps.tellAgain()
        status.isConnected = true
        status.lastError = ""
        backOff = FlusherLimits.firstBackOffMicroseconds
        nextWatermark = 0
    }

    private func away(_ failure: FlushFailure) {
        database.close()
        status.isConnected = false
        note(failure)
        nextConnect = clock.monotonic() + backOff
        backOff = min(backOff * 2, FlusherLimits.maximumBackOffMicroseconds)
    }

    private func note(_ failure: FlushFailure) {
        let code = failure.state.map { "\($0): " } ?? ""
        status.lastError = String((code + failure.message).prefix(FlusherLimits.maximumErrorBytes))
    }

    private func fence() {
        for lane in lanes { lane.fence() }
        let reason = "another process has opened a ring of this node with a higher epoch"
        status.claim = .fenced(reason)
        status.lastError = reason
        database.close()
        status.isConnected = false
    }

    // MARK: - Writing

    /// Writes what is due; whether a batch among it was full.
    private func writeReady(atOnce: Bool) -> Bool {
        var anyFull = false
        let waits = !atOnce && isBusy()
        for lane in lanes {
            guard status.isConnected else { return false }
            guard lane.isReady(now: clock.monotonic(), delay: delay, atOnce: atOnce),
                !waits || lane.isOverdue(at: stampingClock())
            else { continue }
            anyFull = anyFull || lane.isFull
            write(lane)
        }
        return anyFull
    }

    /// Drives a lane's batch to its end, or as far as it goes now.
    ///
    /// The steps are bounded: a hunt for a
    /// refused row lets the other lanes have their turn.
    private func write(_ lane: FlushLane) {
        var action = lane.begin()
        for _ in 0..<FlusherLimits.stepsPerTurn {
            switch action {
            case .attempt(let count): action = attempt(lane, count)
            case .quarantine: action = quarantine(lane)
            case .readCursor:
                guard reread(lane) else { return }
                action = lane.begin()
            case .backOff: return  // The connection is given up already.
            case .drift, .done: return
            }
        }
    }

    private func attempt(_ lane: FlushLane, _ count: Int) -> FlushMachine.Action {
        writeGaps()  // What was missed while the action before was under way.
        guard status.isConnected else { return .backOff }
        let start = clock.monotonic()
        do {
            let written = try database.write(lane.move(count), lane.first(count)) {
                gather(lane) { $0.gatherAhead(now: clock.monotonic()) }
            }
            status.batches &+= 1
            status.flushNanoseconds &+= UInt64(clamping: (clock.monotonic() - start) * 1000)
            if written.clicks > 0 { batchesSinceSummary += 1 }
            let action = lane.committed(written)
            countFlushed(lane)
            return action
        } catch {
            return failed(lane, error)
        }
    }

    private func countFlushed(_ lane: FlushLane) {
        let count = lane.takeCount()
        status.clicksFlushed &+= UInt64(count.clicks)
        status.botsFlushed &+= UInt64(count.bots)
        status.conversionsFlushed &+= UInt64(count.conversions)
    }

    private func quarantine(_ lane: FlushLane) -> FlushMachine.Action {
        guard let record = lane.first(1).first, let refusal = lane.refusal else { return .done }
        do {
            try database.quarantine(
                lane.move(1), record, state: refusal.state ?? "", reason: refusal.message)
            status.quarantined &+= 1
            let action = lane.committed()
            countFlushed(lane)
            return action
        } catch {
            return failed(lane, error)
        }
    }

    private func failed(_ lane: FlushLane, _ failure: FlushFailure) -> FlushMachine.Action {
        let action = lane.failed(failure, now: clock.monotonic())
        note(failure)
        if action == .backOff { away(failure) }
        return action
    }

    /// Reads the cursor again after a conflict; false when the lane can do nothing more now.
    private func reread(_ lane: FlushLane) -> Bool {
        do {
            guard let state = try database.readCursor(lane.id), state.epoch >= lane.ring.epoch
            else {
                // A failover took the row or our claim back: claim again.
                let states = try database.claimCursors([lane.claim])
                guard let state = states.first else { return false }
                lane.adopt(state)
                return !lane.isFenced
            }
            lane.adopt(state)
            if lane.isFenced { fence() }
            return !lane.isFenced && !lane.records.isEmpty
        } catch {
            away(error)
            return false
        }
    }

    // MARK: - Keeping

    private func maintain(wall: Timestamp) {
        let now = clock.monotonic()
        do {
            if now >= nextWatermark {
                nextWatermark = now + FlusherLimits.watermarkMicroseconds
                _ = advanceCursors()
                try retire()
            }
            if now >= nextPartitions || partitionDay != wall.day { try makePartitions(wall: wall) }
            if now >= nextNode {
                nextNode = now + FlusherLimits.nodeMicroseconds
                try database.touchNode(identity.node, lastIDAt: wall)
            }
        } catch {
            away(error)
        }
    }

    /// Has the hot leaf's index follow its rows, after whoever waits for a flush has been answered.
    ///
    /// - Parameter hasBacklog: More full batches wait: they come first, for a while.
    func summarise(hasBacklog: Bool) {
        guard status.isConnected else { return }
        let now = clock.monotonic()
        let wanted =
            hasBacklog ? FlusherLimits.fullBatchesPerSummary : FlusherLimits.batchesPerSummary
        let isLate = batchesSinceSummary > 0 && now >= nextSummary && !hasBacklog
        guard batchesSinceSummary >= wanted || isLate else { return }
        batchesSinceSummary = 0
        nextSummary = now + FlusherLimits.summaryMicroseconds
        do {
            try database.summariseLeaf(of: Timestamp(microseconds: stampingClock()).day)
        } catch {
            away(error)
        }
    }

    /// Moves the cursors of all lanes without records, and their watermarks.
    private func advanceCursors() -> Bool {
        writeGaps()
        guard status.isConnected else { return false }
        let moves = lanes.compactMap { lane in lane.idleMove.map { (lane, $0) } }
        guard !moves.isEmpty else { return true }
        do {
            if try database.advance(moves.map { $0.1 }) {
                for (lane, move) in moves { lane.advanced(move) }
                return true
            }
            for (lane, _) in moves where !reread(lane) && !status.isConnected { return false }
        } catch {
            away(error)
        }
        return false
    }

    private func makePartitions(wall: Timestamp) throws(FlushFailure) {
        status.partitionsAhead = try database.makePartitions(today: wall.day)
        partitionDay = wall.day
        nextPartitions = clock.monotonic() + FlusherLimits.partitionsMicroseconds
    }

    /// Before the cursors that pass over them move.
    private func writeGaps() {
        guard gaps.isDue, status.isConnected else { return }
        do {
            try database.record(gaps.due)
            gaps.written()
            gapsRecorded()
        } catch {
            away(error)
        }
    }

    /// Cursors of rings that no loop writes to any more are closed once they have reached the head.
    private func retire() throws(FlushFailure) {
        let done = lanes.filter {
            $0.ring.isRetired && !$0.isComplete && $0.cursor > $0.ring.headSequence
        }
        guard !done.isEmpty else { return }
        try database.retire(done.map { $0.id })
        for lane in done { lane.isComplete = true }
    }

    private func countPending() {
        var clicks: UInt64 = 0
        var conversions: UInt64 = 0
        for lane in lanes {
            switch lane.id.stream {
            case .clicks:
                let head = lane.ring.headSequence
                clicks &+= head > lane.through ? head - lane.through : 0
            case .conversions: conversions &+= UInt64(lane.records.count)
            }
        }
        status.pendingConversions = conversions
        status.pendingClicks = clicks > conversions ? clicks - conversions : 0
        let now = clock.monotonic()
        status.driftingLanes = lanes.count { $0.pausedUntil > now }
    }
}
