// Sending to libpq without blocking in it, and waiting for answers up to a deadline.
internal import CLibPQ
internal import LinuxIO

extension Connection {
    func open() throws(PostgresError) -> OpaquePointer {
        guard let handle else {
            throw PostgresError("the connection is closed", connectionLost: true)
        }
        return handle
    }

    /// When an answer is given up, in monotonic nanoseconds; nil for never.
    func deadline() -> Int64? {
        guard statementTimeoutMilliseconds > 0 else { return nil }
        let milliseconds = statementTimeoutMilliseconds + Limits.answerGraceMilliseconds
        return SystemClock.monotonicNanoseconds() + Int64(milliseconds) * 1_000_000
    }

    /// Waits for the socket; throws when the deadline passes first.
    func wait(
        _ wanted: DescriptorReadiness, _ deadline: Int64?
    ) throws(PostgresError) -> DescriptorReadiness {
        let handle = try open()
        while true {
            var milliseconds = -1
            if let deadline {
                let left = deadline - SystemClock.monotonicNanoseconds()
                guard left > 0 else {
                    close()
                    throw PostgresError("the server does not answer", connectionLost: true)
                }
                milliseconds = Int(left / 1_000_000) + 1
            }
            let ready = DescriptorReadiness.wait(
                PQsocket(handle), for: wanted, orReadable: interruption?.descriptor,
                milliseconds: milliseconds)
            guard interruption?.isRaised != true else {
                close()
                throw Connection.interrupted
            }
            if !ready.isEmpty { return ready }
        }
    }

    /// What whoever waits is told when its interruption is raised.
    static var interrupted: PostgresError {
        PostgresError("given up, because the process ends", connectionLost: true)
    }

    /// Sends what libpq has buffered.
    ///
    /// `sent` is the result of the PQsend call before: 0 means it failed.
    func flush(_ sent: Int32, _ deadline: Int64?) throws(PostgresError) {
        let handle = try open()
        guard sent == 1 else { throw lost() }
        while true {
            let rest = PQflush(handle)
            if rest == 0 { return }
            guard rest > 0 else { throw lost() }
            let ready = try wait([.readable, .writable], deadline)
            if ready.contains(.readable), PQconsumeInput(handle) != 1 { throw lost() }
        }
    }

    /// The next result of the statement that was sent; nil after the last.
    func nextResult(_ deadline: Int64?) throws(PostgresError) -> OpaquePointer? {
        let handle = try open()
        while PQisBusy(handle) == 1 {
            _ = try wait(.readable, deadline)
            guard PQconsumeInput(handle) == 1 else { throw lost() }
        }
        return PQgetResult(handle)
    }

    /// Sends, reads all results and returns the last, which the caller clears.
    func answer(
        _ sent: Int32, expecting accepted: [ExecStatusType]
    ) throws(PostgresError) -> OpaquePointer {
        let limit = deadline()
        try flush(sent, limit)
        var last: OpaquePointer?
        var failure: PostgresError?
        while let result = try results(&last, limit) {
            let status = PQresultStatus(result)
            if accepted.contains(status) {
                if let last { PQclear(last) }
                last = result
                continue
            }
            if failure == nil { failure = error(of: result) }
            PQclear(result)
            if status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH {
                // Someone ran COPY where it has no place; the protocol has no short way back.
                failure = PostgresError("COPY is not possible here", connectionLost: true)
                close()
                break
            }
        }
        if let failure {
            if let last { PQclear(last) }
            if failure.connectionLost { close() }
            throw failure
        }
        guard let last else { throw lost() }
        return last
    }

    /// The next result; on a failure `last` is cleared before the error goes on.
    func results(
        _ last: inout OpaquePointer?, _ deadline: Int64?
    ) throws(PostgresError) -> OpaquePointer? {
        do {
            return try nextResult(deadline)
        } catch {
            if let result = last { PQclear(result) }
            last = nil
            throw error
        }
    }

    func drain() throws(PostgresError) {
        while let result = try nextResult(deadline()) { PQclear(result) }
    }

    func lastMessage() -> String {
        guard let handle, let text = PQerrorMessage(handle) else { return "out of memory" }
        return redacted(String(cString: text))
    }

    /// One line without the password.
    func redacted(_ text: String) -> String {
        var message = text.split(whereSeparator: { $0 == "\n" || $0 == "\r\n" }).joined(
            separator: " ")
        if let password, !password.isEmpty {
            message = message.split(separator: password, omittingEmptySubsequences: false)
                .joined(separator: "***")
        }
        return message
    }

    /// The failure of the connection itself; closes what is left of it.
    func lost() -> PostgresError {
        let message = lastMessage()
        close()
        return PostgresError(
            message.isEmpty ? "the connection is lost" : message, connectionLost: true)
    }

    func error(of result: OpaquePointer) -> PostgresError {
        func field(_ code: Unicode.Scalar) -> String? {
            PQresultErrorField(result, Int32(code.value)).map { String(cString: $0) }
        }
        let state = field("C").map { SQLState(rawValue: $0) }
        let fallback = PQresultErrorMessage(result).map { String(cString: $0) } ?? "unknown failure"
        let ended = handle.map { PQstatus($0) != CONNECTION_OK } ?? true
        let isShutdown = state?.isClass("57P") ?? false
        var failure = PostgresError(
            redacted(field("M") ?? fallback), state: state,
            connectionLost: ended || isShutdown || (state?.isClass("08") ?? false))
        failure.table = field("t")
        failure.constraint = field("n")
        return failure
    }
}
