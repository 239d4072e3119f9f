// One row that PostgreSQL refuses among 20,000, wherever it is refused.
import LinuxIO
import Postgres
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher with PostgreSQL: poison")
struct FlusherPoisonTests {
    private static var isSoak: Bool { CurrentProcess.environment("CLICKD_SOAK") != nil }

    @Test("One poison row among 20,000: 19,999 rows and one quarantined with its reason")
    func oneInABatch() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let invalid: [UInt8] = [0x61, 0xC3, 0x28]
        let place = Int.random(in: 0..<20_000)
        for index in 0..<20_000 {
            let click =
                index == place
                ? invalid.withUnsafeBytes { text in maker.make { $0.referrerHost = text } }
                : maker.make(link: UInt64(index % 500), visitor: UInt64(index))
            ring.append(.click, click.bytes)
        }
        let milliseconds = try flush(ring, dsn)
        print("poison at \(place): \(milliseconds) ms")
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 19_999)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 19_999)
        let aside = try connection.query("SELECT seq, sqlstate, reason FROM quarantine")
        try #require(aside.count == 1)
        #expect(aside.int64(0, 0) == Int64(place + 1))
        #expect(aside.text(0, 1) == "22021")
        #expect(aside.text(0, 2)?.isEmpty == false)
    }

    @Test("A click whose roll-up is refused is quarantined; the others of its batch are stored")
    func failingRollUp() throws {
        let (dsn, connection) = try flusherDatabase()
        let refused = EntityID(high: 0xC, low: 77)
        try connection.script(
            "ALTER TABLE link_hours ADD CONSTRAINT no_such_link CHECK (link_id <> '\(refused)')")
        let ring = FakeRing()
        var maker = ClickMaker()
        for index in 0..<20_000 {
            ring.append(.click, maker.make(link: index == 12_345 ? 77 : 1).bytes)
        }
        let milliseconds = try flush(ring, dsn)
        print("a roll-up refused: \(milliseconds) ms")
        #expect(try connection.number("SELECT count(*) FROM clicks_logs") == 19_999)
        #expect(try connection.number("SELECT sum(clicks)::bigint FROM link_hours") == 19_999)
        #expect(try connection.number("SELECT seq FROM quarantine") == 12_346)
        #expect(try connection.word("SELECT sqlstate FROM quarantine") == "23514")
    }

    @Test("Three per cent of refused clicks is drift: it alarms, and quarantines no flood")
    func drift() throws {
        let (dsn, connection) = try flusherDatabase()
        let ring = FakeRing()
        var maker = ClickMaker()
        let invalid: [UInt8] = [0x61, 0xC3, 0x28]
        for index in 0..<1000 {
            let click =
                index % 33 == 0
                ? invalid.withUnsafeBytes { text in maker.make { $0.referrerHost = text } }
                : maker.make()
            ring.append(.click, click.bytes)
        }
        let flush = RealFlush([ring], dsn: dsn)
        for _ in 0..<30 { _ = flush.loop.round(atOnce: true) }
        #expect(flush.loop.status.driftingLanes == 1)
        #expect(flush.loop.status.lastError.hasPrefix("22021"))
        let aside = try #require(try connection.number("SELECT count(*) FROM quarantine"))
        #expect(aside > 0 && aside <= 10)
    }

    /// Flushes a ring to its head; how long that took.
    private func flush(_ ring: FakeRing, _ dsn: String) throws -> Int64 {
        let flush = RealFlush([ring], dsn: dsn)
        let start = SystemClock.monotonicNanoseconds()
        #expect(flush.settle())
        let milliseconds = (SystemClock.monotonicNanoseconds() - start) / 1_000_000
        #expect(flush.loop.status.quarantined == 1)
        if FlusherPoisonTests.isSoak { #expect(milliseconds <= 5000) }
        return milliseconds
    }
}
