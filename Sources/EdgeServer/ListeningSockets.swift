// The process's listening sockets: inherited where somebody keeps them over a restart, bound here
// otherwise; shared by all loops, so that no loop's end or silence loses a queue.
public import LinuxIO

/// What is spoken on a listening socket.
public enum ListenerKind: UInt8, Sendable, CaseIterable {
    /// Plain HTTP.
    case http
    /// HTTP over TLS.
    case https

    /// The name of a passed descriptor of this kind (`FileDescriptorName=`).
    public var name: String { self == .http ? "http" : "https" }
    /// The key that names its addresses.
    var key: String { self == .http ? "http.listen" : "https.listen" }
}

/// Where the edge listens, and for what.
public struct ListenAddress: Sendable, Hashable {
    /// The address; port 0 takes any.
    public var address: SocketAddress
    /// What is spoken there.
    public var kind: ListenerKind

    /// An address and what is spoken there.
    public init(_ address: SocketAddress, _ kind: ListenerKind) {
        self.address = address
        self.kind = kind
    }
}

/// Sockets that another process opened for this one, and how long they live.
public struct InheritedSockets: Sendable {
    /// Where they come from.
    public enum Origin: Sendable {
        /// A service manager, which keeps them while no process runs: all must be configured.
        case serviceManager
        /// The predecessor: those that are no longer configured are closed.
        case predecessor
    }

    /// Where they come from.
    public var origin: Origin
    /// The sockets; the edge takes them over.
    public var descriptors: [PassedDescriptor]

    /// Sockets of an origin.
    public init(_ origin: Origin, _ descriptors: [PassedDescriptor]) {
        self.origin = origin
        self.descriptors = descriptors
    }

    /// None: every address is bound by this process.
    public static let none = InheritedSockets(.predecessor, [])
}

/// An open connection that the predecessor passed on, as it came.
public struct InheritedConnection: Sendable {
    /// The raw descriptor; the edge takes it over.
    public var descriptor: CInt
    /// What goes with it.
    public var message: [UInt8]
}

/// One listening socket.
struct ListeningSocket: Sendable {
    /// The raw descriptor; ``ListeningSockets`` closes it.
    var descriptor: CInt
    var kind: ListenerKind
    /// Its place among the sockets of its address: the loop that is to be woken first.
    var share: Int
}

/// All listening sockets, owned.
///
/// An address bound here has one socket a loop (SO_REUSEPORT spreads the connections); an inherited
/// one has as many as it had, whatever the number of loops: closing one would lose its queue.
final class ListeningSockets: Sendable {
    /// In the order of `LoopSignal.firstListener`.
    let sockets: [ListeningSocket]
    /// The ports, as the wanted addresses name them.
    let ports: [UInt16]
    /// Whether a service manager keeps every one of them while no process runs.
    let outliveProcess: Bool
    /// What an operator should know of them.
    let notices: [String]

    /// Takes over what was inherited and binds the rest.
    ///
    /// - Parameters:
    ///   - wanted: The configured addresses.
    ///   - loops: Sockets of an address that is bound here.
    init(
        _ wanted: [ListenAddress], inherited: InheritedSockets, loops: Int
    ) throws(EdgeServerError) {
        var opening = Opening(origin: inherited.origin)
        do throws(EdgeServerError) {
            try opening.match(inherited.descriptors, wanted)
            for address in wanted { try opening.complete(address, loops: loops) }
        } catch {
            for socket in opening.sockets { Socket.close(socket.descriptor) }
            for rest in opening.unmatched { Socket.close(rest) }
            throw error
        }
        sockets = opening.sockets
        ports = opening.ports
        notices = opening.notices
        outliveProcess =
            inherited.origin == .serviceManager && opening.boundHere == 0 && !sockets.isEmpty
    }

    deinit { for socket in sockets { Socket.close(socket.descriptor) } }

    /// The sockets with the names that ``InheritedSockets`` knows them by.
    var passable: [PassedDescriptor] {
        sockets.map { PassedDescriptor(descriptor: $0.descriptor, name: $0.kind.name) }
    }
}

