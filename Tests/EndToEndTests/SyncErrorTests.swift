// A disk whose syncs fail, by libfiu under the real daemon: the kernel's call returns EIO when the test
// says so, and works again afterwards, as a disk does that has dropped what it was given.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Sync errors", .serialized)
struct SyncErrorTests {
    /// The failure points of libfiu that make a spool durable: the sync, and the write before it.
    private static let points = ["posix/io/sync/fdatasync", "posix/io/rw/pwrite"]
    private static let preloads = [
        "/usr/lib/fiu/fiu_run_preload.so", "/usr/lib/fiu/fiu_posix_preload.so",
    ]
    private static let hasFiu =
        preloads.allSatisfy { FileSystem.exists($0) }
        && FileSystem.isExecutable("/usr/bin/fiu-ctrl")
    /// EIO.
    private static let inputOutputError = 5

    @Test(
        "The first failed sync is remembered for good: conversions are refused, clicks go on, and all is flushed once after a restart",
        .enabled(if: hasFiu, "needs fiu-utils: make deps-soak installs it"),
        arguments: points)
    func failedSync(_ point: String) throws {
        try Stacks.with { stack in
            stack.settings["http"] = "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: 1 }"
            try stack.writeConfiguration()
            defer { stack.killClickd() }
            try stack.startClickd(environment: [
                "LD_PRELOAD": SyncErrorTests.preloads.joined(separator: " "),
                "FIU_CTRL_FIFO": "\(stack.directory)/fiu",
            ])
            let load = try stack.crashLoad(clients: 2, senders: 1)
            Thread.sleep(microseconds: 500_000)
            let segments = try used(stack)
            try control(stack, "enable name=\(point),failinfo=\(SyncErrorTests.inputOutputError)")
            try stack.expectDurabilityLost()
            let refused = try stack.convert(order: "not-durable", token: nil)
            #expect(refused.status == 503 && refused.header("retry-after") != nil)
            // The disk answers again: what it has dropped is dropped all the same.
            try control(stack, "disable name=\(point)")
            let before = try stack.statistic("clicks", "recorded")
            Thread.sleep(microseconds: 700_000)
            #expect(try stack.statistic("clicks", "recorded") > before, "clicks go on")
            #expect(try stack.statistic("clicks", "dropped") == 0)
            try stack.expectDurabilityLost()
            #expect(try stack.convert(order: "not-durable", token: nil).status == 503)
            for _ in 0..<100 where try used(stack).isSubset(of: segments) {
                Thread.sleep(microseconds: 50_000)
            }
            #expect(try !used(stack).isSubset(of: segments), "no new file was begun")
            let memory = load.finish()
            stack.killClickd()
            try stack.startClickd()
            #expect(try stack.ask("/readyz").status == 200)
            try stack.flushAll()
            let verdict = try stack.judge(memory)
            print("\(point) fails: \(memory)\n  \(verdict)")
            #expect(verdict.lostClicks.isEmpty && verdict.lostOrders.isEmpty, "\(verdict)")
            #expect(verdict.duplicates == 0 && verdict.invented == 0, "\(verdict)")
            #expect(memory.otherAnswers[503] ?? 0 > 0, "no conversion met the error")
        }
    }

    /// Tells libfiu in the daemon what fails.
    private func control(_ stack: ServiceStack, _ command: String) throws {
        let daemon = try #require(stack.clickd)
        try stack.expect(
            stack.run([
                "fiu-ctrl", "-f", "\(stack.directory)/fiu", "-c", command, "\(daemon.id)",
            ]))
    }

    /// The segments in use, by their names, which carry their numbers.
    private func used(_ stack: ServiceStack) throws -> Set<String> {
        Set(try FileSystem.list("\(stack.directory)/spool").filter { $0.hasPrefix("ring-") })
    }
}
