// One connection to PostgreSQL over libpq, used by one thread at a time. Every wait has a deadline
// of its own, so that a server that has stopped answering cannot hold the thread.
internal import CLibPQ
internal import LinuxIO

/// A blocking connection; not `Sendable`: its owner is one thread.
public final class Connection {
    /// Bounds of a connection.
    public enum Limits {
        /// Statements kept prepared; the one used longest ago makes room.
        public static let preparedStatements = 64
        /// How much longer than `statement_timeout` an answer is waited for, in milliseconds.
        public static let answerGraceMilliseconds = 2000
        /// Bytes handed to libpq at once while copying, which are one message to the server: it has to
        /// have all of one before it stores the first row, and parses it out of its cache.
        static let copyChunkBytes = 32 << 10
    }

    var handle: OpaquePointer?
    let password: String?
    /// Ends every wait when it is raised; nil for a connection that nobody needs to leave.
    let interruption: Interruption?
    let statementTimeoutMilliseconds: Int
    private var prepared: [String: PreparedStatement] = [:]
    private var useCounter = 0
    private var nameCounter = 0

    private struct PreparedStatement {
        let name: String
        var lastUse: Int
    }

    /// Connects and sets the session up (UTC, UTF-8, `statement_timeout`).
    ///
    /// - Parameters:
    ///   - dsn: A libpq connection string or URI.
    ///   - connectTimeoutSeconds: For each address; at least 2, as libpq has it.
    ///   - statementTimeoutMilliseconds: 0 for none; then answers are waited for without limit.
    ///   - lockTimeoutMilliseconds: 0 for none.
    ///   - writes: Whether only a server that takes writes will do (`target_session_attrs`): of several
    ///     hosts in the DSN the one that is the primary now. The DSN may ask for something else.
    ///   - interruption: Ends connecting and every wait afterwards, from another thread; the connection
    ///     counts as lost then.
    /// - Throws: ``PostgresError`` with `connectionLost`; its message never holds the DSN or password.
    public init(
        dsn: String, applicationName: String, connectTimeoutSeconds: Int = 5,
        statementTimeoutMilliseconds: Int = 0, lockTimeoutMilliseconds: Int = 0,
        writes: Bool = false, interruption: Interruption? = nil
    ) throws(PostgresError) {
        self.interruption = interruption
        password = try Connection.password(in: dsn)
        self.statementTimeoutMilliseconds = max(0, statementTimeoutMilliseconds)
        // Later entries win: what stands before `dbname` is a default that the DSN may change.
        let options: [(String, String)] = [
            ("keepalives_idle", "10"), ("keepalives_interval", "5"), ("keepalives_count", "3"),
            ("tcp_user_timeout", "20000"),
            ("target_session_attrs", writes ? "read-write" : "any"),
            ("fallback_application_name", applicationName),
            ("connect_timeout", String(max(2, connectTimeoutSeconds))), ("dbname", dsn),
            ("keepalives", "1"), ("client_encoding", "UTF8"),
        ]
        if let interruption {
            handle = ConnectAttempt.run(options, interruption)
            guard !interruption.isRaised else {
                close()
                throw Connection.interrupted
            }
        } else {
            handle = Connection.connect(options)
        }
        guard let handle, PQstatus(handle) == CONNECTION_OK else {
            let reason = lastMessage()
            close()
            throw PostgresError(reason, connectionLost: true)
        }
        PQsetnonblocking(handle, 1)
        PQsetNoticeProcessor(handle, { _, _ in }, nil)
        do {
            try script(
                """
                SET timezone = 'UTC'; SET datestyle = 'ISO'; SET client_min_messages = 'warning';
                SET statement_timeout = \(self.statementTimeoutMilliseconds);
                SET lock_timeout = \(max(0, lockTimeoutMilliseconds))
                """)
        } catch {
            close()
            throw error
        }
    }

    deinit { if let handle { PQfinish(handle) } }

    static func connect(_ options: [(String, String)]) -> OpaquePointer? {
        let keys = options.map { strings($0.0) }
        let values = options.map { strings($0.1) }
        defer { for pointer in keys + values { pointer.deallocate() } }
        let keyList = keys.map { UnsafePointer($0) as UnsafePointer<CChar>? } + [nil]
        let valueList = values.map { UnsafePointer($0) as UnsafePointer<CChar>? } + [nil]
        return PQconnectdbParams(keyList, valueList, 1)
    }

    private static func strings(_ text: String) -> UnsafeMutablePointer<CChar> {
        let bytes = Array(text.utf8CString)
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        copy.initialize(from: bytes, count: bytes.count)
        return copy
    }

