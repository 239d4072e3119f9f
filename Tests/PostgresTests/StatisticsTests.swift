// The statistics against an example worked out by hand, and after later changes.
import Postgres
import Testing
import Tracking
import Workbench

@Suite struct StatisticsTests {
    let connection: Connection
    let merchant = EntityID(high: 1, low: 1)
    let other = EntityID(high: 1, low: 2)
    let influencer = EntityID(high: 2, low: 2)

    init() throws {
        connection = try freshDatabase().connection
        try connection.execute(
            "INSERT INTO merchants (id, name, currency) VALUES ($1, 'M', 'EUR'), ($2, 'O', 'JPY')",
            [.uuid(merchant), .uuid(other)])
        try connection.execute(
            """
            INSERT INTO influencers (id, name, payout_currency)
            VALUES ($1, 'I', 'EUR'), ($2, 'J', 'EUR')
            """, [.uuid(influencer), .uuid(EntityID(high: 2, low: 3))])
        try connection.execute("SELECT make_sale_partitions('2026-01-01', '2026-02-01')")
    }

    func sale(
        _ day: String, _ amount: String, _ currency: String = "EUR", status: String = "completed",
        event: String = "sale", merchant: EntityID? = nil
    ) throws {
        try connection.execute(
            """
            INSERT INTO sales (id, merchant_id, created_at, order_id, event, amount, currency,
                               status, verified, influencer_id)
            VALUES (gen_random_uuid(), $1, $2, 'o', $3, $4, $5, $6, true, $7)
            """,
            [
                .uuid(merchant ?? self.merchant), .text(day), .text(event), .text(amount),
                .text(currency), .text(status), .uuid(influencer),
            ])
    }

    func clicks(_ link: Int64, _ hour: String, slot: Int16, _ clicks: Int64) throws {
        try connection.execute(
            """
            INSERT INTO link_hours (merchant_id, link_id, influencer_id, hour, ring_slot, clicks,
                                    unique_clicks, bots, invalid)
            VALUES ($1, $2, $3, $4, $5, $6, 1, 50, 70)
            """,
            [
                .uuid(merchant), .uuid(EntityID(high: 9, low: UInt64(link))), .uuid(influencer),
                .text(hour), .int16(slot), .int64(clicks),
            ])
    }

    func commission(_ amount: Int64, _ currency: String = "EUR", reverses: EntityID? = nil) throws {
        try connection.execute(
            """
            INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor,
                                     currency, reverses)
            VALUES (gen_random_uuid(), $1, gen_random_uuid(), $2, $3, $4, $5)
            """,
            [
                .uuid(merchant), .uuid(influencer), .int64(amount), .text(currency),
                .optional(reverses),
            ])
    }

