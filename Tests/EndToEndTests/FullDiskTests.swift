// Places that are full or cannot be written any more: told, counted, survived, made good when there is
// room again; never a signal, never silence.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Full disks", .serialized)
struct FullDiskTests {
    /// A mount that ends with the test.
    private static func withMemoryDisk(
        _ bytes: Int, at path: String, _ stack: ServiceStack, _ body: () throws -> Void
    ) throws {
        try FileSystem.makeDirectories(path)
        try stack.expect(
            stack.run(["mount", "-t", "tmpfs", "-o", "size=\(bytes),mode=0700", "none", path]))
        defer { _ = try? stack.run(["umount", "-l", path]) }
        try body()
    }

    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil
    private static let mayMount = ImageDisk.mayMount
    private static let hasDisks = ImageDisk.hindrance() == nil

    @Test(
        "Rings that do not fit into their memory are refused with 73 and the sizes, before any port",
        .enabled(if: mayMount, "needs root"))
    func smallRingMemory() throws {
        try Stacks.with { stack in
            let path = "\(stack.directory)/rings"
            try FullDiskTests.withMemoryDisk(1 << 20, at: path, stack) {
                stack.settings["ring"] = "{ directory: \(path) }"
                try stack.writeConfiguration()
                let result = try stack.run([
                    "\(stack.binaries)/clickd", "run", "--config", stack.configuration,
                ])
                #expect(result.code == 73, "\(result.output)")
                #expect(result.output.contains(path), "\(result.output)")
                #expect(result.output.contains("\(16 << 20)") || result.output.contains("bytes"))
                #expect(throws: ProbeError.system(.connectionRefused)) {
                    _ = try HTTPProbe(stack.address)
                }
            }
        }
    }

    @Test(
        "A memory disk smaller than the quota fills: clicks are redirected, counted as dropped and alarmed; it ends with room",
        .enabled(if: mayMount, "needs root"))
    func fullMemoryDisk() throws {
        try Stacks.with { stack in
            let path = "\(stack.directory)/small"
            try FullDiskTests.withMemoryDisk(12 << 20, at: path, stack) {
                defer { stack.killClickd() }
                try fillUp(stack, spool: path) {
                    try stack.expect(
                        stack.run(["mount", "-o", "remount,size=\(256 << 20)", path]))
                }
            }
        }
    }

    @Test(
        "A disk that another program has filled is met the same way",
        .enabled(if: hasDisks && isSoak, "needs root and loop devices, and CLICKD_SOAK=1"))
    func fullDisk() throws {
        try Stacks.with { stack in
            let disk = try ImageDisk(directory: "\(stack.directory)/machine", bytes: 64 << 20)
            defer { disk.remove() }
            defer { stack.killClickd() }
            let ballast = "\(disk.mountPoint)/ballast"
            let free = try FileSystem.availableBytes(disk.mountPoint)
            try stack.expect(
                stack.run(["fallocate", "-l", "\(free - 12 << 20)", ballast]))
            try fillUp(stack, spool: "\(disk.mountPoint)/spool") {
                try FileSystem.remove(ballast)
            }
        }
    }

    @Test(
        "A file system that turns read-only under load is durability lost at once; after its repair all is flushed once",
        .enabled(if: hasDisks, "needs root and loop devices"))
    func readOnlyDisk() throws {
        try Stacks.with { stack in
            let disk = try ImageDisk(directory: "\(stack.directory)/machine", bytes: 64 << 20)
            defer { disk.remove() }
            defer { stack.killClickd() }
            stack.settings["spool"] =
                "{ directory: \(disk.mountPoint)/spool, segment: 1MiB, quota: 32MiB }"
            try stack.writeConfiguration()
            try stack.startClickd()
            let load = try stack.crashLoad(clients: 2, senders: 1)
            Thread.sleep(microseconds: 500_000)
            try disk.turnReadOnly()
            try stack.expectDurabilityLost()
            let refused = try stack.convert(order: "on-a-dead-disk", token: nil)
            #expect(refused.status == 503 && refused.header("retry-after") != nil)
            _ = try stack.click()
            let memory = load.finish()
            #expect(try stack.statistic("clicks", "dropped") == 0)
            stack.killClickd()
            try disk.repair()
            try stack.startClickd()
            try stack.flushAll()
            let verdict = try stack.judge(memory)
            print("read-only disk: \(memory)\n  \(verdict)")
            #expect(verdict.lostClicks.isEmpty && verdict.lostOrders.isEmpty, "\(verdict)")
            #expect(verdict.duplicates == 0, "\(verdict)")
            // One click of the test's own has no mark that the load knows.
            #expect(verdict.invented == 1, "\(verdict)")
            #expect(try stack.ask("/readyz").status == 200)
        }
    }

    /// Fills the spool, whose quota is beyond the disk, without a database.
    ///
    /// Looks at every sign of it, makes room, and expects what was recorded in the database and what was
    /// not in `ingest_gaps`.
    private func fillUp(
        _ stack: ServiceStack, spool: String, makeRoom: () throws -> Void
    ) throws {
        stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
        stack.settings["spool"] = "{ directory: \(spool), segment: 1MiB, quota: 1GiB }"
        stack.settings["limits"] = "{ commit_wait: 1s }"
        stack.settings["ring"] = "{ directory: \(stack.ringDirectory), bytes: 1MiB }"
        try stack.writeConfiguration()
        try stack.startClickd()
        try stack.awaitSnapshot()
        let post = try stack.signedPosts()
        try stack.setDatabase(away: true)
        var recorded = try stack.statistic("clicks", "recorded")
        for second in 1...60 {
            let full = try load(stack, seconds: 1)
            #expect(full.failures == 0 && full.answers(302) == full.latencies.count)
            let now = try stack.statistic("clicks", "recorded")
            if now == recorded { break }
            recorded = now
            #expect(second < 60, "the disk did not fill")
        }
        #expect(recorded > 0)
        #expect(try stack.statistic("clicks", "dropped") > 10_000)
        try expectSigns(stack, post)
        try makeRoom()
        for _ in 0..<100 {
            if try stack.send(post("with-room")).status == 200 { break }
            Thread.sleep(microseconds: 100_000)
        }
        #expect(try stack.send(post("with-room")).status == 200)
        _ = try stack.click()
        try stack.setDatabase(away: false)
        Thread.sleep(microseconds: 1_500_000)
        #expect(try stack.ask("/metrics").text.contains("\nclickd_spool_disk_full 0\n"))
        // The note of the drops is written when they have ended for a while.
        Thread.sleep(microseconds: 2_000_000)
        try stack.flushAll()
        let counted = try stack.statistic("clicks", "dropped")
        recorded = try stack.statistic("clicks", "recorded")
        print("full at \(spool): \(recorded) clicks recorded, \(counted) dropped")
        #expect(try stack.count("SELECT count(*) FROM clicks_logs") == recorded)
        try stack.eventually(
            counted,
            "SELECT coalesce(sum((regexp_match(cause, '^ring_full: (\\d+) clicks'))[1]::bigint), 0) FROM ingest_gaps"
        )
        #expect(try stack.count("SELECT count(*) FROM sales WHERE order_id = 'with-room'") == 1)
        // The one that was told to come again may have been recorded all the same, once.
        #expect(try stack.count("SELECT count(*) FROM sales") <= 2)
        #expect(stack.stopClickd() == 0)
    }

    /// What operators and merchants see of a spool without room.
    private func expectSigns(
        _ stack: ServiceStack, _ post: (String) -> SignedPost
    ) throws {
        let metrics = try stack.ask("/metrics").text
        #expect(!metrics.contains("\nclickd_clicks_dropped_total 0\n"))
        #expect(metrics.contains("\nclickd_durability_lost 0\n"), "a full disk is not a failed one")
        #expect(metrics.contains("\nclickd_spool_disk_full 1\n"))
        #expect(try stack.statistic("spool", "room_bytes") <= 16 << 20, "less than the quota")
        #expect(try stack.statistic("spool", "used_percent") >= 75)
        let refused = try stack.send(post("without-room"))
        #expect(refused.status == 503, "\(refused.status) \(refused.text)")
        #expect(refused.header("retry-after") != nil)
        var log = ""
        for _ in 0..<40 where !log.contains("ring and spool are full") {
            Thread.sleep(microseconds: 100_000)
            log = String(
                decoding: try FileSystem.read("\(stack.directory)/log/clickd.log"), as: UTF8.self)
        }
        #expect(log.contains("ring and spool are full"), "\(stack.tail("clickd"))")
        let ready = try stack.ask("/readyz")
        // Ready all the same: links that redirect unrecorded are better than links that break.
        #expect(
            ready.status == 200 && ready.text.contains("ring and spool are full"), "\(ready.text)")
        #expect(ready.text.contains("the spool's disk is full"), "\(ready.text)")
    }

    private func load(_ stack: ServiceStack, seconds: Int) throws -> PacedLoadResult {
        try PacedLoad(
            PacedLoadOptions(
                server: stack.address, paths: ["/demo", "/s2"], connections: 16, rate: 20_000,
                seconds: seconds)
        ).run()
    }
}

extension ServiceStack {
    /// Waits for the latch, then looks at all that shows it.
    func expectDurabilityLost() throws {
        for _ in 0..<100 where try !ask("/stats").text.contains("\"durability_lost\":true") {
            Thread.sleep(microseconds: 20_000)
        }
        let stats = try ask("/stats").text
        #expect(stats.contains("\"durability_lost\":true"), "\(stats)")
        #expect(try ask("/metrics").text.contains("\nclickd_durability_lost 1\n"))
        let ready = try ask("/readyz")
        #expect(ready.status == 503 && ready.text.contains("cannot be synced"), "\(ready.text)")
    }
}