    /// Whether libpq can read a DSN; nothing is connected.
    public static func canRead(_ dsn: String) -> Bool {
        guard let options = PQconninfoParse(dsn, nil) else { return false }
        PQconninfoFree(options)
        return true
    }

    /// The password in a DSN; a DSN that libpq cannot read is refused here, in words that quote none of it.
    private static func password(in dsn: String) throws(PostgresError) -> String? {
        guard let first = PQconninfoParse(dsn, nil) else {
            throw PostgresError("the connection string is malformed", connectionLost: true)
        }
        defer { PQconninfoFree(first) }
        var option = first
        while let keyword = option.pointee.keyword {
            if String(cString: keyword) == "password", let value = option.pointee.val {
                return String(cString: value)
            }
            option += 1
        }
        return nil
    }

    /// Whether calls can be made; a lost connection stays closed.
    public var isOpen: Bool {
        guard let handle else { return false }
        return PQstatus(handle) == CONNECTION_OK
    }

    /// The server's version, such as 150004; 0 when closed.
    public var serverVersion: Int { handle.map { Int(PQserverVersion($0)) } ?? 0 }

    /// The number of the server process that serves this connection; 0 when closed.
    public var backendProcess: Int32 { handle.map { PQbackendPID($0) } ?? 0 }

    /// Closes the connection; calls after it fail as lost.
    public func close() {
        if let handle { PQfinish(handle) }
        handle = nil
        prepared.removeAll()
    }

    /// Runs one statement and returns its rows in binary.
    public func query(
        _ sql: String, _ parameters: [Parameter] = []
    ) throws(PostgresError) -> QueryResult {
        let handle = try open()
        let name = try prepare(sql, parameters)
        let values = try BoundParameters(parameters)
        let sent = values.withPointers { count, pointers, lengths, formats in
            PQsendQueryPrepared(handle, name, count, pointers, lengths, formats, 1)
        }
        do {
            return QueryResult(
                owning: try answer(sent, expecting: [PGRES_TUPLES_OK, PGRES_COMMAND_OK]))
        } catch {
            if error.state == .featureNotSupported || error.state == .invalidStatementName {
                // The plan is stale (a table has changed under it): the next call prepares anew.
                prepared[Connection.cacheKey(sql, parameters)] = nil
            }
            throw error
        }
    }

    /// Runs one statement; how many rows it changed.
    @discardableResult
    public func execute(_ sql: String, _ parameters: [Parameter] = []) throws(PostgresError) -> Int
    {
        try query(sql, parameters).affectedRows
    }

    /// Runs any number of statements separated by semicolons, without parameters and rows.
    public func script(_ sql: String) throws(PostgresError) {
        let handle = try open()
        let accepted = [PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY]
        PQclear(try answer(PQsendQuery(handle, sql), expecting: accepted))
    }

    /// Runs `COPY … FROM STDIN (FORMAT binary)` with the rows; how many were stored.
    /// - Precondition: The last row of `rows` has all its values.
    @discardableResult
    public func copy(
        _ sql: String, _ rows: borrowing CopyBuffer
    ) throws(PostgresError) -> Int {
        precondition(rows.isComplete)
        try beginCopy(sql)
        try put(rows: rows)
        return try endCopy()
    }

    /// The same with rows that are made while the server stores those before them.
    ///
    /// - Parameters:
    ///   - rows: Where `fill` appends; emptied before each call of it.
    ///   - fill: Appends some rows; false after the last. When it throws, nothing is stored.
    /// - Returns: How many rows were stored.
    @discardableResult
    public func copy(
        _ sql: String, through rows: inout CopyBuffer,
        _ fill: (inout CopyBuffer) throws(PostgresError) -> Bool
    ) throws(PostgresError) -> Int {
        try beginCopy(sql)
        var hasMore = true
        while hasMore {
            rows.reset()
            do {
                hasMore = try fill(&rows)
            } catch {
                try withdrawCopy()
                throw error
            }
            precondition(rows.isComplete)
            try put(rows: rows)
        }
        return try endCopy()
    }

    private func beginCopy(_ sql: String) throws(PostgresError) {
        let handle = try open()
        try flush(PQsendQuery(handle, sql), deadline())
        let first = try nextResult(deadline())
        guard let first else { throw PostgresError("the server gave no answer") }
        guard PQresultStatus(first) == PGRES_COPY_IN else {
            let isError = PQresultStatus(first) == PGRES_FATAL_ERROR
            let failure =
                isError ? error(of: first) : PostgresError("the statement is no COPY FROM STDIN")
            PQclear(first)
            try drain()
            throw failure
        }
        PQclear(first)
        try put(CopyBuffer.header)
    }

