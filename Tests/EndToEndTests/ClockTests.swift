// The wall clock steps under the real daemon, by libfaketime: identities never repeat or go back, days
// stay the days, and operators hear of it. Only the wall clock is false: the boot clock is the kernel's.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Clock steps", .serialized)
struct ClockTests {
    private static let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
    private static let hasFaketime = FileSystem.exists(library)
    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil
    /// How long each false clock stands, microseconds.
    private static let standMicroseconds: Int64 = isSoak ? 4_000_000 : 1_500_000
    /// Clocks as libfaketime writes them, each against the true one.
    private static let steps =
        isSoak ? ["+2", "-2", "+1d", "-1d", "+10y", "-10y", "+0"] : ["+2", "-1d", "+10y", "+0"]

    /// Sets the daemon's wall clock, from its next reading on.
    private func set(_ offset: String, _ stack: ServiceStack) throws {
        try Array("\(offset)\n".utf8).withUnsafeBytes {
            try FileSystem.replace("\(stack.directory)/clock", with: $0)
        }
    }

    private func start(_ stack: ServiceStack) throws {
        try stack.startClickd(environment: [
            "LD_PRELOAD": ClockTests.library, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_TIMESTAMP_FILE": "\(stack.directory)/clock", "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        ])
    }

    @Test(
        "Steps of seconds, a day and ten years under load: identities rise, days stay, the steps are told",
        .enabled(if: hasFaketime, "needs faketime: make deps-soak installs it"))
    func steps() throws {
        try Stacks.with { stack in
            defer { kill(stack) }
            let leaves = try leaves(stack)
            try set("+0", stack)
            try start(stack)
            let load = try stack.crashLoad(clients: 4, senders: 0)
            for step in ClockTests.steps {
                try set(step, stack)
                let before = load.count
                Thread.sleep(microseconds: ClockTests.standMicroseconds)
                #expect(load.count > before, "\(step): no click")
            }
            let memory = load.finish()
            let seen = try steps(seenBy: stack)
            let log = String(
                decoding: try FileSystem.read("\(stack.directory)/log/clickd.log"), as: UTF8.self)
            #expect(log.contains("wall clock"), "\(stack.tail("clickd"))")
            try stack.flushAll()
            try expectOrder(memory, stack)
            let verdict = try stack.judge(memory)
            print("\(ClockTests.steps.count) clocks: \(memory)\n  \(verdict), \(seen) steps told")
            #expect(seen == ClockTests.steps.count, "\(seen) steps told")
            #expect(verdict.lostClicks.isEmpty && verdict.duplicates == 0 && verdict.invented == 0)
            try expectPresent(stack, leaves: leaves)
        }
    }

    @Test(
        "Killed and started under a false clock and again under the true one: nothing repeats, no row is in another year",
        .enabled(if: hasFaketime, "needs faketime: make deps-soak installs it"),
        arguments: isSoak ? ["+10y", "-10y", "+1d", "-1d"] : ["+10y"])
    func restart(_ offset: String) throws {
        try Stacks.with { stack in
            defer { kill(stack) }
            let leaves = try leaves(stack)
            try set("+0", stack)
            try start(stack)
            let load = try stack.crashLoad(clients: 4, senders: 0)
            for clock in [offset, "+0", offset, "+0"] {
                Thread.sleep(microseconds: ClockTests.standMicroseconds)
                kill(stack)
                try set(clock, stack)
                try start(stack)
            }
            Thread.sleep(microseconds: ClockTests.standMicroseconds)
            let memory = load.finish()
            try stack.flushAll()
            try expectOrder(memory, stack)
            let verdict = try stack.judge(memory)
            print("started at \(offset): \(memory)\n  \(verdict)")
            #expect(verdict.lostClicks.isEmpty && verdict.duplicates == 0 && verdict.invented == 0)
            try expectPresent(stack, leaves: leaves)
        }
    }

