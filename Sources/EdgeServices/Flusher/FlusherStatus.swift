// What the flusher tells others: operators, readiness, and whoever waits for a flush.

/// Whether this spool may mint IDs under its node id.
public enum NodeClaimState: Equatable, Sendable {
    /// The database has not been asked yet.
    case unknown
    /// The node is this spool's.
    case claimed
    /// It is not: nothing may be minted. The text says whose it is and what to do.
    case refused(String)
    /// A process with a higher epoch has a ring: stop minting and leave.
    case fenced(String)
}

/// The flusher's state at one moment.
public struct FlusherStatus: Sendable {
    /// Whether the database answers.
    public var isConnected = false
    /// The last failure, without secrets; empty when there was none since the last connection.
    public var lastError = ""
    /// The claim of the node.
    public var claim = NodeClaimState.unknown
    /// Days from today for which leaves of `clicks_logs` exist.
    public var partitionsAhead = 0
    /// Clicks committed since the start.
    public var clicksFlushed: UInt64 = 0
    /// Those of them that are known bots.
    public var botsFlushed: UInt64 = 0
    /// Conversion and refusal records committed since the start.
    public var conversionsFlushed: UInt64 = 0
    /// Records that PostgreSQL refused, set aside since the start.
    public var quarantined: UInt64 = 0
    /// Transactions that wrote records.
    public var batches: UInt64 = 0
    /// Time spent in them.
    public var flushNanoseconds: UInt64 = 0
    /// Records in ring and spool that are no conversions, as of the last round.
    public var pendingClicks: UInt64 = 0
    /// Conversion and refusal records in ring and spool, as of the last round.
    public var pendingConversions: UInt64 = 0
    /// Lanes that stopped because too many rows were refused.
    public var driftingLanes = 0

    /// All that waits in ring and spool.
    public var pending: UInt64 { pendingClicks + pendingConversions }

    /// Nothing has happened yet.
    public init() {}
}

extension DatabaseFacts {
    /// What operators see of a flusher.
    init(_ status: FlusherStatus) {
        self.init()
        isConnected = status.isConnected
        lastError = status.lastError.isEmpty ? nil : status.lastError
        partitionsAhead = status.partitionsAhead
        clicksFlushed = status.clicksFlushed
        botsFlushed = status.botsFlushed
        conversionsFlushed = status.conversionsFlushed
        clicksPending = status.pendingClicks
        conversionsPending = status.pendingConversions
        quarantined = status.quarantined
        batches = status.batches
        flushMicroseconds = Int64(clamping: status.flushNanoseconds / 1000)
    }
}

/// How a flusher works.
public struct FlusherOptions: Sendable {
    /// `postgres.dsn`.
    public var dsn: String
    /// `postgres.batch_rows`.
    public var batchRows: Int
    /// `postgres.batch_delay` in microseconds.
    public var batchDelayMicroseconds: Int64
    /// `node.id`.
    public var node: UInt8
    /// The fingerprint of the click keys.
    public var keyFingerprint: String
    /// The machine, for people.
    public var machine: String

    /// Options with the contract's defaults.
    public init(
        dsn: String, batchRows: Int = 20_000, batchDelayMicroseconds: Int64 = 200_000,
        node: UInt8, keyFingerprint: String, machine: String
    ) {
        self.dsn = dsn
        self.batchRows = batchRows
        self.batchDelayMicroseconds = batchDelayMicroseconds
        self.node = node
        self.keyFingerprint = keyFingerprint
        self.machine = machine
    }
}
