// Rings and a database in memory, with faults by seed: what the flusher's decisions are tested on.
import Tracking

@testable import EdgeServices

/// A ring whose records are all durable at once.
final class FakeRing: RecordRing {
    struct Entry {
        var sequence: UInt64
        var kind: UInt8
        var payload: UnsafeMutableRawBufferPointer
    }

    let ringID: UInt16
    let ringUUID: EntityID
    var epoch: UInt64 = 1
    var isRetired = false
    var clockOffset: Int64?
    /// What the loop of the ring promises; by the wall clock unless a test says otherwise.
    var oldestStamp: Timestamp? { promise() }
    var promise: () -> Timestamp? = { nil }
    var recoveredLosses: [LostRecords] = []
    var entries: [Entry] = []
    var missing: Set<UInt64> = []
    private(set) var headSequence: UInt64 = 0
    var openedAtSequence: UInt64 = .max - 1
    private(set) var flushed: [RecordStream: UInt64] = [:]

    init(ringID: UInt16 = 0, ringUUID: EntityID? = nil) {
        self.ringID = ringID
        self.ringUUID = ringUUID ?? EntityID(high: 7, low: 7 + UInt64(ringID))
    }

    deinit { for entry in entries { entry.payload.deallocate() } }

    func append(_ kind: RecordKind, _ bytes: [UInt8]) {
        headSequence += 1
        let payload = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, bytes.count), alignment: 8)
        payload.copyBytes(from: bytes)
        entries.append(
            Entry(
                sequence: headSequence, kind: kind.rawValue,
                payload: UnsafeMutableRawBufferPointer(rebasing: payload[..<bytes.count])))
    }

    func makeTail(from sequence: UInt64, of stream: RecordStream) -> any RecordTail {
        FakeTail(self, sequence)
    }

    func setFlushed(_ stream: RecordStream, through sequence: UInt64) {
        flushed[stream] = sequence
    }
}

final class FakeTail: RecordTail {
    private let ring: FakeRing
    private var losses: [LostRecords] = []
    private(set) var nextSequence: UInt64

    init(_ ring: FakeRing, _ sequence: UInt64) {
        self.ring = ring
        nextSequence = sequence
    }

    func next() -> PendingRecord? {
        while nextSequence <= ring.headSequence, losses.count < FlusherLimits.lossesPerGather {
            let entry = ring.entries[Int(nextSequence - 1)]
            nextSequence += 1
            if ring.missing.contains(entry.sequence) {
                losses.append(
                    LostRecords(first: entry.sequence, last: entry.sequence, cause: "test"))
                continue
            }
            return PendingRecord(
                sequence: entry.sequence, kind: entry.kind,
                payload: UnsafeRawBufferPointer(entry.payload))
        }
        return nil
    }

    func seek(to sequence: UInt64) { nextSequence = sequence }
    func release() {}
    func release(through sequence: UInt64) {}
    func takeLosses() -> [LostRecords] {
        defer { losses = [] }
        return losses
    }
}

/// A database in memory that fails as it is told.
final class FakeDatabase: FlushDatabase {
    struct Contents {
        var cursors: [LaneID: CursorState] = [:]
        var watermarks: [LaneID: Timestamp] = [:]
        var rows: [LaneID: [UInt64]] = [:]
        var quarantined: [LaneID: [UInt64]] = [:]
        var gaps: [IngestGap] = []
        var retired: Set<LaneID> = []
    }

    /// What happens to the next writes, first to last; then all goes well.
    enum Fault {
        case none, away, serialization, tooSlow, lostBeforeCommit, lostAfterCommit
        /// The server dies: what was committed and not synced is gone.
        case crash
    }

    var contents = Contents()
    /// What a crash leaves.
    private(set) var synced = Contents()
    /// Called at each commit of records with whether it was synced.
    var onCommit: (CursorMove) -> Void = { _ in }
    var faults: [Fault] = []
    var poisoned: Set<UInt64> = []
    /// How often a write lets the caller read ahead.
    var glances = 2
    var isUp = true
    var claim = NodeClaimOutcome.claimed
    private(set) var summaries: [Day] = []
    private(set) var isOpen = false
    private(set) var opens = 0

    private func fail(_ kind: FlushFailure.Kind, _ text: String = "scripted") -> FlushFailure {
        if kind == .away || kind == .outcomeUnknown { isOpen = false }
        return FlushFailure(kind: kind, message: text)
    }

    private func demandOpen() throws(FlushFailure) {
        guard isOpen, isUp else { throw fail(.away, "closed") }
    }

    /// The server dies and comes back with what its disk has.
    func crash() {
        contents = synced
        isOpen = false
    }

