// Clicks into a real PostgreSQL: rows, roll-ups, cursors, faults.
import Postgres
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher with PostgreSQL: clicks")
struct FlusherPostgresTests {
    @Test("A click becomes a row with every column of the contract")
    func row() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let sub = Array("über".utf8)
        let referrer = Array("l.instagram.com".utf8)
        let click = sub.withUnsafeBytes { sub in
            referrer.withUnsafeBytes { referrer in
                maker.make(visitor: 77) { record in
                    record.flags = [.hasAddress, .overQuota]
                    record.address = (UInt64(203) | 0 << 8 | 113 << 16, 0)
                    record.country = UInt16(UInt8(ascii: "F")) | UInt16(UInt8(ascii: "R")) << 8
                    record.referrerHost = referrer
                    record.subIDs[0] = sub
                    record.subIDs[2] = UnsafeRawBufferPointer(rebasing: sub[..<0])
                    record.subIDCount = 3
                }
            }
        }
        ring.append(.click, click.bytes)
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        let row = try connection.query(
            """
            SELECT click_id, clicked_at, visitor_id, ip::text, country::text, device, os, source,
                referrer_host, sub_ids::text, is_bot, is_unique, invalid_reason, billing_mark,
                tableoid::regclass::text, language
            FROM clicks_logs
            """)
        try #require(row.count == 1)
        #expect(row.int64(0, 0) == Int64(click.id.rawValue))
        #expect(row.timestamp(0, 1) == click.id.clickedAt)
        #expect(row.int64(0, 2) == 77)
        #expect(row.text(0, 3) == "203.0.113.0/24")
        #expect(row.text(0, 4) == "FR")
        #expect(row.text(0, 5) == "mobile")
        #expect(row.text(0, 6) == "ios")
        #expect(row.text(0, 7) == "instagram")
        #expect(row.text(0, 8) == "l.instagram.com")
        #expect(row.text(0, 9) == "{über,NULL,\"\"}")
        #expect(row.bool(0, 10) == false)
        #expect(row.bool(0, 11) == true)
        #expect(row.isNull(0, 12))
        #expect(row.text(0, 13) == "over_quota")
        #expect(row.text(0, 14) == "clicks_logs_\(click.id.clickedAt.day.compact)")
        #expect(row.isNull(0, 15))
    }

    @Test("Roll-ups equal the counts of the rows, batch after batch")
    func rollUps() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        for index in 0..<3000 {
            maker.milliseconds += Int64(index % 7) * 100
            let click = maker.make(
                link: UInt64(index % 40), visitor: UInt64(index % 90 + 1),
                agent: index % 11 == 0 ? ClickMaker.crawler : ClickMaker.phone
            ) { record in
                if index % 13 == 0 { record.invalidReason = InvalidReason.prefetch.rawValue }
            }
            ring.append(.click, click.bytes)
        }
        let flush = RealFlush([ring], dsn: dsn, batchRows: 700)
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 3000)
        let different = try connection.number(
            """
            SELECT count(*) FROM (
                SELECT link_id, date_trunc('hour', clicked_at) AS hour,
                    count(*) FILTER (WHERE NOT is_bot AND invalid_reason IS NULL) AS clicks,
                    count(*) FILTER (WHERE is_unique) AS firsts,
                    count(*) FILTER (WHERE is_bot) AS bots,
                    count(*) FILTER (WHERE NOT is_bot AND invalid_reason IS NOT NULL) AS invalid
                FROM clicks_logs GROUP BY 1, 2) AS c
            FULL JOIN (SELECT link_id, hour, sum(clicks)::bigint AS clicks,
                sum(unique_clicks)::bigint AS firsts, sum(bots)::bigint AS bots,
                sum(invalid)::bigint AS invalid FROM link_hours GROUP BY 1, 2) AS r
                USING (link_id, hour)
            WHERE (c.clicks, c.firsts, c.bots, c.invalid)
                IS DISTINCT FROM (r.clicks, r.firsts, r.bots, r.invalid)
            """)
        #expect(different == 0)
        let firsts = try connection.number("SELECT count(*) FROM clicks_logs WHERE is_unique")
        #expect(
            try connection.number(
                """
                SELECT count(DISTINCT (visitor_id, link_id, clicked_at::date)) FROM clicks_logs
                WHERE NOT is_bot AND invalid_reason IS NULL
                """) == firsts)
        #expect(flush.loop.status.botsFlushed > 0)
    }

    @Test("A restart goes on from the cursor: nothing twice, nothing lost")
    func restart() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        for _ in 0..<50 { ring.append(.click, maker.make().bytes) }
        let first = RealFlush([ring], dsn: dsn, batchRows: 20)
        _ = first.loop.round(atOnce: true)
        first.loop.close()
        ring.epoch += 1
        for _ in 0..<50 { ring.append(.click, maker.make().bytes) }
        let second = RealFlush([ring], dsn: dsn)
        #expect(second.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 100)
        #expect(try connection.number("SELECT count(DISTINCT click_id) FROM clicks_logs") == 100)
        #expect(
            try connection.number(
                "SELECT count(*) FROM ingest_cursors WHERE next_seq = 101 AND epoch = 2") == 2)
    }

    @Test("The older of two on one ring is fenced and writes nothing more")
    func fenced() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        ring.append(.click, maker.make().bytes)
        let older = RealFlush([ring], dsn: dsn)
        #expect(older.settle())
        // The same ring, opened again by another process.
        let twin = FakeRing()
        twin.epoch = 2
        for entry in ring.entries { twin.append(.click, Array(entry.payload)) }
        let newer = RealFlush([twin], dsn: dsn)
        #expect(newer.settle())
        let click = maker.make()
        ring.append(.click, click.bytes)
        twin.append(.click, click.bytes)
        #expect(!older.settle(rounds: 3))
        guard case .fenced = older.loop.status.claim else {
            Issue.record("the older one is not fenced: \(older.loop.status.claim)")
            return
        }
        #expect(newer.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 2)
    }

    @Test("A cursor that someone moved is read again, and what it passed is not written again")
    func conflict() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        for _ in 0..<10 { ring.append(.click, maker.make().bytes) }
        try connection.execute("UPDATE ingest_cursors SET next_seq = 6 WHERE stream = 1")
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 5)
    }

    @Test("A connection that is killed in the middle of a batch costs nothing")
    func killedMidBatch() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        for _ in 0..<10 { ring.append(.click, maker.make().bytes) }
        let flush = RealFlush([ring], dsn: dsn)
        _ = flush.loop.round(atOnce: true)
        // The roll-up's trigger ends its own connection after the COPY, in the same transaction.
        try connection.script(
            """
            CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
            CREATE TRIGGER die AFTER UPDATE ON link_hours EXECUTE FUNCTION die();
            """)
        for _ in 0..<10 { ring.append(.click, maker.make().bytes) }
        _ = flush.loop.round(atOnce: true)
        #expect(!flush.loop.status.isConnected)
        #expect(!flush.loop.status.lastError.isEmpty)
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 10)
        try connection.script("DROP TRIGGER die ON link_hours")
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 20)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 20)
    }

    @Test("A connection that is killed at COMMIT is judged by the cursor")
    func killedAtCommit() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        ring.append(.click, maker.make().bytes)
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        // Deferred to COMMIT itself.
        try connection.script(
            """
            CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON link_hours DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION die();
            """)
        for _ in 0..<10 { ring.append(.click, maker.make().bytes) }
        _ = flush.loop.round(atOnce: true)
        #expect(!flush.loop.status.isConnected)
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 1)
        try connection.script("DROP TRIGGER die ON link_hours")
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 11)
    }

    @Test("A COMMIT that happened although its answer was lost is not repeated")
    func lostAnswer() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        for _ in 0..<10 { ring.append(.click, maker.make().bytes) }
        let flush = RealFlush([ring], dsn: dsn)
        let lossy = LossyDatabase(flush.database)
        let time = FakeTime()
        time.wall = flush.time.wall
        let loop = FlusherLoop(
            rings: [ring], database: lossy,
            identity: NodeIdentity(
                node: 0, spoolUUID: EntityID(high: 5, low: 0), machine: "test",
                keyFingerprint: "k"),
            options: FlusherOptions(dsn: dsn, node: 0, keyFingerprint: "k", machine: "test"),
            clock: time.clock, markClaimed: {})
        lossy.losesNextAnswer = true
        _ = loop.round(atOnce: true)
        #expect(!loop.status.isConnected)
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 10)
        time.advance(milliseconds: 6000)
        ring.append(.click, maker.make().bytes)
        for _ in 0..<5 { _ = loop.round(atOnce: true) }
        #expect(loop.isFlushed(through: loop.heads))
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 11)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 11)
    }

    @Test("Poisoned and unreadable rows are quarantined with their bytes and reason")
    func poison() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let invalid: [UInt8] = [0x61, 0xC3, 0x28]  // Broken UTF-8.
        for index in 0..<200 {
            switch index {
            case 57:
                let click = invalid.withUnsafeBytes { text in
                    maker.make { $0.referrerHost = text }
                }
                ring.append(.click, click.bytes)
            case 120: ring.append(.click, [9, 9, 9])
            case 130:
                var old = ClickMaker(milliseconds: ClickID.epochMilliseconds + 1000)
                ring.append(.click, old.make().bytes)
            default: ring.append(.click, maker.make().bytes)
            }
        }
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 197)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 197)
        let rows = try connection.query(
            "SELECT seq, sqlstate, reason, record FROM quarantine ORDER BY seq")
        try #require(rows.count == 3)
        #expect(rows.int64(0, 0) == 58)
        #expect(rows.text(0, 1) == "22021")
        #expect(rows.text(0, 2)?.isEmpty == false)
        #expect(rows.int64(1, 0) == 121)
        #expect(rows.text(1, 2) == "unreadable record")
        #expect(rows.bytes(1, 3) == [9, 9, 9])
        #expect(rows.text(2, 2)?.contains("2024-01-01") == true)
        #expect(flush.loop.status.quarantined == 3)
    }

    @Test("A missing leaf within reason is made, and a batch over midnight goes into both leaves")
    func leaves() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        let today = Timestamp(microseconds: flush.time.wall).day
        let day = today.advanced(by: -20)
        #expect(
            try connection.query(
                "SELECT to_regclass($1::text) IS NULL", [.text("clicks_logs_\(day.compact)")]
            ).bool(0, 0) == true)
        var maker = ClickMaker(milliseconds: day.start.milliseconds - 1)
        for _ in 0..<10 {
            ring.append(.click, maker.make().bytes)
            maker.milliseconds += 1
        }
        #expect(flush.settle())
        let leaves = try connection.words(
            """
            SELECT tableoid::regclass::text || ' ' || count(*) FROM clicks_logs GROUP BY tableoid
            ORDER BY 1
            """)
        #expect(
            leaves == [
                "clicks_logs_\(day.advanced(by: -1).compact) 1", "clicks_logs_\(day.compact) 9",
            ])
        #expect(flush.loop.status.partitionsAhead >= 7)
        // A leaf that was dropped under a running flusher is made again.
        try connection.script("DROP TABLE clicks_logs_\(day.compact)")
        ring.append(.click, maker.make().bytes)
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs_\(day.compact)") == 1)
    }

    @Test("An idle ring's watermark moves; a lost ring's cursor is retired with a gap")
    func idle() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        let flush = RealFlush([ring], dsn: dsn)
        ring.promise = { Timestamp(microseconds: flush.time.wall) }
        for _ in 0..<3 {
            _ = flush.loop.round(atOnce: false)
            flush.time.advance(milliseconds: 4000)
        }
        let first = try connection.query("SELECT watermark FROM ingest_cursors ORDER BY stream")
        let before = try #require(first.timestamp(0, 0))
        #expect(first.timestamp(1, 0) == before)
        for _ in 0..<2 {
            _ = flush.loop.round(atOnce: false)
            flush.time.advance(milliseconds: 4000)
        }
        let after = try connection.query("SELECT watermark FROM ingest_cursors ORDER BY stream")
        #expect(try #require(after.timestamp(0, 0)) > before)
        flush.loop.close()

        let fresh = FakeRing(ringUUID: EntityID(high: 8, low: 8))
        let next = RealFlush([fresh], dsn: dsn)
        #expect(next.settle())
        #expect(
            try connection.number(
                "SELECT count(*) FROM ingest_cursors WHERE retired_at IS NOT NULL") == 2)
        #expect(
            try connection.number(
                "SELECT count(*) FROM ingest_gaps WHERE cause LIKE 'ring replaced%'") == 2)
    }

    @Test("A node id that another spool holds is refused; so is another click key")
    func nodes() throws {
        let (dsn, connection) = try flusherDatabase()
        let flush = RealFlush([FakeRing()], dsn: dsn)
        #expect(flush.settle())
        #expect(try connection.word("SELECT machine FROM nodes WHERE node_id = 0") == "test")
        let database = PostgresFlushDatabase(
            dsn: dsn, node: 0, key: SipHashKey(first: 1, second: 1))
        try database.open()
        let stranger = NodeIdentity(
            node: 0, spoolUUID: EntityID(high: 6, low: 6), machine: "b", keyFingerprint: "k")
        guard case .refused = try database.claimNode(stranger) else {
            Issue.record("a node was claimed twice")
            return
        }
        let keyless = NodeIdentity(
            node: 1, spoolUUID: EntityID(high: 6, low: 6), machine: "b", keyFingerprint: "other")
        guard case .refused = try database.claimNode(keyless) else {
            Issue.record("another key was accepted")
            return
        }
        #expect(try connection.number("SELECT count(*) FROM nodes") == 1)
        let friend = NodeIdentity(
            node: 1, spoolUUID: EntityID(high: 6, low: 6), machine: "b", keyFingerprint: "k")
        #expect(try database.claimNode(friend) == .claimed)
    }

    @Test("A database without the schema is away, and says what to do")
    func noSchema() throws {
        let dsn = try TestDatabases.makeEmpty()
        let flush = RealFlush([FakeRing()], dsn: dsn)
        _ = flush.loop.round(atOnce: true)
        #expect(!flush.loop.status.isConnected)
        #expect(flush.loop.status.lastError.contains("clickctl migrate"))
    }
}

