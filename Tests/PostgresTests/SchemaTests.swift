// The schema: migrating, partitions, the append-only ledger, statistics, looking up a hot click.
import Postgres
import Testing
import Tracking
import Workbench

@testable import Schema

@Suite struct MigrationTests {
    @Test("An empty database is migrated once; the second time nothing is applied")
    func twice() throws {
        let connection = try connect(try TestDatabases.makeEmpty())
        #expect(try SchemaRunner.version(connection) == 0)
        let applied = try SchemaRunner.migrate(connection)
        #expect(applied.map { $0.number } == Array(1...SchemaRunner.latestVersion))
        #expect(try SchemaRunner.version(connection) == SchemaRunner.latestVersion)
        #expect(try SchemaRunner.migrate(connection).isEmpty)
    }

    @Test("Two runners at once apply each migration once")
    func concurrently() async throws {
        let dsn = try TestDatabases.makeEmpty()
        let counts = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<3 {
                group.addTask {
                    do {
                        return try SchemaRunner.migrate(connect(dsn)).count
                    } catch {
                        Issue.record(error)
                        return -1
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(counts.sorted() == [0, 0, SchemaRunner.latestVersion])
    }

    @Test("An applied migration whose text has changed is an error that names it")
    func changedText() throws {
        let (connection, _) = try freshDatabase()
        var list = Migration.all
        list[1] = Migration(number: 2, name: "clicks", sql: list[1].sql + " ")
        let failure = #expect(throws: SchemaError.self) {
            try SchemaRunner.migrate(connection, with: list)
        }
        guard case .changed(2, "clicks") = failure else {
            Issue.record("another failure: \(String(describing: failure))")
            return
        }
        #expect(failure?.description.contains("2 (clicks)") == true)
    }

    @Test("A refused migration leaves nothing of itself, and what came before it stays")
    func refused() throws {
        let connection = try connect(try TestDatabases.makeEmpty())
        let list = [
            Migration(number: 1, name: "good", sql: "CREATE TABLE good (a int)"),
            Migration(number: 2, name: "bad", sql: "CREATE TABLE bad (a int); SELECT 1 / 0"),
        ]
        let failure = #expect(throws: SchemaError.self) {
            try SchemaRunner.migrate(connection, with: list)
        }
        guard case .refused(2, "bad", _) = failure else {
            Issue.record("another failure: \(String(describing: failure))")
            return
        }
        #expect(try SchemaRunner.version(connection) == 1)
        #expect(try connection.query("SELECT to_regclass('bad') IS NULL").bool(0, 0) == true)
        #expect(try SchemaRunner.migrate(connection, with: [list[0]]).isEmpty)
    }

    @Test("A newer release's migrations are left alone")
    func newer() throws {
        let (connection, _) = try freshDatabase()
        try connection.script("INSERT INTO schema_migrations VALUES (999, 'future', 'x')")
        #expect(try SchemaRunner.migrate(connection).isEmpty)
        #expect(try SchemaRunner.version(connection) == 999)
    }

    @Test("Numbers have no holes and names are unique")
    func numbers() {
        #expect(Migration.all.map { $0.number } == Array(1...Migration.all.count))
        #expect(Set(Migration.all.map { $0.name }).count == Migration.all.count)
    }
}

@Suite struct TableTests {
    let connection: Connection
    let merchant = EntityID(high: 1, low: 1)
    let influencer = EntityID(high: 2, low: 2)

    init() throws { connection = try freshDatabase().connection }

