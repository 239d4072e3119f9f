// `make bench`: clickd against nginx and a server that does nothing, run in turn (ours, theirs, ours,
// theirs), each line the median of the paired ratios. CPU time is the kernel's own accounting. What each
// line means is in Benchmarks/README.md.
internal import LinuxIO

/// What can be measured by itself.
public enum BenchmarkPart: String, CaseIterable, Sendable {
    /// Requests against the peers.
    case redirects
    /// Sixteen requests at a time, and one request a connection.
    case connections
    /// Latency at half of nginx's capacity.
    case latency
    /// Ten million links, and no recording.
    case links
    /// TLS against nginx.
    case tls
    /// The way of the clicks into PostgreSQL against psql's.
    case flush
    /// A record into its ring while the disk is saturated.
    case append
    /// What the whole product keeps up with.
    case sustained
}

/// How much is measured.
public struct BenchmarkSize: Sendable {
    /// Pairs of each comparison.
    public var pairs = 5
    /// Seconds of each run.
    public var seconds = 4
    /// Links of the large table.
    public var links = 10_000_000
    /// Whether clickd's services and its database share the core of its loop.
    public var sharesCore = false
    /// The defaults of `make bench`.
    public init() {}
}

/// The comparisons of `Benchmarks/`.
public struct Benchmark {
    let sources: String
    let size: BenchmarkSize
    private let parts: [BenchmarkPart]
    let directory: String

    /// Comparisons of a size; of some parts only, if not all are wanted.
    public init(
        sources: String, size: BenchmarkSize, parts: [BenchmarkPart] = BenchmarkPart.allCases
    ) throws {
        self.parts = parts
        self.sources = sources
        self.size = size
        directory = "/var/tmp/clickd-bench-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(directory, permissions: 0o755)
    }

    /// Measures everything and prints the lines.
    public func run() throws {
        defer { try? FileSystem.removeTree(directory) }
        let cluster = try PrivateCluster.start(directory: "\(directory)/postgres")
        defer { cluster.stop() }
        let stack = try makeStack("clickd", cluster)
        defer { stack.stop(removingRings: true) }
        var peers = BenchmarkPeers(sources: sources, directory: directory)
        defer { peers.stop() }
        let wantsPeers: Set<BenchmarkPart> = [.redirects, .connections, .latency]
        if !wantsPeers.isDisjoint(with: parts) { try peers.start() }
        if size.sharesCore { try Benchmark.pin(cluster) }
        try start(stack)
        var lines: [(String, String)] = []
        for part in BenchmarkPart.allCases where parts.contains(part) {
            switch part {
            case .redirects: lines += try compareRedirects(stack, peers)
            case .connections: lines += try compareConnections(stack, peers)
            case .latency: lines += try compareLatency(stack, peers)
            case .links: lines += try compareLinks(cluster)
            case .tls:
                let tls = TLSBenchmark(
                    sources: sources, directory: directory, pairs: size.pairs,
                    seconds: size.seconds)
                lines += try tls.run(cluster)
            case .flush:
                for (name, core) in [("flush/copy", "1"), ("flush/copy-one-core", "0")] {
                    let flush = FlushBenchmark(stack: stack, pairs: min(size.pairs, 3), core: core)
                    lines.append((name, try flush.run()))
                }
            case .append:
                lines += try AppendBenchmark(directory: directory, seconds: size.seconds * 5).run()
            case .sustained:
                let sustained = BenchmarkSustained(
                    stack: stack, pairs: min(size.pairs, 3), seconds: size.seconds)
                lines += try sustained.run()
            }
        }
        for (name, value) in lines { CurrentProcess.writeOutput("\(name) \(value)\n") }
    }

    // MARK: Servers

    /// A stack of one loop over a database of its own, ready to start.
    func makeStack(
        _ name: String, _ cluster: PrivateCluster, database: String = "clickd",
        settings: [String: String] = [:]
    ) throws -> ServiceStack {
        let stack = ServiceStack(
            directory: "\(directory)/\(name)", port: try SocketAddress.freePort(),
            cluster: cluster, database: database)
        stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
        stack.settings["log"] = "{ level: error, format: text }"
        stack.settings.merge(settings) { $1 }
        try shareKey(with: stack)
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        return stack
    }

