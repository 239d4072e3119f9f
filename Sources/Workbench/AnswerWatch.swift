// Somebody who keeps asking while a server is under load or attack, and remembers the longest wait.
public import LinuxIO
internal import Synchronization

/// What a watch has seen.
public struct WatchResult: Sendable {
    /// How long each answer took, from before the connection was made.
    public var latencies = LatencyHistogram()
    /// Questions that got no answer, or another than was wanted.
    public var failures = 0
    /// The first failure, in words.
    public var firstFailure = ""

    /// One line for the terminal.
    public var summary: String {
        let worst =
            "worst \(latencies.maximum / 1000) ms, median "
            + "\(latencies.percentile(partsPerMillion: 500_000) / 1000) ms"
        let failed = failures == 0 ? "0 failures" : "\(failures) FAILURES (\(firstFailure))"
        return "\(latencies.count) answers, \(worst), \(failed)"
    }
}

/// Asks one question at a fixed interval on a thread of its own, over a new connection each time.
public final class AnswerWatch: Sendable {
    /// How it asks: a connection, a path, and the status that is wanted.
    public struct Question: Sendable {
        /// A TCP address, or nil for the Unix socket.
        public var address: SocketAddress?
        /// Where it comes from; nil: anywhere.
        public var source: SocketAddress?
        /// A Unix socket's path.
        public var socket = ""
        /// The path to ask for.
        public var path: String
        /// The wanted status.
        public var status: Int

        /// A question over TCP.
        public init(
            _ address: SocketAddress, _ path: String, status: Int, from source: SocketAddress? = nil
        ) {
            self.address = address
            self.source = source
            self.path = path
            self.status = status
        }

        /// A question over a Unix socket.
        public init(unix socket: String, _ path: String) {
            self.socket = socket
            self.path = path
            status = 200
        }
    }

    private let question: Question
    private let interval: Int64
    private let result = Mutex(WatchResult())
    private let stopping = Atomic<Bool>(false)
    private let done = Atomic<Bool>(false)

    /// Starts asking.
    public init(_ question: Question, everyMicroseconds interval: Int64 = 100_000) throws(Errno) {
        self.question = question
        self.interval = interval
        _ = try Thread.start(name: "watch") { [self] in
            while !stopping.load(ordering: .relaxed) {
                let began = SystemClock.monotonicNanoseconds() / 1000
                ask(began)
                let took = SystemClock.monotonicNanoseconds() / 1000 - began
                if took < self.interval { Thread.sleep(microseconds: self.interval - took) }
            }
            done.store(true, ordering: .releasing)
        }
    }

    private func ask(_ began: Int64) {
        var failure = ""
        do throws(ProbeError) {
            var probe: HTTPProbe
            if let address = question.address {
                probe = try HTTPProbe(address, timeoutSeconds: 5, from: question.source)
            } else {
                probe = try HTTPProbe(unix: question.socket, timeoutSeconds: 5)
            }
            let answer = try probe.request("GET", question.path, headers: ["Connection: close"])
            if answer.status != question.status { failure = "status \(answer.status)" }
        } catch {
            failure = "\(error)"
        }
        let took = SystemClock.monotonicNanoseconds() / 1000 - began
        result.withLock { seen in
            if failure.isEmpty {
                seen.latencies.record(microseconds: took)
            } else {
                if seen.failures == 0 { seen.firstFailure = failure }
                seen.failures += 1
            }
        }
    }

    /// Ends after the question that is under way; what was seen.
    public func stop() -> WatchResult {
        stopping.store(true, ordering: .relaxed)
        while !done.load(ordering: .acquiring) { Thread.sleep(microseconds: 1000) }
        return result.withLock { $0 }
    }
}

extension ServiceStack {
    /// A metric of the edge by its name without labels.
    func metric(_ name: String) throws -> Int {
        for line in try ask("/metrics").text.split(separator: "\n")
        where line.hasPrefix("clickd_\(name) ") {
            if let value = line.split(separator: " ").last.flatMap({ Int($0) }) { return value }
        }
        throw StackError("no metric \(name)")
    }

    /// Resident memory of the running edge, in KiB.
    func residentKibibytes() throws -> Int {
        guard let clickd else { throw StackError("clickd is not running") }
        let text = String(
            decoding: try FileSystem.read("/proc/\(clickd.id)/status"), as: UTF8.self)
        let line = text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        guard let fields = line?.split(separator: " "), fields.count > 1, let value = Int(fields[1])
        else { throw StackError("no VmRSS") }
        return value
    }
}

/// A directory, a private server and a stack over them, for one campaign.
enum CampaignStage {
    /// Runs a body over a fresh stack with the sample platform, and cleans up after it.
    static func with(
        _ name: String, settings: [String: String], _ body: (ServiceStack) throws -> Void
    ) throws {
        CurrentProcess.raiseDescriptorLimit()
        let directory = "/var/tmp/clickd-\(name)-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(directory, permissions: 0o755)
        defer { try? FileSystem.removeTree(directory) }
        let cluster = try PrivateCluster.start(directory: "\(directory)/postgres")
        defer { cluster.stop() }
        let stack = ServiceStack(
            directory: directory, port: try SocketAddress.freePort(), cluster: cluster)
        stack.settings = settings
        stack.settings["log"] = "{ level: warning, format: text }"
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        defer { stack.stop(removingRings: true) }
        try body(stack)
    }

    /// A line on the terminal.
    static func say(_ text: String) { CurrentProcess.writeOutput(text + "\n") }

    /// Keeps a process, with all its threads, on one core.
    static func pin(_ id: Int32, core: Int) throws {
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", "\(core)", "\(id)"], output: "/dev/null"
        ).wait()
    }
}
