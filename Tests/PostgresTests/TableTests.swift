// The tables: defaults that work, vocabularies, unique keys, the append-only ledger, Citus rules.
import Postgres
import Testing
import Tracking
import Workbench

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
            INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor,
                                     currency, reverses)
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