    @Test("Identity, names, owners and URL make working rows")
    func defaults() throws {
        try connection.execute(
            "INSERT INTO merchants (id, name) VALUES ($1, 'M')", [.uuid(merchant)])
        try connection.execute(
            "INSERT INTO influencers (id, name) VALUES ($1, 'I')", [.uuid(influencer)])
        try connection.execute(
            """
            INSERT INTO trackable_links (id, slug, influencer_id, merchant_id, destination_url)
            VALUES ($1, 's', $2, $1, 'https://shop.example/')
            """, [.uuid(merchant), .uuid(influencer)])
        try connection.execute(
            "INSERT INTO coupons (merchant_id, code, influencer_id) VALUES ($1, 'C', $2)",
            [.uuid(merchant), .uuid(influencer)])
        try connection.execute(
            "INSERT INTO commission_rules (id, merchant_id) VALUES ($1, $1)", [.uuid(merchant)])
        let row = try connection.query(
            """
            SELECT status, redirect_status, forward_query, domain, rules::text,
                   updated_at IS NOT NULL FROM trackable_links
            """)
        #expect(row.text(0, 0) == "active")
        #expect(row.int64(0, 1) == 302)
        #expect(row.bool(0, 2) == false)
        #expect(row.text(0, 3) == "")
        #expect(row.text(0, 4) == "[]")
        #expect(row.bool(0, 5) == true)
    }

    @Test(
        "Words outside the vocabularies are refused",
        arguments: [
            "INSERT INTO merchants (status) VALUES ('closed')",
            "INSERT INTO merchants (currency) VALUES ('eur')",
            "INSERT INTO merchants (attribution_model) VALUES ('magic')",
            "INSERT INTO influencers (kyc_status) VALUES ('maybe')",
            "INSERT INTO trackable_links (slug, influencer_id, merchant_id, destination_url, redirect_status) VALUES ('s', gen_random_uuid(), gen_random_uuid(), 'x', 303)",
            "INSERT INTO sales (id, merchant_id, order_id, event) VALUES (gen_random_uuid(), gen_random_uuid(), 'o', 'gift')",
            "INSERT INTO sales (id, merchant_id, order_id, status) VALUES (gen_random_uuid(), gen_random_uuid(), 'o', 'lost')",
            "INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor, currency, reverses) VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 5, 'EUR', gen_random_uuid())",
            "INSERT INTO ingest_cursors (ring_id, stream, ring_uuid) VALUES (1, 3, gen_random_uuid())",
            "INSERT INTO nodes (node_id, spool_uuid) VALUES (128, gen_random_uuid())",
        ])
    func vocabularies(_ sql: String) throws {
        let failure = #expect(throws: PostgresError.self) { try connection.execute(sql) }
        #expect(failure?.state == .checkViolation)
    }

    @Test("A domain and slug name one link")
    func uniqueLinks() throws {
        let sql = """
            INSERT INTO trackable_links (slug, domain, influencer_id, merchant_id, destination_url)
            VALUES ('s', $1, gen_random_uuid(), gen_random_uuid(), 'https://shop.example/')
            """
        try connection.execute(sql, [.text("")])
        try connection.execute(sql, [.text("go.example")])
        let failure = #expect(throws: PostgresError.self) {
            try connection.execute(sql, [.text("")])
        }
        #expect(failure?.state == .uniqueViolation)
    }

    @Test("A sale and influencer have one first commission, and any number of reversals")
    func firstCommission() throws {
        let sql = """
            INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor, currency,
                                     reverses)
            VALUES (gen_random_uuid(), $1, $1, $2, $3, 'EUR', $4)
            """
        func add(_ amount: Int64, reverses: EntityID?) throws {
            try connection.execute(
                sql, [.uuid(merchant), .uuid(influencer), .int64(amount), .optional(reverses)])
        }
        try add(100, reverses: nil)
        try add(-40, reverses: merchant)
        try add(-60, reverses: merchant)
        let failure = #expect(throws: PostgresError.self) { try add(100, reverses: nil) }
        #expect(failure?.constraint == "idx_commissions_first")
    }

