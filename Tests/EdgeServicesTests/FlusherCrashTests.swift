// The server's own death: commits that had not reached its disk, a killed backend, a failover.
import LinuxIO
import Postgres
import Schema
import Testing
import Tracking
import Workbench

@testable import EdgeServices
@testable import RingLog

@Suite("Flusher, the server dies")
struct FlusherCrashTests {
    private static var isSoak: Bool { CurrentProcess.environment("CLICKD_SOAK") != nil }

    /// A cluster of the test's own: others must not die with it.
    private func cluster(_ name: String, settings: [String] = []) throws -> PrivateCluster {
        try PrivateCluster.start(directory: directory(name), options: options(settings))
    }

    private func directory(_ name: String) -> String {
        "/tmp/clickd-\(name)-\(SystemClock.monotonicNanoseconds())"
    }

    private func options(_ settings: [String] = []) -> PrivateCluster.Options {
        var options = PrivateCluster.Options()
        options.isTemporary = true
        options.settings = ["shared_buffers=32MB", "fsync=off"] + settings
        return options
    }

    private func migrate(_ dsn: String) throws {
        let connection = try Connection(dsn: dsn, applicationName: "tests")
        try SchemaRunner.migrate(connection)
        connection.close()
    }

    @Test("What a dying server takes back was never called flushed, and comes again")
    func takesBack() throws {
        // The log of commits that nobody waits for stays in memory until the server is dead.
        let cluster = try cluster("crash", settings: ["wal_writer_delay=10s"])
        defer { cluster.stop() }
        try migrate(cluster.dsn())
        let ring = FakeRing()
        let flush = RealFlush([ring], dsn: cluster.dsn(), batchRows: 20)
        let clicks = try #require(flush.loop.lanes.first { $0.id.stream == .clicks })
        #expect(flush.settle())
        var maker = ClickMaker()
        var takenBack = 0
        let deaths = FlusherCrashTests.isSoak ? 200 : 12
        for death in 1...deaths {
            for _ in 0..<400 { ring.append(.click, maker.make().bytes) }
            // Full batches of which every eighth commit waits for the disk.
            for _ in 0..<(1 + death * 5 % 18) { _ = flush.loop.round(atOnce: false) }
            let committed = clicks.cursor
            let flushed = ring.flushed[.clicks] ?? 0
            if death % 2 == 0 {
                let backend = flush.database.backendProcess
                try Signals.send(.kill, to: backend)
                try waitForRestart(cluster, without: backend)
            } else {
                cluster.crash()
                try cluster.start()
            }
            let connection = try Connection(dsn: cluster.dsn(), applicationName: "tests")
            let next = try #require(
                try connection.number("SELECT next_seq FROM ingest_cursors WHERE stream = 1"))
            #expect(UInt64(next) > flushed, "death \(death)")
            #expect(try connection.number("SELECT count(*) FROM clicks_logs") == next - 1)
            takenBack += Int(committed) - Int(next)
            try #require(flush.settle(), "death \(death)")
            let found = try connection.query(
                "SELECT count(*), count(DISTINCT click_id) FROM clicks_logs")
            try #require(found.int64(0, 0) == Int64(ring.headSequence))
            try #require(found.int64(0, 1) == Int64(ring.headSequence))
            connection.close()
        }
        print("\(deaths) deaths took back \(takenBack) committed rows; all are there once")
        #expect(takenBack > 0)
        let connection = try Connection(dsn: cluster.dsn(), applicationName: "tests")
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 0)
        #expect(
            try connection.number("SELECT sum(clicks)::bigint FROM link_hours")
                == Int64(ring.headSequence))
    }

    /// The postmaster ends every backend and recovers, as after its own crash.
    private func waitForRestart(_ cluster: PrivateCluster, without backend: Int32) throws {
        for _ in 0..<3000 {
            if !FileSystem.exists("/proc/\(backend)"),
                let made = try? Connection(dsn: cluster.dsn(), applicationName: "tests")
            {
                made.close()
                return
            }
            Thread.sleep(microseconds: 10_000)
        }
        throw FlushFailure(kind: .away, message: "the server does not come back")
    }

    @Test("A failover that takes rows and cursor back is healed from the retained segments")
    func failover() throws {
        let primary = try cluster("primary")
        defer { primary.stop() }
        try migrate(primary.dsn())
        // It is stopped and started again in between, so it must outlive its end.
        var lasting = options()
        lasting.isTemporary = false
        let standby = try PrivateCluster.startStandby(
            of: primary, directory: directory("standby"), options: lasting)
        defer {
            standby.stop()
            try? FileSystem.removeTree(standby.directory)
        }
        // The standby first: it takes no writes, so the second host is chosen.
        let dsn =
            "host=\(standby.socketDirectory),\(primary.socketDirectory) dbname=clickd "
            + "user=postgres"
        let feed = try SpoolFeed()
        let flush = RealFlush([feed.ring], dsn: dsn, batchRows: 500)
        try feed.append(500)
        #expect(flush.settle())
        try waitForReplay(primary, standby)
        standby.stop()
        try feed.append(500)
        #expect(flush.settle())
        #expect(feed.store.rings[0].flushedSequence(.clicks) == 1000)
        primary.crash()
        try feed.append(50)
        _ = flush.loop.round(atOnce: true)
        #expect(!flush.loop.status.isConnected)
        try standby.start()
        try standby.promote()
        let connection = try Connection(dsn: standby.dsn(), applicationName: "tests")
        // The failover lost what the standby had not got: the cursor tells how much.
        let next = try connection.number("SELECT next_seq FROM ingest_cursors WHERE stream = 1")
        #expect(next == 501)
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 500)
        #expect(flush.settle())
        let found = try connection.query(
            "SELECT count(*), count(DISTINCT click_id) FROM clicks_logs")
        #expect(found.int64(0, 0) == 1050)
        #expect(found.int64(0, 1) == 1050)
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 0)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 1050)
        feed.store.stopSpooler()
    }

    @Test("A cursor taken back to before what is retained leaves a gap for what is gone")
    func beyondRetention() throws {
        let (dsn, connection) = try flusherDatabase()
        let feed = try SpoolFeed()
        let flush = RealFlush([feed.ring], dsn: dsn, batchRows: 500)
        try feed.append(2000)
        #expect(flush.settle())
        for _ in 0..<2 {  // Seen as flushed, then seen as old.
            feed.spool.clock.advance(120_000_000)
            feed.store.turnSpooler()
        }
        try connection.script(
            """
            TRUNCATE clicks_logs, link_hours;
            UPDATE ingest_cursors SET next_seq = 1, watermark = NULL
            """)
        try feed.append(10)
        #expect(flush.settle())
        let rows = try #require(try connection.number("SELECT count(*) FROM clicks_logs"))
        let lost = try #require(
            try connection.number(
                """
                SELECT sum(last_seq - first_seq + 1)::bigint FROM ingest_gaps
                WHERE stream = 1 AND cause = 'segment_missing'
                """))
        #expect(lost > 0 && rows > 0)
        #expect(rows + lost == 2010)
        feed.store.stopSpooler()
    }

    private func waitForReplay(_ primary: PrivateCluster, _ standby: PrivateCluster) throws {
        let one = try Connection(dsn: primary.dsn(), applicationName: "tests")
        let wanted = try #require(try one.word("SELECT pg_current_wal_flush_lsn()::text"))
        let other = try Connection(dsn: standby.dsn(), applicationName: "tests")
        #expect(try other.query("SELECT pg_is_in_recovery()").bool(0, 0) == true)
        for _ in 0..<3000 {
            let replayed = try other.query(
                "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", [.text(wanted)])
            if replayed.bool(0, 0) == true { return }
            Thread.sleep(microseconds: 10_000)
        }
        throw FlushFailure(kind: .away, message: "the server does not come back")
    }
}
