// What PostgreSQL and libpq refuse, and with which code. No text here ever holds a DSN or a password.

/// A five-character SQLSTATE.
/// - SeeAlso: PostgreSQL 15, Appendix A.
public struct SQLState: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The five characters.
    public let rawValue: String

    /// A state by its five characters.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Whether the state belongs to a class, such as `22` (data exceptions).
    public func isClass(_ class: String) -> Bool { rawValue.hasPrefix(`class`) }

    /// The five characters.
    public var description: String { rawValue }

    /// A row with that key is there already.
    public static let uniqueViolation = SQLState(rawValue: "23505")
    /// A CHECK constraint refused the row.
    public static let checkViolation = SQLState(rawValue: "23514")
    /// A NOT NULL column was NULL.
    public static let notNullViolation = SQLState(rawValue: "23502")
    /// The table is not there.
    public static let undefinedTable = SQLState(rawValue: "42P01")
    /// The column is not there.
    public static let undefinedColumn = SQLState(rawValue: "42703")
    /// The role lacks the right.
    public static let insufficientPrivilege = SQLState(rawValue: "42501")
    /// The statement ran into `statement_timeout` or was cancelled.
    public static let queryCanceled = SQLState(rawValue: "57014")
    /// An administrator ended the connection.
    public static let adminShutdown = SQLState(rawValue: "57P01")
    /// Two transactions could not be put into an order.
    public static let serializationFailure = SQLState(rawValue: "40001")
    /// Two transactions waited for each other.
    public static let deadlockDetected = SQLState(rawValue: "40P01")
    /// A lock was not to be had at once.
    public static let lockNotAvailable = SQLState(rawValue: "55P03")
    /// Text in the wrong encoding, or with a NUL.
    public static let characterNotInRepertoire = SQLState(rawValue: "22021")
    /// The prepared statement is not there.
    public static let invalidStatementName = SQLState(rawValue: "26000")
    /// Not supported; also a prepared statement whose result type has changed.
    public static let featureNotSupported = SQLState(rawValue: "0A000")
    /// `RAISE EXCEPTION` without a code of its own.
    public static let raisedException = SQLState(rawValue: "P0001")
    /// The session may write nothing: a standby, or a server that has just failed over.
    public static let readOnlyTransaction = SQLState(rawValue: "25006")
}

/// Why a call on a ``Connection`` failed.
public struct PostgresError: Error, Sendable, CustomStringConvertible {
    /// The server's code; nil when the failure is the client's or the connection's.
    public var state: SQLState?
    /// The primary message, without detail and context (those can hold row data).
    public var message: String
    /// Whether the connection is gone: connect anew.
    public var connectionLost: Bool
    /// Whether the failure fell on COMMIT, so that the transaction may have happened or not.
    public var outcomeUnknown = false
    /// The table that the server names, when it does.
    public var table: String?
    /// The constraint that the server names, when it does.
    public var constraint: String?

    /// A failure in words.
    public init(_ message: String, state: SQLState? = nil, connectionLost: Bool = false) {
        self.message = message
        self.state = state
        self.connectionLost = connectionLost
    }

    /// The message behind its code.
    public var description: String {
        guard let state else { return message }
        return "\(state): \(message)"
    }
}
