// What clickd answers its operators: /stats, /metrics, /healthz, /readyz, and the commands of the
// Unix socket (contract, 6). It asks for facts and gives orders through closures, so that it knows
// neither rings nor database.
internal import Configuration
internal import LinuxIO
public import Telemetry

/// One ring, as operators see it.
///
/// Sequences are "the last record that is …", 0 for none.
public struct RingFacts: Sendable {
    /// The ring's number.
    public var ring: UInt16
    /// Appended.
    public var headSequence: UInt64
    /// Copied to the spool.
    public var spooledSequence: UInt64
    /// Synced to disk.
    public var durableSequence: UInt64
    /// Committed in the database, both streams.
    public var flushedSequence: UInt64
    /// Bytes in use in memory.
    public var ringUsedBytes: Int
    /// Bytes that memory has.
    public var ringBytes: Int
    /// Bytes of unflushed records on disk.
    public var spoolUsedBytes: Int
    /// The age of the oldest record that the database does not have; 0 for none.
    public var oldestUnflushedMicroseconds: Int64

    /// A ring by its facts.
    public init(
        ring: UInt16, headSequence: UInt64, spooledSequence: UInt64, durableSequence: UInt64,
        flushedSequence: UInt64, ringUsedBytes: Int, ringBytes: Int, spoolUsedBytes: Int,
        oldestUnflushedMicroseconds: Int64
    ) {
        self.ring = ring
        self.headSequence = headSequence
        self.spooledSequence = spooledSequence
        self.durableSequence = durableSequence
        self.flushedSequence = flushedSequence
        self.ringUsedBytes = ringUsedBytes
        self.ringBytes = ringBytes
        self.spoolUsedBytes = spoolUsedBytes
        self.oldestUnflushedMicroseconds = oldestUnflushedMicroseconds
    }
}

/// The spool as a whole.
public struct SpoolFacts: Sendable {
    /// Bytes of its directory in use.
    public var usedBytes = 0
    /// Bytes that it may use.
    public var quotaBytes = 0
    /// Bytes that it can use: the quota, or less where the disk has less room.
    public var roomBytes = 0
    /// Whether the disk has no room for another segment that is wanted.
    public var isDiskFull = false
    /// Whether a sync has failed since the start: what followed is not promised to be on disk.
    public var durabilityLost = false
    /// How full of unflushed records it is, in per cent of its room.
    public var usedPercent = 0
    /// Bytes a second by which they grow.
    public var bytesPerSecond = 0
    /// Seconds until there is no room at that rate; nil while they do not grow.
    public var secondsUntilFull: Int64?
    /// Nothing known yet.
    public init() {}
}

/// The link table.
public struct LinkFacts: Sendable {
    /// Links that are served.
    public var count = 0
    /// Links that the table refused.
    public var invalid = 0
    /// Time since the table was last known to be the database's; nil before the first time.
    public var lastSyncAgeMicroseconds: Int64?
    /// Whether links and merchants are loaded, from the database or a snapshot.
    public var isLoaded = false
    /// Nothing known yet.
    public init() {}
}

/// The way to the database.
public struct DatabaseFacts: Sendable {
    /// Whether it answers.
    public var isConnected = false
    /// The last failure without any secret; nil when there was none.
    public var lastError: String?
    /// Days from today that have a leaf of `clicks_logs`.
    public var partitionsAhead = 0
    /// Clicks committed since the start.
    public var clicksFlushed: UInt64 = 0
    /// Known bots among them.
    public var botsFlushed: UInt64 = 0
    /// Conversion records committed since the start.
    public var conversionsFlushed: UInt64 = 0
    /// Click records in ring and spool.
    public var clicksPending: UInt64 = 0
    /// Conversion and refusal records in ring and spool.
    public var conversionsPending: UInt64 = 0
    /// Rows that the database refused, set aside since the start.
    public var quarantined: UInt64 = 0
    /// Transactions that wrote records.
    public var batches: UInt64 = 0
    /// Time spent in them.
    public var flushMicroseconds: Int64 = 0
    /// Nothing known yet.
    public init() {}
}

/// What became of a flush.
public enum FlushOutcome: Sendable, Equatable {
    /// All that had been recorded is committed.
    case committed
    /// The database is away, or the time was over; so many records wait.
    case pending(UInt64)
}

/// Where ``EdgeOperations`` gets its facts, and whom it gives orders.
///
/// Called on connection threads, several at once.
public struct EdgeOperationsSources: Sendable {
    /// Every ring on disk, those of a former worker count too.
    public var rings: @Sendable () -> [RingFacts]
    /// The spool.
    public var spool: @Sendable () -> SpoolFacts
    /// The link table.
    public var links: @Sendable () -> LinkFacts
    /// The database.
    public var database: @Sendable () -> DatabaseFacts
    /// Why the node is not ready beyond what the other facts tell (node not claimed, fenced…).
    public var hindrances: @Sendable () -> [String]
    /// What is wrong with a node that had better get traffic all the same.
    public var warnings: @Sendable () -> [String]
    /// Event loops that stand still.
    public var silentLoops: @Sendable () -> Int
    /// When the served certificate that ends first ends, seconds since 1970; nil without TLS.
    public var certificatesEnd: @Sendable () -> Int64?
    /// Whether a drain has begun.
    public var isDraining: @Sendable () -> Bool
    /// Reloads as SIGHUP does; what is wrong with the new configuration, empty when it holds.
    public var reload: @Sendable () -> [String]
    /// Begins to drain as SIGTERM does, and returns at once.
    public var drain: @Sendable () -> Void
    /// Flushes all that is recorded, within so many milliseconds.
    public var flush: @Sendable (Int) -> FlushOutcome

