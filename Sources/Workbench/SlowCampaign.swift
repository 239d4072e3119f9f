// slowhttptest's four modes against the real edge, and a visitor beside them who must not notice.
internal import LinuxIO

/// The campaign of slow clients.
public struct SlowCampaign {
    private let connections: Int
    private let seconds: Int

    /// So many connections of slow clients, for so many seconds in each mode.
    public init(connections: Int, seconds: Int) {
        self.connections = connections
        self.seconds = seconds
    }

    private struct Mode {
        let name: String
        let path: String
        let options: [String]
    }

    private static let modes = [
        Mode(
            name: "slow headers (-H)", path: "demo",
            options: ["-H", "-i", "1", "-t", "GET", "-x", "24"]),
        Mode(
            name: "slow body (-B)", path: "postback",
            options: ["-B", "-i", "1", "-s", "8192", "-t", "POST", "-x", "10"]),
        Mode(
            name: "range (-R)", path: "demo",
            options: ["-R", "-t", "HEAD", "-a", "10", "-b", "3000"]),
        Mode(
            name: "slow read (-X)", path: "t.js",
            options: ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"]),
    ]

    /// Runs every mode with the default limits, then with `limits.per_address` out of the way, and
    /// prints the visitor's worst wait of each.
    /// - Returns: Whether the visitor was always answered within a second.
    public func run() throws -> Bool {
        var isFine = true
        for (name, limits) in [
            ("default limits", "{}"), ("per_address raised", "{ per_address: 1000000 }"),
        ] {
            try CampaignStage.with("slow", settings: ["limits": limits]) { stack in
                try stack.startClickd()
                for mode in SlowCampaign.modes {
                    let (seen, defence) = try attack(stack, mode)
                    let fine = seen.failures == 0 && seen.latencies.maximum <= 1_000_000
                    isFine = isFine && fine
                    CampaignStage.say("\(name): \(mode.name): visitor: \(seen.summary); \(defence)")
                }
            }
        }
        return isFine
    }

    private func attack(
        _ stack: ServiceStack, _ mode: Mode
    ) throws -> (WatchResult, String) {
        let names = ["accepted", "given_way", "timed_out", "refused"]
        let before = try names.map { try stack.metric("connections_\($0)_total") }
        let watch = try AnswerWatch(
            AnswerWatch.Question(
                stack.address, "/demo", status: 302,
                from: SocketAddress(bytes: [127, 0, 0, 2], port: 0)))
        let end = SystemClock.monotonicNanoseconds() / 1_000_000_000 + Int64(seconds)
        var most = 0
        var runs = 0
        while true {
            let left = end - SystemClock.monotonicNanoseconds() / 1_000_000_000
            guard left > 0 else { break }
            runs += 1
            let attacker = try ChildProcess.start(
                ["slowhttptest", "-c", "\(connections)", "-r", "1000", "-l", "\(left)", "-p", "3"]
                    + mode.options + ["-u", "\(stack.url)/\(mode.path)"],
                output: "\(stack.directory)/log/slowhttptest.log")
            while attacker.poll() == nil {
                most = max(most, try stack.metric("connections"))
                Thread.sleep(microseconds: 200_000)
            }
        }
        let seen = watch.stop()
        let after = try names.map { try stack.metric("connections_\($0)_total") }
        let counts = zip(names, zip(before, after)).map { "\($0) \($1.1 - $1.0)" }
        guard after[0] - before[0] > connections / 2 else {
            throw StackError("slowhttptest made too few connections: \(counts)")
        }
        return (
            seen,
            "edge: \(counts.joined(separator: ", ")), at most \(most) open, \(runs) attacks in \(seconds) s"
        )
    }
}
