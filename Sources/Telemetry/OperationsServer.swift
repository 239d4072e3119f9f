// The operations endpoint: a Unix socket and, for reading only, TCP. A thread per connection, few
// connections at once; it shares nothing with the event loops.
public import LinuxIO
internal import Synchronization

/// Answers the requests of the operations endpoint.
///
/// Called on connections' threads, several at once.
public protocol OperationsHandler: Sendable {
    /// The answer to a request. It may block, as `/flush` does.
    func respond(to request: OperationsRequest) -> OperationsResponse
}

/// Why the operations endpoint cannot be opened.
public struct OperationsServerError: Error, Sendable, CustomStringConvertible {
    /// The socket path or TCP address.
    public let address: String
    /// What the kernel said.
    public let cause: Errno

    /// One line for the operator.
    public var description: String { "cannot listen on \(address): \(cause)" }
    /// The process's exit code: rights, or cannot create.
    public var exitCode: Int32 { cause == .accessDenied || cause == .notPermitted ? 77 : 73 }
}

/// Listens, reads one request a connection, answers, closes.
public final class OperationsServer: Sendable {
    /// The bounds of the endpoint.
    public enum Limits {
        /// Connections served at once; one more is answered 503 and closed.
        public static let connections = 32
        /// Milliseconds for a whole request to arrive.
        public static let requestMilliseconds = 5_000
        /// Milliseconds for the answer to be taken.
        public static let responseMilliseconds = 10_000
        /// Milliseconds that a stop waits for answers in hand.
        public static let stopMilliseconds = 2_000
        /// Stack of a connection's thread.
        public static let stackBytes = 512 << 10
    }

    /// The ports that the TCP addresses were given, in order.
    public let tcpPorts: [UInt16]

    private let unixPath: String?
    private let handler: any OperationsHandler
    private let listeners: Listeners
    private let epoll: Epoll
    private let wakeUp: EventDescriptor
    private let idle: EventDescriptor
    private let active = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    private let acceptor = Mutex<ThreadBox?>(nil)

    /// The listening descriptors: index 0 is the Unix socket when there is one.
    private struct Listeners: Sendable {
        var descriptors: [CInt] = []
        var unixCount = 0
    }

    /// A thread in a place that an optional can hold.
    private final class ThreadBox: Sendable {
        let thread: Mutex<Thread?>
        init(_ thread: consuming Thread) {
            self.thread = Mutex(consume thread)
        }
    }

    private static let wakeUpData = UInt64.max

    /// Binds the socket (0660, replacing a stale one; its directory is made) and the addresses.
    ///
    /// Take the locks that keep a second daemon away before this. Nothing is accepted before
    /// ``start()``.
    public init(
        unixPath: String?, tcp: [SocketAddress], handler: any OperationsHandler
    ) throws(OperationsServerError) {
        var listeners = Listeners()
        var ports: [UInt16] = []
        let name = unixPath ?? "the operations endpoint"
        func failing<Result: ~Copyable>(
            _ address: String, _ body: () throws(Errno) -> Result
        ) throws(OperationsServerError) -> Result {
            do { return try body() } catch {
                for fd in listeners.descriptors { Socket.close(fd) }
                throw OperationsServerError(address: address, cause: error)
            }
        }
        if let unixPath {
            let fd = try failing(unixPath) { () throws(Errno) in
                let directory = FileSystem.directory(of: unixPath)
                if !FileSystem.exists(directory) {
                    try FileSystem.makeDirectories(directory, permissions: 0o755)
                }
                return try Socket.listen(unix: unixPath, permissions: 0o660)
            }
            listeners.descriptors.append(fd.release())
            listeners.unixCount = 1
        }
        for address in tcp {
            let fd = try failing(address.description) { () throws(Errno) in
                try Socket.listen(address, reusePort: false, backlog: 64)
            }
            let raw = fd.release()
            listeners.descriptors.append(raw)
            ports.append(
                try failing(address.description) { () throws(Errno) in
                    try Socket.localPort(raw)
                })
        }
        self.epoll = try failing(name) { () throws(Errno) in try Epoll() }
        self.wakeUp = try failing(name) { () throws(Errno) in try EventDescriptor() }
        self.idle = try failing(name) { () throws(Errno) in try EventDescriptor() }
        do {
            for (index, fd) in listeners.descriptors.enumerated() {
                try epoll.add(fd, .readable, data: UInt64(index))
            }
            try epoll.add(
                wakeUp.descriptor.rawValue, .readable, data: OperationsServer.wakeUpData)
        } catch {
            for fd in listeners.descriptors { Socket.close(fd) }
            throw OperationsServerError(address: name, cause: error)
        }
        self.unixPath = unixPath
        self.handler = handler
        self.listeners = listeners
        self.tcpPorts = ports
    }

    deinit {
        if !stopping.load(ordering: .acquiring) { closeListeners() }
    }

    private func closeListeners() {
        for fd in listeners.descriptors { Socket.close(fd) }
    }

    /// Begins to accept, on a thread of its own.
    public func start() throws(Errno) {
        let thread = try Thread.start(name: "ops", stackBytes: Limits.stackBytes) { [self] in
            acceptUntilStopped()
        }
        let box = ThreadBox(thread)
        acceptor.withLock { $0 = box }
    }

