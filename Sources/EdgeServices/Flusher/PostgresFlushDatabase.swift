// The flusher's database over libpq: the session, the claims, the cursors and the upkeep.
internal import LinuxIO
internal import Postgres
internal import Schema
internal import Tracking

/// PostgreSQL as the flusher uses it; one connection, one thread.
final class PostgresFlushDatabase: FlushDatabase {
    /// Whoever claims a node holds this advisory lock of the database.
    private static let claimLock: Int64 = 0x636C_6963_6B64_0004

    private let dsn: String
    private let interruption: Interruption?
    let node: UInt8
    private(set) var connection: Connection?
    var encoder: ClickRowEncoder
    var rows = CopyBuffer(capacity: FlusherLimits.copyChunkBytes + ClickRecord.maximumBytes)
    var hours = HourlyCounters()
    var knownClickLeaves: Set<Day> = []
    var knownSaleLeaves: Set<Day> = []

    /// A database by its DSN; `key` seeds the encoder's memories, `interruption` ends every wait.
    init(dsn: String, node: UInt8, key: SipHashKey, interruption: Interruption? = nil) {
        self.dsn = dsn
        self.interruption = interruption
        self.node = node
        encoder = ClickRowEncoder(key: key)
    }

    /// The number of the server process, for tests that end it.
    var backendProcess: Int32 { connection?.backendProcess ?? 0 }

    // MARK: - Session

    func open() throws(FlushFailure) {
        connection = nil
        knownClickLeaves = []
        knownSaleLeaves = []
        do {
            let made = try Connection(
                dsn: dsn, applicationName: "clickd flusher",
                connectTimeoutSeconds: FlusherLimits.connectTimeoutSeconds,
                statementTimeoutMilliseconds: FlusherLimits.statementTimeoutMilliseconds,
                lockTimeoutMilliseconds: FlusherLimits.lockTimeoutMilliseconds, writes: true,
                interruption: interruption)
            try made.script("SET idle_in_transaction_session_timeout = 30000")
            connection = made
        } catch {
            throw FlushFailure(error)
        }
        let version: Int
        let made = try link()
        do throws(SchemaError) {
            version = try SchemaRunner.version(made)
        } catch {
            throw FlushFailure(kind: .away, message: "\(error)")
        }
        guard version >= SchemaRunner.latestVersion else {
            throw FlushFailure(
                kind: .away,
                message: "the schema is at version \(version), not \(SchemaRunner.latestVersion): "
                    + "run clickctl migrate")
        }
        let drift: [String]
        do {
            drift = try ExpectedSchema.drift(made)
        } catch {
            throw FlushFailure(error)
        }
        guard drift.isEmpty else {
            throw FlushFailure(
                kind: .away, message: "the schema has drifted: " + drift.joined(separator: "; "))
        }
    }

    func close() {
        connection?.close()
        connection = nil
    }

    /// The connection, or the failure that there is none.
    func link() throws(FlushFailure) -> Connection {
        guard let connection else {
            throw FlushFailure(kind: .away, message: "the connection is closed")
        }
        return connection
    }

    /// Runs a body between BEGIN and COMMIT, and tells what a failure means.
    ///
    /// A commit that is not durable does not wait for the server's disk; the next durable one makes
    /// it so, since the server's log is one sequence.
    @discardableResult
    func transaction<Result>(
        isDurable: Bool = true, _ body: (Connection) throws(PostgresError) -> Result
    ) throws(FlushFailure) -> Result {
        let connection = try link()
        let opening = isDurable ? "BEGIN" : "BEGIN; SET LOCAL synchronous_commit = off"
        do {
            return try connection.transaction(opening: opening) {
                () throws(PostgresError) -> Result in
                try body(connection)
            }
        } catch {
            throw FlushFailure(error)
        }
    }

    /// Runs one call outside a transaction.
    @discardableResult
    private func call<Result>(
        _ body: (Connection) throws(PostgresError) -> Result
    ) throws(FlushFailure) -> Result {
        let connection = try link()
        do {
            return try body(connection)
        } catch {
            throw FlushFailure(error)
        }
    }

    // MARK: - Claims

