// The connection cut after every message of the protocol, against a real PostgreSQL: nothing twice,
// nothing lost.
import LinuxIO
import Postgres
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher, cut off")
struct FlusherCutTests {
    /// As the promise has it in `make soak`; in `make test` one message in some, from a random one on.
    private static var isSoak: Bool { CurrentProcess.environment("CLICKD_SOAK") != nil }

    @Test("A connection cut after any message of the protocol costs nothing and doubles nothing")
    func everyStep() throws {
        let (dsn, connection) = try flusherDatabase()
        let cluster = try TestDatabases.cluster()
        let proxy = try CutProxy(to: cluster.socketDirectory)
        defer { proxy.stop() }
        let through =
            "host=\(proxy.directory) "
            + dsn.split(separator: " ").dropFirst().joined(separator: " ")
        let ring = FakeRing()
        let flush = RealFlush([ring], dsn: through, batchRows: 5)
        var maker = ClickMaker()
        var work = Work()
        work.append(to: ring, &maker)
        #expect(flush.settle())
        let repetitions = FlusherCutTests.isSoak ? 20 : 1
        let stride = FlusherCutTests.isSoak ? 1 : 11
        var steps = 0
        for repetition in 0..<repetitions {
            // Between two messages, or within one.
            let tears = repetition % 2 == 1
            var messages = stride == 1 ? 0 : Int.random(in: 0..<stride)
            while true {
                work.append(to: ring, &maker)
                flush.loop.close()
                proxy.arm(CutProxy.Plan(messages: messages, tearsNext: tears))
                try #require(flush.settle(), "after \(messages) messages, torn: \(tears)")
                try work.verify(connection)
                if proxy.disarm() { break }  // The work was done before the cut.
                steps = max(steps, messages)
                messages += stride
            }
        }
        let cuts = proxy.cuts
        print(
            "cut \(cuts.count) times: \(steps) messages, \(Set(cuts).count) kinds, "
                + "\(work.clicks) clicks, \(work.sales) sales")
        #expect(steps > 100)
        #expect(cuts.count >= (steps / stride) * repetitions)
        if FlusherCutTests.isSoak {
            for kind in ["> Q BEGIN", "> Q COPY", "> d", "> c", "> Q COMMIT", "< G", "< C", "< Z"] {
                #expect(cuts.contains(kind), "never cut after \(kind)")
            }
        }
        #expect(try connection.number("SELECT count(*) FROM ingest_gaps") == 0)
        #expect(try connection.number("SELECT count(*) FROM quarantine") == 0)
        let distinct = try connection.number("SELECT count(DISTINCT click_id) FROM clicks_logs")
        #expect(distinct == Int64(work.clicks))
    }

    @Test("A connection cut around each COMMIT, before and after its answer")
    func aroundCommit() throws {
        let (dsn, connection) = try flusherDatabase()
        let cluster = try TestDatabases.cluster()
        let proxy = try CutProxy(to: cluster.socketDirectory)
        defer { proxy.stop() }
        let through =
            "host=\(proxy.directory) "
            + dsn.split(separator: " ").dropFirst().joined(separator: " ")
        let ring = FakeRing()
        let flush = RealFlush([ring], dsn: through, batchRows: 5)
        var maker = ClickMaker()
        var work = Work()
        #expect(flush.settle())
        // After the message that carries COMMIT; after CommandComplete; after ReadyForQuery.
        for behind in 0..<3 {
            for commit in 1...8 {
                work.append(to: ring, &maker)
                flush.loop.close()
                proxy.arm(CutProxy.Plan(messages: behind, after: "> Q COMMIT", occurrence: commit))
                try #require(flush.settle(), "\(behind) behind COMMIT \(commit)")
                try work.verify(connection)
                #expect(!proxy.disarm(), "not cut \(behind) behind COMMIT \(commit)")
            }
        }
        #expect(
            proxy.cuts
                == ["> Q COMMIT", "< C", "< Z"].flatMap { Array(repeating: $0, count: 8) })
    }

    /// What has been recorded, and what must have come of it.
    private struct Work {
        var clicks = 0
        var sales = 0
        var refusals = 0

        /// Three batches of clicks, a conversion and a refusal.
        mutating func append(to ring: FakeRing, _ maker: inout ClickMaker) {
            for index in 0..<12 {
                ring.append(.click, maker.make(link: UInt64(index % 3)).bytes)
            }
            clicks += 12
            sales += 1
            ring.append(
                .conversion,
                ConversionMaker.bytes(
                    ConversionMaker.record(order: "o\(sales)", id: UInt64(sales))))
            refusals += 1
            ring.append(
                .refusal,
                ConversionMaker.bytes(
                    RefusalRecord(
                        receivedAt: Timestamp(microseconds: SystemClock.wallMicroseconds()),
                        merchantID: ConversionMaker.merchant, channel: .api, httpStatus: 400,
                        field: Array("amount".utf8),
                        reason: Array("missing".utf8), orderID: nil)))
        }

        func verify(_ connection: Connection) throws {
            let found = try connection.query(
                """
                SELECT (SELECT count(*) FROM clicks_logs),
                    (SELECT sum(clicks)::bigint FROM link_hours), (SELECT count(*) FROM sales),
                    (SELECT count(*) FROM intake_log)
                """)
            try #require(found.int64(0, 0) == Int64(clicks))
            try #require(found.int64(0, 1) == Int64(clicks))
            try #require(found.int64(0, 2) == Int64(sales))
            try #require(found.int64(0, 3) == Int64(refusals))
        }
    }
}
