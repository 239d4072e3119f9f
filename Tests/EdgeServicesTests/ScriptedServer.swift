// PostgreSQL as the flusher sees it, in memory, failing at the steps of the protocol: connections that
// end at any of them, transactions that outlive their connection, commits that the server's death
// takes back, failovers to an older state.
import Tracking
import Workbench

@testable import EdgeServices

/// A server whose faults are drawn from a seed.
final class ScriptedServer: FlushDatabase {
    /// The steps of a transaction.
    enum Step: Int, CaseIterable { case begin, cursor, rows, rollUp, commitSent, commitDone }
    /// What happens at a step.
    enum Fault: CaseIterable { case disconnect, serialization, timeout, death, linger }

    struct Cursor: Equatable {
        var next: UInt64 = 1
        var epoch: UInt64
        var watermark: Timestamp?
        var isRetired = false
    }

    struct Contents {
        var cursors: [LaneID: Cursor] = [:]
        /// Sequences of stored rows with their payloads' hash.
        var rows: [LaneID: [UInt64: UInt64]] = [:]
        var asides: [LaneID: Set<UInt64>] = [:]
        var gaps: [IngestGap] = []
    }

    /// A transaction whose client is gone and whose COMMIT has arrived.
    private struct Lingering {
        var lanes: [LaneID]
        var isDurable: Bool
        var commits: Bool
        var change: (inout Contents) -> Void
    }

    private(set) var contents = Contents()
    /// What the server's disk has.
    private(set) var durable = Contents()
    private var snapshots: [(contents: Contents, takenAt: Int64)] = []
    private var lingering: Lingering?
    private var random: SeededGenerator
    private var isOpen = false

    /// The faults' share of calls, in per mille; 0 for a healthy server.
    var faultsPerMille = 0
    /// Whether it can be reached.
    var isUp = true
    /// Whether a payload is refused as a row.
    var refuses: (UInt64) -> Bool = { _ in false }
    /// What was lost or doubled inside the server, in words; empty when all is well.
    private(set) var complaints: [String] = []
    /// How often each fault struck.
    private(set) var struck: [String: Int] = [:]

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    // MARK: - What befalls it

    /// It dies and comes back with what its disk has.
    func die() {
        contents = durable
        lingering = nil
        isOpen = false
        struck["death", default: 0] += 1
    }

    /// An older standby takes its place: rows and cursors go back together; since when it had got
    /// nothing.
    func failOver() -> Int64? {
        guard let older = snapshots.randomElement(using: &random) else { return nil }
        contents = older.contents
        durable = older.contents
        lingering = nil
        isOpen = false
        struck["failover", default: 0] += 1
        return older.takenAt
    }

    /// A standby gets what the disk has.
    func replicate(at time: Int64) {
        snapshots.append((durable, time))
        if snapshots.count > 3 { snapshots.removeFirst() }
    }

    /// A lingering transaction comes to its end.
    func settleLingering() {
        guard let transaction = lingering else { return }
        lingering = nil
        guard transaction.commits else { return }
        transaction.change(&contents)
        if transaction.isDurable { durable = contents }
    }

    // MARK: - Transactions

    private func failure(_ kind: FlushFailure.Kind, _ text: String) -> FlushFailure {
        if kind == .away || kind == .outcomeUnknown { isOpen = false }
        return FlushFailure(kind: kind, state: nil, message: text)
    }

    private func demandOpen() throws(FlushFailure) {
        guard isOpen, isUp else { throw failure(.away, "closed") }
    }

    /// Runs the steps of one transaction, some of which may fail.
    private func transaction(
        touching lanes: [LaneID], isDurable: Bool,
        check: (Contents) throws(FlushFailure) -> Void = { _ throws(FlushFailure) in },
        _ change: @escaping (inout Contents) -> Void
    ) throws(FlushFailure) {
        try demandOpen()
        var fault: (step: Step, kind: Fault)?
        if Int.random(in: 0..<1000, using: &random) < faultsPerMille,
            let step = Step.allCases.randomElement(using: &random),
            let kind = Fault.allCases.randomElement(using: &random)
        {
            fault = (step, kind)
        }
        for step in Step.allCases {
            if step == .cursor {
                // The row is locked by whoever has not ended yet.
                if let lingering, !lingering.lanes.allSatisfy({ !lanes.contains($0) }) {
                    settleLingering()
                }
                try check(contents)
            }
            if step == .commitDone {
                change(&contents)
                if isDurable { durable = contents }
            }
            guard let fault, fault.step == step else { continue }
            struck["\(fault.kind) at \(step)", default: 0] += 1
            try strike(fault.kind, at: step, touching: lanes, isDurable: isDurable, change)
        }
    }

    private func strike(
        _ fault: Fault, at step: Step, touching lanes: [LaneID], isDurable: Bool,
        _ change: @escaping (inout Contents) -> Void
    ) throws(FlushFailure) {
        let isUnknown = step == .commitSent || step == .commitDone
        switch fault {
        case .disconnect: throw failure(isUnknown ? .outcomeUnknown : .away, "cut at \(step)")
        case .death:
            die()
            throw failure(isUnknown ? .outcomeUnknown : .away, "died at \(step)")
        case .linger:
            guard step == .commitSent else {
                throw failure(isUnknown ? .outcomeUnknown : .away, "")
            }
            settleLingering()  // One at a time is enough.
            lingering = Lingering(
                lanes: lanes, isDurable: isDurable,
                commits: Bool.random(using: &random), change: change)
            throw failure(.outcomeUnknown, "lingers")
        case .serialization:
            if step == .commitDone { throw failure(.outcomeUnknown, "cut at \(step)") }
            throw failure(.serialization, "40001 at \(step)")
        case .timeout:
            if isUnknown { throw failure(.outcomeUnknown, "cut at \(step)") }
            throw failure(.tooSlow, "57014 at \(step)")
        }
    }

