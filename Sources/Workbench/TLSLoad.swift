// Load by new TLS connections: a handshake, a request, an answer, close_notify. A process of its own, so
// that its CPU time is nobody else's.
internal import LinuxIO
internal import Synchronization
internal import TLS

/// How new connections shake hands.
public enum TLSLoadMode: String, Sendable, CaseIterable {
    /// A new session each time.
    case full
    /// The session of the connection before.
    case resumed
    /// Full, and then held open until the process is ended.
    case hold
}

/// Threads that connect, one connection at a time each.
public struct TLSLoad: Sendable {
    private let address: SocketAddress
    private let mode: TLSLoadMode
    private let request: [UInt8]

    /// Load on a port of 127.0.0.1.
    public init(port: UInt16, mode: TLSLoadMode) {
        address = .loopback(port: port)
        self.mode = mode
        let lines = ["GET /demo HTTP/1.1", "Host: go.example"] + LoadGenerator.browser
        request = Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    }

    private final class Tally: Sendable {
        let requests = Atomic<Int>(0)
        let failures = Atomic<Int>(0)
        let resumed = Atomic<Int>(0)
        let ended = Atomic<Int>(0)
        let failure = Mutex("")
    }

    /// Runs for so many seconds and prints `N requests in Ns`, as wrk does.
    ///
    /// - Throws: When a connection fails, or resumes where it should not, or does not where it should.
    public func run(threads: Int, seconds: Int) throws {
        let tally = Tally()
        let end = SystemClock.monotonicNanoseconds() + Int64(seconds) * 1_000_000_000
        for index in 0..<threads {
            _ = try Thread.start(name: "load-\(index)") {
                do {
                    try converse(tally, until: end)
                } catch {
                    tally.failures.add(1, ordering: .relaxed)
                    tally.failure.withLock { $0 = "\(error)" }
                }
                tally.ended.add(1, ordering: .releasing)
            }
        }
        while tally.ended.load(ordering: .acquiring) < threads { Thread.sleep(microseconds: 2000) }
        guard tally.failures.load(ordering: .relaxed) == 0 else {
            throw StackError("a connection failed: \(tally.failure.withLock { $0 })")
        }
        let requests = tally.requests.load(ordering: .relaxed)
        let resumed = tally.resumed.load(ordering: .relaxed)
        // The first of each thread has nothing to resume.
        guard mode == .resumed ? resumed >= requests - threads : resumed == 0 else {
            throw StackError("\(resumed) of \(requests) handshakes resumed")
        }
        CurrentProcess.writeOutput("\(requests) requests in \(seconds)s\n")
    }

    private func converse(_ tally: Tally, until end: Int64) throws {
        let context = try TLSClientContext()
        var session: TLSClientSession?
        while SystemClock.monotonicNanoseconds() < end {
            let client = try exchange(context, session)
            tally.requests.add(1, ordering: .relaxed)
            if client.isResumed { tally.resumed.add(1, ordering: .relaxed) }
            if mode == .resumed { session = client.session() }
            client.finishSending()
        }
    }

    /// One connection and its redirect.
    public func probe() throws { _ = try exchange(TLSClientContext(), nil) }

    private func exchange(
        _ context: TLSClientContext, _ session: TLSClientSession?
    ) throws -> TLSClient {
        let socket = try Socket.connect(address, timeoutSeconds: 20)
        let client = try TLSClient(
            socket, context: context, name: "go.example", session: session)
        try client.write(request)
        let answer = try client.read(limit: 4096)
        guard answer.starts(with: "HTTP/1.1 302".utf8) else {
            throw StackError("not a redirect: \(String(decoding: answer, as: UTF8.self))")
        }
        return client
    }

    /// Opens so many connections, each with one request, prints `holding N`, and waits to be ended.
    public func hold(_ count: Int) throws {
        CurrentProcess.raiseDescriptorLimit()
        let context = try TLSClientContext()
        var clients: [TLSClient] = []
        for _ in 0..<count { clients.append(try exchange(context, nil)) }
        CurrentProcess.writeOutput("holding \(clients.count)\n")
        withExtendedLifetime(clients) { while true { Thread.sleep(microseconds: 1_000_000) } }
    }
}
