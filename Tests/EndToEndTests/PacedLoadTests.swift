// The paced client itself: what it counts must be right before anything is concluded from it.
import LinuxIO
import Synchronization
import Testing

@testable import Workbench

@Suite("The paced client", .serialized)
struct PacedLoadTests {
    @Test("A latency lands within one part in 64 of itself, whatever its size")
    func histogram() {
        for value in [0, 1, 63, 64, 65, 1000, 77_777, 1_000_000, 123_456_789] as [Int64] {
            var histogram = LatencyHistogram()
            histogram.record(microseconds: value)
            histogram.record(microseconds: value * 4 + 1000)
            let median = histogram.percentile(partsPerMillion: 500_000)
            #expect(median >= value && median <= value + value / 64, "\(value): \(median)")
        }
    }

    @Test("Percentiles are those of a sorted list")
    func percentiles() {
        var histogram = LatencyHistogram()
        var other = LatencyHistogram()
        for value in Int64(1)...500 { histogram.record(microseconds: value) }
        for value in Int64(501)...1000 { other.record(microseconds: value) }
        histogram.merge(other)
        #expect(histogram.count == 1000 && histogram.maximum == 1000 && histogram.sum == 500_500)
        #expect((500...508).contains(histogram.percentile(partsPerMillion: 500_000)))
        #expect((999...1000).contains(histogram.percentile(partsPerMillion: 999_000)))
        #expect(histogram.percentile(partsPerMillion: 1_000_000) == 1000)
        #expect(LatencyHistogram().percentile(partsPerMillion: 999_000) == 0)
    }

    @Test("Answers are told apart wherever the bytes are cut, interim ones passed over")
    func answers() {
        let text =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
            + "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"
            + "HTTP/1.1 204 No Content\r\n\r\n"
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count {
            var connection = PacedConnection()
            connection.begin(0)
            connection.pending = [1, 2, 3].map { PacedRequest(due: $0, taken: $0) }
            var answers: [PacedAnswer] = []
            for part in [bytes[..<cut], bytes[cut...]] {
                Array(part).withUnsafeBytes { connection.read($0, into: &answers) }
            }
            #expect(answers.map(\.status) == [302, 200, 204], "cut at \(cut)")
            #expect(answers.map(\.closes) == [false, true, false])
            #expect(answers.map(\.due) == [1, 2, 3] && !connection.isBroken)
        }
    }

    @Test(
        "Bytes that are no answer, and answers to nothing, break the connection",
        arguments: [
            ("garbage garbage\r\n\r\n", 1), ("HTTP/1.1 200 OK\r\n\r\n", 0),
        ])
    func noAnswer(text: String, pending: Int) {
        var connection = PacedConnection()
        connection.pending = Array(repeating: PacedRequest(due: 0, taken: 0), count: pending)
        var answers: [PacedAnswer] = []
        Array(text.utf8).withUnsafeBytes { connection.read($0, into: &answers) }
        #expect(connection.isBroken && answers.isEmpty)
    }

    @Test("Every due request is sent and answered, over kept and over new connections")
    func paced() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            var options = PacedLoadOptions(
                server: stack.address, paths: ["/demo", "/none"], connections: 8, rate: 500,
                seconds: 1)
            for isReconnecting in [false, true] {
                options.isReconnecting = isReconnecting
                let result = try PacedLoad(options).run()
                #expect(result.failures == 0 && result.unsent == 0)
                #expect(result.latencies.count == 500)
                #expect(result.answers(302) + result.answers(404) == 500)
                #expect(result.answers(404) > 0)
            }
        }
    }

    @Test("What waits too long for a connection is never sent; what is sent and not answered fails")
    func silence() throws {
        let port = try SocketAddress.freePort()
        let listener = try Socket.listen(.loopback(port: port), reusePort: false)
        var options = PacedLoadOptions(
            server: .loopback(port: port), paths: ["/"], connections: 1, rate: 1000, seconds: 1)
        options.timeoutMicroseconds = 200_000
        let result = try PacedLoad(options).run()
        _ = listener.rawValue  // It accepts nobody; the kernel does.
        #expect(result.latencies.count == 0)
        // One connection, given up every 200 ms: its next request is one that is not late yet.
        #expect((1...10).contains(result.failures), "\(result.failures)")
        #expect(result.failures + result.unsent == 1000)
    }

    @Test("Nobody listening is a failure for every request, not a latency")
    func nobody() throws {
        let port = try SocketAddress.freePort()
        let options = PacedLoadOptions(
            server: .loopback(port: port), paths: ["/"], connections: 2, rate: 50, seconds: 1)
        let result = try PacedLoad(options).run()
        #expect(result.latencies.count == 0)
        #expect(result.failures + result.unsent == 50 && result.failures > 0)
    }
}