    private static func check(
        _ moves: [CursorMove]
    ) -> (Contents) throws(FlushFailure) -> Void {
        { (contents) throws(FlushFailure) in
            for move in moves {
                guard let cursor = contents.cursors[move.lane], cursor.next == move.old,
                    cursor.epoch == move.epoch
                else { throw FlushFailure(kind: .cursorMoved, message: "the cursor has moved") }
            }
        }
    }

    private static func move(_ move: CursorMove, _ contents: inout Contents) {
        contents.cursors[move.lane]?.next = move.new
        if let watermark = move.watermark {
            let held = contents.cursors[move.lane]?.watermark ?? watermark
            contents.cursors[move.lane]?.watermark = max(held, watermark)
        }
    }

    // MARK: - FlushDatabase

    func open() throws(FlushFailure) {
        guard isUp else { throw failure(.away, "down") }
        isOpen = true
    }
    func close() { isOpen = false }
    func claimNode(_ identity: NodeIdentity) throws(FlushFailure) -> NodeClaimOutcome {
        try transaction(touching: [], isDurable: true) { _ in }
        return .claimed
    }
    func leaveNode(_ identity: NodeIdentity) throws(FlushFailure) { try demandOpen() }
    func claimCursors(_ claims: [CursorClaim]) throws(FlushFailure) -> [CursorState] {
        try transaction(touching: claims.map { $0.lane }, isDurable: true) { contents in
            for claim in claims {
                let held = contents.cursors[claim.lane]
                contents.cursors[claim.lane] = held ?? Cursor(epoch: claim.epoch)
                guard let held, held.epoch <= claim.epoch else { continue }
                contents.cursors[claim.lane]?.next = min(held.next, claim.bound ?? .max)
                guard held.epoch < claim.epoch else { continue }
                contents.cursors[claim.lane]?.epoch = claim.epoch
                contents.cursors[claim.lane]?.isRetired = false
            }
        }
        return claims.compactMap { state($0.lane) }
    }
    func retireOthers(_ lanes: [LaneID]) throws(FlushFailure) {
        try transaction(touching: [], isDurable: true) { contents in
            for (lane, cursor) in contents.cursors
            where !cursor.isRetired && !lanes.contains(lane) {
                contents.cursors[lane]?.isRetired = true
                contents.gaps.append(
                    IngestGap(
                        lane: lane, first: cursor.next, last: .max, from: nil, to: nil,
                        cause: "ring replaced"))
            }
        }
    }
    func readCursor(_ lane: LaneID) throws(FlushFailure) -> CursorState? {
        try transaction(touching: [lane], isDurable: true) { _ in }
        return state(lane)
    }
    private func state(_ lane: LaneID) -> CursorState? {
        contents.cursors[lane].map { CursorState(nextSequence: $0.next, epoch: $0.epoch) }
    }
    func write(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount {
        let rows = records.map { ($0.sequence, ScriptedServer.hash($0.payload)) }
        try demandOpen()
        for _ in 0..<Int.random(in: 0...2, using: &random) { meanwhile() }
        if rows.contains(where: { refuses($0.1) }) {
            throw FlushFailure(kind: .poisoned, state: "22021", message: "scripted poison")
        }
        let lane = move.lane
        try transaction(
            touching: [lane], isDurable: move.isDurable, check: ScriptedServer.check([move])
        ) { [self] contents in
            ScriptedServer.move(move, &contents)
            for (sequence, hash) in rows {
                if contents.rows[lane]?[sequence] != nil {
                    complaints.append("\(sequence) of \(lane.stream) came twice")
                }
                contents.rows[lane, default: [:]][sequence] = hash
            }
        }
        return lane.stream == .clicks
            ? FlushCount(clicks: records.count) : FlushCount(conversions: records.count)
    }
    func quarantine(
        _ move: CursorMove, _ record: PendingRecord, state: String, reason: String
    ) throws(FlushFailure) {
        let sequence = record.sequence
        try transaction(
            touching: [move.lane], isDurable: true, check: ScriptedServer.check([move])
        ) { contents in
            ScriptedServer.move(move, &contents)
            contents.asides[move.lane, default: []].insert(sequence)
        }
    }
    func advance(_ moves: [CursorMove]) throws(FlushFailure) -> Bool {
        do {
            try transaction(
                touching: moves.map { $0.lane }, isDurable: true,
                check: ScriptedServer.check(moves)
            ) { contents in
                for move in moves { ScriptedServer.move(move, &contents) }
            }
            return true
        } catch {
            if error.kind == .cursorMoved { return false }
            throw error
        }
    }
    func record(_ gaps: [IngestGap]) throws(FlushFailure) {
        try transaction(touching: [], isDurable: true) { contents in
            for gap in gaps where !contents.gaps.contains(gap) { contents.gaps.append(gap) }
        }
    }
    func retire(_ lanes: [LaneID]) throws(FlushFailure) {
        try transaction(touching: lanes, isDurable: true) { contents in
            for lane in lanes { contents.cursors[lane]?.isRetired = true }
        }
    }
    func makePartitions(today: Day) throws(FlushFailure) -> Int {
        try transaction(touching: [], isDurable: true) { _ in }
        return 7
    }
    func summariseLeaf(of day: Day) throws(FlushFailure) { try demandOpen() }
    func touchNode(_ node: UInt8, lastIDAt: Timestamp) throws(FlushFailure) { try demandOpen() }

    /// What the server and the oracle compare payloads by.
    static func hash(_ payload: UnsafeRawBufferPointer) -> UInt64 {
        SipHash24.hash(payload, key: SipHashKey(first: 1, second: 2))
    }
}