    func claimNode(_ identity: NodeIdentity) throws(FlushFailure) -> NodeClaimOutcome {
        var refusal: NodeClaimOutcome?
        do {
            try transaction { connection throws(PostgresError) in
                let outcome = try judge(identity, connection)
                guard outcome != .claimed else { return }
                // Rolled back: a stranger's row must not stand between the fleet and its key.
                refusal = outcome
                throw PostgresError("the node is refused")
            }
        } catch {
            guard let refusal else { throw error }
            return refusal
        }
        return .claimed
    }

    private func judge(
        _ identity: NodeIdentity, _ connection: Connection
    ) throws(PostgresError) -> NodeClaimOutcome {
        // One claim at a time in the fleet: two nodes with two keys must not pass each other.
        try connection.execute(
            "SELECT pg_advisory_xact_lock($1)", [.int64(PostgresFlushDatabase.claimLock)])
        try connection.execute(
            """
            INSERT INTO nodes (node_id, spool_uuid, machine, key_fingerprint, last_id_at)
            VALUES ($1, $2, $3, $4, now()) ON CONFLICT (node_id) DO NOTHING
            """,
            [
                .int16(Int16(identity.node)), .uuid(identity.spoolUUID),
                .text(identity.machine), .text(identity.keyFingerprint),
            ])
        // Nodes that were not seen for a day do not hold up a change of keys.
        let found = try connection.query(
            """
            SELECT node_id, spool_uuid, machine, key_fingerprint,
                floor(extract(epoch FROM now() - updated_at))::bigint FROM nodes
            WHERE node_id = $1 OR coalesce(last_id_at, claimed_at) > now() - interval '1 day'
            ORDER BY node_id
            """, [.int16(Int16(identity.node))])
        var own: NodeRow?
        var fleet: [NodeRow] = []
        for row in 0..<found.count {
            let entry = NodeRow(
                node: UInt8(clamping: found.int16(row, 0) ?? 0),
                spoolUUID: found.uuid(row, 1) ?? .zero, machine: found.text(row, 2) ?? "",
                keyFingerprint: found.text(row, 3) ?? "",
                unseenSeconds: found.int64(row, 4) ?? .max)
            if entry.node == identity.node { own = entry } else { fleet.append(entry) }
        }
        guard let own else { throw PostgresError("the node's row has vanished") }
        let outcome = NodeClaim.judge(identity, row: own, fleet: fleet)
        if outcome == .claimed {
            try connection.execute(
                """
                UPDATE nodes SET machine = $2, key_fingerprint = $3, last_id_at = now(),
                    updated_at = now() WHERE node_id = $1
                """,
                [
                    .int16(Int16(identity.node)), .text(identity.machine),
                    .text(identity.keyFingerprint),
                ])
        }
        return outcome
    }

