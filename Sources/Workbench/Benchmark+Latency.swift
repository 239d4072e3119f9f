// p999/nginx: latency of a paced load at half of what nginx can do.
internal import LinuxIO

extension Benchmark {
    /// The 99.9th percentile from the intended send time, ours over nginx's.
    ///
    /// The client has the second core; our spooler, flusher and PostgreSQL work meanwhile. clickd has the
    /// weight that its unit gives it.
    func compareLatency(
        _ stack: ServiceStack, _ peers: BenchmarkPeers
    ) throws -> [(String, String)] {
        guard let nginx = peers.running.first(where: { $0.name == "nginx" }) else {
            throw StackError("nginx is not running")
        }
        if let clickd = stack.clickd { SessionWeight.set(SessionWeight.edge, of: clickd.id) }
        defer {
            if let clickd = stack.clickd {
                SessionWeight.set(SessionWeight.ordinary, of: clickd.id)
            }
        }
        let rate = try run(WrkLoad(), port: nginx.port) / size.seconds / 2
        var ratios: [Ratio] = []
        for pair in 1...size.pairs {
            let ours = try pace(stack.port, rate: rate)
            try stack.flush()
            let theirs = try pace(nginx.port, rate: rate)
            CurrentProcess.writeOutput(
                "pair \(pair): latency at \(rate) requests/s: p50 p99 p99.9 of clickd "
                    + "\(ours.text) us, of nginx \(theirs.text) us\n")
            ratios.append(Ratio(ours.p999, theirs.p999))
        }
        return [("p999/nginx", Ratio.median(ratios))]
    }

    private struct Latency {
        let p50, p99, p999: Int
        var text: String { "\(p50) \(p99) \(p999)" }
    }

    private func pace(_ port: UInt16, rate: Int) throws -> Latency {
        let output = "\(directory)/pace.txt"
        try? FileSystem.remove(output)
        let client = try ChildProcess.start(
            [
                "taskset", "-c", "1", FileSystem.realPath("/proc/self/exe"), "pace", "--port",
                "\(port)",
                "--rate", "\(rate)", "--seconds", "\(2 * size.seconds)",
            ], output: output, ownSession: true)
        // What else works on the machine shall delay the server, not the one who measures it.
        SessionWeight.set(SessionWeight.apart, of: client.id)
        let code = client.wait()
        let text = String(decoding: try FileSystem.read(output), as: UTF8.self)
        let numbers = text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        guard code == 0, numbers.count == 3 else { throw StackError("pace: \(text)") }
        return Latency(p50: numbers[0], p99: numbers[1], p999: numbers[2])
    }
}

/// One paced run, for a process of its own.
public enum PacedRun {
    /// 64 kept-alive connections at a rate; median, 99th and 99.9th percentile in microseconds.
    public static func run(port: UInt16, rate: Int, seconds: Int) throws -> String {
        Thread.wakeSoon()
        let load = try PacedLoad(
            PacedLoadOptions(
                server: .loopback(port: port), paths: ["/demo"], connections: 64, rate: rate,
                seconds: seconds))
        let result = load.run()
        guard result.failures == 0, result.answers(302) == result.latencies.count,
            result.latencies.count > 0
        else {
            throw StackError(
                "\(result.failures) failures, \(result.answers(302)) of "
                    + "\(result.latencies.count) answers are 302")
        }
        // What fell due and was never sent waited longer than all that was: where it is more than a
        // thousandth, the longest wait stands for the last percentile.
        let isOverrun = result.unsent * 1000 >= result.latencies.count
        let parts = [500_000, 990_000, isOverrun ? 1_000_000 : 999_000]
        return parts.map { "\(result.latencies.percentile(partsPerMillion: $0))" }
            .joined(separator: " ")
    }
}