    @Test("A hand-computed example: nothing is multiplied, nothing invalid counts")
    func example() throws {
        for slug in ["a", "b", "c"] {
            try connection.execute(
                """
                INSERT INTO trackable_links (slug, influencer_id, merchant_id, destination_url)
                VALUES ($1, $2, $3, 'https://shop.example/')
                """, [.text(slug), .uuid(influencer), .uuid(merchant)])
        }
        // 10 + 20 + 10 valid clicks in three rows; bots and invalid clicks beside them.
        try clicks(1, "2026-01-10 10:00Z", slot: 0, 10)
        try clicks(1, "2026-01-10 10:00Z", slot: 1, 20)
        try clicks(2, "2026-01-11 00:00Z", slot: 0, 10)
        // Day 10: 10.00 + 20.50 EUR and 500 JPY; day 11: one in another currency only.
        try sale("2026-01-10 00:00Z", "10.00")
        try sale("2026-01-10 23:59:59.999Z", "20.50")
        try sale("2026-01-10 12:00Z", "500", "JPY")
        try sale("2026-01-11 00:00Z", "700", "JPY")
        try sale("2026-01-10 12:00Z", "99", status: "pending")
        try sale("2026-01-10 12:00Z", "99", status: "rejected")
        try sale("2026-01-10 12:00Z", "99", status: "refunded")
        try sale("2026-01-10 12:00Z", "5", event: "refund")
        try sale("2026-01-10 12:00Z", "300", "JPY", merchant: other)
        try commission(200)
        try commission(150)
        try commission(-50, reverses: merchant)
        try commission(30, "JPY")
        try connection.execute("SELECT refresh_dashboard_stats()")
        let stats = try connection.query(
            """
            SELECT total_links, total_clicks, total_sales, total_earnings, avg_conversion_rate,
                   total_earnings_by_currency FROM influencer_stats WHERE id = $1
            """, [.uuid(influencer)])
        #expect(stats.int64(0, 0) == 3)
        #expect(stats.int64(0, 1) == 40)
        #expect(stats.int64(0, 2) == 5)
        #expect(stats.numericMinor(0, 3, exponent: 2) == 300)
        #expect(stats.numericMinor(0, 4, exponent: 3) == 125)
        #expect(stats.text(0, 5) == #"{"EUR": 3.00, "JPY": 30}"#)
        let days = try connection.query(
            """
            SELECT merchant_id, date, daily_sales, daily_revenue, avg_order_value,
                   daily_revenue_by_currency FROM dashboard_stats ORDER BY 1, 2
            """)
        #expect(days.count == 3)
        #expect(days.date(0, 1) == Day(year: 2026, month: 1, day: 10))
        #expect(days.int64(0, 2) == 3)
        #expect(days.numericMinor(0, 3, exponent: 2) == 3050)
        #expect(days.numericMinor(0, 4, exponent: 2) == 1525)
        #expect(days.text(0, 5) == #"{"EUR": 30.50, "JPY": 500}"#)
        #expect(days.int64(1, 2) == 1)
        #expect(days.numericMinor(1, 3, exponent: 2) == 0)
        #expect(days.uuid(2, 0) == other)
        #expect(days.numericMinor(2, 3, exponent: 0) == 300)
    }

    @Test("An influencer without links, clicks and sales has a row of zeros")
    func nothingYet() throws {
        try connection.execute("SELECT refresh_dashboard_stats()")
        let stats = try connection.query(
            """
            SELECT total_links, total_clicks, total_sales, total_earnings, avg_conversion_rate
            FROM influencer_stats WHERE id = $1
            """, [.uuid(influencer)])
        #expect(stats.count == 1)
        for column in 0..<3 { #expect(stats.int64(0, column) == 0) }
        for column in 3..<5 { #expect(stats.numericMinor(0, column, exponent: 0) == 0) }
    }

    @Test("A sale that changes later changes its day, and refreshing again changes nothing")
    func laterChanges() throws {
        func days() throws -> String? {
            try connection.execute("SELECT refresh_dashboard_stats()")
            return try connection.query(
                """
                SELECT string_agg(date || ' ' || daily_sales || ' ' || daily_revenue, ', ' ORDER BY date)
                FROM dashboard_stats
                """
            ).text(0, 0)
        }
        try sale("2026-01-10 12:00Z", "10")
        try sale("2026-01-11 12:00Z", "20")
        #expect(try days() == "2026-01-10 1 10, 2026-01-11 1 20")
        #expect(try days() == "2026-01-10 1 10, 2026-01-11 1 20")
        try connection.execute(
            """
            UPDATE sales SET status = 'refunded', updated_at = now() WHERE amount = 10
            """)
        #expect(try days() == "2026-01-11 1 20")
        try connection.execute(
            """
            UPDATE sales SET status = 'completed', influencer_id = NULL, updated_at = now()
            """)
        #expect(try days() == "2026-01-10 1 10, 2026-01-11 1 20")
        let own = try connection.query(
            "SELECT total_sales FROM influencer_stats WHERE id = $1", [.uuid(influencer)])
        #expect(own.int64(0, 0) == 0)
    }

    @Test("Both views can be refreshed while they are read")
    func uniqueIndexes() throws {
        let result = try connection.query(
            """
            SELECT count(*) FROM pg_index WHERE indisunique AND indpred IS NULL AND indrelid IN
                ('influencer_stats'::regclass, 'dashboard_stats'::regclass)
            """)
        #expect(result.int64(0, 0) == 2)
    }

    @Test("The exponents of SQL are those of the vocabulary")
    func exponents() throws {
        for code in ["EUR", "USD", "JPY", "KWD", "UGX", "TND", "CLP", "BHD", "HUF"] {
            let currency = try #require(Currency(code))
            let result = try connection.query("SELECT currency_exponent($1::text)", [.text(code)])
            #expect(result.int64(0, 0) == Int64(currency.exponent))
        }
    }
}