    func claimCursors(_ claims: [CursorClaim]) throws(FlushFailure) -> [CursorState] {
        let mine = [
            Parameter.int32Array(claims.map { Int32($0.lane.ring) }),
            Parameter.int16Array(claims.map { $0.lane.stream.rawValue }),
            Parameter.uuidArray(claims.map { $0.lane.ringUUID }),
            Parameter.int64Array(claims.map { Int64(clamping: $0.epoch) }),
            Parameter.int64Array(claims.map { Int64(clamping: $0.bound ?? .max) }),
        ]
        // Read by the same locking, durable update as in readCursor.
        return try transaction { connection throws(PostgresError) in
            try connection.execute(
                """
                INSERT INTO ingest_cursors (ring_id, stream, ring_uuid, epoch, next_seq)
                SELECT ring, stream, identity, epoch, 1
                FROM unnest($1::int[], $2::smallint[], $3::uuid[], $4::bigint[])
                    AS mine (ring, stream, identity, epoch)
                ORDER BY ring, stream ON CONFLICT (ring_id, stream, ring_uuid) DO NOTHING
                """, Array(mine.prefix(4)))
            try connection.execute(
                """
                INSERT INTO ingest_gaps
                    (ring_id, ring_uuid, stream, first_seq, last_seq, from_time, to_time, cause)
                SELECT held.ring_id, held.ring_uuid, held.stream, held.next_seq, held.next_seq,
                    held.watermark, now(),
                    'older copy: what lay beyond the cursor is lost (how many is not known)'
                FROM ingest_cursors AS held
                    JOIN unnest($1::int[], $2::smallint[], $3::uuid[], $4::bigint[], $5::bigint[])
                        AS mine (ring, stream, identity, epoch, bound)
                    ON held.ring_id = mine.ring AND held.stream = mine.stream
                        AND held.ring_uuid = mine.identity
                WHERE held.next_seq > mine.bound AND held.epoch <= mine.epoch
                ON CONFLICT DO NOTHING
                """, mine)
            let found = try connection.query(
                """
                UPDATE ingest_cursors AS held
                SET epoch = greatest(held.epoch, mine.epoch), updated_at = now(),
                    next_seq = CASE WHEN held.epoch <= mine.epoch
                        THEN least(held.next_seq, mine.bound) ELSE held.next_seq END,
                    retired_at = CASE WHEN held.epoch >= mine.epoch THEN held.retired_at END
                FROM unnest($1::int[], $2::smallint[], $3::uuid[], $4::bigint[], $5::bigint[])
                    WITH ORDINALITY AS mine (ring, stream, identity, epoch, bound, place)
                WHERE held.ring_id = mine.ring AND held.stream = mine.stream
                    AND held.ring_uuid = mine.identity
                RETURNING mine.place, held.next_seq, held.epoch
                """, mine)
            var states: [Int64: CursorState] = [:]
            for row in 0..<found.count {
                guard let place = found.int64(row, 0), let next = found.int64(row, 1),
                    let epoch = found.int64(row, 2)
                else { continue }
                states[place] = CursorState(
                    nextSequence: UInt64(clamping: next), epoch: UInt64(clamping: epoch))
            }
            // As long as all are there; the caller counts.
            return (1...max(1, claims.count)).compactMap { states[Int64($0)] }
        }
    }

    func retireOthers(_ lanes: [LaneID]) throws(FlushFailure) {
        try transaction { connection throws(PostgresError) in
            // What a lost ring had beyond its cursor is gone: a gap from its watermark until now.
            // Any ring of the node: those of a former worker count too, which no loop writes to.
            try connection.execute(
                """
                WITH mine AS (
                    SELECT DISTINCT ring, identity FROM unnest($1::int[], $2::uuid[])
                        AS mine (ring, identity)
                ), gone AS (
                    UPDATE ingest_cursors AS held SET retired_at = now(), updated_at = now()
                    WHERE held.retired_at IS NULL
                        AND held.ring_id / 32 IN (SELECT ring / 32 FROM mine)
                        AND (held.ring_id, held.ring_uuid) NOT IN (SELECT ring, identity FROM mine)
                    RETURNING held.*
                )
                INSERT INTO ingest_gaps
                    (ring_id, ring_uuid, stream, first_seq, last_seq, from_time, to_time, cause)
                SELECT ring_id, ring_uuid, stream, next_seq, next_seq, watermark, now(),
                    'ring replaced: what lay beyond its cursor is lost'
                FROM gone ON CONFLICT DO NOTHING
                """,
                [
                    .int32Array(lanes.map { Int32($0.ring) }),
                    .uuidArray(lanes.map { $0.ringUUID }),
                ])
        }
    }

    // MARK: - Cursors

    /// Reads a cursor by updating its row.
    ///
    /// So it waits for a transaction of a lost connection that the server has not ended yet, and its
    /// commit, which waits for the disk, makes durable whatever the cursor tells: a plain SELECT does
    /// neither.
    func readCursor(_ lane: LaneID) throws(FlushFailure) -> CursorState? {
        try transaction { connection throws(PostgresError) in
            let found = try connection.query(
                """
                UPDATE ingest_cursors SET updated_at = now()
                WHERE ring_id = $1 AND stream = $2 AND ring_uuid = $3 RETURNING next_seq, epoch
                """,
                [.int32(Int32(lane.ring)), .int16(lane.stream.rawValue), .uuid(lane.ringUUID)])
            guard found.count == 1, let next = found.int64(0, 0), let epoch = found.int64(0, 1)
            else { return nil }
            return CursorState(
                nextSequence: UInt64(clamping: next), epoch: UInt64(clamping: epoch))
        }
    }