    /// Accepts no more, waits a while for the answers in hand, and removes the socket file.
    public func stop(waitMilliseconds: Int = Limits.stopMilliseconds) {
        guard !stopping.exchange(true, ordering: .acquiringAndReleasing) else { return }
        wakeUp.signal()
        let box = acceptor.withLock { $0.take() }
        if let thread = box?.thread.withLock({ $0.take() }) { thread.join() }
        closeListeners()
        if let unixPath { try? FileSystem.remove(unixPath) }
        let deadline = SystemClock.monotonicNanoseconds() + Int64(waitMilliseconds) * 1_000_000
        while active.load(ordering: .acquiring) > 0 {
            let rest = (deadline - SystemClock.monotonicNanoseconds()) / 1_000_000
            guard rest > 0 else { return }
            idle.wait(milliseconds: Int(min(rest, 100)))
        }
    }

    private func acceptUntilStopped() {
        let events = Epoll.EventList(capacity: 8)
        while !stopping.load(ordering: .acquiring) {
            let count = epoll.wait(events, milliseconds: -1)
            for index in 0..<count {
                let data = events.data(index)
                guard data != OperationsServer.wakeUpData else {
                    wakeUp.clear()
                    continue
                }
                accept(listener: Int(data))
            }
        }
    }

    private func accept(listener: Int) {
        var peer = PeerAddress()
        let fd = Socket.accept(listeners.descriptors[listener], peer: &peer)
        guard fd >= 0 else {
            let error = Errno.current
            if error == .tooManyDescriptors || error == .tooManyFilesInSystem {
                // Level-triggered: without a pause it would spin.
                Thread.sleep(microseconds: 50_000)
            }
            return
        }
        let overUnixSocket = listener < listeners.unixCount
        let busy = active.add(1, ordering: .acquiringAndReleasing).newValue > Limits.connections
        if busy {
            refuse(fd)
            return
        }
        do {
            let thread = try Thread.start(name: "ops-conn", stackBytes: Limits.stackBytes) {
                [self] in
                serve(fd, overUnixSocket: overUnixSocket)
                Socket.close(fd)
                leave()
            }
            thread.detach()
        } catch {
            refuse(fd)
        }
    }

    private func refuse(_ fd: CInt) {
        let answer = OperationsHTTP.write(.text("too many connections", status: 503))
        _ = answer.withUnsafeBytes { Socket.send(fd, $0) }
        Socket.close(fd)
        leave()
    }

    private func leave() {
        active.subtract(1, ordering: .acquiringAndReleasing)
        idle.signal()
    }

    private func serve(_ fd: CInt, overUnixSocket: Bool) {
        switch receive(fd, overUnixSocket: overUnixSocket) {
        case .request(let request, _):
            let response: OperationsResponse
            if request.method == .post && !overUnixSocket {
                response = .methodNotAllowed()
            } else {
                response = handler.respond(to: request)
            }
            send(fd, OperationsHTTP.write(response, withBody: request.method != .head))
        case .refused(let status):
            send(fd, OperationsHTTP.write(.text("request refused", status: status)))
        case .needMore:
            return  // The peer left before its request was whole.
        }
        finish(fd)
    }

    /// Reads until a request is whole, refused, late (408) or the peer is gone.
    private func receive(_ fd: CInt, overUnixSocket: Bool) -> OperationsHTTP.Parsed {
        var bytes: [UInt8] = []
        let deadline = Deadline(milliseconds: Limits.requestMilliseconds)
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
        defer { chunk.deallocate() }
        while true {
            let parsed = OperationsHTTP.parse(bytes, overUnixSocket: overUnixSocket)
            switch parsed {
            case .refused: return parsed
            case .request(_, let totalBytes) where bytes.count >= totalBytes: return parsed
            case .request, .needMore: break
            }
            guard Socket.waitReadable(fd, milliseconds: deadline.milliseconds) else {
                return .refused(status: 408)
            }
            let count = Socket.receive(fd, chunk)
            if count > 0 {
                bytes.append(contentsOf: chunk[..<count])
            } else if count != -Socket.wouldBlock {
                return .needMore
            }
        }
    }

    private func send(_ fd: CInt, _ bytes: [UInt8]) {
        let deadline = Deadline(milliseconds: Limits.responseMilliseconds)
        bytes.withUnsafeBytes { buffer in
            var rest = buffer
            while !rest.isEmpty {
                let count = Socket.send(fd, rest)
                if count > 0 {
                    rest = UnsafeRawBufferPointer(rebasing: rest[count...])
                } else if count == -Socket.wouldBlock {
                    guard Socket.waitWritable(fd, milliseconds: deadline.milliseconds) else {
                        return
                    }
                } else {
                    return
                }
            }
        }
    }

    /// Ends our half and takes what the peer still sends, so that a reset cannot eat the answer.
    private func finish(_ fd: CInt) {
        Socket.shutdownWriting(fd)
        let deadline = Deadline(milliseconds: 1_000)
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
        defer { chunk.deallocate() }
        while Socket.waitReadable(fd, milliseconds: deadline.milliseconds) {
            let count = Socket.receive(fd, chunk)
            if count <= 0 && count != -Socket.wouldBlock { return }
        }
    }
}

/// A point in monotonic time that work must end by.
private struct Deadline {
    private let at: Int64

    init(milliseconds: Int) {
        at = SystemClock.monotonicNanoseconds() + Int64(milliseconds) * 1_000_000
    }

    /// Milliseconds that are left, 0 when it has passed.
    var milliseconds: Int {
        Int(max(0, (at - SystemClock.monotonicNanoseconds()) / 1_000_000))
    }
}
