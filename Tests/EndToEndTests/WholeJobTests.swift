// The main job on the real executables: a click becomes a row, a conversion becomes a commission,
// once each, however often it is sent.
import LinuxIO
import Synchronization
import Testing
import Tracking
import Workbench

@Suite("The whole job", .serialized)
struct WholeJobTests {
    @Test("A click becomes a row, a signed conversion a commission that adds up")
    func clickToCommission() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            try stack.startAttributiond()
            let click = try stack.click("/demo?sub1=story&sub3=blue&aff_click_id=partner-7")
            let answer = try stack.convert(order: "A-1", token: click.token, amount: "129.90")
            #expect(answer.status == 200, "\(answer.text)")
            #expect(answer.text.contains("\"accepted\""))
            try stack.flush()
            let row = try stack.psql(
                """
                SELECT device, os, source, sub_ids[1], sub_ids[2] IS NULL, sub_ids[3], aff_click_id,
                       host(ip), is_bot, is_unique, invalid_reason IS NULL, language, referrer_host
                FROM clicks_logs WHERE click_id = \(click.id)
                """)
            #expect(
                row
                    == "mobile|ios|instagram|story|t|blue|partner-7|127.0.0.0|f|t|t|fr-FR|www.instagram.com\n"
                    || row
                        == "mobile|ios|instagram|story|t|blue|partner-7|127.0.0.0|f|t|t|fr|www.instagram.com\n",
                "\(row)")
            let sales = "FROM sales WHERE order_id = 'A-1'"
            try stack.eventually(1, "SELECT count(*) \(sales) AND status = 'completed'")
            // 15 % of 129.90 is 19.485, half-even 19.48.
            let commission = try stack.psql(
                "SELECT amount_minor, currency, payable, status FROM commissions")
            #expect(commission == "1948|USD|f|pending\n", "\(commission)")
            #expect(
                try stack.count("SELECT count(*) FROM ledger_entries WHERE kind = 'commission'")
                    == 1)
            #expect(
                try stack.count(
                    "SELECT sum(amount_minor) FROM ledger_entries WHERE kind = 'commission'")
                    == 1948)
            let check = try stack.clickctl(["ledger", "check"])
            #expect(check.code == 0, "\(check.output)")
            try stack.eventually(1, "SELECT coalesce(sum(daily_sales), 0) FROM dashboard_stats")
            try stack.eventually(
                1,
                "SELECT total_clicks FROM influencer_stats WHERE id = '00000000-0000-4000-8000-000000002002'"
            )
        }
    }

    @Test("A sale that arrives before its click is in the database waits for it")
    func saleBeforeClick() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let click = try stack.click()
            #expect(try stack.convert(order: "B-1", token: click.token).status == 200)
            try stack.flush()
            // The click is taken away again, as when another node flushes the conversion first.
            _ = try stack.psql(
                """
                CREATE TABLE aside AS SELECT * FROM clicks_logs WHERE click_id = \(click.id);
                DELETE FROM clicks_logs WHERE click_id = \(click.id);
                UPDATE ingest_cursors SET watermark = now() - interval '1 hour';
                """, ["-q"])
            stack.killClickd()
            try stack.startAttributiond()
            Thread.sleep(microseconds: 2_500_000)
            #expect(try stack.count("SELECT count(*) FROM commissions") == 0)
            _ = try stack.psql("INSERT INTO clicks_logs SELECT * FROM aside", ["-q"])
            try stack.eventually(1, "SELECT count(*) FROM commissions")
            try stack.eventually(
                1, "SELECT count(*) FROM sales WHERE status = 'completed' AND attribution = 'click'"
            )
        }
    }

    @Test("The same signed conversion a hundred times over eight connections is one sale")
    func hundredTimes() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            try stack.startAttributiond()
            let click = try stack.click()
            let merchant = SampleData.merchant(2)
            let body =
                "{\"merchant_id\":\"\(merchant)\",\"order_id\":\"C-1\",\"amount\":\"50\",\"currency\":\"USD\",\"click_id\":\"\(click.token)\"}"
            let lines = stack.signature(
                of: body, key: try stack.signingKey(merchant: merchant), id: "msg_same")
            let answers = Answers()
            let address = stack.address
            for connection in 0..<8 {
                _ = try Thread.start(name: "sender") {
                    var sent = 0
                    if var probe = try? HTTPProbe(address) {
                        while sent < (connection < 4 ? 13 : 12) {
                            let answer = try? probe.request(
                                "POST", "/v1/conversions", headers: lines, body: body)
                            answers.add(answer.map { "\($0.status) \($0.text)" } ?? "none")
                            sent += 1
                        }
                    }
                    answers.finish()
                }
            }
            answers.wait(for: 8)
            #expect(answers.all.count == 100)
            #expect(Set(answers.all).count == 1, "\(Set(answers.all))")
            #expect(answers.all.first?.hasPrefix("200 ") == true)
            try stack.flush()
            try stack.eventually(1, "SELECT count(*) FROM commissions")
            #expect(try stack.count("SELECT count(*) FROM sales") == 1)
            let id = try stack.psql("SELECT id FROM sales").filter { !$0.isNewline }
            #expect(answers.all.first?.contains(id) == true)
        }
    }

    @Test("Twenty thousand clicks counted by the client are twenty thousand rows, none dropped")
    func everyClick() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let slugs = (1...SampleData.links).map { SampleData.slug($0) }
            let load = LoadGenerator(stack.address, slugs: slugs).run(
                connections: 16, limit: 20_000)
            #expect(load.failures == 0 && load.otherAnswers == 0)
            try stack.flush()
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == load.clicks.count)
            // One client that clicks so fast is marked `velocity` beyond its burst: counted apart.
            #expect(
                try stack.count("SELECT sum(clicks + invalid) FROM link_hours")
                    == load.clicks.count)
            let marked = try stack.count(
                "SELECT count(*) FROM clicks_logs WHERE invalid_reason = 'velocity'")
            #expect(try stack.count("SELECT sum(invalid) FROM link_hours") == marked)
            #expect(try stack.statistic("clicks", "dropped") == 0)
            #expect(try stack.statistic("clicks", "recorded") == load.clicks.count)
            #expect(stack.stopClickd() == 0)
        }
    }

    @Test("A link that is added, changed or deleted is followed")
    func linksFollowed() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            var probe = try HTTPProbe(stack.address)
            #expect(try probe.request("GET", "/fresh").status == 404)
            let added = try stack.clickctl([
                "link", "add", "--slug", "fresh", "--influencer",
                "00000000-0000-4000-8000-000000002001",
                "--merchant", SampleData.merchant(1), "--destination", "https://example.com/new",
            ])
            #expect(added.code == 0, "\(added.output)")
            #expect(try waits(&probe, "/fresh", for: 302))
            _ = try stack.psql(
                "UPDATE trackable_links SET status = 'archived', updated_at = now() WHERE slug = 'fresh'"
            )
            #expect(try waits(&probe, "/fresh", for: 410))
        }
    }

    private func waits(_ probe: inout HTTPProbe, _ path: String, for status: Int) throws -> Bool {
        for _ in 0..<100 {
            if try probe.request("GET", path).status == status { return true }
            Thread.sleep(microseconds: 50_000)
        }
        return false
    }
}

/// Answers gathered from several threads.
final class Answers: Sendable {
    private let texts = Mutex<[String]>([])
    private let finished = Atomic<Int>(0)

    var all: [String] { texts.withLock { $0 } }
    func add(_ text: String) { texts.withLock { $0.append(text) } }
    func finish() { finished.add(1, ordering: .releasing) }
    func wait(for count: Int) {
        while finished.load(ordering: .acquiring) < count { Thread.sleep(microseconds: 1000) }
    }
}
