// The daemon's threads: two at once, a database that goes away, a schema that is missing.
import LinuxIO
import Postgres
import Schema
import Telemetry
import Testing
import Tracking
import Workbench

@testable import AttributionService

@Suite("Attribution daemon")
struct DaemonTests {
    /// Polls until a condition holds; gives up after a minute, so that a failure ends.
    private func eventually(_ what: String, _ holds: () throws -> Bool) throws {
        let deadline = SystemClock.monotonicNanoseconds() + 60_000_000_000
        while try !holds() {
            guard SystemClock.monotonicNanoseconds() < deadline else {
                Issue.record("never happened: \(what)")
                return
            }
            Thread.sleep(microseconds: 20_000)
        }
    }

    private func daemon(_ dsn: String, batch: Int = 50) throws -> AttributionDaemon {
        try AttributionDaemon(
            AttributionDaemon.Settings(dsn: dsn, intervalMicroseconds: 10_000, batch: batch))
    }

    @Test("Two daemons at once decide every sale once")
    func twoDaemons() throws {
        let shop = try Shop()
        var total: Int64 = 0
        for order in 1...400 {
            let click = try shop.clickID(secondsAgo: Int64(600 + order))
            try shop.land(click)
            try shop.sell(Int64(order * 10), order: "o-\(order)", click: click)
            total += Int64(order)
            if order % 4 == 0 {
                try shop.sell(nil, order: "o-\(order)", event: "refund")
                total -= Int64(order)
            }
        }
        let daemons = [try daemon(shop.dsn, batch: 7), try daemon(shop.dsn, batch: 11)]
        for daemon in daemons { try daemon.start() }
        try eventually("all decided") {
            try shop.value("SELECT count(*) FROM sales WHERE status = 'pending'") == "0"
        }
        for daemon in daemons { #expect(daemon.stop(waitMilliseconds: 30_000)) }
        #expect(try shop.balances()["held"] == total)
        #expect(try shop.value("SELECT count(*) FROM commissions WHERE reverses IS NULL") == "400")
        #expect(daemons.map(\.status.total.completed).reduce(0, +) == 500)
        try shop.expectSoundLedger()
    }

    @Test("A database that is restarted in the middle loses and doubles nothing")
    func restart() throws {
        var options = PrivateCluster.Options()
        options.syncs = false
        let cluster = try PrivateCluster.start(
            directory: "/tmp/clickd-attribution-\(CurrentProcess.id)", options: options)
        defer {
            cluster.stop()
            try? FileSystem.removeTree(cluster.directory)
        }
        let daemon = try daemon(cluster.dsn(), batch: 5)
        try daemon.start()
        let operations = AttributionOperations(daemon: daemon, version: "1")
        func readiness() -> Int {
            operations.respond(
                to: OperationsRequest(
                    method: .get, path: "/readyz", query: [], overUnixSocket: true)
            ).status
        }
        try eventually("the missing schema is told") { daemon.status.lastError != nil }
        #expect(readiness() == 503)
        #expect(!daemon.status.knowsSchema)
        let first = try Connection(dsn: cluster.dsn(), applicationName: "tests")
        try SchemaRunner.migrate(first)
        try eventually("ready") { readiness() == 200 }
        try insertSales(first, 1...200)
        try eventually("some decided") {
            try first.query("SELECT count(*) FROM sales WHERE status = 'completed'").int64(0, 0)
                ?? 0 > 5
        }
        first.close()
        cluster.stop()
        try eventually("not ready") { readiness() == 503 }
        try cluster.start()
        let second = try Connection(dsn: cluster.dsn(), applicationName: "tests")
        try insertSales(second, 201...220)
        try eventually("all decided") {
            try second.query("SELECT count(*) FROM sales WHERE status = 'pending'").int64(0, 0) == 0
        }
        #expect(daemon.stop(waitMilliseconds: 30_000))
        #expect(readiness() == 503)
        let rows = try second.query(
            """
            SELECT count(*), sum(amount_minor)::bigint FROM ledger_entries
            WHERE kind = 'commission'
            """
        )
        #expect(rows.int64(0, 0) == 220)
        #expect(rows.int64(0, 1) == 22_000)
        #expect(try LedgerCheck.run(second).isEmpty)
        second.close()
    }

    private func insertSales(_ connection: Connection, _ orders: ClosedRange<Int>) throws {
        try connection.script(
            """
            INSERT INTO merchants (id, name) VALUES ('00000000-0000-000a-0000-000000000001', 'Shop')
                ON CONFLICT DO NOTHING;
            INSERT INTO coupons (merchant_id, code, influencer_id) VALUES
                ('00000000-0000-000a-0000-000000000001', 'A',
                 '00000000-0000-000b-0000-000000000001')
                ON CONFLICT DO NOTHING;
            INSERT INTO commission_rules (id, merchant_id, rate_ppm) VALUES
                ('00000000-0000-000f-0000-000000000001', '00000000-0000-000a-0000-000000000001',
                 100000)
                ON CONFLICT DO NOTHING;
            INSERT INTO sales (id, merchant_id, order_id, amount, verified, coupon_code)
            SELECT ('00000000-0000-000d-0000-' || lpad(n::text, 12, '0'))::uuid,
                   '00000000-0000-000a-0000-000000000001', 'o-' || n, 10, true, 'A'
            FROM generate_series(\(orders.lowerBound), \(orders.upperBound)) AS n;
            """)
    }

    @Test("The endpoint answers stats and metrics, and nothing it does not know")
    func endpoint() throws {
        let daemon = try daemon("host=/nonexistent dbname=none")
        let operations = AttributionOperations(daemon: daemon, version: "9.9")
        func ask(_ path: String) -> OperationsResponse {
            operations.respond(
                to: OperationsRequest(method: .get, path: path, query: [], overUnixSocket: false))
        }
        let stats = String(decoding: ask("/stats").body, as: UTF8.self)
        for part in [
            #""version":"9.9""#, #""runs":0"#, #""pending":0"#, #""holds":0"#,
            #""connected":false"#,
        ] {
            #expect(stats.contains(part), "\(part) in \(stats)")
        }
        #expect(
            String(decoding: ask("/metrics").body, as: UTF8.self).contains(
                "attributiond_runs_total 0"))
        #expect(ask("/healthz").status == 200)
        #expect(ask("/readyz").status == 503)
        #expect(ask("/other").status == 404)
        try daemon.start()
        try eventually("the failure is told") { daemon.status.lastError != nil }
        #expect(daemon.stop(waitMilliseconds: 30_000))
    }
}

@Suite("The pace of runs")
struct BatchPaceTests {
    @Test("Runs are halved down to one sale and doubled up to the batch again")
    func pace() {
        var pace = BatchPace(limit: 5)
        var limits = [pace.limit]
        for _ in 0..<3 {
            pace.halve()
            limits.append(pace.limit)
        }
        for _ in 0..<3 {
            pace.succeed()
            limits.append(pace.limit)
        }
        #expect(limits == [5, 2, 1, 1, 2, 4, 5])
        #expect(BatchPace(limit: 0).limit == 1)
    }
}
