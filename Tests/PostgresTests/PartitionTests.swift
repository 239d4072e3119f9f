// Partitions made ahead beside writers, and a hot click found in few blocks.
import Postgres
import Testing
import Tracking
import Workbench

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
            FROM generate_series((now() AT TIME ZONE 'UTC')::date,
                                 (now() AT TIME ZONE 'UTC')::date + 6, '1 day') AS day
            """)
        // Days that are there too when midnight has passed since the schema was made.
        #expect(result.int64(0, 0) == 7)
        #expect(result.int64(0, 1) == 7)
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
            SELECT pg_get_expr(relpartbound, oid) FROM pg_class
            WHERE relname = 'clicks_logs_20300228'
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
            FROM unnest(ARRAY['2031-05-05 00:00:00+00',
                              '2031-05-05 23:59:59.999999+00']::timestamptz[]) AS moment
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

@Suite struct HotLeafTests {
    @Test("A click of a minute ago, among a million of its day, is found in at most 64 blocks")
    func lookUp() throws {
        let connection = try freshDatabase().connection
        let day = try #require(Day(year: 2030, month: 6, day: 1))
        try connection.execute("SELECT make_click_partitions($1, $1)", [.date(day)])
        // As the flusher does it: batches by COPY into the leaf, summarised every few batches.
        var rows = CopyBuffer()
        let perBatch = 20_000
        for batch in 0..<50 {
            rows.reset()
            for number in 0..<perBatch {
                let milliseconds = Int64(batch * perBatch + number) * 80
                rows.beginRow(columns: 5)
                rows.append(int64: milliseconds << 22)
                rows.append(
                    timestamp: day.start.advanced(byMicroseconds: milliseconds * 1000))
                for _ in 0..<3 { rows.append(uuid: EntityID(high: 1, low: UInt64(number))) }
            }
            try connection.copy(
                """
                COPY clicks_logs_20300601
                    (click_id, clicked_at, link_id, influencer_id, merchant_id)
                FROM STDIN (FORMAT binary)
                """, rows)
            if batch % 3 == 0 {
                try connection.execute("SELECT summarise_hot_leaf('clicks_logs_20300601')")
            }
        }
        // While autovacuum has the leaf it gives up after 250 ms; the flusher comes back later.
        var attempts = 0
        while attempts < 240,
            try connection.query("SELECT summarise_hot_leaf('clicks_logs_20300601')").bool(0, 0)
                != true
        { attempts += 1 }
        #expect(attempts < 240)
        let milliseconds = Int64(50 * perBatch - 750) * 80
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
