// Leaving a server that does not answer: while connecting, and in the middle of a statement.
import LinuxIO
import Postgres
import Testing
import Workbench

@Suite("Interruption", .serialized) struct InterruptionTests {
    /// Raises an interruption on another thread after a moment; the time when it did.
    private func raise(_ interruption: Interruption, afterMilliseconds: Int64) throws {
        try Thread.start(name: "interrupter") {
            Thread.sleep(microseconds: afterMilliseconds * 1000)
            interruption.raise()
        }.detach()
    }

    private func milliseconds(_ body: () throws -> Void) rethrows -> Int64 {
        let begun = SystemClock.monotonicNanoseconds()
        try body()
        return (SystemClock.monotonicNanoseconds() - begun) / 1_000_000
    }

    @Test("A statement that runs is given up at once, and the connection counts as lost")
    func statement() throws {
        let interruption = try Interruption()
        let connection = try Connection(
            dsn: try TestDatabases.makeEmpty(), applicationName: "tests",
            statementTimeoutMilliseconds: 30_000, interruption: interruption)
        #expect(try connection.query("SELECT 1").count == 1)
        try raise(interruption, afterMilliseconds: 100)
        let took = milliseconds {
            let error = #expect(throws: PostgresError.self) {
                try connection.execute("SELECT pg_sleep(20)")
            }
            #expect(error?.connectionLost == true)
        }
        #expect((100..<5000).contains(took), "\(took) ms")
        #expect(!connection.isOpen)
    }

    @Test("A server that takes the connection and says nothing is given up at once")
    func silentServer() throws {
        // The kernel completes connections to it, and nobody ever reads.
        let listener = try Socket.listen(.loopback(port: 0), reusePort: false)
        let port = try Socket.localPort(listener.rawValue)
        let interruption = try Interruption()
        try raise(interruption, afterMilliseconds: 100)
        let took = milliseconds {
            let error = #expect(throws: PostgresError.self) {
                _ = try Connection(
                    dsn: "host=127.0.0.1 port=\(port) dbname=x sslmode=disable",
                    applicationName: "tests", connectTimeoutSeconds: 20,
                    interruption: interruption)
            }
            #expect(error?.connectionLost == true)
        }
        #expect((100..<5000).contains(took), "\(took) ms")
        // Once raised, nothing begins any more.
        let again = milliseconds {
            #expect(throws: PostgresError.self) {
                _ = try Connection(
                    dsn: "host=127.0.0.1 port=\(port) dbname=x", applicationName: "tests",
                    interruption: interruption)
            }
        }
        #expect(again < 1000, "\(again) ms")
    }

    @Test("Without one, connecting and asking are as they were; a refusal keeps its words")
    func unraised() throws {
        let interruption = try Interruption()
        let error = #expect(throws: PostgresError.self) {
            _ = try Connection(
                dsn: "host=/nonexistent dbname=x", applicationName: "tests",
                interruption: interruption)
        }
        #expect("\(error.map { "\($0)" } ?? "")".contains("nonexistent"))
        #expect(!interruption.isRaised)
    }
}
