// Load with a memory: every redirect that was received is kept by its click, so that a test can ask
// the database for each of them afterwards.
public import LinuxIO
internal import Synchronization
internal import Tracking

/// What a client saw.
public struct LoadResult: Sendable {
    /// The click IDs of redirects that arrived whole.
    public var clicks: [UInt64] = []
    /// Answers with another status.
    public var otherAnswers = 0
    /// Connections that failed or broke.
    public var failures = 0
}

/// Keep-alive connections on threads of their own, each asking for redirects as fast as they come.
public final class LoadGenerator: Sendable {
    private let address: SocketAddress
    private let slugs: [String]
    private let stopping = Atomic<Bool>(false)
    private let received = Atomic<Int>(0)

    /// A generator over an address and the slugs to ask for in turn.
    /// - Precondition: `slugs` is not empty.
    public init(_ address: SocketAddress, slugs: [String]) {
        precondition(!slugs.isEmpty)
        self.address = address
        self.slugs = slugs
    }

    /// Redirects received so far.
    public var count: Int { received.load(ordering: .relaxed) }

    /// Tells every connection to end after the answer that it waits for.
    public func stop() { stopping.store(true, ordering: .relaxed) }

    private final class Tally: Sendable {
        let result = Mutex(LoadResult())
        let done = Atomic<Int>(0)
    }

    /// Runs until ``stop()`` or until so many redirects have come, and gives what was seen.
    ///
    /// - Parameters:
    ///   - connections: Threads, 1...64.
    ///   - limit: Redirects after which the connections end.
    ///   - reconnects: Whether a broken connection is opened again (a daemon that is killed and started).
    public func run(connections: Int, limit: Int = .max, reconnects: Bool = false) -> LoadResult {
        let tally = Tally()
        let share = limit == .max ? Int.max : (limit + connections - 1) / connections
        var threads = 0
        for index in 0..<connections {
            let started = try? Thread.start(name: "load-\(index)") { [self] in
                let result = converse(from: index, share: share, reconnects: reconnects)
                tally.result.withLock { total in
                    total.clicks += result.clicks
                    total.otherAnswers += result.otherAnswers
                    total.failures += result.failures
                }
                tally.done.add(1, ordering: .releasing)
            }
            threads += started == nil ? 0 : 1
        }
        while tally.done.load(ordering: .acquiring) < threads { Thread.sleep(microseconds: 2000) }
        return tally.result.withLock { $0 }
    }

    private func converse(from index: Int, share: Int, reconnects: Bool) -> LoadResult {
        var result = LoadResult()
        var next = index
        while result.clicks.count < share, !stopping.load(ordering: .relaxed) {
            do {
                try exchange(&result, &next, share: share)
                return result
            } catch {
                result.failures += 1
                if !reconnects { return result }
                Thread.sleep(microseconds: 1000)
            }
        }
        return result
    }

    private func exchange(
        _ result: inout LoadResult, _ next: inout Int, share: Int
    ) throws(ProbeError) {
        var probe = try HTTPProbe(address)
        while result.clicks.count < share, !stopping.load(ordering: .relaxed) {
            let slug = slugs[next % slugs.count]
            next += 1
            let answer = try probe.request("GET", "/\(slug)", headers: LoadGenerator.browser)
            if (301...308).contains(answer.status), let location = answer.header("location"),
                let click = LoadGenerator.clickID(in: location)
            {
                result.clicks.append(click)
                received.add(1, ordering: .relaxed)
            } else {
                result.otherAnswers += 1
            }
        }
    }

    /// Header lines of an ordinary visitor.
    public static let browser = [
        "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
            + "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "Accept-Language: fr-FR,fr;q=0.9", "Referer: https://www.instagram.com/",
    ]

    /// The click whose token a `Location` carries in its `click_id`.
    public static func clickID(in location: String) -> UInt64? {
        guard let range = location.firstRange(of: "click_id=") else { return nil }
        var token = String(location[range.upperBound...].prefix(ClickToken.length))
        return token.withUTF8 { ClickToken.parse(UnsafeRawBufferPointer($0)) }?.id.rawValue
    }
}