    @Test("The ledger takes entries and gives none back, to a superuser neither")
    func ledger() throws {
        let influencerText = influencer.description
        func post(_ debit: String, _ credit: String, _ amount: Int64) throws {
            try connection.execute(
                """
                INSERT INTO ledger_entries (merchant_id, entry_id, debit_account, credit_account,
                                            amount_minor, currency, kind)
                VALUES ($1, gen_random_uuid(), $2, $3, $4, 'EUR', 'commission')
                """, [.uuid(merchant), .text(debit), .text(credit), .int64(amount)])
        }
        try post("merchant:\(merchant)", "influencer:\(influencerText):held", 5)
        try post("merchant:\(merchant)", "platform:fees", 5)
        for statement in [
            "UPDATE ledger_entries SET amount_minor = 1", "DELETE FROM ledger_entries",
            "TRUNCATE ledger_entries", "UPDATE ledger_entries SET amount_minor = 1 WHERE false",
        ] {
            let failure = #expect(throws: PostgresError.self) { try connection.execute(statement) }
            #expect(failure?.state == .insufficientPrivilege)
        }
        for (debit, credit, amount) in [
            ("merchant:\(merchant)", "platform:fees", Int64(0)),
            ("merchant:\(merchant)", "merchant:\(merchant)", 5), ("merchant:x", "platform:fees", 5),
            ("platform:fees", "influencer:\(influencerText)", 5),
            ("platform:fees", "influencer:\(influencerText):held ", 5),
            ("cash", "platform:fees", 5),
        ] {
            let failure = #expect(throws: PostgresError.self) { try post(debit, credit, amount) }
            #expect(failure?.state == .checkViolation)
        }
        #expect(try connection.query("SELECT count(*) FROM ledger_entries").int64(0, 0) == 2)
    }

    @Test("Partitioned tables have no trigger, foreign key, default partition or volatile default")
    func partitionedTables() throws {
        let result = try connection.query(
            """
            SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid IN
                       ('clicks_logs'::regclass, 'sales'::regclass)),
                   (SELECT count(*) FROM pg_constraint WHERE contype = 'f'),
                   (SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0),
                   (SELECT count(*) FROM pg_attrdef WHERE adrelid IN
                       ('clicks_logs'::regclass, 'sales'::regclass)
                       AND pg_get_expr(adbin, adrelid) ~ 'random|nextval|clock_timestamp')
            """)
        for column in 0..<4 { #expect(result.int64(0, column) == 0) }
    }

    @Test("Every unique index of a distributed table holds merchant_id")
    func distributionColumn() throws {
        let result = try connection.query(
            """
            SELECT i.indexrelid::regclass::text FROM pg_index AS i
            WHERE i.indisunique AND i.indrelid IN (
                'clicks_logs'::regclass, 'link_hours'::regclass, 'sales'::regclass,
                'sale_keys'::regclass, 'message_digests'::regclass, 'sale_touchpoints'::regclass,
                'intake_log'::regclass, 'commissions'::regclass, 'ledger_entries'::regclass,
                'sale_days'::regclass, 'earning_days'::regclass)
            AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.indexrelid
                            AND a.attname = 'merchant_id')
            """)
        #expect(result.count == 0)
    }

    @Test("Visitor salts are made for today and tomorrow, once, and old ones go")
    func salts() throws {
        try connection.script(
            """
            INSERT INTO visitor_salts
            SELECT (now() AT TIME ZONE 'UTC')::date - n, decode(repeat('00', 32), 'hex')
            FROM generate_series(1, 3) AS n
            """)
        try connection.execute("SELECT make_visitor_salts()")
        let sql = """
            SELECT salt, day - (now() AT TIME ZONE 'UTC')::date FROM visitor_salts ORDER BY day
            """
        let first = try connection.query(sql)
        #expect((0..<first.count).map { first.int64(0 + $0, 1) } == [-1, 0, 1])
        #expect(first.bytes(1, 0) != first.bytes(2, 0))
        try connection.execute("SELECT make_visitor_salts()")
        let second = try connection.query(sql)
        #expect(second.bytes(1, 0) == first.bytes(1, 0))
        #expect(second.bytes(2, 0) == first.bytes(2, 0))
    }
}

@Suite struct PartitionTests {
    let connection: Connection
    let dsn: String

    init() throws { (connection, dsn) = try freshDatabase() }

