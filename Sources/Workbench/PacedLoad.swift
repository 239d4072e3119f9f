// Load at a rate that the server does not set (an open loop): requests are due at fixed times, whether
// the earlier ones were answered or not, and a latency counts from the time its request was due. A
// client that waits for answers before it asks again would hide every stall of the server.
public import LinuxIO

/// What a paced load is made of.
public struct PacedLoadOptions: Sendable {
    /// The server.
    public var server: SocketAddress
    /// Where the connections come from, in turn; empty: wherever the kernel likes.
    public var sources: [SocketAddress] = []
    /// Whole requests, sent in turn.
    public var requests: [[UInt8]]
    /// Connections, 1...60000.
    public var connections: Int
    /// Requests that are due in a second.
    public var rate: Int
    /// Seconds in which requests fall due.
    public var seconds: Int
    /// Requests that one connection may have unanswered; more wait in the client.
    public var depth = 1
    /// Whether each request goes over a connection of its own; `connections` may be open at once.
    public var isReconnecting = false
    /// Microseconds after which a request that was sent and not answered is a failure, and its
    /// connection closed.
    ///
    /// One that has waited as long for a connection is never sent: whoever asked has gone, and the
    /// server shall not be asked for him.
    public var timeoutMicroseconds: Int64 = 10_000_000

    /// Options for a GET of each path, as a browser asks.
    public init(
        server: SocketAddress, paths: [String], connections: Int, rate: Int, seconds: Int
    ) {
        self.server = server
        let headers = (["Host: localhost"] + LoadGenerator.browser).joined(separator: "\r\n")
        requests = paths.map { Array("GET \($0) HTTP/1.1\r\n\(headers)\r\n\r\n".utf8) }
        self.connections = connections
        self.rate = rate
        self.seconds = seconds
    }
}

/// What a paced load saw.
public struct PacedLoadResult: Sendable {
    /// Latencies of answered requests, from the time they were due to the last byte of their answer.
    public var latencies = LatencyHistogram()
    /// Answers by status.
    public var statuses: [Int: Int] = [:]
    /// Requests sent and not answered: connections refused, reset or timed out.
    public var failures = 0
    /// Requests that fell due and were never sent, for all connections were busy until they were
    /// too late.
    public var unsent = 0
    /// Answers that came while requests fell due, without those that stragglers got after it.
    public var answersInTime = 0
    /// Microseconds from the first due time to the last answer.
    public var elapsedMicroseconds: Int64 = 0
    /// Answers in a second of that time.
    public var answersPerSecond: Int {
        elapsedMicroseconds > 0 ? latencies.count * 1_000_000 / Int(elapsedMicroseconds) : 0
    }
    /// Answers with a status.
    public func answers(_ status: Int) -> Int { statuses[status] ?? 0 }
}

/// A client of many connections on one thread, paced by the clock.
public struct PacedLoad: ~Copyable {
    private let options: PacedLoadOptions
    private let epoll: Epoll
    private let events: Epoll.EventList
    private var connections: [PacedConnection]
    /// Connections that may take a request, as a ring, so that all are used in turn.
    private var ready: ReadyRing
    private var result = PacedLoadResult()
    private var start: Int64 = 0
    /// The number of the next request: those before it were handed to connections, or given up.
    private var position = 0
    /// Requests given up for they were too late.
    private var abandoned = 0
    private var inFlight = 0
    private var answers: [PacedAnswer] = []
    private let chunk: UnsafeMutableRawBufferPointer

    /// A client; it connects when it runs.
    /// - Precondition: Counts, rate and seconds are positive; there is a request.
    public init(_ options: PacedLoadOptions) throws(Errno) {
        precondition(options.connections > 0 && options.connections <= 60_000)
        precondition(options.rate > 0 && options.seconds > 0 && options.depth > 0)
        precondition(!options.requests.isEmpty)
        self.options = options
        epoll = try Epoll()
        events = Epoll.EventList(capacity: 512)
        connections = (0..<options.connections).map { _ in PacedConnection() }
        ready = ReadyRing(capacity: options.connections)
        chunk = .allocate(byteCount: 256 << 10, alignment: 64)
    }

    deinit {
        for connection in connections where connection.descriptor >= 0 {
            Socket.close(connection.descriptor)
        }
        chunk.deallocate()
    }

    private static func now() -> Int64 { SystemClock.monotonicNanoseconds() / 1000 }

    /// When request number `position` is due.
    private func due(_ position: Int) -> Int64 {
        start + Int64(position) * 1_000_000 / Int64(options.rate)
    }

    /// Sends what falls due, and waits for the last answers until their time is over.
    public consuming func run() -> PacedLoadResult {
        if options.isReconnecting {
            for index in connections.indices { ready.append(index) }
        } else {
            connectAll()
        }
        start = PacedLoad.now()
        let total = options.rate * options.seconds
        let end = start + Int64(options.seconds) * 1_000_000
        var lastSweep = start
        while true {
            let now = PacedLoad.now()
            let dueCount =
                now >= end ? total : Int(now - start) * options.rate / 1_000_000 + 1
            if now < end {
                abandon(now)
                send(upTo: min(dueCount, total), now)
            }
            if now >= end, inFlight == 0 { break }
            if now - lastSweep >= 100_000 {
                lastSweep = now
                sweep(now)
            }
            let next = position < total && now < end && !ready.isEmpty ? due(position) : now + 5000
            let count = epoll.wait(events, microseconds: max(0, min(next - now, 5000)))
            for event in 0..<count {
                handle(Int(events.data(event) & 0xFFFF_FFFF), events.data(event) >> 32)
            }
        }
        result.unsent = total - position + abandoned
        return result
    }

