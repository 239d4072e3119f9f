// What the flusher asks of a database: the seam between its decisions and libpq.
internal import Tracking

/// Which cursor: one stream of one ring.
struct LaneID: Hashable, Sendable {
    /// The ring's number in the fleet.
    var ring: UInt16
    /// The ring's own identity; a new or doubtful ring has a new one.
    var ringUUID: EntityID
    /// Clicks or conversions.
    var stream: RecordStream
}

/// One durable record that is not committed yet; the payload lives until the lane releases it.
struct PendingRecord {
    /// The record's number in its ring.
    var sequence: UInt64
    /// The record's kind, ``RecordKind`` raw value when it is a known one.
    var kind: UInt8
    /// The record's bytes.
    var payload: UnsafeRawBufferPointer
}

/// A cursor as the database holds it.
struct CursorState: Equatable, Sendable {
    /// The first sequence that is not committed.
    var nextSequence: UInt64
    /// The epoch of whoever claimed it last.
    var epoch: UInt64
}

/// Where an attempt moves a cursor.
struct CursorMove {
    /// The cursor.
    var lane: LaneID
    /// The epoch under which the ring is open.
    var epoch: UInt64
    /// `next_seq` before.
    var old: UInt64
    /// `next_seq` after; may be the same when only the watermark moves.
    var new: UInt64
    /// All records of the ring older than this are committed with the move; nil leaves it.
    var watermark: Timestamp?
    /// Whether the commit waits for the server's disk; one that does makes those before it durable.
    var isDurable = true
}

/// What a lane asks of its cursor's row when it takes it over.
struct CursorClaim: Equatable, Sendable {
    /// Whose cursor.
    var lane: LaneID
    /// Of the ring's open; a higher one in the row fences it.
    var epoch: UInt64
    /// `next_seq` may not be beyond it; nil for no bound.
    var bound: UInt64?
}

/// Something that was lost, for `ingest_gaps`.
struct IngestGap: Equatable, Sendable {
    /// The cursor that passed over it.
    var lane: LaneID
    /// The first lost sequence.
    var first: UInt64
    /// The last lost sequence.
    var last: UInt64
    /// When the loss began and ended, as far as known.
    var from: Timestamp?
    var to: Timestamp?
    /// Why, in a word or a short sentence.
    var cause: String
}

/// Who claims a node.
struct NodeIdentity: Equatable, Sendable {
    /// `node.id`.
    var node: UInt8
    /// The identity of the spool directory.
    var spoolUUID: EntityID
    /// The machine, for people.
    var machine: String
    /// The fingerprint of the click key.
    var keyFingerprint: String
}

/// What a claim came to.
enum NodeClaimOutcome: Equatable, Sendable {
    /// The node is this spool's.
    case claimed
    /// It is not; the text says whose and what to do.
    case refused(String)
}

/// Why the database did not do what it was asked.
struct FlushFailure: Error, Equatable, Sendable {
    /// What follows from it.
    enum Kind: Equatable, Sendable {
        /// A row cannot be stored (SQLSTATE class 22, 23).
        case poisoned
        /// The same again may succeed (class 40).
        case serialization
        /// The statement took too long.
        case tooSlow
        /// The cursor was not where it was left, or is another's.
        case cursorMoved
        /// All else: the database is away.
        case away
        /// The connection was lost on COMMIT.
        case outcomeUnknown
    }

    /// What follows from it.
    var kind: Kind
    /// The SQLSTATE, when the server gave one.
    var state: String?
    /// What happened, without secrets.
    var message: String

    /// The machine's event for it.
    var event: FlushMachine.Event {
        switch kind {
        case .poisoned: .poisoned
        case .serialization: .serialization
        case .tooSlow: .tooSlow
        case .cursorMoved: .cursorMoved
        case .away: .away
        case .outcomeUnknown: .outcomeUnknown
        }
    }
}

/// What one committed attempt wrote.
struct FlushCount: Equatable {
    /// Rows of `clicks_logs`.
    var clicks = 0
    /// Those of them that are bots.
    var bots = 0
    /// Conversion messages settled (stored, repeated or recorded as refused).
    var conversions = 0

    /// Adds what another attempt wrote.
    static func += (left: inout FlushCount, right: FlushCount) {
        left.clicks += right.clicks
        left.bots += right.bots
        left.conversions += right.conversions
    }
}

/// The database as the flusher sees it; used by one thread.
protocol FlushDatabase: AnyObject {
    /// Connects and prepares the session.
    func open() throws(FlushFailure)
    /// Drops the connection; nothing for a closed one.
    func close()
    /// Claims the node for a spool, or tells why not.
    func claimNode(_ identity: NodeIdentity) throws(FlushFailure) -> NodeClaimOutcome
    /// Says that the node's process ends in order, so that the next may claim it from anywhere.
    func leaveNode(_ identity: NodeIdentity) throws(FlushFailure)
    /// Makes sure of the cursors' rows, raises lower epochs to the given ones, takes cursors beyond
    /// their bounds back with a gap, and reads what stands then, in the order asked.
    func claimCursors(_ claims: [CursorClaim]) throws(FlushFailure) -> [CursorState]
    /// Retires the cursors of rings that had these numbers before, with a gap for what they lost.
    func retireOthers(_ lanes: [LaneID]) throws(FlushFailure)
    /// Reads one cursor; nil when it has no row.
    ///
    /// Not before a lost connection's transaction has ended, and what it tells survives the server's
    /// death. The same goes for ``claimCursors(_:)``.
    func readCursor(_ lane: LaneID) throws(FlushFailure) -> CursorState?
    /// Writes records and moves the cursor in one transaction; calls `meanwhile` now and then while
    /// the server is busy with them.
    func write(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount
    /// Sets one record aside and moves the cursor in one transaction.
    func quarantine(
        _ move: CursorMove, _ record: PendingRecord, state: String, reason: String
    ) throws(FlushFailure)
    /// Moves cursors over nothing, and their watermarks; false when any was not where it was left.
    func advance(_ moves: [CursorMove]) throws(FlushFailure) -> Bool
    /// Records what was lost; again is harmless.
    func record(_ gaps: [IngestGap]) throws(FlushFailure)
    /// Marks cursors as complete for ever.
    func retire(_ lanes: [LaneID]) throws(FlushFailure)
    /// Sees to it that leaves exist from `today` on; for how many days from today they do.
    func makePartitions(today: Day) throws(FlushFailure) -> Int
    /// Summarises the new ranges of a day's leaf.
    func summariseLeaf(of day: Day) throws(FlushFailure)
    /// Tells the fleet that the node mints IDs.
    func touchNode(_ node: UInt8, lastIDAt: Timestamp) throws(FlushFailure)
}
