// `make bench`: clickd against nginx and a server that does nothing, run in turn (ours, theirs, ours,
// theirs), each line the median of the paired ratios. CPU time is the kernel's own accounting.
internal import LinuxIO

/// What can be measured by itself.
public enum BenchmarkPart: String, CaseIterable, Sendable {
    /// Requests against the peers.
    case redirects
    /// TLS against nginx.
    case tls
    /// The way of the clicks into PostgreSQL against psql's.
    case flush
}

/// The comparisons of `Benchmarks/`.
public struct Benchmark {
    private let sources: String
    private let pairs: Int
    private let seconds: Int
    private let parts: [BenchmarkPart]
    private let directory: String

    /// Comparisons of so many pairs, each run so many seconds.
    public init(
        sources: String, pairs: Int, seconds: Int, parts: [BenchmarkPart] = BenchmarkPart.allCases
    ) throws {
        self.parts = parts
        self.sources = sources
        self.pairs = max(1, pairs)
        self.seconds = max(1, seconds)
        directory = "/var/tmp/clickd-bench-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(directory, permissions: 0o755)
    }

    /// Measures everything and prints the lines.
    public func run() throws {
        defer { try? FileSystem.removeTree(directory) }
        let cluster = try PrivateCluster.start(directory: "\(directory)/postgres")
        defer { cluster.stop() }
        let stack = ServiceStack(
            directory: directory, port: try SocketAddress.freePort(), cluster: cluster)
        stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
        stack.settings["log"] = "{ level: error, format: text }"
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        defer { stack.stop(removingRings: true) }
        var peers = BenchmarkPeers(sources: sources, directory: directory)
        defer { peers.stop() }
        if parts.contains(.redirects) { try peers.start() }
        try pin(cluster)
        try stack.startClickd()
        if let clickd = stack.clickd { try pin(clickd.id) }
        var lines: [(String, String)] = []
        if parts.contains(.redirects) { lines += try compareRedirects(stack, peers) }
        if parts.contains(.tls) {
            let tls = TLSBenchmark(
                sources: sources, directory: directory, pairs: pairs, seconds: seconds)
            lines += try tls.run(cluster)
        }
        if parts.contains(.flush) {
            let pairs = min(pairs, 3)
            lines.append(("flush/copy", try FlushBenchmark(stack: stack, pairs: pairs).run()))
        }
        for (name, value) in lines { CurrentProcess.writeOutput("\(name) \(value)\n") }
    }

    /// The server's side has the first core, its database too; the load has the second, as if it were
    /// another machine.
    private func pin(_ id: Int32) throws {
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", "0", "\(id)"], output: "/dev/null"
        ).wait()
    }

    /// Pins a running cluster; the processes that it starts later inherit that.
    private func pin(_ cluster: PrivateCluster) throws {
        let file = try FileSystem.read("\(cluster.directory)/data/postmaster.pid")
        let first = String(decoding: file, as: UTF8.self).split(separator: "\n").first
        guard let id = first.flatMap({ Int32($0) }) else { throw StackError("no postmaster.pid") }
        let children = try FileSystem.read("/proc/\(id)/task/\(id)/children")
        let ids = String(decoding: children, as: UTF8.self).split(separator: " ")
        for process in [id] + ids.compactMap({ Int32($0) }) { try pin(process) }
    }

    private func compareRedirects(
        _ stack: ServiceStack, _ peers: BenchmarkPeers
    ) throws -> [(String, String)] {
        var ratios: [String: [Ratio]] = [:]
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        for pair in 1...pairs {
            for peer in peers.running {
                let ours = try measure(clickd, port: stack.port, stack: stack)
                let theirs = try measure(peer.process, port: peer.port, stack: nil)
                report(pair, "clickd", ours)
                report(pair, peer.name, theirs)
                ratios["cpu/\(peer.name)", default: []].append(
                    Ratio(ours.loopNanosecondsPerRequest, theirs.loopNanosecondsPerRequest))
                ratios["process-cpu/\(peer.name)", default: []].append(
                    Ratio(ours.processNanosecondsPerRequest, theirs.processNanosecondsPerRequest))
                ratios["rps/\(peer.name)", default: []].append(
                    Ratio(ours.requestsPerSecond, theirs.requestsPerSecond))
            }
        }
        return [
            "cpu/do-nothing", "process-cpu/do-nothing", "cpu/nginx", "cpu/nginx-log",
            "rps/do-nothing",
            "rps/nginx",
        ].map { ($0, Ratio.median(ratios[$0] ?? [])) }
    }

    private func report(_ pair: Int, _ name: String, _ sample: LoadSample) {
        CurrentProcess.writeOutput(
            "pair \(pair): \(name): \(sample.requestsPerSecond) requests/s, "
                + "\(sample.loopNanosecondsPerRequest) ns/request on its loop, "
                + "\(sample.processNanosecondsPerRequest) ns/request in the process\n")
    }

    /// One run of wrk against a server, with the CPU time that the server's threads used for it.
    private func measure(
        _ process: ChildProcess, port: UInt16, stack: ServiceStack?
    ) throws -> LoadSample {
        let before = try CPUTime(of: process)
        let output = "\(directory)/wrk.txt"
        try? FileSystem.remove(output)
        let code = try ChildProcess.start(
            [
                "taskset", "-c", "1", "wrk", "-t", "1", "-c", "64", "-d", "\(seconds)s",
                "http://127.0.0.1:\(port)/demo",
            ], output: output
        ).wait()
        let text = String(decoding: try FileSystem.read(output), as: UTF8.self)
        guard code == 0, !text.contains("Non-2xx"), !text.contains("Socket errors") else {
            throw StackError("wrk: \(text)")
        }
        let loop = try CPUTime(of: process)
        try stack?.flush()
        let after = try CPUTime(of: process)
        let requests = try LoadSample.requests(in: text)
        return LoadSample(
            requestsPerSecond: requests / seconds,
            loopNanosecondsPerRequest: (loop.loops - before.loops) / requests,
            processNanosecondsPerRequest: (after.process - before.process) / requests)
    }
}