    /// Opens every connection before the clock starts.
    private mutating func connectAll() {
        for index in connections.indices { open(index) }
        let limit = PacedLoad.now() + 10_000_000
        while connections.contains(where: { $0.isConnecting }), PacedLoad.now() < limit {
            let count = epoll.wait(events, microseconds: 5000)
            for event in 0..<count {
                handle(Int(events.data(event) & 0xFFFF_FFFF), events.data(event) >> 32)
            }
        }
    }

    private mutating func open(_ index: Int) {
        let source = options.sources.isEmpty ? nil : options.sources[index % options.sources.count]
        do throws(Errno) {
            let descriptor = try Socket.beginConnect(options.server, from: source).release()
            connections[index].begin(descriptor)
            try epoll.add(descriptor, [.readable, .writable], data: name(index))
        } catch {
            fail(index)
        }
    }

    /// A connection's index and how often its slot was used, so that old events are known.
    private func name(_ index: Int) -> UInt64 {
        UInt64(connections[index].generation) << 32 | UInt64(index)
    }

    /// Gives up the requests that were due longer ago than anybody waits.
    private mutating func abandon(_ now: Int64) {
        let late = Int(max(0, now - options.timeoutMicroseconds - start)) * options.rate / 1_000_000
        guard late > position else { return }
        abandoned += late - position
        position = late
    }

    private mutating func send(upTo dueCount: Int, _ now: Int64) {
        while position < dueCount, let index = ready.next() {
            connections[index].isReady = false
            let request = PacedRequest(due: due(position), taken: now)
            position += 1
            inFlight += 1
            connections[index].pending.append(request)
            if connections[index].descriptor < 0 {
                open(index)
            } else {
                push(index)
            }
        }
    }

    /// Sends the requests that a connection has taken and not sent.
    private mutating func push(_ index: Int) {
        while connections[index].unsentRequests > 0 || !connections[index].remainder.isEmpty {
            if connections[index].remainder.isEmpty {
                let next = connections[index].nextRequest
                connections[index].nextRequest = (next + 1) % options.requests.count
                connections[index].remainder = options.requests[next][...]
                connections[index].sentRequests += 1
            }
            let descriptor = connections[index].descriptor
            let count = connections[index].remainder.withUnsafeBytes { Socket.send(descriptor, $0) }
            if count == -Socket.wouldBlock { return watch(index, writes: true) }
            guard count > 0 else { return fail(index) }
            connections[index].remainder = connections[index].remainder.dropFirst(count)
        }
        watch(index, writes: false)
        offer(index)
    }

    /// Puts a connection into the ring when it may take another request.
    private mutating func offer(_ index: Int) {
        guard !connections[index].isReady, connections[index].pending.count < options.depth else {
            return
        }
        connections[index].isReady = true
        ready.append(index)
    }

    private mutating func watch(_ index: Int, writes: Bool) {
        guard connections[index].watchesWrites != writes else { return }
        connections[index].watchesWrites = writes
        try? epoll.modify(
            connections[index].descriptor, writes ? [.readable, .writable] : .readable,
            data: name(index))
    }

    private mutating func handle(_ index: Int, _ generation: UInt64) {
        guard connections[index].descriptor >= 0,
            UInt64(connections[index].generation) == generation
        else { return }
        if connections[index].isConnecting {
            guard Socket.pendingError(connections[index].descriptor) == nil else {
                return fail(index)
            }
            connections[index].isConnecting = false
            return push(index)
        }
        let count = Socket.receive(connections[index].descriptor, chunk)
        if count == -Socket.wouldBlock {
            if connections[index].watchesWrites { push(index) }
            return
        }
        guard count > 0 else { return fail(index) }
        take(index, UnsafeRawBufferPointer(rebasing: chunk[..<count]))
    }

    /// Takes in answers.
    private mutating func take(_ index: Int, _ bytes: UnsafeRawBufferPointer) {
        let now = PacedLoad.now()
        var closes = false
        answers.removeAll(keepingCapacity: true)
        connections[index].read(bytes, into: &answers)
        for answer in answers {
            result.latencies.record(microseconds: now - answer.due)
            result.statuses[answer.status, default: 0] += 1
            closes = closes || answer.closes
        }
        inFlight -= answers.count
        if now < start + Int64(options.seconds) * 1_000_000 {
            result.answersInTime += answers.count
        }
        result.elapsedMicroseconds = now - start
        if options.isReconnecting, connections[index].pending.isEmpty {
            close(index)
            return offer(index)
        }
        if closes || connections[index].isBroken { return fail(index) }
        if !connections[index].watchesWrites { offer(index) }
    }

    private mutating func close(_ index: Int) {
        guard connections[index].descriptor >= 0 else { return }
        Socket.close(connections[index].descriptor)
        connections[index].end()
    }

    /// What a connection had in hand has failed; it is opened anew when it is next needed.
    private mutating func fail(_ index: Int) {
        let lost = connections[index].pending.count
        result.failures += lost
        inFlight -= lost
        connections[index].pending.removeAll()
        close(index)
        offer(index)
    }

    private mutating func sweep(_ now: Int64) {
        for index in connections.indices {
            guard let first = connections[index].pending.first else { continue }
            if now - first.taken > options.timeoutMicroseconds { fail(index) }
        }
    }
}

/// Indices of connections in the order in which they became ready.
private struct ReadyRing {
    private var storage: [Int]
    private var first = 0
    private var count = 0

    init(capacity: Int) { storage = [Int](repeating: 0, count: capacity) }

    var isEmpty: Bool { count == 0 }

    mutating func append(_ index: Int) {
        precondition(count < storage.count)
        storage[(first + count) % storage.count] = index
        count += 1
    }

    mutating func next() -> Int? {
        guard count > 0 else { return nil }
        let index = storage[first]
        first = (first + 1) % storage.count
        count -= 1
        return index
    }
}
