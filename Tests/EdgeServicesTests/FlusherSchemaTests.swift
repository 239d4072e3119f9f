// A schema that has drifted is named when the connection is made; nothing is written into it.
import Postgres
import Testing
import Tracking

@testable import EdgeServices

@Suite("Flusher with PostgreSQL: schema drift")
struct FlusherSchemaTests {
    /// Ways to drift, what is said of it, and the way back.
    static let drifts: [(change: String, says: String, back: String)] = [
        (
            "ALTER TABLE clicks_logs RENAME device TO gadget",
            "column clicks_logs.device is missing",
            "ALTER TABLE clicks_logs RENAME gadget TO device"
        ),
        (
            "ALTER TABLE link_hours ALTER bots TYPE integer",
            "column link_hours.bots is integer, not bigint",
            "ALTER TABLE link_hours ALTER bots TYPE bigint"
        ),
        (
            "ALTER FUNCTION make_click_partitions(date, date) RENAME TO made",
            "function make_click_partitions(date,date) is missing",
            "ALTER FUNCTION made(date, date) RENAME TO make_click_partitions"
        ),
        (
            "ALTER TABLE quarantine RENAME TO aside", "table quarantine is missing",
            "ALTER TABLE aside RENAME TO quarantine"
        ),
        (
            "ALTER TABLE clicks_logs ADD shop text NOT NULL DEFAULT ''; "
                + "ALTER TABLE clicks_logs ALTER shop DROP DEFAULT",
            "column clicks_logs.shop must be given, and this release does not know it",
            "ALTER TABLE clicks_logs DROP shop"
        ),
    ]

    @Test("Drift is named at the connection, holds everything back, and is forgotten once undone")
    func drift() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let flush = RealFlush([ring], dsn: dsn)
        #expect(flush.settle())
        for drift in FlusherSchemaTests.drifts {
            flush.loop.close()
            try connection.script(drift.change)
            ring.append(.click, maker.make().bytes)
            flush.time.advance(milliseconds: 6000)
            _ = flush.loop.round(atOnce: true)
            #expect(!flush.loop.status.isConnected, "\(drift.change)")
            #expect(flush.loop.status.lastError.contains(drift.says), "\(drift.change)")
            #expect(flush.loop.status.pendingClicks == 1)
            try connection.script(drift.back)
            #expect(flush.settle(), "\(drift.back): \(flush.loop.status.lastError)")
        }
        #expect(
            try connection.number("SELECT count(*) FROM clicks_logs")
                == Int64(FlusherSchemaTests.drifts.count))
        #expect(try connection.number("SELECT count(*) FROM quarantine") == 0)
        // What others add, with a default or without a demand, is theirs.
        try connection.script(
            "ALTER TABLE clicks_logs ADD note text, ADD rank int NOT NULL DEFAULT 1")
        flush.loop.close()
        ring.append(.click, maker.make().bytes)
        #expect(flush.settle())
    }
}
