// `clickd-workbench outage`: an hour without PostgreSQL in small: clicks go on at a fixed rate, nothing
// is lost, nobody waits longer than before, and what has gathered is drained while more comes.
internal import LinuxIO
internal import Synchronization

/// A paced load before, during and after an outage of the database.
public struct OutageMeasurement {
    /// Clicks a second.
    private let rate: Int
    /// Seconds without PostgreSQL.
    private let seconds: Int
    /// Seconds of the same load before it, with which it is compared.
    private let before: Int
    private let directory: String

    private enum Limits {
        /// How long the database may take to start and to be found again.
        static let startNanoseconds: Int64 = 120_000_000_000
    }

    private final class Later: Sendable {
        let result = Mutex<PacedLoadResult?>(nil)
        let ended: EventDescriptor
        init() throws(Errno) { ended = try EventDescriptor() }
    }

    /// An outage of so many seconds.
    public init(rate: Int, seconds: Int, before: Int) throws {
        self.rate = max(1, rate)
        self.seconds = max(1, seconds)
        self.before = max(1, before)
        directory = "/var/tmp/clickd-outage-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(directory, permissions: 0o755)
    }

    /// Measures and prints; throws when a click is lost.
    public func run() throws {
        defer { try? FileSystem.removeTree(directory) }
        let cluster = try PrivateCluster.start(directory: "\(directory)/postgres")
        defer { cluster.stop() }
        let stack = ServiceStack(
            directory: directory, port: try SocketAddress.freePort(), cluster: cluster)
        stack.settings["log"] = "{ level: error, format: text }"
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        defer { stack.stop(removingRings: true) }
        try stack.startClickd()
        if let clickd = stack.clickd { SessionWeight.set(SessionWeight.edge, of: clickd.id) }
        // The client stands for other machines: what works on this one shall not delay it.
        SessionWeight.set(SessionWeight.apart, of: CurrentProcess.id)
        defer { SessionWeight.set(SessionWeight.ordinary, of: CurrentProcess.id) }
        try measure(stack)
    }

    private func measure(_ stack: ServiceStack) throws {
        var answered = 0
        _ = try load(stack, 3)
        let first = try load(stack, before)
        say("before: \(first.latencies.summary)")
        try stack.flush()
        answered = try rows(stack)
        stack.cluster.stop()
        let during = try load(stack, seconds)
        answered += during.answers(302)
        say("\(seconds) s without PostgreSQL: \(during.latencies.summary)")
        say(
            "  \(during.answers(302)) answered, \(during.failures) failed, \(during.unsent) not sent"
        )
        let ratio = Ratio(
            Int(during.latencies.percentile(partsPerMillion: 990_000)),
            Int(first.latencies.percentile(partsPerMillion: 990_000)))
        // The load goes on while the backlog is drained.
        let later = try Later()
        let options = options(stack, max(5, seconds / 3))
        _ = try Thread.start(name: "load") {
            let result = try? PacedLoad(options).run()
            later.result.withLock { $0 = result }
            later.ended.signal()
        }
        let (drained, elapsed) = try drain(stack)
        later.ended.wait(milliseconds: (options.seconds + 30) * 1000)
        guard let after = later.result.withLock({ $0 }) else { throw StackError("no load") }
        answered += after.answers(302)
        try stack.flush()
        let stored = try rows(stack)
        let twice = try stack.count("SELECT count(*) - count(DISTINCT click_id) FROM clicks_logs")
        let perSecond = drained * 1_000_000 / max(1, elapsed)
        say("drained \(drained) rows in \(elapsed / 1000) ms: \(perSecond) rows/s")
        say("  meanwhile: \(after.latencies.summary)")
        say("stored \(stored) of \(answered) clicks answered, \(twice) twice")
        say("outage/p99 \(Ratio.median([ratio]))")
        say("outage/drain \(Ratio.median([Ratio(perSecond, rate)]))")
        // A click whose answer did not arrive is a row all the same.
        let unanswered = first.failures + during.failures + after.failures
        guard twice == 0, stored >= answered, stored <= answered + unanswered else {
            throw StackError("\(stored) rows for \(answered) clicks")
        }
    }

    /// Starts PostgreSQL and waits until hardly more is pending than a second brings: the rows written
    /// from the first one on, and the microseconds that took.
    private func drain(_ stack: ServiceStack) throws -> (rows: Int, microseconds: Int) {
        let before = try statistic(stack, "flushed")
        let cluster = stack.cluster
        // The server may have drained all by the time that its starter has seen it ready.
        _ = try Thread.start(name: "database") { try? cluster.start() }
        let limit = SystemClock.monotonicNanoseconds() + Limits.startNanoseconds
        var flushed = before
        while flushed == before {
            guard SystemClock.monotonicNanoseconds() < limit else {
                throw StackError("nothing is flushed:\n\(stack.tail("clickd"))")
            }
            Thread.sleep(microseconds: 2000)
            flushed = try statistic(stack, "flushed")
        }
        let start = SystemClock.monotonicNanoseconds()
        while try statistic(stack, "pending") > rate { Thread.sleep(microseconds: 5000) }
        let elapsed = Int(SystemClock.monotonicNanoseconds() - start) / 1000
        return (try statistic(stack, "flushed") - flushed, elapsed)
    }

    private func options(_ stack: ServiceStack, _ seconds: Int) -> PacedLoadOptions {
        var options = PacedLoadOptions(
            server: stack.address, paths: ["/demo", "/s2", "/s3"], connections: 64, rate: rate,
            seconds: seconds)
        options.depth = 1
        return options
    }

    private func load(_ stack: ServiceStack, _ seconds: Int) throws -> PacedLoadResult {
        try PacedLoad(options(stack, seconds)).run()
    }

    private func rows(_ stack: ServiceStack) throws -> Int {
        try stack.count("SELECT count(*) FROM clicks_logs")
    }

    /// A number of `clicks` in `/stats`.
    private func statistic(_ stack: ServiceStack, _ name: String) throws -> Int {
        let text = try stack.ask("/stats").text
        guard let clicks = text.firstRange(of: "\"clicks\""),
            let field = text[clicks.upperBound...].firstRange(of: "\"\(name)\":")
        else { throw StackError("no clicks.\(name) in /stats: \(text)") }
        return Int(text[field.upperBound...].drop { $0 == " " }.prefix { $0.isNumber }) ?? 0
    }

    private func say(_ text: String) { CurrentProcess.writeOutput("\(text)\n") }
}
