// Binary COPY: every type, large buffers, and what the server refuses.
import Postgres
import Testing
import Tracking
import Workbench

@Suite struct CopyTests {
    let dsn: String
    let connection: Connection

    init() throws {
        dsn = try TestDatabases.makeEmpty()
        connection = try connect(dsn)
    }

    @Test("Every type arrives as the server itself would write it")
    func everyType() throws {
        try connection.script(
            """
            CREATE TABLE t (a int8, b int4, c int2, d bool, e uuid, f timestamptz, g date, h text,
                            i text[], j text[], k inet, l inet, m numeric, n jsonb,
                            o int8[], p text)
            """)
        var rows = CopyBuffer(capacity: 64)
        rows.beginRow(columns: 16)
        rows.append(int64: -1)
        rows.append(int32: 2)
        rows.append(int16: -3)
        rows.append(bool: true)
        rows.append(uuid: EntityID(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF))
        rows.append(timestamp: Timestamp(microseconds: 1_500_000))
        rows.append(date: Day(number: 1))
        rows.append(text: "héllo")
        rows.append(textArray: [Array("a".utf8), nil, []])
        rows.append(textArray: [[UInt8]?]())
        rows.append(inet4: 0x0A00_0100, prefix: 24)
        rows.append(inet6: 0x2001_0DB8_0001_0000, 0, prefix: 48)
        rows.append(numeric: -12_345, exponent: 2)
        Array(#"{"k": 1}"#.utf8).withUnsafeBytes { rows.append(json: $0) }
        rows.append(int64Array: [5, 6])
        rows.appendNull()
        #expect(rows.rowCount == 1)
        #expect(try connection.copy("COPY t FROM STDIN (FORMAT binary)", rows) == 1)
        let result = try connection.query(
            """
            SELECT concat_ws('|', a, b, c, d, e, f, g, h, i::text, j::text, k, l, m, n, o::text, p IS NULL)
            FROM t
            """)
        #expect(
            result.text(0, 0) == """
                -1|2|-3|t|00112233-4455-6677-8899-aabbccddeeff|1970-01-01 00:00:01.5+00|1970-01-02|\
                héllo|{a,NULL,""}|{}|10.0.1.0/24|2001:db8:1::/48|-123.45|{"k": 1}|{5,6}|t
                """)
    }

    @Test("Many rows in many chunks arrive all, and the buffer can be used again")
    func manyRows() throws {
        try connection.script("CREATE TABLE t (a int8, b text)")
        var rows = CopyBuffer()
        let filler = String(repeating: "x", count: 100)
        for round in 0..<2 {
            rows.reset()
            for number in 0..<20_000 {
                rows.beginRow(columns: 2)
                rows.append(int64: Int64(round * 20_000 + number))
                rows.append(text: filler)
            }
            #expect(try connection.copy("COPY t FROM STDIN (FORMAT binary)", rows) == 20_000)
        }
        let result = try connection.query("SELECT count(*), sum(a)::int8, min(length(b)) FROM t")
        #expect(result.int64(0, 0) == 40_000)
        #expect(result.int64(0, 1) == 799_980_000)
        #expect(result.int64(0, 2) == 100)
    }

    @Test("No rows are no rows")
    func noRows() throws {
        try connection.script("CREATE TABLE t (a int8)")
        let rows = CopyBuffer()
        #expect(try connection.copy("COPY t FROM STDIN (FORMAT binary)", rows) == 0)
    }

    @Test("A row that the server refuses undoes the whole COPY, with the SQLSTATE")
    func poison() throws {
        try connection.script("CREATE TABLE t (a int8 CHECK (a <> 500), b text)")
        var rows = CopyBuffer()
        for number in 0..<1000 {
            rows.beginRow(columns: 2)
            rows.append(int64: Int64(number))
            rows.append(text: "x")
        }
        let check = #expect(throws: PostgresError.self) {
            try copy(rows)
        }
        #expect(check?.state == .checkViolation)
        rows.reset()
        rows.beginRow(columns: 2)
        rows.append(int64: 1)
        rows.append(text: [0x61, 0xFF])
        let encoding = #expect(throws: PostgresError.self) { try copy(rows) }
        #expect(encoding?.state == .characterNotInRepertoire)
        rows.reset()
        rows.beginRow(columns: 2)
        rows.append(int64: 1)
        rows.append(text: [0x61, 0])
        #expect(throws: PostgresError.self) { try copy(rows) }
        rows.reset()
        rows.beginRow(columns: 1)
        rows.append(int64: 1)
        let columns = #expect(throws: PostgresError.self) { try copy(rows) }
        #expect(columns?.state?.isClass("22") == true)
        #expect(try connection.query("SELECT count(*) FROM t").int64(0, 0) == 0)
    }

    func copy(_ rows: borrowing CopyBuffer) throws {
        try connection.copy("COPY t FROM STDIN (FORMAT binary)", rows)
    }

    @Test("A COPY that cannot begin is refused, and the connection lives on")
    func cannotBegin() throws {
        let rows = CopyBuffer()
        let table = #expect(throws: PostgresError.self) { try copy(rows) }
        #expect(table?.state == .undefinedTable)
        let other = #expect(throws: PostgresError.self) { try connection.copy("SELECT 1", rows) }
        #expect(other?.connectionLost == false)
        #expect(try connection.query("SELECT 1").int64(0, 0) == 1)
    }

    @Test("A server that goes away before a COPY is a lost connection")
    func lost() throws {
        try connection.script("CREATE TABLE t (a int8)")
        let other = try connect(dsn)
        try other.execute(
            "SELECT pg_terminate_backend($1, 5000)", [.int32(connection.backendProcess)])
        var rows = CopyBuffer()
        for number in 0..<100_000 {
            rows.beginRow(columns: 1)
            rows.append(int64: Int64(number))
        }
        let failure = #expect(throws: PostgresError.self) { try copy(rows) }
        #expect(failure?.connectionLost == true)
    }
}