/// The steps from wanted addresses to sockets.
private struct Opening {
    let origin: InheritedSockets.Origin
    var sockets: [ListeningSocket] = []
    var ports: [UInt16] = []
    var notices: [String] = []
    /// Inherited descriptors that no step has dealt with yet.
    var unmatched: [CInt] = []
    var boundHere = 0
    private var inherited: [ListenAddress: [CInt]] = [:]

    init(origin: InheritedSockets.Origin) { self.origin = origin }

    /// Checks every inherited socket and finds the configured address that it serves.
    mutating func match(
        _ descriptors: [PassedDescriptor], _ wanted: [ListenAddress]
    ) throws(EdgeServerError) {
        unmatched = descriptors.map(\.descriptor)
        for passed in descriptors {
            guard let facts = try? Socket.facts(passed.descriptor), facts.isTCP,
                facts.isListening, let address = facts.address
            else {
                throw .unfitSocket(passed.name, "it is no listening TCP socket")
            }
            let named = ListenerKind.allCases.first { $0.name == passed.name }
            guard let target = Opening.target(address, facts, named, wanted) else {
                if origin == .predecessor {
                    notices.append("\(address) is no longer configured: its socket is closed")
                    continue
                }
                let key = named?.key ?? "http.listen or https.listen"
                throw .unfitSocket(
                    passed.name, "it listens on \(address), which \(key) does not name")
            }
            do throws(Errno) {
                try Socket.setNonBlocking(passed.descriptor)
            } catch {
                throw .unfitSocket(passed.name, "\(error)")
            }
            Opening.prepare(passed.descriptor)
            unmatched.removeAll { $0 == passed.descriptor }
            inherited[target, default: []].append(passed.descriptor)
        }
        for rest in unmatched { Socket.close(rest) }
        unmatched = []
    }

    /// The configured address that a socket serves: its own, or every IPv4 address's by a socket
    /// that takes both.
    private static func target(
        _ address: SocketAddress, _ facts: SocketFacts, _ kind: ListenerKind?,
        _ wanted: [ListenAddress]
    ) -> ListenAddress? {
        let able = wanted.filter { kind == nil || $0.kind == kind }
        if let same = able.first(where: { $0.address == address }) { return same }
        let isAny = address.bytes.allSatisfy { $0 == 0 }
        guard facts.isDualStack, isAny else { return nil }
        let everyIPv4 = SocketAddress(bytes: [0, 0, 0, 0], port: address.port)
        return able.first { $0.address == everyIPv4 }
    }

    /// Gives an address its sockets.
    mutating func complete(_ wanted: ListenAddress, loops: Int) throws(EdgeServerError) {
        if let found = inherited.removeValue(forKey: wanted) {
            for (share, descriptor) in found.enumerated() {
                sockets.append(
                    ListeningSocket(descriptor: descriptor, kind: wanted.kind, share: share))
            }
            ports.append(wanted.address.port)
            return
        }
        if origin == .serviceManager {
            notices.append(
                "\(wanted.kind.key) \(wanted.address) was not passed by the service manager: "
                    + "bound here, and refused while the process restarts")
        }
        try bind(wanted, loops: loops)
    }

    /// Sets what accepted sockets inherit.
    private static func prepare(_ listener: CInt) {
        Socket.setNoDelay(listener)
        Socket.setUserTimeout(listener, milliseconds: Limits.unreadMilliseconds)
        Socket.setUnsentLimit(listener, bytes: Limits.unsentBytes)
    }

    private mutating func bind(_ wanted: ListenAddress, loops: Int) throws(EdgeServerError) {
        var address = wanted.address
        boundHere += 1
        do throws(Errno) {
            if address.port != 0 { try Socket.requireFree(address) }
            for share in 0..<loops {
                let socket = try Socket.listen(address, reusePort: true)
                Opening.prepare(socket.rawValue)
                if share == 0 {
                    address.port = try Socket.localPort(socket.rawValue)
                    ports.append(address.port)
                }
                sockets.append(
                    ListeningSocket(
                        descriptor: socket.release(), kind: wanted.kind, share: share))
            }
        } catch {
            throw .cannotListen(wanted, error)
        }
    }
}
