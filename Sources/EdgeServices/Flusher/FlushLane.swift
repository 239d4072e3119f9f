// One stream of one ring on its way to its cursor: gathering, attempts, positions.
internal import Tracking

/// The state of one lane; owned by the flusher's thread.
final class FlushLane {
    /// Which cursor it moves.
    let id: LaneID
    /// Its ring.
    let ring: any RecordRing
    private let tail: any RecordTail
    private let maximumRecords: Int

    /// What the last attempt would have done to the cursor.
    private struct Attempt {
        var old: UInt64
        var new: UInt64
        var isDurable: Bool
    }

    /// `next_seq` as committed; 0 until it is known.
    private(set) var cursor: UInt64 = 0
    /// `next_seq` as of the last commit that waited for the server's disk; what lies from there on
    /// is kept in the spool and called pending.
    private(set) var durableCursor: UInt64 = 0
    private var commitsSinceSync = 0
    private var uncounted = FlushCount()
    /// Records gathered and not committed: the batch under way, and behind it the next.
    private(set) var records: ArraySlice<PendingRecord> = []
    private var gatheredBytes = 0
    private var gatheredAt: Int64 = 0
    private var lastGatheredAt: Int64 = 0
    private var machine = FlushMachine()
    private var attempted: Attempt?
    /// What to do next.
    private(set) var action: FlushMachine.Action = .done
    /// The watermark's readings.
    private(set) var watermark = WatermarkClock()
    /// Monotonic microseconds before which the lane rests, after drift.
    private(set) var pausedUntil: Int64 = 0
    /// The refusal of the last attempt, for the quarantine.
    private(set) var refusal: FlushFailure?
    /// A higher epoch has the cursor.
    private(set) var isFenced = false
    /// The ring is retired and its cursor says so.
    var isComplete = false

    /// A lane over a ring's stream.
    init(_ ring: any RecordRing, _ stream: RecordStream, batchRows: Int) {
        id = LaneID(ring: ring.ringID, ringUUID: ring.ringUUID, stream: stream)
        self.ring = ring
        tail = ring.makeTail(from: 1, of: stream)
        let limit =
            stream == .clicks
            ? FlusherLimits.maximumBatchRows : FlusherLimits.maximumConversionBatch
        maximumRecords = max(1, min(batchRows, limit))
    }

    // MARK: - Gathering

    /// Reads what is durable, up to a batch and the first record behind it.
    ///
    /// Nothing is read before the cursor is known.
    /// - Parameter now: Monotonic microseconds.
    func gather(now: Int64) { gather(now: now, upTo: maximumRecords + 1, atMost: .max) }

    private func gather(now: Int64, upTo capacity: Int, atMost glance: Int) {
        guard cursor > 0, !isFenced else { return }
        if records.isEmpty { gatheredAt = now }
        lastGatheredAt = now
        var left = glance
        while left > 0, records.count < capacity, !isHeavy, let record = tail.next() {
            left -= 1
            guard (record.kind == RecordKind.click.rawValue) == (id.stream == .clicks) else {
                continue
            }
            records.append(record)
            gatheredBytes += record.payload.count
        }
        if records.isEmpty { tail.release() }
    }

    /// Reads on while the server is busy with a full batch: a backlog is under way.
    func gatherAhead(now: Int64) {
        guard machine.underWay >= maximumRecords else { return }
        let capacity = maximumRecords * FlusherLimits.gatheredBatches + 1
        gather(now: now, upTo: capacity, atMost: FlusherLimits.recordsPerGlance)
    }

    /// Whether a batch is full.
    var isFull: Bool { records.count >= maximumRecords || isHeavy }

    private var isHeavy: Bool { gatheredBytes >= FlusherLimits.maximumBatchBytes }

    /// Whether it is time to write.
    func isReady(now: Int64, delay: Int64, atOnce: Bool) -> Bool {
        guard cursor > 0, !isFenced, now >= pausedUntil, !records.isEmpty else { return false }
        if atOnce || isFull || machine.remaining > 0 { return true }
        // Nor does what follows a commit that the disk has yet to see.
        return durableCursor != cursor || now - gatheredAt >= delay
    }

    /// Whether what is ready must not wait for a machine that has time for it.
    ///
    /// - Parameter time: The clock that the clicks are stamped by, microseconds.
    func isOverdue(at time: Int64) -> Bool {
        guard id.stream == .clicks, machine.remaining == 0, durableCursor == cursor,
            let first = records.first, let click = ClickRowEncoder.clickID(of: first.payload)
        else { return true }
        let age = time - click.clickedAt.microseconds
        // A click of the future is one that a clock step has left behind: nobody knows its age.
        return age < 0 || age >= FlusherLimits.patienceMicroseconds
    }

    /// The last sequence such that all of this stream through it is committed for good.
    var through: UInt64 {
        let isDone = records.isEmpty && cursor > 0 && durableCursor == cursor
        let next = isDone ? max(cursor, tail.nextSequence) : durableCursor
        return next > 0 ? next - 1 : 0
    }

    /// Losses met while reading.
    func takeLosses() -> [LostRecords] { tail.takeLosses() }

    // MARK: - Attempts

