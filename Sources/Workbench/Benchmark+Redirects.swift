// Requests one by one, sixteen at a time and one a connection, against the peers.
internal import LinuxIO

extension Benchmark {
    /// 64 keep-alive connections, one request at a time.
    func compareRedirects(
        _ stack: ServiceStack, _ peers: BenchmarkPeers
    ) throws -> [(String, String)] {
        var ratios: [String: [Ratio]] = [:]
        var calls: [Ratio] = []
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        for pair in 1...size.pairs {
            for peer in peers.running {
                let before = try SystemCalls(of: stack)
                let ours = try measure(clickd, port: stack.port, flushing: stack)
                calls.append(try SystemCalls(of: stack).ratio(since: before))
                let theirs = try measure(peer.process, port: peer.port)
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
        let names = [
            "cpu/do-nothing", "process-cpu/do-nothing", "cpu/nginx", "cpu/nginx-log",
            "rps/do-nothing", "rps/nginx",
        ]
        return names.map { ($0, Ratio.median(ratios[$0] ?? [])) }
            + [
                ("syscalls/request", Ratio.median(calls)),
                ("syscalls/request-saturated", Ratio.median(try saturate(stack))),
            ]
    }

    /// System calls for a request when the load is more than the loop can serve, so that every wait
    /// finds many connections ready.
    private func saturate(_ stack: ServiceStack) throws -> [Ratio] {
        try (1...size.pairs).map { _ in
            let before = try SystemCalls(of: stack)
            _ = try run(WrkLoad(threads: 2), port: stack.port)
            try stack.flush()
            return try SystemCalls(of: stack).ratio(since: before)
        }
    }

    /// What a CPU second of the serving thread answers, against nginx: sixteen requests at a time,
    /// and a connection for each.
    func compareConnections(
        _ stack: ServiceStack, _ peers: BenchmarkPeers
    ) throws -> [(String, String)] {
        guard let clickd = stack.clickd,
            let nginx = peers.running.first(where: { $0.name == "nginx" })
        else { throw StackError("clickd or nginx is not running") }
        let loads = [
            ("pipelined/nginx", WrkLoad(script: "pipeline.lua")),
            ("new-connection/nginx", WrkLoad(headers: ["Connection: close"])),
        ]
        return try loads.map { name, load in
            var ratios: [Ratio] = []
            for pair in 1...size.pairs {
                let ours = try measure(clickd, port: stack.port, load, flushing: stack)
                let theirs = try measure(nginx.process, port: nginx.port, load)
                report(pair, "\(name): clickd", ours)
                report(pair, "\(name): nginx", theirs)
                ratios.append(
                    Ratio(theirs.loopNanosecondsPerRequest, ours.loopNanosecondsPerRequest))
            }
            return (name, Ratio.median(ratios))
        }
    }
}

/// System calls of a daemon's loops and the requests that they were for, by its own count.
struct SystemCalls {
    let calls: Int
    let requests: Int

    init(of stack: ServiceStack) throws {
        let text = try stack.ask("/metrics").text
        var calls = 0
        var requests = 0
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let value = line.split(separator: " ").last.flatMap { Int($0) } ?? 0
            if line.hasPrefix("clickd_loop_calls_total") { calls += value }
            if line.hasPrefix("clickd_requests_total") { requests += value }
        }
        self.calls = calls
        self.requests = requests
    }

    func ratio(since before: SystemCalls) -> Ratio {
        Ratio(calls - before.calls, requests - before.requests)
    }
}
