// A merchant with partners, links and rules in a fresh database, and what happens to it: clicks,
// sales, refunds, as the flusher writes them.
import Attribution
import AttributionService
import Postgres
import Schema
import Testing
import Tracking
import Workbench

final class Shop {
    let dsn: String
    let connection: Connection
    let merchant = EntityID(high: 0xA, low: 1)
    let influencer = EntityID(high: 0xB, low: 1)
    let link = EntityID(high: 0xC, low: 1)
    let now: Timestamp
    private var clicks: UInt16 = 0
    private var sales: UInt64 = 0

    static let ring: UInt16 = 5

    init(feePPM: Int32 = 200_000, holdDays: Int32 = 14, kyc: String = "verified") throws {
        dsn = try TestDatabases.make { dsn in
            let connection = try Connection(dsn: dsn, applicationName: "tests")
            try SchemaRunner.migrate(connection)
            connection.close()
        }
        connection = try Connection(dsn: dsn, applicationName: "tests")
        let clock = try connection.query("SELECT date_trunc('milliseconds', now())")
        now = try #require(clock.timestamp(0, 0))
        try connection.execute(
            """
            SELECT make_click_partitions(($1::timestamptz)::date - 60, ($1::timestamptz)::date + 1),
                   make_sale_partitions(($1::timestamptz)::date - 60, ($1::timestamptz)::date + 1)
            """, [.timestamp(now)])
        try connection.execute(
            "INSERT INTO merchants (id, name, platform_fee_ppm, hold_days) VALUES ($1, 'Shop', $2, $3)",
            [.uuid(merchant), .int32(feePPM), .int32(holdDays)])
        try connection.execute(
            "INSERT INTO influencers (id, name, kyc_status) VALUES ($1, 'Anna', $2)",
            [.uuid(influencer), .text(kyc)])
        try connection.execute(
            """
            INSERT INTO trackable_links (id, slug, influencer_id, merchant_id, destination_url)
            VALUES ($1, 'anna', $2, $3, 'https://shop.example/')
            """, [.uuid(link), .uuid(influencer), .uuid(merchant)])
        try connection.execute(
            "INSERT INTO commission_rules (merchant_id, kind, rate_ppm) VALUES ($1, 'percent', 100000)",
            [.uuid(merchant)])
    }

    var run: AttributionRun { AttributionRun(connection) }

    /// Runs until nothing that is due is left to decide.
    @discardableResult
    func settle() throws -> RunSummary {
        try connection.execute(
            "UPDATE sales SET due_at = now() WHERE status = 'pending' AND due_at < 'infinity'")
        return try run.decide(limit: 5_000)
    }

    func clickID(secondsAgo seconds: Int64 = 600) throws -> ClickID {
        clicks += 1
        let milliseconds = now.milliseconds - seconds * 1_000 - ClickID.epochMilliseconds
        return ClickID(
            millisecondsSinceEpoch: try #require(UInt64(exactly: milliseconds)), ring: Shop.ring,
            sequence: clicks)
    }

    func land(_ id: ClickID, isBot: Bool = false, reason: String? = nil) throws {
        try connection.execute(
            """
            INSERT INTO clicks_logs
                (click_id, clicked_at, link_id, influencer_id, merchant_id, is_bot, invalid_reason)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            [
                .int64(Int64(id.rawValue)), .timestamp(id.clickedAt), .uuid(link),
                .uuid(influencer), .uuid(merchant), .bool(isBot), .optional(reason),
            ])
    }

    func watermark(_ time: Timestamp) throws {
        try connection.execute(
            """
            INSERT INTO ingest_cursors (ring_id, stream, ring_uuid, watermark)
            VALUES ($1, 1, $2, $3)
            ON CONFLICT (ring_id, stream, ring_uuid) DO UPDATE SET watermark = excluded.watermark
            """,
            [.int32(Int32(Shop.ring)), .uuid(EntityID(high: 0xE, low: 1)), .timestamp(time)])
    }

    /// Inserts a conversion as the flusher does.
    @discardableResult
    func sell(
        _ minor: Int64?, order: String, click: ClickID? = nil, event: String = "sale",
        refund: String = "", verified: Bool = true, reported: String = "completed",
        coupon: String? = nil, customer: String? = nil, secondsAgo: Int64 = 60,
        items: String? = nil
    ) throws -> EntityID {
        sales += 1
        let id = EntityID(high: 0xD, low: sales)
        let at = now.advanced(byMicroseconds: -secondsAgo * 1_000_000)
        try connection.execute(
            """
            INSERT INTO sales (id, created_at, merchant_id, order_id, refund_id, event, event_time,
                amount, has_amount, currency, reported_status, verified, click_id, coupon_code,
                customer_id, items)
            VALUES ($1, $2, $3, $4, $5, $6, $2, $7, $8, 'EUR', $9, $10, $11, $12, $13, $14::jsonb)
            """,
            [
                .uuid(id), .timestamp(at), .uuid(merchant), .text(order), .text(refund),
                .text(event), .numeric(minorUnits: minor ?? 0, exponent: 2), .bool(minor != nil),
                .text(reported), .bool(verified), .optional(click.map { Int64($0.rawValue) }),
                .optional(coupon), .optional(customer), .optional(items),
            ])
        return id
    }

    /// One value as text; `NULL` for none.
    func value(_ sql: String, _ parameters: [Parameter] = []) throws -> String {
        try connection.query(sql, parameters).text(0, 0) ?? "NULL"
    }

    func status(_ sale: EntityID) throws -> String {
        try value(
            "SELECT concat_ws(' ', status, attribution, reason) FROM sales WHERE id = $1",
            [.uuid(sale)])
    }

    /// What all accounts hold, as `account amount` lines; the influencer and merchant shortened.
    func balances() throws -> [String: Int64] {
        let rows = try connection.query(
            """
            SELECT account, sum(amount)::bigint FROM (
                SELECT credit_account AS account, amount_minor AS amount FROM ledger_entries
                UNION ALL SELECT debit_account, -amount_minor FROM ledger_entries
            ) AS moves GROUP BY 1
            """)
        var balances: [String: Int64] = [:]
        for row in 0..<rows.count {
            let account = (rows.text(row, 0) ?? "")
            let short =
                account.hasPrefix("merchant:")
                ? "merchant"
                : account.hasSuffix(":held")
                    ? "held" : account.hasSuffix(":payable") ? "payable" : account
            balances[short, default: 0] += rows.int64(row, 1) ?? 0
        }
        return balances
    }

    /// Everything that money decided, for comparing before and after.
    func books() throws -> String {
        try value(
            """
            SELECT concat(
                (SELECT string_agg(s::text, E'\\n' ORDER BY s.id) FROM sales AS s), E'\\n',
                (SELECT string_agg(c::text, E'\\n' ORDER BY c.id) FROM commissions AS c), E'\\n',
                (SELECT string_agg(e::text, E'\\n' ORDER BY e.entry_id) FROM ledger_entries AS e))
            """)
    }

    func expectSoundLedger() throws {
        let problems = try LedgerCheck.run(connection)
        #expect(problems.isEmpty, "\(problems.map(\.description))")
    }
}