    private func put(rows: borrowing CopyBuffer) throws(PostgresError) {
        var offset = 0
        let bytes = rows.bytes
        while offset < bytes.count {
            let end = min(bytes.count, offset + Limits.copyChunkBytes)
            try put(UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
            offset = end
        }
    }

    private func endCopy() throws(PostgresError) -> Int {
        try put(CopyBuffer.trailer)
        try putCopyEnd(nil)
        let result = QueryResult(owning: try answer(1, expecting: [PGRES_COMMAND_OK]))
        return result.affectedRows
    }

    /// Has the server forget the rows that it was sent.
    private func withdrawCopy() throws(PostgresError) {
        try putCopyEnd("withdrawn")
        try drain()
    }

    private func putCopyEnd(_ reason: String?) throws(PostgresError) {
        let limit = deadline()
        while true {
            let ended = PQputCopyEnd(try open(), reason)
            if ended > 0 { break }
            try flush(ended < 0 ? 0 : 1, limit)
        }
        try flush(1, limit)
    }

    private func put(_ bytes: [UInt8]) throws(PostgresError) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: bytes)
        try put(UnsafeRawBufferPointer(copy))
    }

    private func put(_ bytes: UnsafeRawBufferPointer) throws(PostgresError) {
        let limit = deadline()
        while true {
            let handle = try open()
            let chars = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            let taken = PQputCopyData(handle, chars, Int32(clamping: bytes.count))
            guard taken >= 0 else { throw lost() }
            try flush(1, limit)
            if taken > 0 { return }
        }
    }

    /// Runs `body` between BEGIN and COMMIT; rolls back when it throws.
    ///
    /// - Parameter opening: `BEGIN`, and settings of this transaction after it.
    /// - Throws: What `body` threw; or a failure of COMMIT, with `outcomeUnknown` when the connection was
    ///   lost on it.
    public func transaction<Result>(
        opening: String = "BEGIN", _ body: () throws(PostgresError) -> Result
    ) throws(PostgresError) -> Result {
        try script(opening)
        let result: Result
        do {
            result = try body()
        } catch {
            // The first failure is the one to report; a failed rollback means a lost connection.
            if isOpen { do { try script("ROLLBACK") } catch { close() } }
            throw error
        }
        do {
            try commit()
        } catch {
            var failure = error
            failure.outcomeUnknown = failure.connectionLost
            throw failure
        }
        return result
    }

    /// COMMIT, checked: of a transaction that has failed PostgreSQL makes a ROLLBACK without an error.
    private func commit() throws(PostgresError) {
        let handle = try open()
        let failed = PQtransactionStatus(handle) == PQTRANS_INERROR
        try script(failed ? "ROLLBACK" : "COMMIT")
        if failed { throw PostgresError("the transaction had failed and was rolled back") }
    }

    /// Waits until a notification has come or the time is over; whether one came.
    ///
    /// All that came are taken.
    public func waitForNotification(milliseconds: Int) throws(PostgresError) -> Bool {
        let handle = try open()
        if takeNotifications(handle) { return true }
        let ready = DescriptorReadiness.wait(
            PQsocket(handle), for: .readable, milliseconds: milliseconds)
        guard !ready.isEmpty else { return false }
        guard PQconsumeInput(handle) == 1 else { throw lost() }
        return takeNotifications(handle)
    }

    private func takeNotifications(_ handle: OpaquePointer) -> Bool {
        var any = false
        while let notification = PQnotifies(handle) {
            PQfreemem(notification)
            any = true
        }
        return any
    }
}

// MARK: - Prepared statements

extension Connection {
    private static func cacheKey(_ sql: String, _ parameters: [Parameter]) -> String {
        // The declared types are part of the statement: a NULL leaves its type to the server.
        parameters.reduce(into: sql) { $0 += "\u{0}\($1.oid)" }
    }

    private func prepare(
        _ sql: String, _ parameters: [Parameter]
    ) throws(PostgresError) -> String {
        let key = Connection.cacheKey(sql, parameters)
        useCounter += 1
        if let statement = prepared[key] {
            prepared[key]?.lastUse = useCounter
            return statement.name
        }
        if prepared.count >= Limits.preparedStatements,
            let oldest = prepared.min(by: { $0.value.lastUse < $1.value.lastUse })
        {
            prepared[oldest.key] = nil
            try script("DEALLOCATE \(oldest.value.name)")
        }
        nameCounter += 1
        let name = "clickd_\(nameCounter)"
        let handle = try open()
        let types = parameters.map { $0.oid }
        let sent = PQsendPrepare(handle, name, sql, Int32(types.count), types)
        PQclear(try answer(sent, expecting: [PGRES_COMMAND_OK]))
        prepared[key] = PreparedStatement(name: name, lastUse: useCounter)
        return name
    }
}
