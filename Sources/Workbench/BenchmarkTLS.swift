// The TLS lines of `make bench`: clickd against nginx with the same certificate and the same libssl. Each
// named line is the ratio of requests per CPU second of the server; the -rps lines beside them are the
// ratio of requests per second, which for handshakes is the load's limit more than the server's.
internal import LinuxIO
internal import TLS

/// clickd and nginx over TLS, on the first core.
struct TLSBenchmark {
    let sources: String
    let directory: String
    let pairs: Int
    let seconds: Int
    /// Connections of the comparison of idle memory.
    var idleConnections = 5000

    private struct Server {
        let name: String
        let port: UInt16
        let process: ChildProcess
        let owner: ChildProcess?
    }

    /// Measures and prints each run; the lines.
    func run(_ cluster: PrivateCluster) throws -> [(String, String)] {
        let authority = try PrivateAuthority(directory: "\(directory)/authority")
        let files = try authority.issue("tls", names: ["go.example"], kind: .ecdsa)
        let stack = try startClickd(cluster, files)
        defer { stack.stack.stop(removingRings: true) }
        let nginx = try startNginx(files)
        defer {
            nginx.owner?.send(.terminate)
            nginx.owner?.wait()
        }
        let ours = Server(
            name: "clickd", port: stack.port, process: stack.process, owner: nil)
        for server in [ours, nginx] { try waitForAnswer(server) }
        var lines: [(String, String)] = []
        for load in ["tls-keepalive", "tls-handshake", "tls-resumed"] {
            lines += try compare(load, ours, nginx)
        }
        return lines + [try compareMemory(ours, nginx)]
    }

    private func compare(
        _ load: String, _ ours: Server, _ theirs: Server
    ) throws -> [(String, String)] {
        var perSecond: [Ratio] = []
        var perCPUSecond: [Ratio] = []
        for pair in 1...pairs {
            let mine = try measure(load, pair, ours)
            let other = try measure(load, pair, theirs)
            perSecond.append(Ratio(mine.requestsPerSecond, other.requestsPerSecond))
            // Requests per CPU second, ours over theirs.
            perCPUSecond.append(
                Ratio(other.loopNanosecondsPerRequest, mine.loopNanosecondsPerRequest))
        }
        return [
            ("\(load)/nginx", Ratio.median(perCPUSecond)),
            ("\(load)-rps/nginx", Ratio.median(perSecond)),
        ]
    }

    private func measure(_ load: String, _ pair: Int, _ server: Server) throws -> LoadSample {
        let output = "\(directory)/tls-load.txt"
        try? FileSystem.remove(output)
        let before = try CPUTime(of: server.process)
        let code = try ChildProcess.start(
            ["taskset", "-c", "1"] + command(load, server.port), output: output
        ).wait()
        let after = try CPUTime(of: server.process)
        let text = String(decoding: try FileSystem.read(output), as: UTF8.self)
        guard code == 0, !text.contains("Non-2xx"), !text.contains("Socket errors") else {
            throw StackError("\(load): \(server.name): \(text)")
        }
        let requests = try LoadSample.requests(in: text)
        let sample = LoadSample(
            requestsPerSecond: requests / seconds,
            loopNanosecondsPerRequest: (after.loops - before.loops) / requests,
            processNanosecondsPerRequest: (after.process - before.process) / requests)
        CurrentProcess.writeOutput(
            "pair \(pair): \(load): \(server.name): \(sample.requestsPerSecond) requests/s, "
                + "\(sample.loopNanosecondsPerRequest) ns/request on its loop\n")
        return sample
    }

    private func command(_ load: String, _ port: UInt16) -> [String] {
        switch load {
        case "tls-handshake", "tls-resumed":
            [
                "\(ServiceStack.binaryDirectory())/clickd-workbench", "tls-load", "--port",
                "\(port)", "--mode", load == "tls-resumed" ? "resumed" : "full", "--threads", "8",
                "--seconds", "\(seconds)",
            ]
        default:
            [
                "wrk", "-t", "1", "-c", "64", "-d", "\(seconds)s",
                "https://127.0.0.1:\(port)/demo",
            ]
        }
    }

    // MARK: Idle memory

    private func compareMemory(_ ours: Server, _ theirs: Server) throws -> (String, String) {
        let mine = try bytesPerIdleConnection(ours)
        let other = try bytesPerIdleConnection(theirs)
        for (server, bytes) in [(ours, mine), (theirs, other)] {
            CurrentProcess.writeOutput(
                "\(idleConnections) idle TLS connections: \(server.name): \(bytes) bytes each\n")
        }
        return ("tls-idle-bytes/nginx", Ratio.median([Ratio(mine, other)]))
    }