    /// Gives a stack the first one's key file: nodes of one database have one key.
    private func shareKey(with stack: ServiceStack) throws {
        let first = "\(directory)/clickd/secrets/click.key"
        guard FileSystem.exists(first) else { return }
        try FileSystem.makeDirectories("\(stack.directory)/secrets")
        let key = try FileSystem.read(first)
        try key.withUnsafeBytes {
            try FileSystem.replace("\(stack.directory)/secrets/click.key", with: $0)
        }
    }

    /// Starts a stack's clickd, its loop on the first core as the peers are.
    func start(_ stack: ServiceStack) throws {
        try stack.startClickd()
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        if size.sharesCore { return try Benchmark.pin(clickd.id) }
        for thread in try CPUTime.loopThreads(of: clickd) {
            try Benchmark.pin(thread, isProcess: false)
        }
    }

    /// Puts a process, or a thread alone, on the first core; the load has the second, as if it were
    /// another machine.
    static func pin(_ id: Int32, isProcess: Bool = true) throws {
        let scope = isProcess ? ["-a"] : []
        try ChildProcess.start(
            ["taskset"] + scope + ["-p", "-c", "0", "\(id)"], output: "/dev/null"
        ).wait()
    }

    /// Pins a running cluster; the processes that it starts later inherit that.
    static func pin(_ cluster: PrivateCluster) throws {
        let file = try FileSystem.read("\(cluster.directory)/data/postmaster.pid")
        let first = String(decoding: file, as: UTF8.self).split(separator: "\n").first
        guard let id = first.flatMap({ Int32($0) }) else { throw StackError("no postmaster.pid") }
        let children = try FileSystem.read("/proc/\(id)/task/\(id)/children")
        let ids = String(decoding: children, as: UTF8.self).split(separator: " ")
        for process in [id] + ids.compactMap({ Int32($0) }) { try pin(process) }
    }

    // MARK: Runs

    /// One run of wrk against a server, with the CPU time that the server's threads used for it.
    ///
    /// - Parameters:
    ///   - stack: The server's stack if it is clickd with its database: what was recorded is flushed
    ///     before the process's time is read.
    func measure(
        _ process: ChildProcess, port: UInt16, _ load: WrkLoad = WrkLoad(),
        flushing stack: ServiceStack? = nil
    ) throws -> LoadSample {
        let before = try CPUTime(of: process)
        let requests = try run(load, port: port)
        let loop = try CPUTime(of: process)
        try stack?.flush()
        let after = try CPUTime(of: process)
        return LoadSample(
            requestsPerSecond: requests / size.seconds,
            loopNanosecondsPerRequest: (loop.loops - before.loops) / requests,
            processNanosecondsPerRequest: (after.process - before.process) / requests)
    }

    /// Runs wrk on the second core, or on both with two threads; the requests that were answered.
    func run(_ load: WrkLoad, port: UInt16) throws -> Int {
        let output = "\(directory)/wrk.txt"
        try? FileSystem.remove(output)
        var command = ["taskset", "-c", load.threads > 1 ? "0,1" : "1", "wrk"]
        command += ["-t", "\(load.threads)", "-c", "\(load.connections)", "-d", "\(size.seconds)s"]
        if let script = load.script { command += ["-s", "\(sources)/\(script)"] }
        for header in load.headers { command += ["-H", header] }
        command += ["http://127.0.0.1:\(port)\(load.path)"]
        if !load.arguments.isEmpty { command += ["--"] + load.arguments }
        let code = try ChildProcess.start(command, output: output).wait()
        let text = String(decoding: try FileSystem.read(output), as: UTF8.self)
        guard code == 0, !text.contains("Non-2xx"), !text.contains("Socket errors") else {
            throw StackError("wrk: \(text)")
        }
        return try LoadSample.requests(in: text)
    }

    func report(_ pair: Int, _ name: String, _ sample: LoadSample) {
        CurrentProcess.writeOutput(
            "pair \(pair): \(name): \(sample.requestsPerSecond) requests/s, "
                + "\(sample.loopNanosecondsPerRequest) ns/request on its loop, "
                + "\(sample.processNanosecondsPerRequest) ns/request in the process\n")
    }
}

/// What wrk is to do.
struct WrkLoad {
    var connections = 64
    /// One leaves the serving thread time to wait; two are more than it can serve.
    var threads = 1
    /// A Lua script of `Benchmarks/`.
    var script: String?
    var headers: [String] = []
    var path = "/demo"
    var arguments: [String] = []
}
