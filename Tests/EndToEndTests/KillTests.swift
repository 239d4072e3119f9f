// The process killed at random moments under load, with an oracle outside; and the start after a kill
// over a large backlog.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Kills", .serialized)
struct KillTests {
    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil
    /// Deaths: two hundred in the long run.
    private static let kills = isSoak ? 200 : 8
    /// Bytes of records that wait for the database: a gibibyte in the long run.
    private static let backlogBytes = isSoak ? 1 << 30 : 64 << 20
    /// Seconds that a start may take over that backlog.
    private static let recoverySeconds = 2
    /// Requests a second below which a campaign proves little, in the long run.
    private static let leastRate = 5000

    @Test("Killed at random moments under load, nothing answered is lost, doubled or invented")
    func killed() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let load = try stack.crashLoad()
            var random = SystemRandomNumberGenerator()
            var rates: [Int] = []
            var starts: [Int64] = []
            for round in 1...KillTests.kills {
                let begun = SystemClock.monotonicNanoseconds()
                let before = load.count
                // Every fourth life is long enough for the flusher to be killed in its midst.
                let isLong = round % 4 == 0
                if isLong { try awaitFlush(stack) }
                let range: ClosedRange<Int64> = isLong ? 0...1_500_000 : 150_000...900_000
                Thread.sleep(microseconds: Int64.random(in: range, using: &random))
                let served = load.count - before
                let elapsed = SystemClock.monotonicNanoseconds() - begun
                stack.killClickd()
                #expect(served > 0, "kill \(round) met no traffic")
                rates.append(Int(Int64(served) * 1_000_000_000 / elapsed))
                let restart = SystemClock.monotonicNanoseconds()
                try stack.startClickd()
                starts.append((SystemClock.monotonicNanoseconds() - restart) / 1_000_000)
                if KillTests.isSoak {
                    print(
                        "kill \(round): \(rates[round - 1]) requests/s, start \(starts[round - 1]) ms"
                    )
                }
            }
            Thread.sleep(microseconds: 200_000)
            let memory = load.finish()
            let flushed = try stack.count("SELECT count(*) FROM clicks_logs")
            try stack.flushAll()
            let verdict = try stack.judge(memory)
            let slowest = starts.max() ?? 0
            rates.sort()
            print(
                "\(KillTests.kills) kills: \(memory)\n  requests/s: least \(rates[0]), "
                    + "median \(rates[rates.count / 2]); slowest start \(slowest) ms\n  \(flushed) clicks flushed between the kills; \(verdict)"
            )
            #expect(flushed > 0, "no kill met the flusher")
            let evidence = try stack.losses(verdict)
            let isWhole = verdict.lostClicks.isEmpty && verdict.lostOrders.isEmpty
            #expect(isWhole, "\(evidence)")
            // Nor is anything called lost: what a killed process had is all in the ring.
            let gaps = try stack.count("SELECT count(*) FROM ingest_gaps")
            #expect(gaps == 0, "\(evidence)")
            #expect(verdict.duplicates == 0 && verdict.invented == 0, "\(verdict)")
            #expect(memory.openMarks.count >= KillTests.kills, "no kill met a request: \(memory)")
            #expect(!memory.orders.isEmpty)
            if KillTests.isSoak { #expect(rates[rates.count / 2] >= KillTests.leastRate) }
        }
    }

    /// Waits until the flusher has committed once more.
    private func awaitFlush(_ stack: ServiceStack) throws {
        let cursors = "SELECT sum(next_seq) FROM ingest_cursors WHERE stream = 1"
        let before = try stack.count(cursors)
        for _ in 0..<200 {
            if try stack.count(cursors) > before { return }
            Thread.sleep(microseconds: 50_000)
        }
        Issue.record("nothing was flushed in ten seconds")
    }

    @Test("Killed with a backlog on disk, the daemon is ready again within two seconds")
    func backlog() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            try stack.awaitSnapshot()
            try stack.setDatabase(away: true)
            let answered = try fillSpool(stack)
            let bytes = try stack.statistic("spool", "used_bytes")
            #expect(bytes >= KillTests.backlogBytes)
            for isCold in [false, true] {
                stack.killClickd()
                if isCold { try evict(stack) }
                let begun = SystemClock.monotonicNanoseconds()
                try stack.startClickd()
                let ready = (SystemClock.monotonicNanoseconds() - begun) / 1_000_000
                print(
                    "\(bytes >> 20) MiB unflushed, killed, \(isCold ? "read from disk" : "in memory"): "
                        + "ready after \(ready) ms")
                #expect(ready <= KillTests.recoverySeconds * 1000)
            }
            #expect(try stack.statistic("spool", "used_bytes") >= bytes)
            try stack.setDatabase(away: false)
            let begun = SystemClock.monotonicNanoseconds()
            try stack.flushAll()
            let seconds = (SystemClock.monotonicNanoseconds() - begun) / 1_000_000_000 + 1
            let rows = try stack.count("SELECT count(*) FROM clicks_logs")
            print("  \(rows) rows of \(answered) clicks answered, flushed within \(seconds) s")
            #expect(rows == answered)
            #expect(
                try stack.count("SELECT count(*) - count(DISTINCT click_id) FROM clicks_logs") == 0)
        }
    }

    /// Clicks, one in four with long sub-ids, until the spool has the backlog; how many were answered.
    private func fillSpool(_ stack: ServiceStack) throws -> Int {
        let long = (1...8).map { "sub\($0)=" + String(repeating: "x", count: 250) }
        let paths = ["/demo", "/s2", "/s3", "/s4?" + long.joined(separator: "&")]
        var answered = 0
        for _ in 0..<600 where try stack.statistic("spool", "used_bytes") < KillTests.backlogBytes {
            var options = PacedLoadOptions(
                server: stack.address, paths: paths, connections: 64,
                rate: KillTests.isSoak ? 30_000 : 15_000, seconds: KillTests.isSoak ? 5 : 2)
            options.depth = 16
            let result = try PacedLoad(options).run()
            #expect(result.failures == 0)
            answered += result.answers(302)
        }
        return answered
    }

    /// Has the kernel forget the pages of the spool's files.
    private func evict(_ stack: ServiceStack) throws {
        try stack.expect(
            stack.run([
                "sh", "-c",
                "for f in \"$0\"/*; do dd if=\"$f\" iflag=nocache count=0 2>/dev/null; done",
                "\(stack.directory)/spool",
            ]))
    }
}