    /// Private memory that the server has more with the connections than without.
    private func bytesPerIdleConnection(_ server: Server) throws -> Int {
        let output = "\(directory)/tls-hold.txt"
        try? FileSystem.remove(output)
        let before = try TLSBenchmark.anonymousBytes(of: server.process)
        let holder = try ChildProcess.start(
            [
                "\(ServiceStack.binaryDirectory())/clickd-workbench", "tls-load", "--port",
                "\(server.port)", "--mode", "hold", "--threads", "\(idleConnections)",
            ], output: output)
        defer {
            holder.send(.kill)
            holder.wait()
        }
        let end = SystemClock.monotonicNanoseconds() + 120_000_000_000
        while SystemClock.monotonicNanoseconds() < end {
            let text = String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
            if text.contains("holding \(idleConnections)") {
                let after = try TLSBenchmark.anonymousBytes(of: server.process)
                return (after - before) / idleConnections
            }
            if holder.poll() != nil { throw StackError("tls-load: \(text)") }
            Thread.sleep(microseconds: 50_000)
        }
        throw StackError("\(server.name): the idle connections were not open after two minutes")
    }

    private static func anonymousBytes(of process: ChildProcess) throws -> Int {
        let file = try FileSystem.read("/proc/\(process.id)/status")
        for line in String(decoding: file, as: UTF8.self).split(separator: "\n")
        where line.hasPrefix("RssAnon:") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if words.count > 1, let kilobytes = Int(words[1]) { return kilobytes << 10 }
        }
        throw StackError("no RssAnon of \(process.id)")
    }

    // MARK: Servers

    private func startClickd(
        _ cluster: PrivateCluster, _ files: TLSCertificateFiles
    ) throws -> (stack: ServiceStack, port: UInt16, process: ChildProcess) {
        try cluster.script("CREATE DATABASE clickd_tls")
        let folder = "\(directory)/clickd-tls"
        try FileSystem.makeDirectories(folder, permissions: 0o755)
        let stack = ServiceStack(
            directory: folder, port: try SocketAddress.freePort(), cluster: cluster,
            database: "clickd_tls")
        let port = try SocketAddress.freePort()
        stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
        stack.settings["https"] =
            "{ listen: [\"127.0.0.1:\(port)\"], certificates: "
            + "[{ certificate: \(files.certificate), key: \(files.key) }] }"
        stack.settings["limits"] = "{ idle_timeout: 1h, per_address: 100000 }"
        stack.settings["log"] = "{ level: error, format: text }"
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        try stack.startClickd()
        guard let process = stack.clickd else { throw StackError("clickd is not running") }
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", "0", "\(process.id)"], output: "/dev/null"
        ).wait()
        return (stack, port, process)
    }

    private func startNginx(_ files: TLSCertificateFiles) throws -> Server {
        let port = try SocketAddress.freePort()
        let folder = "\(directory)/nginx-tls"
        try FileSystem.makeDirectories(folder, permissions: 0o755)
        let map = (1...SampleData.links).map {
            "        /\(SampleData.slug($0)) https://shop.example/products/\($0)?ref=clickd;\n"
        }.joined()
        let template = try FileSystem.read("\(sources)/nginx-tls.conf")
        let text = String(decoding: template, as: UTF8.self)
            .replacing("@DIR@", with: folder).replacing("@MAP@", with: map)
            .replacing("@PORT@", with: "\(port)")
            .replacing("@CERTIFICATE@", with: files.certificate)
            .replacing("@KEY@", with: files.key)
        try Array(text.utf8).withUnsafeBytes {
            try FileSystem.replace("\(folder)/nginx.conf", with: $0, permissions: 0o644)
        }
        let master = try ChildProcess.start(
            [
                "setpriv", "--pdeathsig", "TERM", "taskset", "-c", "0", "nginx", "-p", folder, "-c",
                "\(folder)/nginx.conf",
            ], output: "\(directory)/nginx-tls.log", ownSession: true)
        for _ in 0..<500 {
            let path = "/proc/\(master.id)/task/\(master.id)/children"
            let children = String(decoding: (try? FileSystem.read(path)) ?? [], as: UTF8.self)
            if let id = children.split(separator: " ").first.flatMap({ Int32($0) }) {
                return Server(
                    name: "nginx", port: port, process: ChildProcess(id: id), owner: master)
            }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("nginx started no worker")
    }

    private func waitForAnswer(_ server: Server) throws {
        for _ in 0..<500 {
            if (try? TLSLoad(port: server.port, mode: .full).probe()) != nil { return }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("\(server.name) does not answer over TLS")
    }
}