/// What one run gave.
struct LoadSample {
    let requestsPerSecond: Int
    let loopNanosecondsPerRequest: Int
    let processNanosecondsPerRequest: Int

    /// `N requests in …` of wrk's report.
    static func requests(in text: String) throws -> Int {
        for line in text.split(separator: "\n") where line.contains(" requests in ") {
            if let count = line.split(separator: " ").first.flatMap({ Int($0) }), count > 0 {
                return count
            }
        }
        throw StackError("no count of requests in: \(text)")
    }
}

/// CPU time of a process in nanoseconds, from the kernel's own accounting.
struct CPUTime {
    /// Threads whose name begins with `loop` (`schedstat`); the whole process where none does.
    let loops: Int
    /// All threads, those that have ended too (`stat`, in ticks of 10 ms).
    let process: Int

    init(of process: ChildProcess) throws {
        var loops = 0
        for task in try FileSystem.list("/proc/\(process.id)/task") {
            let folder = "/proc/\(process.id)/task/\(task)"
            // A thread that answers operators may end in between.
            guard let name = try? FileSystem.read("\(folder)/comm"), name.starts(with: "loop".utf8),
                let statistics = try? FileSystem.read("\(folder)/schedstat")
            else { continue }
            let fields = String(decoding: statistics, as: UTF8.self).split(separator: " ")
            loops += fields.first.flatMap { Int($0) } ?? 0
        }
        let bytes = try FileSystem.read("/proc/\(process.id)/stat")
        let text = String(decoding: bytes, as: UTF8.self)
        // The name in brackets may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields = (text.split(separator: ")").last ?? "").split(separator: " ")
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
            throw StackError("no CPU time in \(text)")
        }
        self.process = (user + system) * 10_000_000
        if loops == 0 {
            let own = try FileSystem.read("/proc/\(process.id)/schedstat")
            let used = String(decoding: own, as: UTF8.self).split(separator: " ").first
            loops = used.flatMap { Int($0) } ?? self.process
        }
        self.loops = loops
    }
}

/// A ratio of two counts, kept exact until it is printed.
struct Ratio: Comparable {
    let numerator: Int
    let denominator: Int

    init(_ numerator: Int, _ denominator: Int) {
        self.numerator = numerator
        self.denominator = max(1, denominator)
    }

    static func < (left: Ratio, right: Ratio) -> Bool {
        left.numerator * right.denominator < right.numerator * left.denominator
    }
    static func == (left: Ratio, right: Ratio) -> Bool { !(left < right) && !(right < left) }

    /// The middle ratio with three decimals.
    static func median(_ ratios: [Ratio]) -> String {
        guard !ratios.isEmpty else { return "none" }
        let middle = ratios.sorted()[ratios.count / 2]
        let thousandths = (middle.numerator * 1000 + middle.denominator / 2) / middle.denominator
        let decimals = String(thousandths % 1000)
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - decimals.count)
            + decimals
    }
}
