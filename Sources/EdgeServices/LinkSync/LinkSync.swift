// Link sync: follows the platform's tables and publishes them to the event loops. A thread of its
// own; while the database is away the last tables go on serving.
public import EdgeCore
internal import LinuxIO
internal import Postgres
internal import Synchronization
internal import Telemetry
public import Tracking

/// How link sync stands.
public struct LinkSyncStatus: Sendable, Equatable {
    /// Links that are served.
    public var links = 0
    /// Links that cannot be served; the log names them.
    public var invalid = 0
    /// Time since the tables were last known to be true; nil before the first time.
    public var lastSyncAgeMicroseconds: Int64?
    /// Whether there is anything to serve, from the database or the snapshot.
    public var loaded = false
    /// Whether the last exchange with the database succeeded.
    public var connected = false
    /// The last failure, until a success.
    public var lastError: String?
    /// Full loads since the start.
    public var fullLoads = 0
    /// Nothing loaded yet.
    public init() {}
}

/// What link sync is told once.
public struct LinkSyncOptions: Sendable {
    /// Where the database is.
    public var dsn: String
    /// Within this time of its commit a change is served.
    public var refreshMicroseconds: Int64 = 1_000_000
    /// The file for a start without the database; empty for none.
    public var snapshotPath = ""
    /// The node's part of the visitor keys.
    public var visitorKey: SipHashKey
    /// Time between two comparisons of everything; at most a minute.
    public var comparisonMicroseconds: Int64 = 30_000_000
    /// Least age of changes before the tables are joined again and the snapshot is written.
    public var joinMicroseconds: Int64 = 5_000_000
    /// Changed links beyond which the tables are joined at once.
    public var overlayLinks = 10_000
    /// Takes messages for the log: whether it is an error, and its text.
    public var log: @Sendable (Bool, String) -> Void = { _, _ in }

    /// What has no default.
    public init(dsn: String, visitorKey: SipHashKey) {
        self.dsn = dsn
        self.visitorKey = visitorKey
    }
}

/// Keeps the published tables equal to the platform's.
public final class LinkSync: Sendable {
    /// Bounds of link sync.
    enum Limits {
        /// Rows of one page of a full load.
        static let pageRows: Int32 = 10_000
        /// Milliseconds that one statement may take: the longest read a page or a range of links.
        static let statementMilliseconds = 30_000
        /// Loaded links of a range: what is asked for by itself where a comparison finds a difference.
        static let rangeRows = 20_000
        /// Milliseconds of comparing before changes are polled again.
        static let comparingMilliseconds: Int64 = 200
        /// Milliseconds of loading before changes are polled beside it.
        static let loadingMilliseconds: Int64 = 400
        /// Changed links that are read by their identities at once.
        static let healedRows = 5_000
        static let lockMilliseconds = 5_000
        /// Microseconds that a poll reaches back beyond the oldest open transaction.
        static let overlapMicroseconds: Int64 = 2_000_000
        /// Microseconds after which true but unchanged tables are published with their new age.
        static let publishMicroseconds: Int64 = 5_000_000
        /// Microseconds between two looks at salts and quotas.
        static let slowMicroseconds: Int64 = 30_000_000
        /// Microseconds of the first and the longest wait after a failure.
        static let firstRetryMicroseconds: Int64 = 100_000
        static let lastRetryMicroseconds: Int64 = 2_000_000
        /// Bytes of the largest snapshot that is read.
        static let snapshotBytes = 8 << 30
        /// Bytes of one read of it.
        static let readBytes = 16 << 20
        /// How far the thread that checks a snapshot stands back behind the loops.
        static let settlingNice: Int32 = 10
        /// Invalid links that are named in the log at once.
        static let namedInvalidLinks = 20
        /// Milliseconds that ``LinkSync/stop()`` waits for the thread, whose waits have ended: it may
        /// be building a table.
        static let stopMilliseconds = 100
    }

    private struct State {
        var status = LinkSyncStatus()
        var syncedAtNanoseconds: Int64?
    }

    let options: LinkSyncOptions
    let directory: EdgeDirectory
    private let state = Mutex(State())
    private let stopping = Atomic<Bool>(false)
    private let wake: EventDescriptor
    private let ended: EventDescriptor
    let interruption: Interruption
    let errors = RepeatedErrors()

    /// A sync that publishes to `directory`; ``start()`` starts it.
    /// - Throws: ``Errno`` when the process has no descriptor left.
    public init(directory: EdgeDirectory, options: LinkSyncOptions) throws {
        self.directory = directory
        self.options = options
        wake = try EventDescriptor()
        ended = try EventDescriptor()
        interruption = try Interruption()
    }

    /// How it stands now.
    public var status: LinkSyncStatus {
        state.withLock { state in
            var status = state.status
            if let at = state.syncedAtNanoseconds {
                status.lastSyncAgeMicroseconds = (SystemClock.monotonicNanoseconds() - at) / 1000
            }
            return status
        }
    }

    /// Starts the thread.
    /// - Throws: ``Errno`` when the system has no thread left.
    public func start() throws {
        // Never joined: stop() must not wait for a database that does not answer.
        _ = try Thread.start(name: "link-sync") { [self] in
            run()
            ended.signal()
        }
    }

    /// Ends the thread; waits for it a moment, but never for the database.
    public func stop() {
        stopping.store(true, ordering: .releasing)
        interruption.raise()
        wake.signal()
        ended.wait(milliseconds: Limits.stopMilliseconds)
    }

    /// Polls now instead of at the next turn.
    public func poll() { wake.signal() }

    private func run() {
        let session = LinkSyncSession(self)
        var retry = Limits.firstRetryMicroseconds
        while !stopping.load(ordering: .acquiring) {
            var pause = max(1000, options.refreshMicroseconds / 2)
            do {
                // While ranges wait to be compared there is no time to lose.
                if try session.step() { pause = 1000 }
                retry = Limits.firstRetryMicroseconds
                if errors.clear("database") { options.log(false, "links follow the database") }
            } catch {
                session.disconnect()
                if stopping.load(ordering: .acquiring) { break }
                note(failure: "\(error)")
                pause = retry
                retry = min(retry * 2, Limits.lastRetryMicroseconds)
            }
            wake.wait(milliseconds: Int(pause / 1000))
        }
        session.disconnect()
    }

    /// Records a success.
    func note(synced at: Int64, _ change: (inout LinkSyncStatus) -> Void) {
        state.withLock { state in
            state.syncedAtNanoseconds = at
            state.status.connected = true
            state.status.lastError = nil
            state.status.loaded = true
            change(&state.status)
        }
    }

    /// Records tables that came from the snapshot.
    func note(snapshot links: Int) {
        state.withLock { state in
            state.status.loaded = true
            state.status.links = links
        }
    }

    private func note(failure: String) {
        state.withLock { state in
            state.status.connected = false
            state.status.lastError = failure
        }
        let now = SystemClock.monotonicNanoseconds()
        if let held = errors.note("database", nowNanoseconds: now) {
            let more = held > 0 ? " (and \(held) more)" : ""
            options.log(true, "links cannot be read, serving the last ones: \(failure)\(more)")
        }
    }
}
