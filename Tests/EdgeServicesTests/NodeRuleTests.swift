// The rules of design for what befalls a node: fewer workers, a copy, an older copy, against a real
// PostgreSQL.
import LinuxIO
import Postgres
import Testing
import Tracking

@testable import EdgeServices
@testable import RingLog

@Suite("What befalls a node")
struct NodeRuleTests {
    private func identity(_ machine: String) -> NodeIdentity {
        NodeIdentity(
            node: 0, spoolUUID: EntityID(high: 5, low: 0), machine: machine, keyFingerprint: "k")
    }

    private func isRefused(_ outcome: NodeClaimOutcome) -> Bool {
        if case .refused = outcome { return true }
        return false
    }

    @Test("A copy of a spool on another machine is refused while the original is alive")
    func clonedMachine() throws {
        let (dsn, connection) = try flusherDatabase()
        let flush = RealFlush([FakeRing()], dsn: dsn)
        #expect(flush.settle())
        let copy = PostgresFlushDatabase(dsn: dsn, node: 0, key: SipHashKey(first: 1, second: 1))
        try copy.open()
        #expect(isRefused(try copy.claimNode(identity("another"))))
        #expect(try connection.word("SELECT machine FROM nodes") == "test")
        // One second before it counts as gone, and then.
        let alive = NodeClaim.aliveSeconds
        try connection.script(
            "UPDATE nodes SET updated_at = now() - interval '\(alive - 2) seconds'")
        #expect(isRefused(try copy.claimNode(identity("another"))))
        try connection.script("UPDATE nodes SET updated_at = now() - interval '\(alive) seconds'")
        #expect(try copy.claimNode(identity("another")) == .claimed)
        #expect(try connection.word("SELECT machine FROM nodes") == "another")
        // The original finds out at its next connection.
        #expect(isRefused(try flush.database.claimNode(identity("test"))))
    }

    @Test("A process that ended in order leaves its node to the next, wherever that is")
    func movedNode() throws {
        let (dsn, connection) = try flusherDatabase()
        let flush = RealFlush([FakeRing()], dsn: dsn)
        #expect(flush.settle())
        flush.loop.leave()
        flush.loop.close()
        #expect(try connection.word("SELECT machine FROM nodes") == "test (left)")
        let next = PostgresFlushDatabase(dsn: dsn, node: 0, key: SipHashKey(first: 1, second: 1))
        try next.open()
        #expect(try next.claimNode(identity("another")) == .claimed)
        // Whoever comes late does not sign the new owner off.
        try next.leaveNode(identity("test"))
        #expect(try connection.word("SELECT machine FROM nodes") == "another")
    }

    @Test("A retired node's id goes to another spool only once its row is deleted")
    func retiredNode() throws {
        let (dsn, connection) = try flusherDatabase()
        let old = RealFlush([FakeRing()], dsn: dsn)
        #expect(old.settle())
        old.loop.leave()
        old.loop.close()
        let ring = FakeRing(ringUUID: EntityID(high: 8, low: 8))
        ring.append(.click, [1])
        let stranger = NodeIdentity(
            node: 0, spoolUUID: EntityID(high: 6, low: 6), machine: "next", keyFingerprint: "k")
        let time = FakeTime()
        time.wall = SystemClock.wallMicroseconds()
        let loop = FlusherLoop(
            rings: [ring],
            database: PostgresFlushDatabase(
                dsn: dsn, node: 0, key: SipHashKey(first: 1, second: 1)),
            identity: stranger,
            options: FlusherOptions(
                dsn: dsn, batchRows: 10, node: 0, keyFingerprint: "k", machine: "next"),
            clock: time.clock, markClaimed: {})
        // It ended in order, and its id is still its own.
        _ = loop.round(atOnce: true)
        #expect(loop.status.claim != .claimed && !loop.status.isConnected)
        #expect(loop.status.lastError.contains("belongs to another spool"))
        #expect(try connection.number("SELECT count(*) FROM ingest_cursors WHERE epoch > 0") == 2)
        try connection.script("DELETE FROM nodes")
        time.advance(milliseconds: 6000)
        _ = loop.round(atOnce: true)
        #expect(loop.status.claim == .claimed)
        #expect(
            try connection.number(
                "SELECT count(*) FROM ingest_cursors WHERE retired_at IS NOT NULL") == 2)
        loop.close()
    }

    @Test("A ring of a former worker count that the spool has forgotten is closed with a gap")
    func formerWorker() throws {
        let (dsn, connection) = try flusherDatabase()
        let before = RealFlush([FakeRing(), FakeRing(ringID: 31)], dsn: dsn)
        #expect(before.settle())
        before.loop.close()
        // Of the next node: not ours to close.
        let neighbour = RealFlush([FakeRing(ringID: 32)], dsn: dsn, node: 1)
        #expect(neighbour.settle())
        let after = RealFlush([FakeRing()], dsn: dsn)
        #expect(after.settle())
        let closed = "SELECT count(*) FROM ingest_cursors WHERE retired_at IS NOT NULL"
        #expect(try connection.number(closed + " AND ring_id = 31") == 2)
        #expect(try connection.number(closed) == 2)
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps WHERE ring_id = 31") == 2)
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 2)
    }

    /// Appends clicks to a store's only ring and makes them durable.
    private func append(_ count: Int, _ store: RingLogStore, _ maker: inout ClickMaker) {
        var appender = store.appender(worker: 0)
        for _ in 0..<count {
            let sequence = appender.append(.click, maker.make().bytes)
            #expect(sequence != nil)
        }
        store.turnSpooler()
    }

    @Test("Directories restored from an older copy lose nothing that is recorded from then on")
    func olderCopy() throws {
        let (dsn, connection) = try flusherDatabase()
        let directory = try SpoolDirectory()
        var maker = ClickMaker()
        let first = try directory.open()
        append(100, first, &maker)
        #expect(RealFlush([SpoolRing(first.rings[0])], dsn: dsn).settle())
        first.abandon()
        let copy = try directory.copy()
        let second = try directory.open()
        append(70, second, &maker)
        let flush = RealFlush([SpoolRing(second.rings[0])], dsn: dsn)
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 170)
        flush.loop.close()
        second.abandon()

        try directory.restore(copy)
        let restored = try directory.open()
        #expect(restored.rings[0].headSequence == 100)
        append(50, restored, &maker)
        let again = RealFlush([SpoolRing(restored.rings[0])], dsn: dsn)
        #expect(again.settle())
        let found = try connection.query(
            "SELECT count(*), count(DISTINCT click_id) FROM clicks_logs")
        #expect(found.int64(0, 0) == 220 && found.int64(0, 1) == 220)
        let gaps = "SELECT count(*) FROM ingest_gaps WHERE cause LIKE 'older copy%'"
        #expect(try connection.number(gaps) == 2)
        #expect(try connection.number(gaps + " AND first_seq = 171") == 2)
        // A reconnection of the same run, and the next run, take nothing back.
        again.loop.close()
        #expect(again.settle())
        restored.abandon()
        let last = try directory.open()
        #expect(RealFlush([SpoolRing(last.rings[0])], dsn: dsn).settle())
        last.abandon()
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 220)
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 2)
    }
}
