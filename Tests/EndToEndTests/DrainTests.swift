// A drain never waits for the database (contract, 1), whatever state that is in.
import LinuxIO
import Testing
import Workbench

@Suite("Drain without the database", .serialized)
struct DrainTests {
    /// Milliseconds from TERM to the exit, which must be in order.
    private func stop(_ stack: ServiceStack) -> Int64 {
        let begun = SystemClock.monotonicNanoseconds()
        #expect(stack.stopClickd() == 0)
        return (SystemClock.monotonicNanoseconds() - begun) / 1_000_000
    }

    @Test("With a database that takes connections and says nothing, TERM ends the process at once")
    func silentDatabase() throws {
        let listener = try Socket.listen(.loopback(port: 0), reusePort: false)
        let port = try Socket.localPort(listener.rawValue)
        try Stacks.with { stack in
            try stack.startClickd()
            try stack.eventually(1, "SELECT count(*) FROM nodes")
            #expect(stack.stopClickd() == 0)
            let dsn = stack.settings["postgres"]
            stack.settings["postgres"] =
                "{ dsn: \"host=127.0.0.1 port=\(port) dbname=x user=x sslmode=disable\" }"
            try stack.writeConfiguration()
            try stack.startClickd()
            let click = try stack.click()
            Thread.sleep(microseconds: 300_000)
            let took = stop(stack)
            print("TERM to exit, silent database: \(took) ms")
            #expect(took < 1500, "\(took) ms")
            stack.settings["postgres"] = dsn
            try stack.writeConfiguration()
            try stack.startClickd()
            try stack.flush()
            try stack.eventually(
                1, "SELECT count(*) FROM clicks_logs WHERE click_id = \(click.id)")
        }
    }

    @Test("With a database that stands still within a transaction, TERM does not wait for it")
    func standingDatabase() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            _ = try stack.click()
            try stack.flush()
            let backends = try stack.psql(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    + "AND application_name LIKE 'clickd%'"
            ).split(separator: "\n").compactMap { Int32($0) }
            #expect(backends.count == 2, "\(backends)")
            for backend in backends { ChildProcess(id: backend).send(.stop) }
            defer { for backend in backends { ChildProcess(id: backend).send(.continue) } }
            let click = try stack.click()
            Thread.sleep(microseconds: 700_000)
            let took = stop(stack)
            print("TERM to exit, standing database: \(took) ms")
            #expect(took < 2500, "\(took) ms")
            for backend in backends { ChildProcess(id: backend).send(.continue) }
            try stack.startClickd()
            try stack.flush()
            try stack.eventually(
                1, "SELECT count(*) FROM clicks_logs WHERE click_id = \(click.id)")
        }
    }
}