/// Loses the answer of a COMMIT that happened.
final class LossyDatabase: FlushDatabase {
    private let base: PostgresFlushDatabase
    var losesNextAnswer = false

    init(_ base: PostgresFlushDatabase) { self.base = base }

    func open() throws(FlushFailure) { try base.open() }
    func close() { base.close() }
    func claimNode(_ identity: NodeIdentity) throws(FlushFailure) -> NodeClaimOutcome {
        try base.claimNode(identity)
    }
    func leaveNode(_ identity: NodeIdentity) throws(FlushFailure) { try base.leaveNode(identity) }
    func claimCursors(_ claims: [CursorClaim]) throws(FlushFailure) -> [CursorState] {
        try base.claimCursors(claims)
    }
    func retireOthers(_ lanes: [LaneID]) throws(FlushFailure) { try base.retireOthers(lanes) }
    func readCursor(_ lane: LaneID) throws(FlushFailure) -> CursorState? {
        try base.readCursor(lane)
    }
    func write(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount {
        let count = try base.write(move, records, meanwhile: meanwhile)
        guard losesNextAnswer else { return count }
        losesNextAnswer = false
        base.close()
        throw FlushFailure(kind: .outcomeUnknown, message: "the answer is lost")
    }
    func quarantine(
        _ move: CursorMove, _ record: PendingRecord, state: String, reason: String
    ) throws(FlushFailure) {
        try base.quarantine(move, record, state: state, reason: reason)
    }
    func advance(_ moves: [CursorMove]) throws(FlushFailure) -> Bool { try base.advance(moves) }
    func record(_ gaps: [IngestGap]) throws(FlushFailure) { try base.record(gaps) }
    func retire(_ lanes: [LaneID]) throws(FlushFailure) { try base.retire(lanes) }
    func makePartitions(today: Day) throws(FlushFailure) -> Int {
        try base.makePartitions(today: today)
    }
    func summariseLeaf(of day: Day) throws(FlushFailure) { try base.summariseLeaf(of: day) }
    func touchNode(_ node: UInt8, lastIDAt: Timestamp) throws(FlushFailure) {
        try base.touchNode(node, lastIDAt: lastIDAt)
    }
}