    @Test("Migrating makes the partitions of the next days and months")
    func ahead() throws {
        let result = try connection.query(
            """
            SELECT count(*) FILTER (WHERE to_regclass('clicks_logs_' || to_char(day, 'YYYYMMDD'))
                                    IS NOT NULL),
                   count(*) FILTER (WHERE to_regclass('sales_' || to_char(day, 'YYYYMM'))
                                    IS NOT NULL)
            FROM generate_series((now() AT TIME ZONE 'UTC')::date - 1,
                                 (now() AT TIME ZONE 'UTC')::date + 7, '1 day') AS day
            """)
        #expect(result.int64(0, 0) == 9)
        #expect(result.int64(0, 1) == 9)
    }

    @Test("Both ends are included, what is there stays, and a month's end is no trap")
    func ranges() throws {
        func make(_ call: String) throws -> Int64? {
            try connection.query("SELECT \(call)").int64(0, 0)
        }
        #expect(try make("make_click_partitions('2030-02-27', '2030-03-01')") == 3)
        #expect(try make("make_click_partitions('2030-02-26', '2030-03-01')") == 1)
        #expect(try make("make_click_partitions('2030-02-26', '2030-03-01')") == 0)
        #expect(try make("make_sale_partitions('2030-01-31', '2030-03-01')") == 3)
        #expect(try make("make_sale_partitions('2030-01-01', '2030-03-31')") == 0)
        let bound = try connection.query(
            """
            SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'clicks_logs_20300228'
            """)
        #expect(
            bound.text(0, 0)
                == "FOR VALUES FROM ('2030-02-28 00:00:00+00') TO ('2030-03-01 00:00:00+00')")
    }

    @Test("The days are UTC's, whatever the session's time zone is")
    func timeZone() throws {
        try connection.script("SET timezone = 'Asia/Tokyo'")
        try connection.execute("SELECT make_click_partitions('2031-05-05', '2031-05-05')")
        try connection.execute(
            """
            INSERT INTO clicks_logs (click_id, clicked_at, link_id, influencer_id, merchant_id)
            SELECT 1, moment, gen_random_uuid(), gen_random_uuid(), gen_random_uuid()
            FROM unnest(ARRAY['2031-05-05 00:00:00+00', '2031-05-05 23:59:59.999999+00']::timestamptz[])
                AS moment
            """)
        #expect(try connection.query("SELECT count(*) FROM clicks_logs_20310505").int64(0, 0) == 2)
    }

    @Test(
        "Ranges that are none, or far too long, are refused",
        arguments: [
            "make_click_partitions('2030-01-02', '2030-01-01')",
            "make_click_partitions('2030-01-01', '2039-01-01')",
            "make_sale_partitions('2030-01-02', '2030-01-01')",
            "make_sale_partitions('2030-01-02', '2130-01-01')",
            "summarise_hot_leaf('merchants')", "seal_click_leaf('sales')",
        ])
    func refusedRanges(_ call: String) throws {
        let failure = #expect(throws: PostgresError.self) { try connection.query("SELECT \(call)") }
        #expect(failure?.state?.isClass("22") == true)
    }

    @Test("Partitions are made while a writer holds the table open")
    func besideWriters() throws {
        let writer = try connect(dsn)
        try writer.transaction { () throws(PostgresError) in
            try writer.execute(
                """
                INSERT INTO clicks_logs (click_id, clicked_at, link_id, influencer_id, merchant_id)
                VALUES (1, now(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid())
                """)
            let made = try connection.query(
                "SELECT make_click_partitions('2032-01-01', '2032-01-02')")
            #expect(made.int64(0, 0) == 2)
        }
    }

