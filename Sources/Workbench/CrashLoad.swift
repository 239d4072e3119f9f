// Load for crashes: each request carries a mark of its own, and the client remembers of each whether
// it was answered and when, so that the database can be asked afterwards for every one of them.
public import LinuxIO
internal import Synchronization
internal import Tracking

/// What a client outside remembers: the oracle of a crash.
public struct CrashMemory: Sendable, CustomStringConvertible {
    /// A redirect that arrived whole.
    public struct Click: Sendable {
        /// The identity in its token.
        public var id: UInt64
        /// The mark that its request carried as sub1.
        public var mark: String
        /// When the request was sent, microseconds of the monotonic clock.
        public var sentAt: Int64
        /// When the answer was there.
        public var answeredAt: Int64
    }

    /// A conversion that was answered 200.
    public struct Order: Sendable {
        /// Its `order_id`.
        public var order: String
        /// When it was first sent, microseconds of the monotonic clock.
        public var sentAt: Int64
        /// When the answer was there.
        public var answeredAt: Int64
    }

    /// Redirects that arrived whole.
    public var clicks: [Click] = []
    /// Conversions answered 200.
    public var orders: [Order] = []
    /// Marks of clicks that were asked for and not answered: whether they count is not known.
    public var openMarks: [String] = []
    /// Orders that were sent and never answered 200.
    public var openOrders: [String] = []
    /// Answers to clicks that were no redirect, and to conversions other than 200, by status.
    public var otherAnswers: [Int: Int] = [:]

    /// Nothing yet.
    public init() {}

    /// One line.
    public var description: String {
        "\(clicks.count) redirects and \(orders.count) conversions answered, "
            + "\(openMarks.count) and \(openOrders.count) unanswered, other answers \(otherAnswers)"
    }

    mutating func add(_ other: CrashMemory) {
        clicks += other.clicks
        orders += other.orders
        openMarks += other.openMarks
        openOrders += other.openOrders
        otherAnswers.merge(other.otherAnswers) { $0 + $1 }
    }
}

/// Clients that go on through deaths and restarts until they are told to stop: some ask for redirects,
/// several in one write, the others send conversions.
public final class CrashLoad: Sendable {
    private enum Limits {
        /// Requests that a client sends before it reads their answers.
        static let depth = 8
        /// The pause after a broken connection, while the server may be away.
        static let retryMicroseconds: Int64 = 2000
    }

    private let address: SocketAddress
    private let slugs: [String]
    private let name: String
    private let post: @Sendable (String) -> SignedPost
    private let stopping = Atomic<Bool>(false)
    private let answered = Atomic<Int>(0)
    private let slowestOrder = Atomic<Int64>(0)
    /// When the first sender sent what it waits for; 0 while it waits for nothing.
    private let orderSince = Atomic<Int64>(0)
    private let memory = Mutex(CrashMemory())
    private let running = Atomic<Int>(0)

    /// Load on an address.
    ///
    /// - Parameters:
    ///   - slugs: Asked for in turn; not empty.
    ///   - name: Begins every mark and order, so that two loads on one database differ.
    ///   - post: The message for an order.
    public init(
        _ address: SocketAddress, slugs: [String], name: String,
        post: @escaping @Sendable (String) -> SignedPost
    ) {
        precondition(!slugs.isEmpty)
        self.address = address
        self.slugs = slugs
        self.name = name
        self.post = post
    }

    /// Redirects and accepted conversions so far.
    public var count: Int { answered.load(ordering: .relaxed) }

    /// How long an accepted order waited at most since this was last asked, or waits already,
    /// microseconds: as long as a sync takes, seen from outside.
    public func takeSlowestOrder() -> Int64 {
        let since = orderSince.load(ordering: .relaxed)
        let waiting = since == 0 ? 0 : SystemClock.monotonicNanoseconds() / 1000 - since
        return max(waiting, slowestOrder.exchange(0, ordering: .relaxed))
    }

    /// Starts so many clients for clicks, and so many for conversions.
    public func start(clients: Int, senders: Int) throws(Errno) {
        for index in 0..<clients + senders {
            running.add(1, ordering: .relaxed)
            try Thread.start(name: "crash-\(index)") { [self] in
                var client = Client(
                    load: self, number: index, sendsOrders: index >= clients,
                    isWatched: index == clients)
                while !stopping.load(ordering: .relaxed) { client.step() }
                let result = client.finish()
                memory.withLock { $0.add(result) }
                running.subtract(1, ordering: .releasing)
            }.detach()
        }
    }

