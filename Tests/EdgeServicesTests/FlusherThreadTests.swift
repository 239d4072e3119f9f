// The whole flusher: its thread, a real ring and spool, a real PostgreSQL.
import LinuxIO
import Postgres
import RingLog
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher with ring and spool")
struct FlusherThreadTests {
    /// A directory that goes with the test.
    final class Directory {
        let path: String
        init() throws {
            path = "/tmp/clickd-flusher-\(SystemClock.monotonicNanoseconds())"
            try FileSystem.makeDirectories(path)
        }
        deinit { _ = try? FileSystem.removeTree(path) }
    }

    private func open(_ directory: Directory) throws -> RingLogStore {
        try RingLogStore(
            node: 0, workers: 1,
            ring: RingOptions(directory: directory.path + "/ring", bytes: 1 << 20),
            spool: SpoolOptions(
                directory: directory.path + "/spool", segmentBytes: 1 << 20,
                quotaBytes: 64 << 20, syncMicroseconds: 5_000,
                retainMicroseconds: 60_000_000))
    }

    private func append(_ appender: inout RingAppender, _ kind: RecordKind, _ bytes: [UInt8]) {
        guard
            let space = appender.reserve(
                bytes: bytes.count, priority: kind == .click ? .click : .conversion)
        else {
            Issue.record("the ring is full")
            return
        }
        space.copyBytes(from: bytes)
        _ = appender.commit(bytes: bytes.count, kind: kind.rawValue)
    }

    private func options(_ dsn: String) -> FlusherOptions {
        FlusherOptions(
            dsn: dsn, batchRows: 1000, batchDelayMicroseconds: 20_000, node: 0,
            keyFingerprint: "k", machine: "test")
    }

    @Test("What is recorded before a flush is committed when it answers, over restarts too")
    func flushes() throws {
        let (dsn, connection) = try flusherDatabase()
        let directory = try Directory()
        var maker = ClickMaker()
        for run in 1...3 {
            let store = try open(directory)
            var appender = store.appender(worker: 0)
            try store.startSpooler()
            let flusher = try Flusher(store: store, options: options(dsn))
            try flusher.start()
            for index in 0..<2500 {
                if index % 500 == 499 {
                    let order = "\(run)-\(index)"
                    append(
                        &appender, .conversion,
                        ConversionMaker.bytes(
                            ConversionMaker.record(order: order, id: UInt64(run * 10_000 + index))))
                }
                append(&appender, .click, maker.make(visitor: UInt64(index)).bytes)
            }
            if run < 3 {
                // The connection comes up with the first round.
                while flusher.flush() != .committed { Thread.sleep(microseconds: 10_000) }
                #expect(
                    try connection.number("SELECT count(*) FROM clicks_logs")
                        == Int64(run * 2501 - 1))
                #expect(flusher.status.pending == 0)
                #expect(flusher.status.claim == .claimed)
                #expect(store.isClaimed)
                // Not flushed by this process: the next one finds them.
                append(&appender, .click, maker.make().bytes)
                #expect(flusher.stop())
                store.stopSpooler()
            } else {
                store.stopSpooler()
                while flusher.flush() != .committed { Thread.sleep(microseconds: 10_000) }
                #expect(flusher.stop())
            }
        }
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 7502)
        #expect(try connection.number("SELECT count(DISTINCT click_id) FROM clicks_logs") == 7502)
        #expect(try connection.number("SELECT count(*) FROM sales") == 15)
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 0)
        #expect(try connection.number("SELECT count(*) FROM ingest_cursors") == 2)
    }

    @Test("Without a database a flush answers at once, and a stop does not wait for it")
    func databaseAway() throws {
        let directory = try Directory()
        let store = try open(directory)
        var appender = store.appender(worker: 0)
        try store.startSpooler()
        let flusher = try Flusher(
            store: store, options: options("host=/nonexistent dbname=nothing"))
        try flusher.start()
        var maker = ClickMaker()
        for _ in 0..<5 { append(&appender, .click, maker.make().bytes) }
        #expect(flusher.flush() == .pending(5))
        #expect(!flusher.status.isConnected)
        #expect(flusher.stop())
        store.stopSpooler()
    }

    @Test("A ring of a former worker count is flushed and retired")
    func retired() throws {
        let (dsn, connection) = try flusherDatabase()
        let directory = try Directory()
        var maker = ClickMaker()
        do {
            let store = try RingLogStore(
                node: 0, workers: 2,
                ring: RingOptions(directory: directory.path + "/ring", bytes: 1 << 20),
                spool: SpoolOptions(
                    directory: directory.path + "/spool", segmentBytes: 1 << 20,
                    quotaBytes: 64 << 20, syncMicroseconds: 5_000,
                    retainMicroseconds: 60_000_000))
            var appender = store.appender(worker: 1)
            try store.startSpooler()
            for _ in 0..<10 { append(&appender, .click, maker.make().bytes) }
            store.stopSpooler()
        }
        let store = try open(directory)
        try store.startSpooler()
        let flusher = try Flusher(store: store, options: options(dsn))
        try flusher.start()
        while flusher.flush() != .committed { Thread.sleep(microseconds: 10_000) }
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 10)
        while try connection.number(
            "SELECT count(*) FROM ingest_cursors WHERE ring_id = 1 AND retired_at IS NOT NULL") != 2
        {
            Thread.sleep(microseconds: 10_000)
        }
        #expect(
            try connection.number(
                "SELECT count(*) FROM ingest_cursors WHERE ring_id = 0 AND retired_at IS NULL") == 2
        )
        #expect(flusher.stop())
        store.stopSpooler()
    }
}
