// Load for restarts: clients of every habit, and an account of each request's end. What a browser
// would repeat without a word is counted here.
public import LinuxIO
internal import Synchronization
internal import TLS
internal import Tracking

/// What a message of a merchant looks like; made by whoever knows the secret.
public struct SignedPost: Sendable {
    /// Header lines, without CRLF.
    public var headers: [String]
    /// The body.
    public var body: String

    /// A message.
    public init(headers: [String], body: String) {
        self.headers = headers
        self.body = body
    }
}

/// How every request ended.
public struct RestartAccount: Sendable, CustomStringConvertible {
    /// The click IDs of redirects that arrived whole.
    public var clicks: [UInt64] = []
    /// The orders of conversions answered 200.
    public var orders: [String] = []
    /// Connections opened.
    public var connections = 0
    /// Idle connections that the server had ended before the next request: repeated on another.
    public var endedIdle = 0
    /// Connections refused (`ECONNREFUSED`) or not made in time.
    public var refused = 0
    /// Requests that met a reset.
    public var reset = 0
    /// Requests whose connection ended without an answer, or within it.
    public var lost = 0
    /// Requests on a kept TLS connection that crossed with its end in order: not a byte of an answer
    /// came, which is how HTTP/1.1 lets a client repeat them.
    public var crossed = 0
    /// TLS connections that ended without close_notify, and handshakes that failed.
    public var cut = 0
    /// Answers over TLS among all.
    public var secured = 0
    /// Requests without an answer within ten seconds.
    public var late = 0
    /// Answers 503, which say when to come again.
    public var busy = 0
    /// Answers of any other status.
    public var others = 0
    /// The longest time from a request (or its connection's start) to its answer, microseconds.
    public var slowestMicroseconds: Int64 = 0

    /// Nothing yet.
    public init() {}

    /// Requests that went wrong in a way that a client cannot repeat in the dark.
    public var failures: Int { refused + reset + lost + cut + late + others }

    /// One line.
    public var description: String {
        "clicks \(clicks.count), conversions \(orders.count), connections \(connections), "
            + "over TLS \(secured), ended idle \(endedIdle), crossed \(crossed), "
            + "refused \(refused), reset \(reset), lost \(lost), cut \(cut), late \(late), busy \(busy), others \(others), "
            + "slowest \(slowestMicroseconds / 1000) ms"
    }

    /// Adds another's numbers.
    mutating func add(_ other: RestartAccount) {
        clicks += other.clicks
        orders += other.orders
        connections += other.connections
        endedIdle += other.endedIdle
        refused += other.refused
        reset += other.reset
        lost += other.lost
        crossed += other.crossed
        cut += other.cut
        secured += other.secured
        late += other.late
        busy += other.busy
        others += other.others
        slowestMicroseconds = max(slowestMicroseconds, other.slowestMicroseconds)
    }
}

/// Clients that go on until they are told to stop: a third keeps connections and asks without a
/// pause, a third keeps them and pauses, a third opens one for each request; beside them senders of
/// conversions, and clients over TLS with the same habits, every second of which pauses for up to
/// 0.7 s: longer than a drain waits for an idle connection.
public final class RestartLoad: Sendable {
    private let address: SocketAddress
    private let secure: (address: SocketAddress, context: TLSClientContext)?
    private let slugs: [String]
    private let post: @Sendable (String) -> SignedPost
    private let stopping = Atomic<Bool>(false)
    private let answered = Atomic<Int>(0)
    private let account = Mutex(RestartAccount())
    private let running = Atomic<Int>(0)

    /// Load on an address.
    ///
    /// - Parameters:
    ///   - secured: The address that speaks TLS, for the clients over it.
    ///   - slugs: Asked for in turn; not empty.
    ///   - post: The message for an order.
    public init(
        _ address: SocketAddress, secured: SocketAddress? = nil, slugs: [String],
        post: @escaping @Sendable (String) -> SignedPost
    ) throws {
        precondition(!slugs.isEmpty)
        self.address = address
        secure = try secured.map { ($0, try TLSClientContext()) }
        self.slugs = slugs
        self.post = post
    }

    /// Answers of any kind so far.
    public var count: Int { answered.load(ordering: .relaxed) }

    /// Starts clients, so many senders of conversions, and so many clients over TLS.
    public func start(clients: Int, senders: Int, secured: Int = 0) throws(Errno) {
        precondition(secured == 0 || secure != nil, "clients over TLS need an address")
        for index in 0..<clients + senders + secured {
            running.add(1, ordering: .relaxed)
            try Thread.start(name: "client-\(index)") { [self] in
                let isSecured = index >= clients + senders
                var client = Client(
                    load: self, number: index, isSecured: isSecured,
                    sendsConversions: index >= clients && !isSecured)
                while !stopping.load(ordering: .relaxed) { client.step() }
                let result = client.account
                account.withLock { $0.add(result) }
                running.subtract(1, ordering: .releasing)
            }.detach()
        }
    }

