// attributiond's operations endpoint: alive, ready, stats, metrics.
internal import LinuxIO
public import Telemetry

/// Answers the requests of attributiond's operations endpoint.
public struct AttributionOperations: OperationsHandler {
    private let daemon: AttributionDaemon
    private let version: String
    private let startedAt: Int64

    /// Answers about a daemon that has just started.
    public init(daemon: AttributionDaemon, version: String) {
        self.daemon = daemon
        self.version = version
        startedAt = SystemClock.monotonicNanoseconds()
    }

    private var uptimeMicroseconds: Int64 {
        (SystemClock.monotonicNanoseconds() - startedAt) / 1_000
    }

    /// The answer to a request.
    public func respond(to request: OperationsRequest) -> OperationsResponse {
        let status = daemon.status
        switch request.path {
        case "/healthz": return .text("ok\n")
        case "/readyz":
            if status.isReady { return .text("ready\n") }
            let why =
                status.isDraining
                ? "draining"
                : !status.isConnected ? "the database is away" : "the schema is missing or old"
            return .text("not ready: \(why)\n", status: 503)
        case "/stats": return .json(stats(status))
        case "/metrics": return .metrics(metrics(status))
        default: return .notFound
        }
    }

    private func stats(_ status: AttributionStatus) -> JSONText {
        JSONText.object { json in
            json.member("version", version)
            json.key("uptime_seconds")
            json.seconds(microseconds: uptimeMicroseconds)
            json.member("runs", status.runs)
            json.member("pending", status.pending)
            json.member("holds", status.holds)
            json.object("decided") { decided in
                decided.member("completed", status.total.completed)
                decided.member("rejected", status.total.rejected)
                decided.member("commissions", status.total.commissions)
                decided.member("released", status.total.released)
            }
            json.member("failures", status.failures)
            json.member("refreshes", status.refreshes)
            json.object("database") { database in
                database.member("connected", status.isConnected)
                database.member("schema_known", status.knowsSchema)
                database.member("last_error", status.lastError)
            }
        }
    }

    private func metrics(_ status: AttributionStatus) -> PrometheusText {
        var text = PrometheusText(prefix: "attributiond")
        text.gauge("uptime_seconds", "Seconds since the start.")
        text.sample(microseconds: uptimeMicroseconds)
        text.counter("runs_total", "Runs of attribution.", status.runs)
        text.counter("run_failures_total", "Runs that the database refused.", status.failures)
        text.counter("sales_completed_total", "Sales decided for good.", status.total.completed)
        text.counter("sales_rejected_total", "Sales rejected.", status.total.rejected)
        text.counter("commissions_total", "Commissions earned.", status.total.commissions)
        text.counter(
            "commissions_released_total", "Commissions made payable.", status.total.released)
        text.counter("refreshes_total", "Refreshes of the statistics.", status.refreshes)
        text.gauge("sales_pending", "Pending sales at the last count.", status.pending)
        text.gauge("sales_held", "Held sales at the last count.", status.holds)
        text.gauge(
            "database_connected", "1 while the database is connected.", status.isConnected ? 1 : 0)
        text.gauge(
            "schema_known", "1 while the schema is this release's or newer.",
            status.knowsSchema ? 1 : 0)
        return text
    }
}