    /// The action to go on with: a new batch's first, or what was left.
    func begin() -> FlushMachine.Action {
        // A merchant's message can be poison; a click cannot, so clicks wait for the schema's
        // repair.
        if pausedUntil > 0, id.stream == .conversions { machine.forgive() }
        pausedUntil = 0
        let batch = min(records.count, maximumRecords)
        action = machine.remaining > 0 ? machine.next() : machine.begin(records: batch)
        return action
    }

    /// Where the first `count` records move the cursor.
    func move(_ count: Int) -> CursorMove {
        let next: UInt64
        if count >= records.count {
            next = max(cursor, tail.nextSequence)
        } else {
            // The record behind the last one written is still to come.
            next = records[records.startIndex + max(0, count - 1)].sequence + 1
        }
        // While full batches of clicks follow each other, only some of the commits wait for the
        // server's disk, and only those move the watermark and what the spool may forget.
        let isFollowed = count == maximumRecords && records.count > count
        let isDurable =
            id.stream != .clicks || !isFollowed
            || commitsSinceSync + 1 >= FlusherLimits.batchesPerSync
        attempted = Attempt(old: cursor, new: next, isDurable: isDurable)
        return CursorMove(
            lane: id, epoch: ring.epoch, old: cursor, new: next,
            watermark: isDurable ? watermark.time(through: next - 1) : nil, isDurable: isDurable)
    }

    /// The first `count` records.
    func first(_ count: Int) -> ArraySlice<PendingRecord> { records.prefix(count) }

    /// The action under way is committed.
    func committed(_ count: FlushCount = FlushCount()) -> FlushMachine.Action {
        uncounted += count
        settle(machine.underWay)
        action = machine.event(.committed)
        return action
    }

    /// What was written for good since the last call.
    func takeCount() -> FlushCount {
        guard durableCursor == cursor else { return FlushCount() }
        defer { uncounted = FlushCount() }
        return uncounted
    }

    /// The action under way failed.
    func failed(_ failure: FlushFailure, now: Int64) -> FlushMachine.Action {
        if failure.kind == .poisoned { refusal = failure }
        action = machine.event(failure.event)
        if action == .drift {
            pausedUntil = now + FlusherLimits.driftPauseMicroseconds
            attempted = nil
        } else if case .attempt = action {
            attempted = nil
        }
        return action
    }

    private func settle(_ count: Int) {
        let isDurable = attempted?.isDurable ?? true
        if let attempted { cursor = attempted.new }
        attempted = nil
        for record in records.prefix(count) { gatheredBytes -= record.payload.count }
        records = records.dropFirst(count)
        gatheredAt = lastGatheredAt
        if records.isEmpty { clear() } else { tail.release(through: cursor - 1) }
        if isDurable { publish() } else { commitsSinceSync += 1 }
    }

    private func clear() {
        records = []
        gatheredBytes = 0
        tail.release()
    }

    private func publish() {
        durableCursor = cursor
        commitsSinceSync = 0
        watermark.commit(through: through)
        if cursor > 0 { ring.setFlushed(id.stream, through: cursor - 1) }
    }

    // MARK: - Positions

    /// What it asks of its cursor's row.
    ///
    /// The first time the cursor may not lie beyond what the ring held when it was opened: a cursor
    /// that does is of a life that an older copy of the directories knows nothing of, and would
    /// swallow what is recorded now.
    var claim: CursorClaim {
        let isFirst = cursor == 0 && !ring.isRetired
        return CursorClaim(
            lane: id, epoch: ring.epoch, bound: isFirst ? ring.openedAtSequence + 1 : nil)
    }

    /// Takes in what the database holds: at the start, after a lost connection, after a conflict.
    func adopt(_ state: CursorState) {
        guard state.epoch <= ring.epoch else {
            isFenced = true
            return
        }
        guard cursor > 0 else { return seek(to: state.nextSequence) }
        let attempt = attempted ?? Attempt(old: cursor, new: cursor, isDurable: true)
        let count = machine.underWay
        switch machine.resolve(next: state.nextSequence, old: attempt.old, new: attempt.new) {
        case .committed: settle(count)
        case .again: attempted = nil
        case .moved(let next): seek(to: next)
        }
    }

    private func seek(to next: UInt64) {
        machine.abandon()
        attempted = nil
        cursor = max(1, next)
        durableCursor = cursor
        commitsSinceSync = 0
        uncounted = FlushCount()
        records = []
        gatheredBytes = 0
        tail.seek(to: cursor)
        watermark = WatermarkClock()
        ring.setFlushed(id.stream, through: cursor - 1)  // Down too, after a failover.
    }

    /// Someone else has the ring.
    func fence() { isFenced = true }

    // MARK: - Idle

    /// Reads for the watermark how old the next records can be, and then the head.
    ///
    /// The loop itself promises the time, whatever clock it stamps by and however long it stands
    /// still. To a retired ring nothing comes any more.
    func observe(wall: Timestamp) {
        guard let time = ring.isRetired ? wall : ring.oldestStamp else { return }
        watermark.observe(time: time, head: ring.headSequence)
    }

    /// The move over what holds no record of this stream; nil while records wait.
    var idleMove: CursorMove? {
        guard cursor > 0, !isFenced, records.isEmpty else { return nil }
        return CursorMove(
            lane: id, epoch: ring.epoch, old: cursor, new: through + 1,
            watermark: watermark.time(through: through))
    }

    /// An idle move is committed.
    func advanced(_ move: CursorMove) {
        cursor = move.new
        publish()
    }
}
