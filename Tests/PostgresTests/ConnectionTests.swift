// The libpq wrapper against a real server: values in both directions, refusals, lost connections.
import Postgres
import Testing
import Tracking
import Workbench

@Suite struct ConnectionTests {
    let dsn: String
    let connection: Connection

    init() throws {
        dsn = try TestDatabases.makeEmpty()
        connection = try connect(dsn)
    }

    @Test("Scalar parameters come back as they went")
    func scalars() throws {
        let id = EntityID(high: 0x0123_4567_89AB_4DEF, low: 0x8123_4567_89AB_CDEF)
        let time = Timestamp(microseconds: 1_767_225_600_123_456)
        let day = try #require(Day(year: 2024, month: 2, day: 29))
        let result = try connection.query(
            """
            SELECT $1, $2, $3, $4, $5::text, $6, $7, $8, $9, $10, $11::text
            """,
            [
                .bool(true), .int16(-5), .int32(.min), .int64(.max), .text("é'\u{1F600}\\"),
                .bytea([0, 255, 1]), .uuid(id), .timestamp(time), .date(day),
                .json(#"{"a": [1, 2]}"#), .null,
            ])
        #expect(result.count == 1)
        #expect(result.bool(0, 0) == true)
        #expect(result.int16(0, 1) == -5)
        #expect(result.int32(0, 2) == .min)
        #expect(result.int64(0, 3) == .max)
        #expect(result.text(0, 4) == "é'\u{1F600}\\")
        #expect(result.bytes(0, 5) == [0, 255, 1])
        #expect(result.uuid(0, 6) == id)
        #expect(result.timestamp(0, 7) == time)
        #expect(result.date(0, 8) == day)
        #expect(result.text(0, 9) == #"{"a": [1, 2]}"#)
        #expect(result.isNull(0, 10))
    }

    @Test("The server reads binary times and days as we mean them")
    func timesAsText() throws {
        let day = try #require(Day(year: 1999, month: 12, day: 31))
        let result = try connection.query(
            "SELECT $1::timestamptz::text, $2::date::text, 'infinity'::timestamptz",
            [.timestamp(Timestamp(microseconds: -1)), .date(day)])
        #expect(result.text(0, 0) == "1969-12-31 23:59:59.999999+00")
        #expect(result.text(0, 1) == "1999-12-31")
        #expect(result.timestamp(0, 2) == Timestamp(microseconds: .max))
    }

    @Test("Arrays with and without NULLs come back as they went, empty ones too")
    func arrays() throws {
        let id = EntityID(high: 1, low: 2)
        let result = try connection.query(
            "SELECT $1, $2, $3, $4, $5, $6::text, $7::text, $8::text, $9::text",
            [
                .int64Array([1, nil, -3]), .textArray(["", nil, "b,\"c"]), .uuidArray([id, nil]),
                .int32Array([]), .int16Array([7]), .boolArray([true, nil]),
                .timestampArray([Timestamp(microseconds: 0)]), .dateArray([Day(number: 0)]),
                .numericArray([1234, nil, 5], exponents: [2, 0, 0]),
            ])
        #expect(result.int64Array(0, 0) == [1, nil, -3])
        #expect(result.textArray(0, 1) == ["", nil, "b,\"c"])
        #expect(result.uuidArray(0, 2) == [id, nil])
        #expect(result.int64Array(0, 3) == [])
        #expect(result.int64Array(0, 4) == [7])
        #expect(result.text(0, 5) == "{t,NULL}")
        #expect(result.text(0, 6) == "{\"1970-01-01 00:00:00+00\"}")
        #expect(result.text(0, 7) == "{1970-01-01}")
        #expect(result.text(0, 8) == "{12.34,NULL,5}")
    }

    @Test(
        "Amounts pass exactly, in both directions",
        arguments: [
            (0, 2, "0.00"), (1, 2, "0.01"), (-1, 2, "-0.01"), (1050, 2, "10.50"),
            (100_000_000, 2, "1000000.00"), (12_345, 3, "12.345"), (7, 0, "7"),
            (10_000, 0, "10000"), (99_990_000, 4, "9999.0000"), (1_000_000, 4, "100.0000"),
            (.max, 2, "92233720368547758.07"), (.min, 4, "-922337203685477.5808"),
            (5, 16, "0.0000000000000005"),
        ] as [(Int64, UInt8, String)])
    func numerics(_ units: Int64, _ exponent: UInt8, _ text: String) throws {
        let result = try connection.query(
            "SELECT $1, $1::text, $2::numeric",
            [.numeric(minorUnits: units, exponent: exponent), .text(text)])
        #expect(result.text(0, 1) == text)
        #expect(result.text(0, 0) == text)
        #expect(result.numericMinor(0, 0, exponent: exponent) == units)
        #expect(result.numericMinor(0, 2, exponent: exponent) == units)
    }

    @Test("Amounts that are no 64-bit integer of the exponent are nil, never rounded")
    func inexactNumerics() throws {
        let result = try connection.query(
            "SELECT 0.001::numeric, 'NaN'::numeric, 92233720368547758.08::numeric, 1e40::numeric, 1e30"
        )
        for column in 0..<5 { #expect(result.numericMinor(0, column, exponent: 2) == nil) }
        #expect(result.numericMinor(0, 0, exponent: 3) == 1)
        #expect(result.text(0, 4) == "1" + String(repeating: "0", count: 30))
    }

    @Test("A value of another type, NULL and an index outside are nil")
    func mismatches() throws {
        let result = try connection.query("SELECT 'x'::text AS word, NULL::int8, 1.5::float8")
        #expect(result.int64(0, 0) == nil)
        #expect(result.uuid(0, 0) == nil)
        #expect(result.int64(0, 1) == nil)
        #expect(result.int64(0, 2) == nil)
        #expect(result.text(1, 0) == nil)
        #expect(result.text(-1, 0) == nil)
        #expect(result.text(0, 3) == nil)
        #expect(result.int64Array(0, 0) == nil)
        #expect(result.column("word") == 0)
        #expect(result.column("none") == nil)
    }

    @Test("Untyped text is read as what the statement needs")
    func untypedText() throws {
        try connection.script("CREATE TABLE t (a inet, b numeric, c jsonb, d char(3))")
        try connection.execute(
            "INSERT INTO t VALUES ($1, $2, $3, $4)",
            [.text("10.0.0.0/24"), .text("1.5"), .text("[]"), .bytes(Array("EUR".utf8))])
        let result = try connection.query("SELECT host(a), b, c, d FROM t")
        #expect(result.text(0, 0) == "10.0.0.0")
        #expect(result.text(0, 1) == "1.5")
        #expect(result.text(0, 2) == "[]")
        #expect(result.text(0, 3) == "EUR")
    }

    @Test("A refused statement has its SQLSTATE and leaves the connection usable")
    func refusedStatements() throws {
        let syntax = #expect(throws: PostgresError.self) { try connection.query("SELEC 1") }
        #expect(syntax?.state == SQLState(rawValue: "42601"))
        #expect(syntax?.connectionLost == false)
        let table = #expect(throws: PostgresError.self) {
            try connection.query("SELECT * FROM nowhere WHERE x = $1", [.int64(1)])
        }
        #expect(table?.state == .undefinedTable)
        let zero = #expect(throws: PostgresError.self) {
            try connection.query("SELECT 1 / $1", [.int64(0)])
        }
        #expect(zero?.state?.isClass("22") == true)
        let text = #expect(throws: PostgresError.self) {
            try connection.query("SELECT $1::text", [.text("a\u{0}b")])
        }
        #expect(text?.state == .characterNotInRepertoire)
        #expect(try connection.query("SELECT 1").int64(0, 0) == 1)
    }

    @Test("COPY where it has no place closes the connection instead of hanging")
    func misplacedCopy() throws {
        try connection.script("CREATE TABLE t (a int)")
        let failure = #expect(throws: PostgresError.self) {
            try connection.script("COPY t FROM STDIN")
        }
        #expect(failure?.connectionLost == true)
        #expect(!connection.isOpen)
    }

    @Test("A constraint's name comes with its violation, the row's values do not")
    func constraintNames() throws {
        try connection.script("CREATE TABLE t (a int PRIMARY KEY, secret text)")
        let sql = "INSERT INTO t VALUES (1, $1)"
        try connection.execute(sql, [.text("hush")])
        let failure = #expect(throws: PostgresError.self) {
            try connection.execute(sql, [.text("hush")])
        }
        #expect(failure?.state == .uniqueViolation)
        #expect(failure?.constraint == "t_pkey")
        #expect(failure?.table == "t")
        #expect(failure.map { "\($0)".contains("hush") } == false)
    }

    @Test("A statement's rows are counted")
    func affectedRows() throws {
        try connection.script("CREATE TABLE t (a int)")
        #expect(try connection.execute("INSERT INTO t SELECT generate_series(1, 7)") == 7)
        #expect(try connection.execute("DELETE FROM t WHERE a > $1", [.int32(5)]) == 2)
        #expect(try connection.execute("UPDATE t SET a = 0 WHERE false") == 0)
    }

    @Test("More distinct statements than are kept prepared work, and work again")
    func boundedCache() throws {
        let count = Connection.Limits.preparedStatements + 10
        for _ in 0..<2 {
            for number in 0..<count {
                let result = try connection.query("SELECT \(number) + $1", [.int64(1)])
                #expect(result.int64(0, 0) == Int64(number + 1))
            }
        }
        let kept = try connection.query("SELECT count(*) FROM pg_prepared_statements")
        #expect((kept.int64(0, 0) ?? 0) <= Int64(Connection.Limits.preparedStatements))
    }

    @Test("One statement takes NULL and values in turn")
    func nullsInTurn() throws {
        for value in [Int64(1), nil, 2] {
            let result = try connection.query(
                "SELECT coalesce($1, 0::int8)", [Parameter.optional(value)])
            #expect(result.int64(0, 0) == value ?? 0)
        }
    }

    @Test("A statement whose table has changed works again after one failure")
    func staleStatements() throws {
        try connection.script("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        #expect(try connection.query("SELECT * FROM t").columnCount == 1)
        try connection.script("ALTER TABLE t ADD b int DEFAULT 2")
        let failure = #expect(throws: PostgresError.self) {
            try connection.query("SELECT * FROM t")
        }
        #expect(failure?.state == .featureNotSupported)
        #expect(try connection.query("SELECT * FROM t").columnCount == 2)
    }
}

