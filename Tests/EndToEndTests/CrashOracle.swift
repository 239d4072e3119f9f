// What an outside client remembers, held against the database: lost, doubled and invented records.
import LinuxIO
import TLS
import Testing
import Tracking
import Workbench

/// What became of the records that a ``CrashMemory`` tells of.
struct CrashVerdict: CustomStringConvertible {
    /// Clicks that were answered and are no row.
    var lostClicks: [CrashMemory.Click] = []
    /// Conversions that were answered 200 and are no sale.
    var lostOrders: [CrashMemory.Order] = []
    /// Rows beyond the first of a click, of a request, and sales beyond the first of an order.
    var duplicates = 0
    /// Rows and sales that no request of the client asked for, or with another identity than answered.
    var invented = 0
    /// Rows and sales of requests that were never answered, which is allowed.
    var unanswered = 0

    var description: String {
        "lost \(lostClicks.count) clicks and \(lostOrders.count) conversions, duplicates \(duplicates), "
            + "invented \(invented), recorded without an answer \(unanswered)"
    }
}

extension ServiceStack {
    /// The messages of the second sample merchant, signed after Standard Webhooks.
    func signedPosts() throws -> @Sendable (String) -> SignedPost {
        let merchant = SampleData.merchant(2)
        let key = try signingKey(merchant: merchant)
        let digests = OpenSSLDigests()
        return { order in
            let body =
                "{\"merchant_id\":\"\(merchant)\",\"order_id\":\"\(order)\",\"amount\":\"10\","
                + "\"currency\":\"USD\"}"
            let timestamp = SystemClock.wallMicroseconds() / 1_000_000
            let text = "msg_\(order).\(timestamp).\(body)"
            let digest = digests.hmacSHA256(key: key, message: Array(text.utf8))
            return SignedPost(
                headers: [
                    "webhook-id: msg_\(order)", "webhook-timestamp: \(timestamp)",
                    "webhook-signature: v1,\(Base64.encode(digest))",
                    "Content-Type: application/json",
                ], body: body)
        }
    }

    /// Clients of all sample links and of signed conversions.
    func crashLoad(
        _ name: String = "load", clients: Int = 6, senders: Int = 2
    ) throws -> CrashLoad {
        let load = CrashLoad(
            address, slugs: (1...SampleData.links).map { SampleData.slug($0) }, name: name,
            post: try signedPosts())
        try load.start(clients: clients, senders: senders)
        return load
    }

    /// Takes the database away, or gives it back, without a server of one's own: it takes no connection.
    func setDatabase(away: Bool) throws {
        try cluster.script(
            "ALTER DATABASE \(database) WITH ALLOW_CONNECTIONS \(!away)", database: "postgres")
        guard away else { return }
        try cluster.script(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(database)'",
            database: "postgres")
        for _ in 0..<500 where try ask("/stats").text.contains("\"connected\":true") {
            Thread.sleep(microseconds: 10_000)
        }
        #expect(try ask("/stats").text.contains("\"connected\":false"))
    }

    /// Waits until the links are on disk too, for a start without the database.
    func awaitSnapshot() throws {
        for _ in 0..<600 where !FileSystem.exists("\(directory)/links.snapshot") {
            Thread.sleep(microseconds: 50_000)
        }
        #expect(FileSystem.exists("\(directory)/links.snapshot"))
    }

    /// Sends a conversion that was signed before, when the database may be away.
    func send(_ message: SignedPost) throws -> ProbeResponse {
        var probe = try HTTPProbe(address)
        return try probe.request(
            "POST", "/v1/conversions", headers: message.headers, body: message.body)
    }

    /// Fills a table of its own with lines of tab-separated fields.
    func fill(_ table: String, _ lines: [String]) throws {
        let name = table.prefix { $0 != " " }
        let file = "\(directory)/\(name).txt"
        let text = lines.map { "\($0)\n" }.joined()
        try Array(text.utf8).withUnsafeBytes {
            try FileSystem.replace(file, with: $0, permissions: 0o644)
        }
        _ = try psql("DROP TABLE IF EXISTS \(name)", ["-q"])
        _ = try psql("CREATE TABLE \(table)", ["-q"])
        _ = try psql("\\copy \(name) FROM '\(file)'", ["-q"])
        _ = try psql("ANALYZE \(name)", ["-q"])
    }