    /// Ends the load after the answers under way, and gives what all clients remember.
    public func finish() -> CrashMemory {
        stopping.store(true, ordering: .relaxed)
        while running.load(ordering: .acquiring) > 0 { Thread.sleep(microseconds: 1000) }
        return memory.withLock { $0 }
    }

    /// One client: a connection that is opened again whenever it breaks.
    private struct Client: ~Copyable {
        let load: CrashLoad
        let number: Int
        let sendsOrders: Bool
        let isWatched: Bool
        private var memory = CrashMemory()
        private var probe: HTTPProbe?
        private var turn = 0
        /// An order that was not answered 200 yet, and when it was first sent.
        private var openOrder: (order: String, sentAt: Int64)?

        init(load: CrashLoad, number: Int, sendsOrders: Bool, isWatched: Bool) {
            self.load = load
            self.number = number
            self.sendsOrders = sendsOrders
            self.isWatched = isWatched
        }

        private static func now() -> Int64 { SystemClock.monotonicNanoseconds() / 1000 }

        mutating func step() {
            do throws(ProbeError) {
                var open: HTTPProbe
                if let kept = probe.take() {
                    open = kept
                } else {
                    open = try HTTPProbe(load.address)
                }
                if sendsOrders { try convert(&open) } else { try click(&open) }
                probe = consume open
            } catch {
                Thread.sleep(microseconds: Limits.retryMicroseconds)
            }
        }

        consuming func finish() -> CrashMemory {
            if let openOrder { memory.openOrders.append(openOrder.order) }
            return memory
        }

        private mutating func click(_ open: inout HTTPProbe) throws(ProbeError) {
            var text = ""
            var marks: [String] = []
            for _ in 0..<Limits.depth {
                turn += 1
                let mark = "\(load.name)-\(number)-\(turn)"
                marks.append(mark)
                let slug = load.slugs[(number * 37 + turn) % load.slugs.count]
                text += "GET /\(slug)?sub1=\(mark) HTTP/1.1\r\nHost: localhost\r\n"
                for line in LoadGenerator.browser { text += line + "\r\n" }
                text += "\r\n"
            }
            var done = 0
            defer { memory.openMarks += marks[done...] }
            let sentAt = Client.now()
            try open.send(text)
            for mark in marks {
                let answer = try open.response()
                done += 1
                note(answer, mark: mark, sentAt: sentAt)
            }
        }

        private mutating func note(_ answer: ProbeResponse, mark: String, sentAt: Int64) {
            if (301...308).contains(answer.status), let location = answer.header("location"),
                let id = LoadGenerator.clickID(in: location)
            {
                memory.clicks.append(
                    CrashMemory.Click(
                        id: id, mark: mark, sentAt: sentAt, answeredAt: Client.now()))
                load.answered.add(1, ordering: .relaxed)
            } else {
                memory.otherAnswers[answer.status, default: 0] += 1
            }
        }

        private mutating func convert(_ open: inout HTTPProbe) throws(ProbeError) {
            turn += 1
            let order = openOrder?.order ?? "\(load.name)-\(number)-\(turn)"
            let begun = Client.now()
            let sentAt = openOrder?.sentAt ?? begun
            openOrder = (order, sentAt)
            let message = load.post(order)
            if isWatched { load.orderSince.store(begun, ordering: .relaxed) }
            defer { if isWatched { load.orderSince.store(0, ordering: .relaxed) } }
            let answer = try open.request(
                "POST", "/v1/conversions", headers: message.headers, body: message.body)
            guard answer.status == 200 else {
                memory.otherAnswers[answer.status, default: 0] += 1
                return Thread.sleep(microseconds: Limits.retryMicroseconds)
            }
            let end = Client.now()
            memory.orders.append(
                CrashMemory.Order(order: order, sentAt: sentAt, answeredAt: end))
            load.answered.add(1, ordering: .relaxed)
            load.slowestOrder.max(end - begun, ordering: .relaxed)
            openOrder = nil
        }
    }
}
