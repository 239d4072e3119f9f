// The edge: loop threads, each with listeners, ring and connections of its own, started and drained
// together.
public import EdgeCore
public import GeoIP
public import LinuxIO
public import RingLog
public import Telemetry
public import Tracking

/// What an edge is made with.
public struct EdgeServerOptions: Sendable {
    /// Where it listens; port 0 takes any.
    public var listen: [SocketAddress]
    /// Loop threads, 1...32.
    public var workers: Int
    /// What clients may take.
    public var limits: EdgeLimits
    /// The key that tokens are minted with.
    public var clickKey: SipHashKey
    /// The keys that tokens are verified with.
    public var verifyKeys: [SipHashKey]
    /// How much of an address is stored.
    public var privacy: AddressPrivacy
    /// Whether Global Privacy Control makes a visitor anonymous.
    public var honoursGPC: Bool
    /// Which peers are believed about their client's address.
    public var proxies = TrustedProxies([])

    /// Options with the contract's defaults.
    public init(
        listen: [SocketAddress], workers: Int, clickKey: SipHashKey, verifyKeys: [SipHashKey],
        limits: EdgeLimits = EdgeLimits(), privacy: AddressPrivacy = .truncate,
        honoursGPC: Bool = true
    ) {
        self.listen = listen
        self.workers = workers
        self.limits = limits
        self.clickKey = clickKey
        self.verifyKeys = verifyKeys
        self.privacy = privacy
        self.honoursGPC = honoursGPC
    }
}

/// Why an edge cannot start.
public enum EdgeServerError: Error, Sendable {
    /// An address cannot be bound.
    case cannotListen(SocketAddress, Errno)
    /// The system gives no epoll, thread or descriptor.
    case noResources(Errno)

    /// The exit code of contract 1.
    public var exitCode: Int32 {
        switch self {
        case .cannotListen(_, let error):
            error == .accessDenied || error == .notPermitted ? 77 : 73
        case .noResources: 70
        }
    }

    /// One line for the operator.
    public var message: String {
        switch self {
        case .cannotListen(let address, let error):
            "cannot listen on \(address): \(error); free the address or change http.listen"
        case .noResources(let error): "cannot start the event loops: \(error)"
        }
    }
}

/// Serves redirects and conversions on threads of its own.
///
/// Sockets are bound in ``init(options:store:directory:counters:)``, after the store has taken its
/// locks; loops run from ``start()`` until ``drain(withinMicroseconds:)``.
public final class EdgeServer: Sendable {
    /// The ports that it listens on, as `options.listen` names them.
    public let ports: [UInt16]
    private let options: EdgeServerOptions
    let store: RingLogStore
    private let counters: EdgeCounters
    let shared: LoopShared
    /// Each loop's listening sockets, until its thread takes them over.
    private let listeners: [[CInt]]

    /// Binds every address, once for each loop.
    ///
    /// - Parameters:
    ///   - options: Settings.
    ///   - store: Open ring and spool, with as many live rings as there are workers.
    ///   - directory: Where the loops look links up; made for as many loops.
    ///   - counters: Made for as many loops.
    public init(
        options: EdgeServerOptions, store: RingLogStore, directory: EdgeDirectory,
        counters: EdgeCounters
    ) throws(EdgeServerError) {
        precondition((1...Limits.loops).contains(options.workers))
        precondition(counters.loops >= options.workers)
        precondition(options.listen.count <= Limits.listeners)
        self.options = options
        self.store = store
        self.counters = counters
        let isClaimed = store.isClaimed
        do throws(Errno) {
            shared = try LoopShared(
                loops: options.workers, directory: directory, limits: options.limits,
                isAdmitted: isClaimed)
        } catch {
            throw .noResources(error)
        }
        (listeners, ports) = try EdgeServer.bind(options)
    }

    private static func bind(
        _ options: EdgeServerOptions
    ) throws(EdgeServerError) -> (listeners: [[CInt]], ports: [UInt16]) {
        var listeners: [[CInt]] = Array(repeating: [], count: options.workers)
        var ports: [UInt16] = []
        for wanted in options.listen {
            var address = wanted
            do throws(Errno) {
                if address.port != 0 { try Socket.requireFree(address) }
                for worker in 0..<options.workers {
                    let socket = try Socket.listen(address, reusePort: true)
                    Socket.setNoDelay(socket.rawValue)  // Accepted sockets inherit it.
                    if worker == 0 {
                        address.port = try Socket.localPort(socket.rawValue)
                        ports.append(address.port)
                    }
                    listeners[worker].append(socket.release())
                }
            } catch {
                for descriptor in listeners.joined() { Socket.close(descriptor) }
                throw .cannotListen(address, error)
            }
        }
        return (listeners, ports)
    }

    /// Starts the loop threads.
    public func start() throws(EdgeServerError) {
        do throws(Errno) {
            for worker in 0..<options.workers {
                // Not joined: the drain waits for the loops' own word.
                _ = try Thread.start(name: "loop-\(worker)") { self.run(worker) }
            }
        } catch {
            throw .noResources(error)
        }
    }

    private func run(_ worker: Int) {
        do throws(Errno) {
            var loop = try makeLoop(worker)
            try loop.begin()
            loop.run()
        } catch {
            // Without its epoll the loop cannot serve; its listeners close and others take over.
        }
        shared.noteEnd()
    }

    /// A loop for the calling thread.
    ///
    /// Once for each worker.
    func makeLoop(_ worker: Int) throws(Errno) -> EventLoop {
        let limits = options.limits
        let ring = store.rings[worker]
        let settings = LoopSettings(
            number: worker, limits: limits, slabCapacity: max(limits.connections, 1),
            budgetBytes: limits.bufferedBytes / options.workers, clickKey: options.clickKey,
            verifyKeys: options.verifyKeys, privacy: options.privacy,
            honoursGPC: options.honoursGPC, proxies: options.proxies)
        return EventLoop(
            settings: settings, shared: shared, counters: counters.block(worker),
            epoll: try Epoll(), listeners: ListenerSet(descriptors: listeners[worker]),
            appender: store.appender(worker: worker),
            idFloorMilliseconds: ring.idFloorMilliseconds, ringID: ring.ringID)
    }

    /// Open connections.
    public var connectionCount: Int { shared.connectionCount }

    /// Begins to mint identities, once the spool has claimed its node; before it every click is 503.
    public func admit() { if !shared.isAdmitted { shared.admit() } }

    /// Stops minting identities, from each loop's next turn on: clicks are 503 until ``admit()``.
    public func suspend() { shared.suspend() }

    /// Whether identities are minted.
    public var isAdmitting: Bool { shared.isAdmitted }

    /// Looks places up in another database from now on, or in none.
    public func replaceGeo(_ database: GeoDatabase?) { shared.replaceGeo(database) }

    /// Whether ``drain(withinMicroseconds:)`` has begun.
    public var isDraining: Bool { shared.isDraining }

    /// Stops accepting, answers what is in hand, closes idle connections, and waits for the loops.
    ///
    /// - Returns: Whether every loop ended in time.
    @discardableResult
    public func drain(withinMicroseconds limit: Int64 = 7_000_000) -> Bool {
        shared.beginDrain()
        let end = SystemClock.monotonicNanoseconds() / 1000 + limit
        while shared.endedLoops < options.workers {
            if SystemClock.monotonicNanoseconds() / 1000 >= end { return false }
            Thread.sleep(microseconds: 2000)
        }
        return true
    }
}
