// A restart without a service manager: the successor asks, over a Unix socket of its own user, for
// the listening sockets and the open connections, and begins when its predecessor has ended.
public import LinuxIO
internal import Synchronization

/// The words of the conversation, version 2; each is one packet.
///
/// Successor: `clickd hand-over 2`. Predecessor: `socket http` or `socket https` with a descriptor,
/// for each; then `sockets`. Successor: `drain`. Predecessor: connections (see
/// ``PassedConnection``), then `released` when ring and spool are the successor's (or the end of the
/// connection, with its process). Successor: `serving`. When its end comes instead, the predecessor
/// serves again.
private enum HandOverWord {
    static let hello = Array("clickd hand-over 2".utf8)
    static let socket = Array("socket ".utf8)
    static let sockets = Array("sockets".utf8)
    static let drain = Array("drain".utf8)
    static let released = Array("released".utf8)
    static let serving = Array("serving".utf8)
}

/// The bounds of a hand-over.
public enum HandOverLimits {
    /// Seconds that each side waits for the other's next word.
    static let wordSeconds = 5
    /// Seconds that a successor waits for its predecessor's end: its drain has 10.
    static let endSeconds = 12
    /// Bytes of the longest message: an unfinished request and an unsent answer.
    static let messageBytes = 1 << 20
    /// Connections taken over; more are closed.
    static let connections = 1 << 20
    /// Milliseconds that a successor waits for the locks of a predecessor that has just ended.
    public static let lockMilliseconds = 2_000

    /// The path of a daemon's door, beside its operations socket.
    public static func path(besides operationsSocket: String) -> String {
        operationsSocket + ".handover"
    }
}

/// What a predecessor left.
public struct Inheritance: Sendable {
    /// Its listening sockets.
    public var sockets: [PassedDescriptor] = []
    /// Its open connections.
    public var connections: [InheritedConnection] = []
    /// Its process.
    public var processID: Int32 = 0
    /// Tells it that somebody serves, after which it may go.
    public var waiting: WaitingPredecessor?
}

/// A predecessor that has let go of everything and goes when it hears that somebody serves; when it
/// hears the end of this process instead, it serves again.
public final class WaitingPredecessor: Sendable {
    private let socket: FileDescriptor

    init(_ socket: consuming FileDescriptor) { self.socket = socket }

    /// Says that this process serves.
    public func noteServing() {
        try? HandOverWord.serving.withUnsafeBytes { try PacketSocket.send(socket.rawValue, $0) }
    }
}

/// Why nothing could be taken over.
public struct HandOverError: Error, Sendable {
    /// One line for the operator.
    public let message: String
}

/// The side of the successor.
public enum Predecessor {
    /// Asks the daemon behind a door for all that outlives it, and waits for its end.
    ///
    /// - Parameter objection: Given the daemon's process ID before anything is asked of it; why it is
    ///   not to be taken over, or nil.
    /// - Returns: Nil when no daemon is there.
    /// - Throws: ``HandOverError`` when it does not end in time, is another user's, speaks another
    ///   version, or there is an objection; it goes on serving then, or serves again.
    public static func takeOver(
        path: String, objection: (Int32) -> String? = { _ in nil }
    ) throws(HandOverError) -> Inheritance? {
        let socket: FileDescriptor
        do throws(Errno) {
            socket = try PacketSocket.connect(path, timeoutSeconds: HandOverLimits.wordSeconds)
        } catch {
            if error == .noSuchFile || error == .connectionRefused { return nil }
            throw HandOverError(message: "cannot ask \(path) for its sockets: \(error)")
        }
        var inheritance = Inheritance()
        do throws(Errno) {
            let peer = try PacketSocket.peer(socket.rawValue)
            guard peer.userID == CurrentProcess.userID else {
                throw .notPermitted
            }
            inheritance.processID = peer.processID
        } catch {
            throw HandOverError(message: "cannot tell who is behind \(path): \(error)")
        }
        if let reason = objection(inheritance.processID) { throw HandOverError(message: reason) }
        do throws(Errno) {
            try say(HandOverWord.hello, to: socket)
            try takeSockets(&inheritance, from: socket)
            try say(HandOverWord.drain, to: socket)
            try Socket.setTimeouts(socket.rawValue, seconds: HandOverLimits.endSeconds)
            try takeConnections(&inheritance, from: socket)
            inheritance.waiting = WaitingPredecessor(socket)
            return inheritance
        } catch {
            for passed in inheritance.sockets { Socket.close(passed.descriptor) }
            for passed in inheritance.connections { Socket.close(passed.descriptor) }
            let process = inheritance.processID
            throw HandOverError(
                message: "process \(process) did not hand over by \(path): \(error)")
        }
    }

    private static func say(
        _ word: [UInt8], to socket: borrowing FileDescriptor
    ) throws(Errno) {
        try word.withUnsafeBufferPointer { (bytes) throws(Errno) in
            try PacketSocket.send(socket.rawValue, UnsafeRawBufferPointer(bytes))
        }
    }

    private static func takeSockets(
        _ inheritance: inout Inheritance, from socket: borrowing FileDescriptor
    ) throws(Errno) {
        while var message = try PacketSocket.receive(
            socket.rawValue, limit: HandOverLimits.messageBytes)
        {
            if message.bytes == HandOverWord.sockets { return }
            guard message.bytes.starts(with: HandOverWord.socket),
                inheritance.sockets.count < SocketActivation.maximumDescriptors,
                let descriptor = message.takeDescriptor()
            else { throw .invalidArgument }
            let name = message.bytes.dropFirst(HandOverWord.socket.count)
            inheritance.sockets.append(
                PassedDescriptor(
                    descriptor: descriptor, name: String(decoding: name, as: UTF8.self)))
        }
        throw .connectionRefused
    }