    @Test("Two makers of the same partitions do not meet")
    func concurrently() async throws {
        let dsn = dsn
        let total = await withTaskGroup(of: Int64.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    do {
                        return try connect(dsn).query(
                            "SELECT make_click_partitions('2033-01-01', '2033-01-20')"
                        ).int64(0, 0) ?? -1000
                    } catch {
                        Issue.record(error)
                        return -1000
                    }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(total == 20)
    }

    @Test("A sealed leaf refuses a doubled click ID")
    func sealing() throws {
        try connection.execute("SELECT make_click_partitions('2030-01-01', '2030-01-01')")
        let seal = "SELECT seal_click_leaf('clicks_logs_20300101')"
        #expect(try connection.query(seal).bool(0, 0) == true)
        #expect(try connection.query(seal).bool(0, 0) == false)
        let sql = """
            INSERT INTO clicks_logs (click_id, clicked_at, link_id, influencer_id, merchant_id)
            VALUES (7, '2030-01-01 01:00:00+00', $1, $1, $1)
            """
        try connection.execute(sql, [.uuid(.zero)])
        let failure = #expect(throws: PostgresError.self) {
            try connection.execute(sql, [.uuid(.zero)])
        }
        #expect(failure?.state == .uniqueViolation)
    }
}

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
            INSERT INTO influencers (id, name, payout_currency) VALUES ($1, 'I', 'EUR'), ($2, 'J', 'EUR')
            """, [.uuid(influencer), .uuid(EntityID(high: 2, low: 3))])
        try connection.execute("SELECT make_sale_partitions('2026-01-01', '2026-02-01')")
    }

    func sale(
        _ day: String, _ amount: String, _ currency: String = "EUR", status: String = "completed",
        event: String = "sale", merchant: EntityID? = nil
    ) throws {
        try connection.execute(
            """
            INSERT INTO sales (id, merchant_id, created_at, order_id, event, amount, currency, status,
                               verified, influencer_id)
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
            INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor, currency,
                                     reverses)
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

@Suite struct HotLeafTests {
    @Test("A click of a minute ago, among many of its day, is found in at most 64 blocks")
    func lookUp() throws {
        let connection = try freshDatabase().connection
        let day = try #require(Day(year: 2030, month: 6, day: 1))
        try connection.execute("SELECT make_click_partitions($1, $1)", [.date(day)])
        // As the flusher does it: batches by COPY into the leaf, summarised every few batches.
        var rows = CopyBuffer()
        let perBatch = 20_000
        for batch in 0..<10 {
            rows.reset()
            for number in 0..<perBatch {
                let milliseconds = Int64(batch * perBatch + number) * 40
                rows.beginRow(columns: 5)
                rows.append(int64: milliseconds << 22)
                rows.append(
                    timestamp: day.start.advanced(byMicroseconds: milliseconds * 1000))
                for _ in 0..<3 { rows.append(uuid: EntityID(high: 1, low: UInt64(number))) }
            }
            try connection.copy(
                """
                COPY clicks_logs_20300601 (click_id, clicked_at, link_id, influencer_id, merchant_id)
                FROM STDIN (FORMAT binary)
                """, rows)
            if batch % 3 == 0 {
                try connection.execute("SELECT summarise_hot_leaf('clicks_logs_20300601')")
            }
        }
        try connection.execute("SELECT summarise_hot_leaf('clicks_logs_20300601')")
        let milliseconds = Int64(10 * perBatch - 1500) * 40
        let moment = day.start.advanced(byMicroseconds: milliseconds * 1000)
        let parameters: [Parameter] = [.int64(milliseconds << 22), .timestamp(moment)]
        let found = try connection.query(
            "SELECT count(*) FROM clicks_logs WHERE click_id = $1 AND clicked_at = $2", parameters)
        #expect(found.int64(0, 0) == 1)
        let plan = try connection.query(
            """
            EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off, FORMAT json)
            SELECT * FROM clicks_logs WHERE click_id = \(milliseconds << 22)
                AND clicked_at = '\(moment)'
            """)
        let text = try #require(plan.text(0, 0))
        #expect(text.contains("Bitmap Heap Scan"))
        #expect(!text.contains("Seq Scan"))
        var blocks = 0
        for key in ["Shared Hit Blocks", "Shared Read Blocks"] {
            // The first figure of each is the whole plan's.
            let after = try #require(text.split(separator: "\"\(key)\": ").dropFirst().first)
            blocks += try #require(Int(after.prefix { $0.isNumber }))
        }
        #expect(blocks <= 64)
    }
}
