// sustained-clicks/s: what two cores keep up with, everything running: the load, clickd, PostgreSQL and
// the way of each click into it; beside the same load with the flush switched off.
internal import LinuxIO

/// The same load with and without a database to flush to.
struct BenchmarkSustained {
    let stack: ServiceStack
    let pairs: Int
    let seconds: Int

    /// The lines `sustained-clicks/s` and `sustained/flush-off`, medians.
    func run() throws -> [(String, String)] {
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", "0,1", "\(clickd.id)"], output: "/dev/null"
        ).wait()
        var sustained: [Int] = []
        var ratios: [Ratio] = []
        for pair in 1...pairs {
            try stack.flush()
            _ = try stack.psql("TRUNCATE clicks_logs", ["-q"])
            let ours = try withFlush()
            stack.cluster.stop()
            let bare = try load() / seconds
            try stack.cluster.start()
            while (try? stack.flush()) == nil { Thread.sleep(microseconds: 100_000) }
            CurrentProcess.writeOutput(
                "pair \(pair): sustained \(ours) clicks/s, flush off \(bare) clicks/s\n")
            sustained.append(ours)
            ratios.append(Ratio(ours, bare))
        }
        return [
            ("sustained-clicks/s", "\(sustained.sorted()[sustained.count / 2])"),
            ("sustained/flush-off", Ratio.median(ratios)),
        ]
    }

    /// Clicks over the time until the last of them is committed.
    private func withFlush() throws -> Int {
        let start = SystemClock.monotonicNanoseconds()
        let clicks = try load()
        while (try? stack.flush()) == nil {}
        let elapsed = SystemClock.monotonicNanoseconds() - start
        return clicks * 1_000_000_000 / max(1, Int(elapsed))
    }

    private func load() throws -> Int {
        let output = "\(stack.directory)/wrk.txt"
        try? FileSystem.remove(output)  // A child's output is appended.
        let code = try ChildProcess.start(
            ["wrk", "-t", "1", "-c", "64", "-d", "\(seconds)s", "\(stack.url)/demo"],
            output: output
        ).wait()
        guard code == 0 else { throw StackError("wrk failed") }
        return try LoadSample.requests(
            in: String(decoding: try FileSystem.read(output), as: UTF8.self))
    }
}
