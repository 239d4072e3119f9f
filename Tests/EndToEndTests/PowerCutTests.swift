// The power goes at a random moment: the disk has what it was given, memory and rings are gone, and the
// machine boots anew. What was acknowledged is asked for in the database of another machine.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Power cuts", .serialized)
struct PowerCutTests {
    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil
    /// Cuts: fifty in the long run.
    private static let cuts = isSoak ? 50 : 4
    /// Rings of the daemon.
    private static let workers = 2
    /// `spool.sync` as it is by default, microseconds.
    private static let syncMicroseconds: Int64 = 100_000

    /// One cut, as the client's clock saw it.
    private struct Cut {
        /// When it came, microseconds of the monotonic clock.
        var at: Int64
        /// How long the daemon had been ready before it.
        var lifeMicroseconds: Int64
        /// When nobody was answered any more.
        var end: Int64
        /// How long a turn of the spooler took before it, at most: as conversions next to it waited, or
        /// as long as the rings' syncs one after the other and the one under way, by a probe's.
        var syncMicroseconds: Int64
    }

    @Test(
        "After power cuts the daemon starts by itself, has every conversion and all clicks but the last",
        .enabled(if: ImageDisk.cutHindrance() == nil, "needs root, loop devices and XFS"))
    func cut() throws {
        try Stacks.with { stack in
            let disk = try ImageDisk(
                directory: "\(stack.directory)/machine", bytes: 768 << 20,
                medium: ImageDisk.memoryMedium(for: stack.directory))
            defer { disk.remove() }
            defer { stack.killClickd() }
            stack.settings["spool"] =
                "{ directory: \(disk.mountPoint)/spool, segment: 1MiB, quota: 640MiB }"
            stack.settings["http"] =
                "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: \(PowerCutTests.workers) }"
            stack.settings["links"] = "{ snapshot: \(disk.mountPoint)/links.snapshot }"
            try stack.writeConfiguration()
            try boot(stack)
            // One sender: its ring is synced on demand, the others' only by the clock.
            let load = try stack.crashLoad(senders: 1)
            var cuts: [Cut] = []
            for number in 1...PowerCutTests.cuts {
                cuts.append(try cutPower(number, stack, disk, load))
                try boot(stack)
            }
            Thread.sleep(microseconds: 200_000)
            let memory = load.finish()
            try stack.flushAll()
            try expectPromises(memory, cuts, stack)
        }
    }

    /// Another boot: no ring, another boot ID, only the disk is as before.
    private func boot(_ stack: ServiceStack) throws {
        try FileSystem.removeTree(stack.ringDirectory)
        let id = "\(stack.directory)/boot_id"
        let bytes = hexadecimalText(Randomness.bytes(16))
        let cuts = [0, 8, 12, 16, 20, 32]
        let text = zip(cuts, cuts.dropFirst()).map { from, to in
            String(bytes.dropFirst(from).prefix(to - from))
        }.joined(separator: "-")
        try Array("\(text)\n".utf8).withUnsafeBytes { try FileSystem.replace(id, with: $0) }
        stack.launcher = [
            "unshare", "-m", "sh", "-c",
            "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"", id,
        ]
        try stack.startClickd()
    }

    /// Lets the machine work for a random time, then takes its power.
    private func cutPower(
        _ number: Int, _ stack: ServiceStack, _ disk: ImageDisk, _ load: CrashLoad
    ) throws -> Cut {
        let daemon = try #require(stack.clickd)
        let before = load.count
        let begun = SystemClock.monotonicNanoseconds() / 1000
        let probe = try SyncProbe("\(disk.mountPoint)/probe")
        _ = load.takeSlowestOrder()
        var random = SystemRandomNumberGenerator()
        Thread.sleep(microseconds: Int64.random(in: 300_000...1_300_000, using: &random))
        let at = SystemClock.monotonicNanoseconds() / 1000
        // Killed, so that nobody is answered by a machine that is dead already: a kill is for all threads
        // at once, where a stop waits for the one that takes the signal. A sync under way goes on.
        daemon.send(.kill)
        try disk.keepState()
        let turn = probe.slowestMicroseconds * Int64(PowerCutTests.workers + 1)
        let slowest = max(load.takeSlowestOrder(), turn)
        let end = SystemClock.monotonicNanoseconds() / 1000
        stack.killClickd()
        probe.stop()
        #expect(load.count > before, "cut \(number) met no traffic")
        try disk.putBackState()
        return Cut(at: at, lifeMicroseconds: at - begun, end: end, syncMicroseconds: slowest)
    }

    private func expectPromises(
        _ memory: CrashMemory, _ cuts: [Cut], _ stack: ServiceStack
    ) throws {
        let verdict = try stack.judge(memory)
        var oldest: Int64 = 0
        var ages = [Int64](repeating: 0, count: cuts.count)
        var late = 0
        var hit = Set<Int>()
        for click in verdict.lostClicks {
            guard let index = cuts.firstIndex(where: { $0.end >= click.sentAt }) else {
                late += 1  // No cut came after it.
                continue
            }
            hit.insert(index)
            let age = cuts[index].at - click.sentAt
            oldest = max(oldest, age)
            ages[index] = max(ages[index], age)
            if age > PowerCutTests.syncMicroseconds + cuts[index].syncMicroseconds { late += 1 }
        }
        for (index, age) in ages.enumerated() {
            print(
                "cut \(index + 1): oldest lost \(age / 1000) ms, a turn's syncs \(cuts[index].syncMicroseconds / 1000) ms, after \(cuts[index].lifeMicroseconds / 1000) ms"
            )
        }
        let syncs = cuts.map(\.syncMicroseconds).sorted()
        let gaps = try stack.count(
            "SELECT count(*) FROM ingest_gaps WHERE cause LIKE 'machine_stopped%'")
        print(
            "\(cuts.count) power cuts: \(memory)\n  \(verdict)\n  \(hit.count) cuts lost clicks, the "
                + "oldest \(oldest / 1000) ms old; a turn's syncs took at most \(syncs[syncs.count / 2] / 1000) ms "
                + "(median of the cuts), \((syncs.last ?? 0) / 1000) ms (worst); \(gaps) gaps recorded"
        )
        let full = try stack.count(
            "SELECT count(*) FROM ingest_gaps WHERE cause LIKE 'ring_full%'")
        #expect(full == 0, "the spool was too small for this load")
        let damaged = try stack.count(
            "SELECT count(*) FROM ingest_gaps WHERE cause LIKE 'ring_damaged%'")
        let evidence = try stack.losses(verdict)
        #expect(damaged == 0, "\(evidence)")
        #expect(late == 0, "\(late) clicks were older than spool.sync and a sync")
        for order in verdict.lostOrders {
            let next = cuts.firstIndex { $0.end >= order.answeredAt }
            let cut = next.map { "\(cuts[$0].at - order.answeredAt) us before cut \($0 + 1)" }
            print("\(order.order) was answered \(cut ?? "after the last cut") and is no sale")
        }
        let isExact = verdict.duplicates == 0 && verdict.invented == 0
        #expect(verdict.lostOrders.isEmpty && isExact, "\(evidence)")
        #expect(!hit.isEmpty, "no cut took anything: the fault did not happen")
        #expect(memory.orders.count > cuts.count)
        #expect(gaps > 0)
    }
}