    /// Moves one cursor inside a transaction; throws when it is not where it was left.
    func moveCursor(_ move: CursorMove, _ connection: Connection) throws(PostgresError) {
        let moved = try connection.execute(
            """
            UPDATE ingest_cursors
            SET next_seq = $1, watermark = greatest(watermark, $2::timestamptz), updated_at = now()
            WHERE ring_id = $3 AND stream = $4 AND ring_uuid = $5 AND next_seq = $6 AND epoch = $7
            """,
            [
                .int64(Int64(clamping: move.new)), .optional(move.watermark),
                .int32(Int32(move.lane.ring)), .int16(move.lane.stream.rawValue),
                .uuid(move.lane.ringUUID), .int64(Int64(clamping: move.old)),
                .int64(Int64(clamping: move.epoch)),
            ])
        guard moved == 1 else { throw FlushFailure.cursorConflict }
    }

    func advance(_ moves: [CursorMove]) throws(FlushFailure) -> Bool {
        let count = moves.count
        do {
            try transaction { connection throws(PostgresError) in
                let moved = try connection.execute(
                    """
                    UPDATE ingest_cursors AS held
                    SET next_seq = mine.new, watermark = greatest(held.watermark, mine.watermark),
                        updated_at = now()
                    FROM unnest($1::int[], $2::smallint[], $3::uuid[], $4::bigint[], $5::bigint[],
                            $6::bigint[], $7::timestamptz[])
                        AS mine (ring, stream, identity, old, new, epoch, watermark)
                    WHERE held.ring_id = mine.ring AND held.stream = mine.stream
                        AND held.ring_uuid = mine.identity AND held.next_seq = mine.old
                        AND held.epoch = mine.epoch
                    """,
                    [
                        .int32Array(moves.map { Int32($0.lane.ring) }),
                        .int16Array(moves.map { $0.lane.stream.rawValue }),
                        .uuidArray(moves.map { $0.lane.ringUUID }),
                        .int64Array(moves.map { Int64(clamping: $0.old) }),
                        .int64Array(moves.map { Int64(clamping: $0.new) }),
                        .int64Array(moves.map { Int64(clamping: $0.epoch) }),
                        .timestampArray(moves.map { $0.watermark }),
                    ])
                guard moved == count else { throw FlushFailure.cursorConflict }
            }
            return true
        } catch {
            if error.kind == .cursorMoved { return false }
            throw error
        }
    }

    func quarantine(
        _ move: CursorMove, _ record: PendingRecord, state: String, reason: String
    ) throws(FlushFailure) {
        try transaction { connection throws(PostgresError) in
            try moveCursor(move, connection)
            try setAside(record, of: move.lane, state: state, reason: reason, connection)
        }
    }

    /// Records one refused or unreadable record inside a transaction.
    func setAside(
        _ record: PendingRecord, of lane: LaneID, state: String, reason: String,
        _ connection: Connection
    ) throws(PostgresError) {
        let relation = lane.stream == .clicks ? "clicks_logs" : "sales"
        try connection.execute(
            """
            INSERT INTO quarantine
                (ring_id, ring_uuid, stream, seq, relation, record, sqlstate, reason)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
            """,
            [
                .int32(Int32(lane.ring)), .uuid(lane.ringUUID), .int16(lane.stream.rawValue),
                .int64(Int64(clamping: record.sequence)), .text(relation),
                .bytea(Array(record.payload)), .text(state), .text(reason),
            ])
    }

    // MARK: - Upkeep

    func record(_ gaps: [IngestGap]) throws(FlushFailure) {
        try transaction { connection throws(PostgresError) in
            for gap in gaps {
                try connection.execute(
                    """
                    INSERT INTO ingest_gaps
                        (ring_id, ring_uuid, stream, first_seq, last_seq, from_time, to_time, cause)
                    VALUES ($1, $2, $3, $4, $5, $6::timestamptz, $7::timestamptz, $8)
                    ON CONFLICT DO NOTHING
                    """,
                    [
                        .int32(Int32(gap.lane.ring)), .uuid(gap.lane.ringUUID),
                        .int16(gap.lane.stream.rawValue), .int64(Int64(clamping: gap.first)),
                        .int64(Int64(clamping: gap.last)), .optional(gap.from), .optional(gap.to),
                        .text(gap.cause),
                    ])
            }
        }
    }