    /// Until the predecessor has let go of ring and spool, or has ended.
    private static func takeConnections(
        _ inheritance: inout Inheritance, from socket: borrowing FileDescriptor
    ) throws(Errno) {
        while var message = try PacketSocket.receive(
            socket.rawValue, limit: HandOverLimits.messageBytes)
        {
            if message.bytes == HandOverWord.released { return }
            guard message.bytes.first == PassedConnection.tag,
                inheritance.connections.count < HandOverLimits.connections,
                let descriptor = message.takeDescriptor()
            else { continue }
            inheritance.connections.append(
                InheritedConnection(descriptor: descriptor, message: message.bytes))
        }
    }
}

/// What became of a successor.
public enum SuccessorFate: Sendable, Equatable {
    /// It serves.
    case serves
    /// It has ended before it served.
    case ended
    /// It is there and has not said anything in time.
    case silent
}

/// The side of the predecessor: waits for a successor, one at a time.
public final class SuccessorDoor: Sendable {
    private let path: String
    private let listener: FileDescriptor
    private let stopping: EventDescriptor
    /// The successor's connection, open until this process ends: its end tells the successor.
    private let successor = Atomic<CInt>(-1)

    /// Makes the door, for this user only (0600).
    public init(path: String) throws(Errno) {
        self.path = path
        listener = try PacketSocket.listen(path)
        stopping = try EventDescriptor()
    }

    deinit {
        let descriptor = successor.load(ordering: .acquiring)
        if descriptor >= 0 { Socket.close(descriptor) }
    }

    /// Waits on a thread of its own; `onSuccessor` is called once, with the successor's process,
    /// when the edge's listening sockets have been handed over and its drain must begin.
    public func open(
        _ edge: EdgeServer, onSuccessor: @escaping @Sendable (Int32) -> Void
    ) throws(Errno) {
        let epoll = try Epoll()
        try epoll.add(listener.rawValue, .readable, data: 0)
        try epoll.add(stopping.descriptor.rawValue, .readable, data: 1)
        let box = Box(epoll)
        try Thread.start(name: "successor-door") { [self] in
            let events = Epoll.EventList(capacity: 2)
            while true {
                for index in 0..<box.epoll.wait(events, milliseconds: -1) {
                    if events.data(index) == 1 { return }
                    guard let process = serve(edge) else { continue }
                    return onSuccessor(process)
                }
            }
        }.detach()
    }

    private final class Box: Sendable {
        let epoll: Epoll
        init(_ epoll: consuming Epoll) { self.epoll = epoll }
    }

    /// Whether a successor has been let in.
    public var hasSuccessor: Bool { successor.load(ordering: .acquiring) >= 0 }

    /// Tells the successor that ring and spool are free, and waits until it serves.
    ///
    /// - Parameter milliseconds: How long at most.
    public func release(waitingMilliseconds milliseconds: Int) -> SuccessorFate {
        let descriptor = successor.load(ordering: .acquiring)
        precondition(descriptor >= 0, "there is a successor")
        do throws(Errno) {
            try HandOverWord.released.withUnsafeBufferPointer { (bytes) throws(Errno) in
                try PacketSocket.send(descriptor, UnsafeRawBufferPointer(bytes))
            }
            guard Socket.waitReadable(descriptor, milliseconds: milliseconds) else {
                return .silent
            }
            guard let answer = try PacketSocket.receive(descriptor, limit: 64) else {
                return .ended
            }
            return answer.bytes == HandOverWord.serving ? .serves : .ended
        } catch {
            return error == .wouldBlock ? .silent : .ended
        }
    }

    /// Ends the waiting and takes the door away.
    public func close() {
        stopping.signal()
        try? FileSystem.remove(path)
    }

    /// One visitor; its process when it is the successor.
    private func serve(_ edge: EdgeServer) -> Int32? {
        do throws(Errno) {
            let visitor = try PacketSocket.accept(
                listener.rawValue, timeoutSeconds: HandOverLimits.wordSeconds)
            let peer = try PacketSocket.peer(visitor.rawValue)
            guard peer.userID == CurrentProcess.userID,
                try hears(HandOverWord.hello, from: visitor)
            else { return nil }
            for passed in edge.passableSockets {
                try say(
                    HandOverWord.socket + Array(passed.name.utf8), passed.descriptor, to: visitor)
            }
            try say(HandOverWord.sockets, -1, to: visitor)
            guard try hears(HandOverWord.drain, from: visitor) else { return nil }
            let descriptor = visitor.release()
            successor.store(descriptor, ordering: .releasing)
            edge.yield(to: descriptor)
            return peer.processID
        } catch {
            return nil  // Whoever it was has gone, or is slow: the edge serves on.
        }
    }

    private func hears(
        _ word: [UInt8], from socket: borrowing FileDescriptor
    ) throws(Errno) -> Bool {
        guard let message = try PacketSocket.receive(socket.rawValue, limit: 64) else {
            return false
        }
        return message.bytes == word
    }

    private func say(
        _ word: [UInt8], _ descriptor: CInt, to socket: borrowing FileDescriptor
    ) throws(Errno) {
        try word.withUnsafeBufferPointer { (bytes) throws(Errno) in
            try PacketSocket.send(
                socket.rawValue, UnsafeRawBufferPointer(bytes), descriptor: descriptor)
        }
    }
}
