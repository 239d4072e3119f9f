// The edge: loop threads, each with listeners, ring and connections of its own, started and drained
// together.
public import EdgeCore
public import GeoIP
public import LinuxIO
public import RingLog
internal import Synchronization
public import TLS
public import Telemetry
public import Tracking

/// What an edge is made with.
public struct EdgeServerOptions: Sendable {
    /// Where it listens for plain HTTP; port 0 takes any.
    public var listen: [SocketAddress]
    /// Where it listens for HTTP over TLS.
    public var listenTLS: [SocketAddress] = []
    /// Listening sockets that were opened for this process.
    public var inherited = InheritedSockets.none
    /// Open connections of the predecessor.
    public var adopted: [InheritedConnection] = []
    /// Told of each loop that falls silent, on the watchdog's thread.
    public var onSilence: @Sendable (SilentLoop) -> Void = { _ in }
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
    /// The PROXY header that every connection must begin with, if any; only ``proxies`` may connect
    /// then.
    public var proxyHeader: ProxyVersion?
    /// How fast one address may go.
    public var rates = ClientRates()

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
    case cannotListen(ListenAddress, Errno)
    /// A socket that was opened for this process does not fit the configuration: its name, and why.
    case unfitSocket(String, String)
    /// The system gives no epoll, thread or descriptor.
    case noResources(Errno)

    /// The exit code of contract 1.
    public var exitCode: Int32 {
        switch self {
        case .cannotListen(_, let error):
            error == .accessDenied || error == .notPermitted ? 77 : 73
        case .unfitSocket: 78
        case .noResources: 70
        }
    }

    /// One line for the operator.
    public var message: String {
        switch self {
        case .cannotListen(let address, let error):
            "cannot listen on \(address.address): \(error); free the address or change "
                + address.kind.key
        case .unfitSocket(let name, let reason):
            "the socket passed as '\(name)' does not fit: \(reason)"
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
    /// The listening sockets, until they are closed for good.
    private let listening: Mutex<ListeningSockets?>
    private let listenerSet: [ListeningSocket]
    /// What an operator should know of the listening sockets.
    public let notices: [String]

    /// Takes over the inherited sockets and binds every other address, once for each loop.
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
        precondition(options.listen.count + options.listenTLS.count <= Limits.listeners)
        self.options = options
        self.store = store
        self.counters = counters
        let isClaimed = store.isClaimed
        do throws(Errno) {
            shared = try LoopShared(
                loops: options.workers, directory: directory, limits: options.limits,
                rates: options.rates, isAdmitted: isClaimed, adopted: options.adopted)
        } catch {
            throw .noResources(error)
        }
        let wanted =
            options.listen.map { ListenAddress($0, .http) }
            + options.listenTLS.map { ListenAddress($0, .https) }
        let sockets = try ListeningSockets(
            wanted, inherited: options.inherited, loops: options.workers)
        listenerSet = sockets.sockets
        notices = sockets.notices
        ports = sockets.ports
        if sockets.outliveProcess { shared.leaveQueues() }
        listening = Mutex(sockets)
    }

    /// Starts the loop threads.
    public func start() throws(EdgeServerError) {
        do throws(Errno) {
            for worker in 0..<options.workers {
                // Not joined: the drain waits for the loops' own word.
                _ = try Thread.start(name: "loop-\(worker)") { self.run(worker) }
            }
            // Not holding the server: it may go when its loops have ended.
            try Thread.start(name: "watchdog") { [shared, options] in
                shared.watchLoops(options.onSilence)
            }.detach()
        } catch {
            throw .noResources(error)
        }
    }

    private func run(_ worker: Int) {
        Thread.wakeSoon()
        do throws(Errno) {
            var loop = try makeLoop(worker)
            try loop.begin()
            loop.run()
            shared.noteEnd()
            loop.relay()
        } catch {
            // Without its epoll the loop cannot serve; the other loops watch the same listeners.
            shared.noteStart()
            shared.noteEnd()
        }
        shared.noteRelayEnd()
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
            honoursGPC: options.honoursGPC, proxies: options.proxies,
            proxyHeader: options.proxyHeader)
        return EventLoop(
            settings: settings, shared: shared, counters: counters.block(worker),
            epoll: try Epoll(), listeners: ListenerSet(sockets: listenerSet),
            appender: store.appender(worker: worker),
            idFloorMilliseconds: ring.idFloorMilliseconds, ringID: ring.ringID,
            clockCorrection: store.clockCorrection)
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

    /// Serves new TLS connections with these certificates from now on; made for as many loops.
    ///
    /// Before the first call TLS connections are closed.
    public func replaceTLS(_ context: TLSContext) { shared.replaceTLS(context) }

    /// When the served certificate that ends first ends, seconds since 1970; nil without TLS.
    public var certificatesEnd: Int64? { shared.tlsContext?.expiresAtSeconds }

    /// Whether ``drain(withinMicroseconds:)`` has begun.
    public var isDraining: Bool { shared.isDraining }

    /// Stops accepting, answers what is in hand, closes idle connections, and waits for the loops.
    ///
    /// - Returns: Whether every loop ended in time.
    @discardableResult
    public func drain(withinMicroseconds limit: Int64 = 7_000_000) -> Bool {
        shared.beginDrain()
        if !shared.leavesQueues { closeListeners() }
        let end = SystemClock.monotonicNanoseconds() / 1000 + limit
        while shared.endedLoops < options.workers {
            if SystemClock.monotonicNanoseconds() / 1000 >= end { return false }
            Thread.sleep(microseconds: 2000)
        }
        return true
    }

    /// Waits until the last TLS connection that is carried to the successor has ended.
    ///
    /// - Parameter atOnce: Whether they are ended now, because the successor is no more.
    public func waitForRelays(atOnce: Bool = false) {
        if atOnce { shared.endRelays() }
        // Each loop ends its own in time.
        while shared.endedRelays < options.workers { Thread.sleep(microseconds: 1000) }
    }

    /// Whether every listening socket stays open, with its queue, when this process ends.
    public var listenersOutliveProcess: Bool { shared.leavesQueues }

    /// The listening sockets, by descriptor and kind, for a successor; empty once they are closed.
    public var passableSockets: [PassedDescriptor] { listening.withLock { $0?.passable ?? [] } }

    /// Leaves listening sockets and open connections to a successor: the drain that follows keeps
    /// the former open and passes the latter.
    func yield(to successor: CInt) {
        shared.leaveQueues()
        shared.setSuccessor(successor)
    }

    /// Closes the listening sockets when every loop has taken in who waited at them.
    private func closeListeners() {
        let end = SystemClock.monotonicNanoseconds() / 1000 + Limits.queueMicroseconds
        while shared.loopsWithoutListeners < options.workers,
            SystemClock.monotonicNanoseconds() / 1000 < end
        {
            Thread.sleep(microseconds: 200)
        }
        listening.withLock { $0 = nil }
    }
}