    /// Ends the load after the answers under way, and gives the account of all clients.
    public func finish() -> RestartAccount {
        stopping.store(true, ordering: .relaxed)
        while running.load(ordering: .acquiring) > 0 { Thread.sleep(microseconds: 1000) }
        return account.withLock { $0 }
    }

    /// One client.
    private struct Client: ~Copyable {
        let load: RestartLoad
        let number: Int
        let isSecured: Bool
        let sendsConversions: Bool
        var account = RestartAccount()
        private var probe: HTTPProbe?
        private var turn: Int
        /// An order that was answered 503 and is sent again.
        private var openOrder: String?

        init(load: RestartLoad, number: Int, isSecured: Bool, sendsConversions: Bool) {
            self.load = load
            self.number = number
            self.isSecured = isSecured
            self.sendsConversions = sendsConversions
            turn = number
        }

        private var keepsConnection: Bool { number % 3 != 2 }

        mutating func step() {
            turn += 1
            let begun = SystemClock.monotonicNanoseconds()
            var current = probe.take()
            var isKept = false
            do throws(ProbeError) {
                var open: HTTPProbe
                if let kept = current.take() {
                    isKept = true
                    open = kept
                } else {
                    open = try connect()
                }
                if isKept, open.hasEnded {
                    // A byte that nobody asked for, or an end that is none, is an error.
                    guard try open.isAtEnd() else { throw .malformed }
                    account.endedIdle += 1
                    open = try connect()
                }
                let answer = try ask(&open)
                if isSecured { account.secured += 1 }
                load.answered.add(1, ordering: .relaxed)
                let elapsed = (SystemClock.monotonicNanoseconds() - begun) / 1000
                account.slowestMicroseconds = max(account.slowestMicroseconds, elapsed)
                if keepsConnection, answer.header("connection") != "close" { probe = consume open }
            } catch {
                note(error, isKept: isKept)
                Thread.sleep(microseconds: 1000)
            }
            // The second habit pauses for up to 40 ms, so that a drain meets idle connections.
            if number % 3 == 1 { Thread.sleep(microseconds: Int64(turn % 8) * 5000) }
            if isSecured, number % 2 == 1 {
                Thread.sleep(microseconds: Int64(turn % 8) * 100_000)
            }
            if sendsConversions { Thread.sleep(microseconds: 2000) }
        }

        private mutating func connect() throws(ProbeError) -> HTTPProbe {
            account.connections += 1
            guard isSecured, let secure = load.secure else { return try HTTPProbe(load.address) }
            return try HTTPProbe(
                secured: secure.address, context: secure.context, name: "go.example")
        }

        private mutating func ask(_ open: inout HTTPProbe) throws(ProbeError) -> ProbeResponse {
            if sendsConversions { return try convert(&open) }
            let slug = load.slugs[turn % load.slugs.count]
            var headers = LoadGenerator.browser
            if !keepsConnection { headers.append("Connection: close") }
            let answer = try open.request("GET", "/\(slug)", headers: headers)
            if (301...308).contains(answer.status), let location = answer.header("location"),
                let click = LoadGenerator.clickID(in: location)
            {
                account.clicks.append(click)
            } else if answer.status == 503 {
                account.busy += 1
            } else {
                account.others += 1
            }
            return answer
        }

        private mutating func convert(_ open: inout HTTPProbe) throws(ProbeError) -> ProbeResponse {
            let order = openOrder ?? "restart-\(number)-\(turn)"
            openOrder = order
            let message = load.post(order)
            let answer = try open.request(
                "POST", "/v1/conversions", headers: message.headers, body: message.body)
            switch answer.status {
            case 200:
                account.orders.append(order)
                openOrder = nil
            case 429, 503: account.busy += 1
            default:
                account.others += 1
                openOrder = nil
            }
            return answer
        }

        private mutating func note(_ error: ProbeError, isKept: Bool) {
            switch error {
            case .system(let cause) where cause == .connectionRefused || cause == .timedOut:
                account.refused += 1
            case .system(let cause) where cause == .wouldBlock: account.late += 1
            case .system: account.reset += 1
            case .closed where isSecured && isKept: account.crossed += 1
            case .closed, .truncated: account.lost += 1
            case .cut: account.cut += 1
            case .malformed: account.others += 1
            }
        }
    }
}