@Suite struct TransactionTests {
    let dsn: String
    let connection: Connection

    init() throws {
        dsn = try TestDatabases.makeEmpty()
        connection = try connect(dsn)
        try connection.script("CREATE TABLE t (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    }

    func count() throws -> Int64? { try connection.query("SELECT count(*) FROM t").int64(0, 0) }

    @Test("A transaction commits what its body did, and returns its result")
    func commits() throws {
        let rows = try connection.transaction { () throws(PostgresError) -> Int in
            try connection.execute("INSERT INTO t VALUES (1), (2)")
        }
        #expect(rows == 2)
        #expect(try count() == 2)
    }

    @Test("A body that throws rolls all back and reports its own failure")
    func rollsBack() throws {
        let failure = #expect(throws: PostgresError.self) {
            try connection.transaction { () throws(PostgresError) in
                try connection.execute("INSERT INTO t VALUES (1)")
                try connection.execute("INSERT INTO nowhere VALUES (1)")
            }
        }
        #expect(failure?.state == .undefinedTable)
        #expect(failure?.outcomeUnknown == false)
        #expect(try count() == 0)
    }

    @Test("A COMMIT that is refused is an error with a known outcome")
    func refusedCommit() throws {
        let failure = #expect(throws: PostgresError.self) {
            try connection.transaction { () throws(PostgresError) in
                try connection.execute("INSERT INTO t VALUES (1), (1)")
            }
        }
        #expect(failure?.state == .uniqueViolation)
        #expect(failure?.outcomeUnknown == false)
        #expect(try count() == 0)
    }

