// What breaks while the product works: the database away, a second daemon.
import LinuxIO
import Synchronization
import Testing
import Tracking
import Workbench

@Suite("Outages", .serialized)
struct OutageTests {
    @Test("With PostgreSQL stopped under load no redirect fails and nothing is lost")
    func databaseAway() throws {
        let seconds = CurrentProcess.environment("CLICKD_SOAK") == nil ? 5 : 60
        try Stacks.with(ownCluster: true) { stack in
            try stack.startClickd()
            let generator = LoadGenerator(stack.address, slugs: ["demo", "s2", "s3"])
            let results = Results()
            _ = try Thread.start(name: "load") { results.finish(generator.run(connections: 4)) }
            while generator.count < 2000 { Thread.sleep(microseconds: 1000) }
            stack.cluster.stop()
            let atStop = generator.count
            Thread.sleep(microseconds: Int64(seconds) * 1_000_000)
            #expect(generator.count > atStop + 1000)
            let away = try stack.ask("/flush?timeout=1s", method: "POST")
            #expect(away.status == 503, "\(away.text)")
            #expect(try stack.ask("/readyz").status == 200)
            try stack.cluster.start()
            generator.stop()
            let load = results.wait()
            #expect(load.failures == 0 && load.otherAnswers == 0)
            for _ in 0..<60 where try stack.ask("/flush", method: "POST").status != 200 {
                Thread.sleep(microseconds: 500_000)
            }
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == load.clicks.count)
            #expect(
                try stack.count("SELECT count(DISTINCT click_id) FROM clicks_logs")
                    == load.clicks.count)
            #expect(try stack.statistic("clicks", "dropped") == 0)
        }
    }

    @Test(
        "With PostgreSQL away at start clickd serves from the snapshot, attributiond waits, TERM drains"
    )
    func startWithoutDatabase() throws {
        try Stacks.with(ownCluster: true) { stack in
            try stack.startClickd()
            for _ in 0..<200 where !FileSystem.exists("\(stack.directory)/links.snapshot") {
                Thread.sleep(microseconds: 50_000)
            }
            #expect(stack.stopClickd() == 0)
            stack.cluster.stop()
            try stack.startClickd()
            let click = try stack.click()
            #expect(stack.clickd?.poll() == nil)
            // The conversion path knows no merchant younger than a minute without its database.
            let stats = try stack.ask("/stats").text
            #expect(stats.contains("\"connected\":false"), "\(stats)")
            #expect(stack.stopClickd() == 0)
            try stack.cluster.start()
            try stack.startClickd()
            try stack.flush()
            #expect(
                try stack.count("SELECT count(*) FROM clicks_logs WHERE click_id = \(click.id)")
                    == 1)
        }
    }

    @Test("A second daemon on the same ring ends with 73 and the first one's pid, before any port")
    func secondDaemon() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let first = try #require(stack.clickd)
            // Another port, so that only the lock can stop it.
            let text = String(decoding: try FileSystem.read(stack.configuration), as: UTF8.self)
                .replacing("127.0.0.1:\(stack.port)", with: "127.0.0.1:1")
            let other = "\(stack.directory)/second.yaml"
            try Array(text.utf8).withUnsafeBytes { try FileSystem.replace(other, with: $0) }
            let result = try stack.run(["\(stack.binaries)/clickd", "run", "--config", other])
            #expect(result.code == 73, "\(result.output)")
            #expect(result.output.contains("\(first.id)"), "\(result.output)")
            _ = try stack.click()
        }
    }
}

/// A load result that another thread hands over.
final class Results: Sendable {
    private let value = Mutex<LoadResult?>(nil)

    func finish(_ result: LoadResult) { value.withLock { $0 = result } }
    func wait() -> LoadResult {
        while true {
            if let result = value.withLock({ $0 }) { return result }
            Thread.sleep(microseconds: 1000)
        }
    }
}