    func open() throws(FlushFailure) {
        guard isUp else { throw fail(.away, "down") }
        isOpen = true
        opens += 1
    }
    func close() { isOpen = false }
    func claimNode(_ identity: NodeIdentity) throws(FlushFailure) -> NodeClaimOutcome {
        try demandOpen()
        return claim
    }
    func leaveNode(_ identity: NodeIdentity) throws(FlushFailure) { try demandOpen() }
    func claimCursors(_ claims: [CursorClaim]) throws(FlushFailure) -> [CursorState] {
        try demandOpen()
        var changed = false
        let states = claims.map { claim in
            let held = contents.cursors[claim.lane]
            var state = held ?? CursorState(nextSequence: 1, epoch: claim.epoch)
            if state.epoch <= claim.epoch {
                state.nextSequence = min(state.nextSequence, claim.bound ?? .max)
            }
            state.epoch = max(state.epoch, claim.epoch)
            // A claim that changes nothing syncs nothing either.
            if held != state { changed = true }
            contents.cursors[claim.lane] = state
            return state
        }
        if changed { synced = contents }
        return states
    }
    func retireOthers(_ lanes: [LaneID]) throws(FlushFailure) { try demandOpen() }
    func readCursor(_ lane: LaneID) throws(FlushFailure) -> CursorState? {
        try demandOpen()
        return contents.cursors[lane]
    }

    private func commit(
        _ move: CursorMove, _ change: (inout Contents) -> Void
    ) throws(FlushFailure) {
        try demandOpen()
        let fault = faults.isEmpty ? Fault.none : faults.removeFirst()
        switch fault {
        case .away: throw fail(.away)
        case .serialization: throw fail(.serialization)
        case .tooSlow: throw fail(.tooSlow)
        case .lostBeforeCommit: throw fail(.outcomeUnknown)
        case .crash:
            crash()
            throw fail(.away)
        case .none, .lostAfterCommit: break
        }
        guard let state = contents.cursors[move.lane], state.nextSequence == move.old,
            state.epoch == move.epoch
        else { throw fail(.cursorMoved) }
        contents.cursors[move.lane] = CursorState(nextSequence: move.new, epoch: move.epoch)
        if let watermark = move.watermark { contents.watermarks[move.lane] = watermark }
        change(&contents)
        if move.isDurable { synced = contents }
        onCommit(move)
        if fault == .lostAfterCommit { throw fail(.outcomeUnknown) }
    }

    func write(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount {
        try demandOpen()
        for _ in 0..<glances { meanwhile() }
        if records.contains(where: { poisoned.contains($0.sequence) }) {
            throw FlushFailure(kind: .poisoned, state: "22021", message: "scripted poison")
        }
        try commit(move) { $0.rows[move.lane, default: []] += records.map { $0.sequence } }
        return move.lane.stream == .clicks
            ? FlushCount(clicks: records.count) : FlushCount(conversions: records.count)
    }
    func quarantine(
        _ move: CursorMove, _ record: PendingRecord, state: String, reason: String
    ) throws(FlushFailure) {
        try commit(move) { $0.quarantined[move.lane, default: []].append(record.sequence) }
    }
    func advance(_ moves: [CursorMove]) throws(FlushFailure) -> Bool {
        try demandOpen()
        for move in moves {
            guard let state = contents.cursors[move.lane], state.nextSequence == move.old,
                state.epoch == move.epoch
            else { return false }
        }
        for move in moves {
            contents.cursors[move.lane] = CursorState(nextSequence: move.new, epoch: move.epoch)
            if let watermark = move.watermark { contents.watermarks[move.lane] = watermark }
        }
        synced = contents
        return true
    }
    func record(_ gaps: [IngestGap]) throws(FlushFailure) {
        try demandOpen()
        for gap in gaps where !contents.gaps.contains(gap) { contents.gaps.append(gap) }
        synced = contents
    }
    func retire(_ lanes: [LaneID]) throws(FlushFailure) {
        try demandOpen()
        contents.retired.formUnion(lanes)
        synced = contents
    }
    func makePartitions(today: Day) throws(FlushFailure) -> Int {
        try demandOpen()
        return 7
    }
    func summariseLeaf(of day: Day) throws(FlushFailure) {
        try demandOpen()
        summaries.append(day)
    }
    func touchNode(_ node: UInt8, lastIDAt: Timestamp) throws(FlushFailure) { try demandOpen() }
}

/// Clocks that move when they are told to.
final class FakeTime {
    var wall: Int64 = 1_800_000_000_000_000
    var monotonic: Int64 = 1_000_000

    func advance(milliseconds: Int64) {
        wall += milliseconds * 1000
        monotonic += milliseconds * 1000
    }

    var clock: FlusherClock {
        FlusherClock(
            wall: { self.wall }, boot: { self.monotonic }, monotonic: { self.monotonic })
    }
}

/// A loop over rings and a database in memory.
func makeLoop(
    _ rings: [any RecordRing], _ database: any FlushDatabase, _ time: FakeTime,
    batchRows: Int = 10, isBusy: @escaping () -> Bool = { false }
) -> FlusherLoop {
    FlusherLoop(
        rings: rings, database: database,
        identity: NodeIdentity(node: 0, spoolUUID: .zero, machine: "test", keyFingerprint: "k"),
        options: FlusherOptions(
            dsn: "", batchRows: batchRows, node: 0, keyFingerprint: "k", machine: "test"),
        clock: time.clock, isBusy: isBusy, markClaimed: {})
}

/// The lane of a ring's stream.
func lane(_ ring: any RecordRing, _ stream: RecordStream) -> LaneID {
    LaneID(ring: ring.ringID, ringUUID: ring.ringUUID, stream: stream)
}
