// What the module is for, and its limits.
//
// AttributionService runs the pure decisions of Attribution against PostgreSQL: it takes pending
// sales under row locks, reads what is known of them, writes sales, commissions and ledger rows in
// the same transaction, releases holds, keeps statistics fresh and partitions ahead. Everything it
// writes has an identity derived from its cause, so that a second run, or a second daemon, changes
// nothing.

/// The limits of the service.
public enum ServiceLimits {
    /// The longest that a statement may run, in milliseconds.
    public static let statementMilliseconds = 30_000
    /// Longest wait for a lock.
    public static let lockMilliseconds = 10_000
    /// The longest that a statement of the upkeep may run, in milliseconds.
    public static let upkeepMilliseconds = 300_000
    /// Seconds for a connection to be made.
    public static let connectSeconds = 5
    /// Time between attempts to reach the database, in milliseconds.
    public static let reconnectMilliseconds = 1_000
    /// A run that takes longer is followed by one of half the sales, in microseconds.
    public static let longRunMicroseconds: Int64 = 2_000_000
    /// Releases in one transaction.
    public static let releasesPerRun = 1_000
    /// Time between two looks for holds that have ended, in microseconds.
    public static let releaseMicroseconds: Int64 = 5_000_000
    /// The shortest time between two refreshes of the statistics, in microseconds.
    public static let refreshMicroseconds: Int64 = 5_000_000
    /// Time between two looks at the partitions, in microseconds.
    public static let partitionMicroseconds: Int64 = 600_000_000
    /// Days of `clicks_logs` that exist ahead.
    public static let clickDaysAhead = 7
    /// Months of `sales` that exist ahead.
    public static let saleMonthsAhead = 2
    /// Days behind today for which `clicks_logs` has leaves: late clicks of a fresh database.
    public static let clickDaysBehind = 2
    /// How long a sale rests that the database refuses to have decided, in microseconds.
    public static let poisonMicroseconds: Int64 = 3_600_000_000
    /// Pending sales that are counted for the operations endpoint; more are told as this.
    public static let countedSales = 1_000_000
    /// Problems that a check of the ledger lists of each kind.
    public static let ledgerProblems = 100
}
