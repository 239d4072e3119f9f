// More load than the edge can carry: what it gets done must not fall, and who watches over it must
// be answered. The edge and its database have the first core, the load has the second.
internal import LinuxIO

/// The campaign of overload.
public struct OverloadCampaign {
    private let seconds: Int

    /// Runs of so many seconds each.
    public init(seconds: Int) { self.seconds = seconds }

    /// Measures the capacity over kept and over new connections, offers 0.5, 1, 2 and 5 times of it, and
    /// prints what came of it.
    /// - Returns: Whether at least nine tenths of the capacity were answered at 2 and 5 times of it.
    public func run() throws -> Bool {
        var isFine = true
        let settings = [
            "limits": "{ per_address: 1000000 }", "http": "", "ops": "",
        ].filter { !$0.value.isEmpty }
        try CampaignStage.with("overload", settings: settings) { stack in
            stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
            try stack.writeConfiguration()
            try stack.startClickd()
            if let clickd = stack.clickd { try CampaignStage.pin(clickd.id, core: 0) }
            try CampaignStage.pin(CurrentProcess.id, core: 1)
            for (name, isReconnecting) in [("kept connections", false), ("new connections", true)] {
                for tenths in [5, 10, 20, 50] {
                    let before = try capacity(stack, isReconnecting)
                    var options = options(stack, isReconnecting)
                    options.rate = max(1, before * tenths / 10)
                    // More than the kernel's queue holds: what the edge cannot take waits or is dropped.
                    if isReconnecting { options.connections = 16_000 }
                    options.timeoutMicroseconds = 2_000_000
                    let answered = try offer(options, tenths, stack, name)
                    let after = try capacity(stack, isReconnecting)
                    CampaignStage.say("\(name): capacity \(before)/s before, \(after)/s after")
                    let capacity = (before + after) / 2
                    if tenths > 10 { isFine = isFine && answered * 10 >= capacity * 9 }
                }
            }
        }
        return isFine
    }

    private func options(_ stack: ServiceStack, _ isReconnecting: Bool) -> PacedLoadOptions {
        var options = PacedLoadOptions(
            server: stack.address, paths: ["/demo"], connections: isReconnecting ? 64 : 1000,
            rate: 2_000_000, seconds: seconds)
        options.isReconnecting = isReconnecting
        options.depth = isReconnecting ? 1 : 16
        options.sources = (2...9).map { SocketAddress(bytes: [127, 0, 0, $0], port: 0) }
        return options
    }

    /// Answers a second to clients that always have something to ask and wait for its answer: right
    /// before and after each run, for one and the same edge does more or less from minute to minute.
    private func capacity(_ stack: ServiceStack, _ isReconnecting: Bool) throws -> Int {
        try PacedLoad(options(stack, isReconnecting)).run().answersInTime / seconds
    }

    private func offer(
        _ options: PacedLoadOptions, _ tenths: Int, _ stack: ServiceStack, _ name: String
    ) throws -> Int {
        let times = "\(tenths / 10).\(tenths % 10)"
        let operations = SocketAddress.loopback(port: stack.port + 1100)
        let visitor = SocketAddress(bytes: [127, 0, 0, 99], port: 0)
        let watches: [(String, AnswerWatch)] = [
            (
                "public /healthz",
                try AnswerWatch(.init(stack.address, "/healthz", status: 200, from: visitor))
            ),
            ("ops /healthz", try AnswerWatch(.init(operations, "/healthz", status: 200))),
            ("ops /metrics", try AnswerWatch(.init(operations, "/metrics", status: 200))),
            ("socket /stats", try AnswerWatch(.init(unix: stack.socket, "/stats"))),
        ]
        let result = try PacedLoad(options).run()
        CampaignStage.say(
            "\(name): \(times) x capacity (\(options.rate)/s offered): \(result.answersInTime / seconds)/s "
                + "answered, statuses \(result.statuses), \(result.failures) failed, "
                + "\(result.unsent) never sent; \(result.latencies.summary)")
        for (what, watch) in watches { CampaignStage.say("  \(what): \(watch.stop().summary)") }
        return result.answers(302) == result.latencies.count ? result.answersInTime / seconds : 0
    }
}