    /// Waits until the flusher has written all, however long the database was away.
    func flushAll(seconds: Int = 120) throws {
        for _ in 0..<seconds * 2 {
            if try ask("/flush?timeout=20s", method: "POST").status == 200 { return }
            Thread.sleep(microseconds: 500_000)
        }
        try flush()
    }

    /// What the database says of losses, for whoever looks for their cause.
    func losses(_ verdict: CrashVerdict) throws -> String {
        let lost =
            verdict.lostClicks.prefix(5).map { "\($0.id) (\($0.mark))" }
            + verdict.lostOrders.prefix(5).map { "\($0.order) (answered at \($0.answeredAt))" }
        let gaps = try psql("SELECT * FROM ingest_gaps ORDER BY noticed_at LIMIT 20")
        let quarantined = try psql("SELECT count(*) FROM quarantine")
        return "\(verdict): \(lost.joined(separator: ", "))\ngaps:\n\(gaps)"
            + "quarantined: \(quarantined)"
    }

    /// Asks the database for every record of a memory; what is recorded must be flushed.
    func judge(_ memory: CrashMemory) throws -> CrashVerdict {
        try fill(
            "answered (click_id bigint, mark text)",
            memory.clicks.map { "\($0.id)\t\($0.mark)" })
        try fill("open_marks (mark text)", memory.openMarks)
        try fill("orders (order_id text)", memory.orders.map(\.order))
        try fill("open_orders (order_id text)", memory.openOrders)
        _ = try psql(
            "DROP TABLE IF EXISTS seen_rows; "
                + "CREATE TABLE seen_rows AS SELECT click_id, sub_ids[1] AS mark FROM clicks_logs; "
                + "ANALYZE seen_rows", ["-q"])
        var verdict = CrashVerdict()
        let lost = try psql(
            "SELECT a.click_id FROM answered a LEFT JOIN seen_rows r USING (click_id, mark) "
                + "WHERE r.click_id IS NULL")
        let lostIDs = Set(lost.split(separator: "\n").compactMap { UInt64($0) })
        verdict.lostClicks = memory.clicks.filter { lostIDs.contains($0.id) }
        let lostOrders = try psql(
            "SELECT o.order_id FROM orders o LEFT JOIN sales s USING (order_id) "
                + "WHERE s.order_id IS NULL")
        let lostNames = Set(lostOrders.split(separator: "\n").map(String.init))
        verdict.lostOrders = memory.orders.filter { lostNames.contains($0.order) }
        verdict.duplicates = try count(
            "SELECT (SELECT count(*) - count(DISTINCT click_id) FROM seen_rows) "
                + "+ (SELECT count(mark) - count(DISTINCT mark) FROM seen_rows) "
                + "+ (SELECT count(*) - count(DISTINCT order_id) FROM sales)")
        verdict.duplicates += memory.clicks.count - Set(memory.clicks.map(\.id)).count
        verdict.invented = try count(
            "SELECT (SELECT count(*) FROM seen_rows r LEFT JOIN answered a USING (click_id, mark) "
                + "LEFT JOIN open_marks o USING (mark) WHERE a.mark IS NULL AND o.mark IS NULL) "
                + "+ (SELECT count(*) FROM sales s LEFT JOIN orders a USING (order_id) "
                + "LEFT JOIN open_orders o USING (order_id) WHERE a.order_id IS NULL AND o.order_id IS NULL)"
        )
        verdict.unanswered = try count(
            "SELECT (SELECT count(*) FROM seen_rows r JOIN open_marks o USING (mark)) "
                + "+ (SELECT count(*) FROM sales s JOIN open_orders o USING (order_id))")
        return verdict
    }
}
