// Stands between the flusher and PostgreSQL, counts the messages of the protocol and cuts the
// connection after the one that it is told to.
import LinuxIO
import Synchronization

/// A proxy on a Unix socket, one connection at a time, on a thread of its own.
final class CutProxy: Sendable {
    /// When to cut, counted from the connection's first message or from behind a given one.
    struct Plan: Sendable {
        /// Messages of both directions that go through.
        var messages: Int
        /// Whether half of the next message goes through too.
        var tearsNext = false
        /// The message behind which counting begins; nil for the connection's beginning.
        var after: String?
        /// Which of the messages of that name.
        var occurrence = 1
    }

    private struct State {
        var plan: Plan?
        var last = ""
        var cuts: [String] = []
        var isStopping = false
    }

    /// The directory of the socket: the `host` of a DSN.
    let directory: String
    private let upstream: String
    private let state = Mutex(State())
    private let ended: EventDescriptor

    /// Listens in a directory of its own, and connects to a server's socket for each client.
    init(to socketDirectory: String) throws {
        directory = "/tmp/clickd-cut-\(SystemClock.monotonicNanoseconds())"
        upstream = "\(socketDirectory)/.s.PGSQL.5432"
        ended = try EventDescriptor()
        try FileSystem.makeDirectories(directory)
        let listener = try Socket.listen(unix: "\(directory)/.s.PGSQL.5432")
        let raw = listener.release()
        _ = try Thread.start(name: "cut proxy") { [self] in
            while !state.withLock({ $0.isStopping }) {
                guard Socket.waitReadable(raw, milliseconds: 50) else { continue }
                var peer = PeerAddress()
                let client = Socket.accept(raw, peer: &peer)
                if client >= 0 { serve(client) }
            }
            Socket.close(raw)
            ended.signal()
        }
    }

    /// Ends the thread.
    func stop() {
        state.withLock { $0.isStopping = true }
        ended.wait(milliseconds: 5000)
        try? FileSystem.removeTree(directory)
    }

    /// Cuts the next connection by a plan; those after it go through whole.
    func arm(_ plan: Plan) { state.withLock { $0.plan = plan } }

    /// Takes the plan back; whether it was still there.
    func disarm() -> Bool { state.withLock { $0.plan.take() != nil } }

    /// The last message that went through before each cut, such as `> Q COMMIT` or `< Z`.
    var cuts: [String] { state.withLock { $0.cuts } }

    private func serve(_ client: CInt) {
        defer { Socket.close(client) }
        guard let server = try? Socket.connect(unix: upstream, timeoutSeconds: 10) else { return }
        let plan = state.withLock { $0.plan }
        var requests = MessageStream(isFrontend: true)
        var answers = MessageStream(isFrontend: false)
        var awaited = plan?.after
        var occurrences = plan?.occurrence ?? 1
        var left = awaited == nil ? plan?.messages ?? .max : .max
        while !state.withLock({ $0.isStopping }) {
            var isIdle = true
            for (from, to, isRequest) in [
                (client, server.rawValue, true), (server.rawValue, client, false),
            ] where Socket.waitReadable(from, milliseconds: 0) {
                isIdle = false
                guard let bytes = CutProxy.read(from), !bytes.isEmpty else { return }
                if isRequest { requests.feed(bytes) } else { answers.feed(bytes) }
                while let message = isRequest ? requests.next() : answers.next() {
                    guard left > 0 else {
                        if plan?.tearsNext == true {
                            _ = CutProxy.write(
                                Array(
                                    message.bytes.prefix(
                                        message.bytes.count / 2)), to)
                        }
                        return cut()
                    }
                    let name = "\(isRequest ? ">" : "<") \(message.name)"
                    if name == awaited {
                        occurrences -= 1
                        if occurrences == 0 {
                            awaited = nil
                            left = (plan?.messages ?? 0) + 1
                        }
                    }
                    left -= 1
                    state.withLock { $0.last = name }
                    guard CutProxy.write(message.bytes, to) else { return }
                    if left == 0, plan?.tearsNext == false { return cut() }
                }
            }
            if isIdle { CutProxy.wait(client, server.rawValue) }
        }
    }

    private func cut() {
        state.withLock { state in
            state.plan = nil
            state.cuts.append(state.last)
        }
    }

    /// Waits for either of two descriptors.
    private static func wait(_ one: CInt, _ other: CInt) {
        guard let epoll = try? Epoll() else { return }
        try? epoll.add(one, .readable, data: 1)
        try? epoll.add(other, .readable, data: 2)
        _ = epoll.wait(Epoll.EventList(capacity: 2), milliseconds: 100)
    }

    private static func read(_ fd: CInt) -> [UInt8]? {
        let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
            count = max(0, Socket.receive(fd, UnsafeMutableRawBufferPointer(buffer)))
        }
        return bytes.isEmpty ? nil : bytes
    }

    private static func write(_ bytes: [UInt8], _ fd: CInt) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Socket.send(fd, UnsafeRawBufferPointer(rebasing: $0[sent...]))
            }
            if count > 0 {
                sent += count
            } else if -count == Socket.wouldBlock {
                guard Socket.waitWritable(fd, milliseconds: 10_000) else { return false }
            } else {
                return false
            }
        }
        return true
    }
}

/// One direction of the protocol, message by message.
private struct MessageStream {
    private let isFrontend: Bool
    private var isStartup: Bool
    private var bytes: [UInt8] = []
    private var start = 0

    init(isFrontend: Bool) {
        self.isFrontend = isFrontend
        isStartup = isFrontend
    }

    mutating func feed(_ more: [UInt8]) {
        if start > 0 {
            bytes.removeFirst(start)
            start = 0
        }
        bytes += more
    }

    /// The next whole message: its bytes, and its letter with a query's first word.
    mutating func next() -> (bytes: [UInt8], name: String)? {
        let head = isStartup ? 0 : 1
        guard bytes.count - start >= head + 4 else { return nil }
        let length = bytes[(start + head)..<(start + head + 4)].reduce(0) { $0 << 8 | Int($1) }
        guard bytes.count - start >= head + length else { return nil }
        let message = Array(bytes[start..<(start + head + length)])
        start += message.count
        if isStartup {
            isStartup = false
            return (message, "startup")
        }
        var name = String(UnicodeScalar(message[0]))
        if isFrontend, message[0] == UInt8(ascii: "Q") {
            let word = message.dropFirst(5).prefix { $0 != UInt8(ascii: " ") && $0 != 0 }
            name += " " + String(decoding: word, as: UTF8.self)
        }
        return (message, name)
    }
}