    /// Sources that know nothing and obey nothing, to be replaced one by one.
    public init() {
        rings = { [] }
        spool = { SpoolFacts() }
        links = { LinkFacts() }
        database = { DatabaseFacts() }
        hindrances = { [] }
        warnings = { [] }
        silentLoops = { 0 }
        certificatesEnd = { nil }
        isDraining = { false }
        reload = { ["reloading is not wired"] }
        drain = {}
        flush = { _ in .pending(0) }
    }
}

/// The operations handler of clickd.
public final class EdgeOperations: OperationsHandler {
    /// The bounds of `/flush`.
    public enum Limits {
        /// What `?timeout=` is when it is not given.
        public static let flushMilliseconds = 8_000
        /// The longest `?timeout=`.
        public static let maximumFlushMilliseconds = 60_000
    }

    let version: String
    let counters: EdgeCounters
    let sources: EdgeOperationsSources
    private let startedAt = SystemClock.monotonicNanoseconds()

    /// A handler over the edge's counters and what else it is told.
    public init(version: String, counters: EdgeCounters, sources: EdgeOperationsSources) {
        self.version = version
        self.counters = counters
        self.sources = sources
    }

    /// Microseconds since the handler was made.
    var uptimeMicroseconds: Int64 { (SystemClock.monotonicNanoseconds() - startedAt) / 1000 }

    /// Answers one request.
    public func respond(to request: OperationsRequest) -> OperationsResponse {
        switch request.path {
        case "/stats", "/metrics", "/healthz", "/readyz":
            guard request.method != .post else { return .methodNotAllowed() }
            return read(request.path)
        case "/reload", "/drain", "/flush":
            guard request.method == .post else { return .methodNotAllowed(allow: "POST") }
            return command(request)
        default:
            return .notFound
        }
    }

    private func read(_ path: String) -> OperationsResponse {
        switch path {
        case "/stats": return .json(stats())
        case "/metrics": return .metrics(metrics())
        case "/healthz": return .json(JSONText.object { $0.member("status", "alive") })
        default:
            let reasons = unreadyReasons()
            let warnings = sources.warnings()
            let json = JSONText.object { json in
                json.member("ready", reasons.isEmpty)
                json.array("reasons") { json in
                    for reason in reasons { json.value(reason) }
                }
                guard !warnings.isEmpty else { return }
                json.array("warnings") { json in
                    for warning in warnings { json.value(warning) }
                }
            }
            return .json(json, status: reasons.isEmpty ? 200 : 503)
        }
    }

    private func command(_ request: OperationsRequest) -> OperationsResponse {
        switch request.path {
        case "/reload":
            let problems = sources.reload()
            let json = JSONText.object { json in
                json.member("reloaded", problems.isEmpty)
                json.array("problems") { json in
                    for problem in problems { json.value(problem) }
                }
            }
            return .json(json, status: problems.isEmpty ? 200 : 400)
        case "/drain":
            sources.drain()
            return .json(JSONText.object { $0.member("draining", true) }, status: 202)
        default:
            return flush(request.parameter("timeout"))
        }
    }

    private func flush(_ timeout: String?) -> OperationsResponse {
        var milliseconds = Int64(Limits.flushMilliseconds)
        if let timeout {
            guard let value = DurationText.parse(timeout),
                value / 1000 <= Int64(Limits.maximumFlushMilliseconds)
            else {
                return .text("timeout: '\(timeout)' is not allowed (0ms...1min)", status: 400)
            }
            milliseconds = value / 1000
        }
        switch sources.flush(Int(milliseconds)) {
        case .committed:
            return .json(JSONText.object { $0.member("pending", 0) })
        case .pending(let count):
            return .json(JSONText.object { $0.member("pending", count) }, status: 503)
        }
    }

    /// Why the node must not get traffic now; empty when it may.
    func unreadyReasons() -> [String] {
        var reasons = sources.hindrances()
        if sources.isDraining() { reasons.append("draining") }
        if !sources.links().isLoaded { reasons.append("links and merchants are not loaded") }
        if sources.spool().durabilityLost { reasons.append("the spool cannot be synced") }
        return reasons
    }