    func retire(_ lanes: [LaneID]) throws(FlushFailure) {
        try transaction { connection throws(PostgresError) in
            for lane in lanes {
                try connection.execute(
                    """
                    UPDATE ingest_cursors SET retired_at = now(), updated_at = now()
                    WHERE ring_id = $1 AND stream = $2 AND ring_uuid = $3 AND retired_at IS NULL
                    """,
                    [.int32(Int32(lane.ring)), .int16(lane.stream.rawValue), .uuid(lane.ringUUID)])
            }
        }
    }

    func makePartitions(today: Day) throws(FlushFailure) -> Int {
        let furthest = today.advanced(by: FlusherLimits.clickDaysAhead)
        var month = today.firstOfMonth
        for _ in 0..<FlusherLimits.saleMonthsAhead { month = month.firstOfNextMonth }
        let lastMonth = month
        return try call { connection throws(PostgresError) in
            // The day before too: its last clicks may still be on their way.
            try connection.execute(
                "SELECT make_click_partitions($1, $2)",
                [.date(today.advanced(by: -1)), .date(furthest)])
            try connection.execute(
                "SELECT make_sale_partitions($1, $2)",
                [.date(today.firstOfMonth), .date(lastMonth)])
            let found = try connection.query(
                """
                SELECT count(*) FROM generate_series(1, 400) AS ahead
                WHERE NOT EXISTS (
                    SELECT FROM generate_series(1, ahead) AS one
                    WHERE to_regclass('clicks_logs_' || to_char($1::date + one, 'YYYYMMDD'))
                        IS NULL)
                """, [.date(today)])
            return Int(clamping: found.int64(0, 0) ?? 0)
        }
    }

    func summariseLeaf(of day: Day) throws(FlushFailure) {
        do {
            try call { connection throws(PostgresError) in
                try connection.execute(
                    "SELECT summarise_hot_leaf($1::text::regclass)",
                    [.text("clicks_logs_\(day.compact)")])
            }
        } catch {
            // A leaf that is not there, is locked or is too large for one call is tried again
            // later.
            if error.kind == .away, error.state == nil { throw error }
        }
    }

    func leaveNode(_ identity: NodeIdentity) throws(FlushFailure) {
        try call { connection throws(PostgresError) in
            try connection.execute(
                """
                UPDATE nodes SET machine = $3 || $4, updated_at = now()
                WHERE node_id = $1 AND spool_uuid = $2 AND machine = $3
                """,
                [
                    .int16(Int16(identity.node)), .uuid(identity.spoolUUID),
                    .text(identity.machine), .text(NodeClaim.leftMark),
                ])
        }
    }

    func touchNode(_ node: UInt8, lastIDAt: Timestamp) throws(FlushFailure) {
        try call { connection throws(PostgresError) in
            try connection.execute(
                "UPDATE nodes SET last_id_at = $2, updated_at = now() WHERE node_id = $1",
                [.int16(Int16(node)), .timestamp(lastIDAt)])
        }
    }
}

extension FlushFailure {
    /// Stands for an UPDATE of a cursor that found no row; never leaves this module.
    static let cursorConflict = PostgresError(
        "the cursor is not where it was left", state: SQLState(rawValue: "CK001"))

    /// What a failure of libpq or the server means to the flusher.
    init(_ error: PostgresError) {
        let kind: Kind
        if error.outcomeUnknown {
            kind = .outcomeUnknown
        } else if error.connectionLost {
            kind = .away
        } else if let state = error.state {
            switch state {
            case FlushFailure.cursorConflict.state: kind = .cursorMoved
            case .queryCanceled: kind = .tooSlow
            case SQLState(rawValue: "40003"): kind = .outcomeUnknown
            case _ where state.isClass("CK"): kind = .poisoned
            case _ where state.isClass("22") || state.isClass("23"): kind = .poisoned
            case _ where state.isClass("40"): kind = .serialization
            default: kind = .away
            }
        } else {
            kind = .away
        }
        self.init(kind: kind, state: error.state?.rawValue, message: error.message)
    }
}