    @Test("A body that hides a failure does not commit in silence")
    func hiddenFailure() throws {
        #expect(throws: PostgresError.self) {
            try connection.transaction { () throws(PostgresError) in
                try connection.execute("INSERT INTO t VALUES (1)")
                do { try connection.execute("SELECT 1 / 0") } catch {}
            }
        }
        #expect(try count() == 0)
        #expect(connection.isOpen)
    }

    @Test("A connection that the server ends is lost, says so, and stays lost")
    func terminated() throws {
        let other = try connect(dsn)
        try other.execute("SELECT pg_terminate_backend($1)", [.int32(connection.backendProcess)])
        let failure = #expect(throws: PostgresError.self) { try connection.query("SELECT 1") }
        #expect(failure?.connectionLost == true)
        #expect(!connection.isOpen)
        let again = #expect(throws: PostgresError.self) { try connection.query("SELECT 1") }
        #expect(again?.connectionLost == true)
    }

    @Test("A connection lost on COMMIT leaves the outcome unknown")
    func lostOnCommit() throws {
        let other = try connect(dsn)
        let process = connection.backendProcess
        let failure = #expect(throws: PostgresError.self) {
            try connection.transaction { () throws(PostgresError) in
                try connection.execute("INSERT INTO t VALUES (1)")
                try other.execute("SELECT pg_terminate_backend($1, 5000)", [.int32(process)])
            }
        }
        #expect(failure?.connectionLost == true)
        #expect(failure?.outcomeUnknown == true)
    }

    @Test("A statement that takes too long is cancelled and the connection lives on")
    func statementTimeout() throws {
        let hurried = try connect(dsn, statementTimeoutMilliseconds: 50)
        let failure = #expect(throws: PostgresError.self) {
            try hurried.query("SELECT pg_sleep(30)")
        }
        #expect(failure?.state == .queryCanceled)
        #expect(try hurried.query("SELECT 1").int64(0, 0) == 1)
    }

    @Test("A notification is seen once")
    func notifications() throws {
        try connection.script("LISTEN hint")
        #expect(try connection.waitForNotification(milliseconds: 0) == false)
        try connect(dsn).script("NOTIFY hint; NOTIFY hint, 'again'")
        #expect(try connection.waitForNotification(milliseconds: 10_000))
        #expect(try connection.query("SELECT 1").count == 1)
        while try connection.waitForNotification(milliseconds: 0) {}
        #expect(try connection.waitForNotification(milliseconds: 0) == false)
    }
}

@Suite struct ConnectingTests {
    @Test("A server that is not there is a lost connection, without the password in its words")
    func nobodyThere() {
        let failure = #expect(throws: PostgresError.self) {
            try connect("host=/nowhere-at-all dbname=x user=y password=s3cret-pass")
        }
        #expect(failure?.connectionLost == true)
        #expect(failure?.message.contains("s3cret-pass") == false)
    }

    @Test(
        "A malformed DSN is refused in words that quote none of it",
        arguments: ["s3cret-pass", "host=a s3cret-pass", "postgresql://u:s3cret-pass@h:port:x/"])
    func malformed(_ dsn: String) {
        let failure = #expect(throws: PostgresError.self) { try connect(dsn) }
        #expect(failure?.connectionLost == true)
        #expect(failure?.message.contains("s3cret-pass") == false)
    }

    @Test("A database that is not there is refused by name")
    func noDatabase() throws {
        let dsn = try TestDatabases.cluster().dsn(database: "nobody_made_this")
        let failure = #expect(throws: PostgresError.self) { try connect(dsn) }
        #expect(failure?.message.contains("nobody_made_this") == true)
    }
}