    /// What lies in ring and spool now, by stream.
    ///
    /// The flusher's own count is as old as its last round: what was recorded since is told by the
    /// counters, and no stream can have more waiting than the rings have.
    func pending(_ database: DatabaseFacts) -> (clicks: UInt64, conversions: UInt64) {
        let waiting = sources.rings().reduce(UInt64(0)) { sum, ring in
            let isBehind = ring.headSequence > ring.flushedSequence
            return sum &+ (isBehind ? ring.headSequence - ring.flushedSequence : 0)
        }
        func live(_ counted: UInt64, _ recording: Int, _ flushed: UInt64) -> UInt64 {
            let recorded = UInt64(clamping: recording)
            let settled = flushed &+ database.quarantined  // Counts of rows, far from overflow.
            return min(waiting, max(counted, recorded > settled ? recorded - settled : 0))
        }
        return (
            live(
                database.clicksPending, counters.total(.clicksRecorded), database.clicksFlushed),
            live(
                database.conversionsPending, counters.total(.conversionsRecorded),
                database.conversionsFlushed)
        )
    }

    // MARK: /stats

    /// The JSON of `/stats`; names as in contract 6.
    func stats() -> JSONText {
        let database = sources.database()
        let links = sources.links()
        let pending = pending(database)
        return JSONText.object { json in
            json.member("version", version)
            json.key("uptime_seconds")
            json.seconds(microseconds: uptimeMicroseconds)
            json.object("requests") { json in
                for (name, counter) in EdgeOperations.outcomes {
                    json.member(name, counters.total(counter))
                }
            }
            json.object("clicks") { json in
                json.member("recorded", counters.total(.clicksRecorded))
                json.member("flushed", database.clicksFlushed)
                json.member("pending", pending.clicks)
                json.member("dropped", counters.total(.clicksDropped))
                json.member("bots", bots(database))
            }
            json.object("conversions") { json in
                json.member("recorded", counters.total(.conversionsRecorded))
                json.member("flushed", database.conversionsFlushed)
                json.member("pending", pending.conversions)
                json.member("rejected", counters.total(.conversionsRejected))
            }
            json.array("rings") { json in
                for ring in sources.rings() { EdgeOperations.write(ring, to: &json) }
            }
            write(sources.spool(), to: &json)
            json.object("links") { json in
                json.member("count", links.count)
                json.member("invalid", links.invalid)
                json.key("last_sync_age_seconds")
                if let age = links.lastSyncAgeMicroseconds {
                    json.seconds(microseconds: age)
                } else {
                    json.null()
                }
            }
            json.member("durability_lost", sources.spool().durabilityLost)
            json.member("connections", counters.openConnections)
            json.object("tls") { json in
                json.member("connections", counters.openTLSConnections)
                json.member("handshakes_full", counters.total(.tlsHandshakesFull))
                json.member("handshakes_resumed", counters.total(.tlsHandshakesResumed))
                json.member("handshakes_failed", counters.total(.tlsHandshakesFailed))
                json.member("handshakes_deferred", counters.total(.tlsHandshakesDeferred))
            }
            json.member("silent_loops", sources.silentLoops())
            json.object("database") { json in
                json.member("connected", database.isConnected)
                json.member("last_error", database.lastError)
            }
            json.member("partitions_ahead", database.partitionsAhead)
        }
    }

    /// Bots are told by the loops for some links and by the flusher for all.
    func bots(_ database: DatabaseFacts) -> UInt64 {
        max(database.botsFlushed, UInt64(clamping: counters.total(.clicksBots)))
    }

    /// Outcomes of requests, by the names that operators see.
    static let outcomes: [(name: String, counter: EdgeCounter)] = [
        ("redirected", .requestsRedirected), ("not_found", .requestsNotFound),
        ("gone", .requestsGone), ("fallback", .requestsFallback),
        ("bad_request", .requestsBadRequest), ("limited", .requestsLimited),
        ("not_loaded", .requestsNotLoaded),
        ("head", .requestsHead), ("prefetch", .requestsPrefetch),
        ("conversion", .requestsConversion), ("pixel", .requestsPixel),
        ("other", .requestsOther),
    ]

    /// The fill of the spool, and what is left of it.
    private func write(_ spool: SpoolFacts, to json: inout JSONText) {
        let oldest = sources.rings().map { $0.oldestUnflushedMicroseconds }.max() ?? 0
        json.object("spool") { json in
            json.member("used_bytes", spool.usedBytes)
            json.member("quota_bytes", spool.quotaBytes)
            json.member("room_bytes", spool.roomBytes)
            json.member("disk_full", spool.isDiskFull)
            json.member("used_percent", spool.usedPercent)
            json.member("bytes_per_second", spool.bytesPerSecond)
            json.key("seconds_until_full")
            if let left = spool.secondsUntilFull { json.value(left) } else { json.null() }
            json.key("oldest_unflushed_seconds")
            json.seconds(microseconds: oldest)
        }
    }

    private static func write(_ ring: RingFacts, to json: inout JSONText) {
        json.beginObject()
        json.member("ring", ring.ring)
        json.member("head_seq", ring.headSequence)
        json.member("spooled_seq", ring.spooledSequence)
        json.member("durable_seq", ring.durableSequence)
        json.member("flushed_seq", ring.flushedSequence)
        json.member("ring_used_bytes", ring.ringUsedBytes)
        json.member("spool_used_bytes", ring.spoolUsedBytes)
        json.key("oldest_unflushed_seconds")
        json.seconds(microseconds: ring.oldestUnflushedMicroseconds)
        json.endObject()
    }
}
