// What the daemon tells of itself: shared by its threads and the operations endpoint.
internal import Synchronization

/// A daemon's state at one time.
public struct AttributionStatus: Equatable, Sendable {
    /// Connected to the database.
    public var isConnected = false
    /// The database has this release's schema or a newer one.
    public var knowsSchema = false
    /// The daemon is on its way out.
    public var isDraining = false
    /// The last failure; nil when none has happened since it worked.
    public var lastError: String?
    /// Runs since the start.
    public var runs = 0
    /// Failed runs since the start.
    public var failures = 0
    /// What all runs did together.
    public var total = RunSummary()
    /// Pending sales at the last count.
    public var pending = 0
    /// Held sales at the last count.
    public var holds = 0
    /// Refreshes of the statistics since the start.
    public var refreshes = 0

    /// Nothing has happened yet.
    public init() {}

    /// Whether it can do its work.
    public var isReady: Bool { isConnected && knowsSchema && !isDraining }
}

/// The status, behind a lock.
final class StatusBoard: Sendable {
    private let status = Mutex(AttributionStatus())

    var current: AttributionStatus { status.withLock { $0 } }

    func update(_ change: (inout AttributionStatus) -> Void) { status.withLock { change(&$0) } }

    func add(_ summary: RunSummary) {
        status.withLock {
            $0.runs += 1
            $0.total.taken += summary.taken
            $0.total.completed += summary.completed
            $0.total.rejected += summary.rejected
            $0.total.waiting += summary.waiting
            $0.total.held += summary.held
            $0.total.parked += summary.parked
            $0.total.commissions += summary.commissions
            $0.total.released += summary.released
        }
    }
}