    @Test(
        "A reboot with a slow clock and without the rings goes on above every identity of before",
        .enabled(if: hasFaketime, "needs faketime: make deps-soak installs it"),
        arguments: isSoak ? ["-1h", "-1d", "-10y"] : ["-10y"])
    func reboot(_ offset: String) throws {
        try Stacks.with { stack in
            defer { kill(stack) }
            let leaves = try leaves(stack)
            try set("+0", stack)
            try start(stack)
            let before = try stack.crashLoad("before", clients: 8, senders: 0)
            Thread.sleep(microseconds: ClockTests.standMicroseconds)
            kill(stack)
            let first = before.finish()
            try FileSystem.removeTree(stack.ringDirectory)
            try set(offset, stack)
            try start(stack)
            let after = try stack.crashLoad("after", clients: 8, senders: 0)
            Thread.sleep(microseconds: ClockTests.standMicroseconds)
            let second = after.finish()
            try stack.flushAll()
            let highest = ClockTests.byRing(first).mapValues { $0.max() ?? 0 }
            let lowest = ClockTests.byRing(second).mapValues { $0.min() ?? 0 }
            let rings = Set(highest.keys).intersection(lowest.keys)
            #expect(!rings.isEmpty)
            for ring in rings { #expect(lowest[ring] ?? 0 > highest[ring] ?? .max, "ring \(ring)") }
            try expectOrder(second, stack)
            let verdict = try stack.judge(second)
            let lost = Set(verdict.lostClicks.map(\.id)).count
            print(
                "rebooted at \(offset): \(second)\n  lost \(lost), duplicates \(verdict.duplicates)"
            )
            #expect(verdict.lostClicks.isEmpty && verdict.duplicates == 0)
            try expectPresent(stack, leaves: leaves)
        }
    }

    /// Removes what libfaketime leaves of a killed process.
    private static func tidy(_ process: Int32) {
        for name in ["faketime_shm_\(process)", "sem.faketime_sem_\(process)"] {
            try? FileSystem.remove("/dev/shm/\(name)")
        }
    }

    /// Kills the daemon and removes what libfaketime leaves of it.
    private func kill(_ stack: ServiceStack) {
        let process = stack.clickd?.id
        stack.killClickd()
        if let process { ClockTests.tidy(process) }
    }

    private static func byRing(_ memory: CrashMemory) -> [UInt16: [UInt64]] {
        Dictionary(grouping: memory.clicks.map(\.id)) { ClickID(rawValue: $0)?.ring ?? .max }
    }

    /// What one client was given by one ring rises, and nothing is given twice.
    private func expectOrder(_ memory: CrashMemory, _ stack: ServiceStack) throws {
        #expect(memory.clicks.count > 1000)
        #expect(Set(memory.clicks.map(\.id)).count == memory.clicks.count)
        var latest: [String: UInt64] = [:]
        for click in memory.clicks {
            let client = click.mark.prefix(
                upTo: click.mark.lastIndex(of: "-") ?? click.mark.endIndex)
            let key = "\(client) of ring \(ClickID(rawValue: click.id)?.ring ?? .max)"
            #expect(click.id > latest[key] ?? 0, "\(key) went back")
            latest[key] = click.id
        }
    }

    /// Every row lies within two days of now, nothing was set aside, and hardly a leaf was made.
    private func expectPresent(_ stack: ServiceStack, leaves before: Int) throws {
        #expect(
            try stack.count(
                "SELECT count(*) FROM clicks_logs WHERE abs(extract(epoch FROM clicked_at - now())) > 172800"
            ) == 0)
        #expect(try stack.count("SELECT count(*) FROM quarantine") == 0)
        let made = try leaves(stack) - before
        print("  \(made) leaves made")
        // Eight days and months ahead of now, and as many ahead of the false date.
        #expect(made <= 20, "\(made) leaves made")
    }

    private func leaves(_ stack: ServiceStack) throws -> Int {
        try stack.count(
            "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('clicks_logs'::regclass, 'sales'::regclass)"
        )
    }

    /// `clickd_clock_steps_total`.
    private func steps(seenBy stack: ServiceStack) throws -> Int {
        let text = try stack.ask("/metrics").text
        let line = try #require(
            text.split(separator: "\n").first { $0.hasPrefix("clickd_clock_steps_total ") })
        return try #require(line.split(separator: " ").last.flatMap { Int($0) })
    }
}
