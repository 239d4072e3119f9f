// Every bound that the flusher keeps, in one place.
internal import RingLog

/// What the flusher never exceeds.
enum FlusherLimits {
    /// How far the flusher stands back behind the loops where they want the same processor: it still
    /// has a quarter of one that a loop keeps busy.
    static let niceness: Int32 = 5
    /// Below so many thousandths of idle time the machine is busy: clicks then wait for their flush.
    static let busyIdleThousandths = 200
    /// How old a click may become while its flush waits for a machine that is busy; the contract
    /// wants the watermark to move within 5 s.
    static let patienceMicroseconds: Int64 = 3_000_000
    /// Records that one attempt may hold, whatever the configuration says.
    static let maximumBatchRows = 100_000
    /// Conversions in one transaction: each is compared with what is stored.
    static let maximumConversionBatch = 1_000
    /// Payload bytes that one batch may hold.
    static let maximumBatchBytes = 64 << 20
    /// Batches that a lane holds: the one under way and the one behind it.
    static let gatheredBatches = 2
    /// Records that are read ahead at once while the server is busy.
    static let recordsPerGlance = 2_048
    /// Commits of full batches of clicks of which the last waits for the server's disk.
    static let batchesPerSync = 8
    /// Bytes of rows that are encoded before they are sent on.
    static let copyChunkBytes = 128 << 10
    /// Days of clicks in one attempt; a batch of more days is cut.
    static let maximumDaysPerAttempt = 4
    /// The oldest day whose missing leaf is created.
    static let oldestLeafDays: Int32 = 60
    /// The furthest day ahead whose missing leaf is created.
    static let furthestLeafDays: Int32 = 2
    /// Days of click leaves kept ready from today on.
    static let clickDaysAhead: Int32 = 7
    /// Months of sales leaves kept ready after this one.
    static let saleMonthsAhead = 3
    /// Milliseconds that a thread gets to end once its wait for the database is ended: a batch is
    /// encoded in less.
    static let interruptedMilliseconds = 500
    /// First pause after the database went away.
    static let firstBackOffMicroseconds: Int64 = 100_000
    /// Longest pause between attempts to reach the database.
    static let maximumBackOffMicroseconds: Int64 = 1_000_000
    /// Pause of a lane that met drift before it probes again.
    static let driftPauseMicroseconds: Int64 = 30_000_000
    /// Longest statement.
    static let statementTimeoutMilliseconds = 5_000
    /// Longest wait for a lock.
    static let lockTimeoutMilliseconds = 2_000
    /// Longest wait for a connection.
    static let connectTimeoutSeconds = 4
    /// Time between watermark updates of lanes that flush nothing; the contract allows 5 s.
    static let watermarkMicroseconds: Int64 = 2_000_000
    /// Time between checks that partitions exist ahead.
    static let partitionsMicroseconds: Int64 = 3_600_000_000
    /// Time between updates of `nodes.last_id_at`.
    static let nodeMicroseconds: Int64 = 10_000_000
    /// Batches of clicks between two summaries of the hot leaf.
    static let batchesPerSummary = 4
    /// The same while full batches follow each other: a backlog first, its index after.
    ///
    /// At the default size of a batch a look-up meets up to 1,280,000 rows that no range tells of:
    /// some tenths of a second.
    static let fullBatchesPerSummary = 64
    /// Longest time that new ranges of the hot leaf stay without a summary.
    static let summaryMicroseconds: Int64 = 10_000_000
    /// Transactions that one lane may make in its turn.
    static let stepsPerTurn = 64
    /// Times an attempt is repeated for class 40 before the lane backs off.
    static let maximumRetries = 5
    /// Rows that may be quarantined before any row has gone through.
    static let poisonAllowance = 5
    /// Good rows that earn one more poisoned one: the 1 % of the contract.
    static let rowsPerPoison = 100
    /// The most poisoned rows that can be saved up.
    static let maximumPoisonAllowance = 200
    /// Visitors remembered per day and generation for `is_unique`; a power of two.
    static let maximumVisitorSlots = 1 << 19
    /// Days for which visitors are remembered.
    static let maximumVisitorDays = 3
    /// User agents and sources remembered; a power of two.
    static let traitSlots = 1 << 12
    /// Gaps that are not yet written or whose cursor has not passed; beyond it nothing is read.
    static let maximumPendingGaps = 256
    /// Gaps that reading one lane can bring at once.
    static let lossesPerGather = RingLogLimits.tailerGaps
    /// Callers that wait for a flush.
    static let maximumTickets = 32
    /// Bytes of an error text kept for the status.
    static let maximumErrorBytes = 300
}
