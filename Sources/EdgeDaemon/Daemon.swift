// The daemon: opens everything in the order of the contract, then waits for signals.
public import Configuration
internal import EdgeCore
internal import EdgeServer
internal import EdgeServices
internal import GeoIP
internal import LinuxIO
internal import Logging
internal import RingLog
internal import TLS
internal import Telemetry
internal import Tracking

/// How long a start waits for what it could do without.
private enum Limits {
    /// Milliseconds for the database, while the predecessor still serves.
    static let followMilliseconds = 2_000
    /// Milliseconds for the database, while clients wait in the queue of an inherited socket.
    static let queueMilliseconds = 300
    /// Milliseconds for a database that answered last to commit what is in hand when the process ends:
    /// without them a node that restarts often would never get a batch through.
    static let commitMilliseconds = 1_000
}

/// Why the daemon cannot start: one line and an exit code.
struct StartError: Error {
    var exitCode: Int32
    var message: String

    init(_ exitCode: Int32, _ message: String) {
        self.exitCode = exitCode
        self.message = message
    }
}

/// The running parts.
public final class Daemon: Sendable {
    let configuration: ClickdConfiguration
    let path: String
    let log: Logger
    let state: DaemonState
    let store: RingLogStore
    let directory: EdgeDirectory
    let counters: EdgeCounters
    let linkSync: LinkSync
    let flusher: Flusher
    let pressure = BackPressureGauge()
    let workers: Int
    /// Shared by all certificates that this process ever serves.
    let tickets = TLSTicketKeys()
    /// Listening sockets and connections that were open before this process.
    let inherited: Inherited
    /// `limits.connections`, or what the descriptors of this process suffice for.
    private let connectionLimit: Int
    private let keys: ClickKeys
    private let places: GeoDatabase?
    private let hasSnapshot: Bool

    /// Runs until a drain; the exit code (contract, 1).
    ///
    /// - Parameters:
    ///   - configuration: What the file said.
    ///   - path: The file, read again upon HUP.
    ///   - textPath: Where its text was read, if not there.
    ///   - takesOver: Whether the daemon that runs with this configuration hands over and ends.
    public static func run(
        _ configuration: ClickdConfiguration, path: String, textPath: String? = nil,
        takesOver: Bool = false
    ) -> Int32 {
        let level = Logger.Level(rawValue: configuration.log.level.rawValue) ?? .info
        let format = LogFormat(rawValue: configuration.log.format.rawValue) ?? .json
        LogSetup.bootstrap(format: format, level: level)
        let log = Logger(label: "clickd")
        do throws(StartError) {
            // Before any thread: the environment is cleaned.
            let passed = try Daemon.takePassedSockets()
            let daemon = try Daemon(
                configuration, path: path, takesOver: takesOver, passed: passed, log: log)
            // Without it the next start after a failed hand-over reads the file.
            daemon.state.configurationText = (try? FileSystem.read(textPath ?? path)) ?? []
            return try daemon.serve()
        } catch {
            log.critical("\(error.message)")
            return error.exitCode
        }
    }

    /// What can be refused first, then the predecessor's leave, the locks, and what needs them; no
    /// port is bound here.
    private init(
        _ configuration: ClickdConfiguration, path: String, takesOver: Bool,
        passed: PassedSockets, log: Logger
    ) throws(StartError) {
        self.configuration = configuration
        self.path = path
        self.log = log
        workers = configuration.http.workerCount(cores: CurrentProcess.availableCores)
        connectionLimit = try Daemon.connectionLimit(configuration, workers: workers, log)
        keys = try Daemon.loadKeys(configuration)
        directory = EdgeDirectory(loops: workers)
        counters = EdgeCounters(loops: workers)
        (state, linkSync) = try Daemon.makeFollower(configuration, keys, directory, log)
        if takesOver {
            // Whatever takes time or may fail comes before the predecessor stops accepting.
            places = try Daemon.openPlaces(configuration)
            hasSnapshot = linkSync.loadSnapshot()
            try Daemon.follow(linkSync, milliseconds: Limits.followMilliseconds)
            inherited = try Daemon.takeOver(configuration, passed, log)
            store = try Daemon.openStore(configuration, workers, waits: true, log)
        } else {
            inherited = Inherited(passed)
            store = try Daemon.openStore(configuration, workers, waits: false, log)
            places = try Daemon.openPlaces(configuration)
            hasSnapshot = linkSync.loadSnapshot()
            // Who waits in a queue waits rather than being told 503 for want of merchants.
            try Daemon.follow(
                linkSync, milliseconds: passed.descriptors.isEmpty ? 0 : Limits.queueMilliseconds)
        }
        flusher = try Daemon.makeFlusher(configuration, keys, store, state)
    }

    /// Raises the descriptor limit, and says so when it is too low for `limits.connections`.
    private static func connectionLimit(
        _ configuration: ClickdConfiguration, workers: Int, _ log: Logger
    ) throws(StartError) -> Int {
        let wanted = configuration.limits.connections
        let descriptors = CurrentProcess.raiseDescriptorLimit()
        let held = DescriptorBudget.connections(descriptors: descriptors, workers: workers)
        guard held < wanted else { return wanted }
        guard held >= DescriptorBudget.leastConnections else {
            throw StartError(
                78,
                "limits.connections: this process may open \(descriptors) descriptors, which leaves "
                    + "\(max(held, 0)) for connections; raise LimitNOFILE or `ulimit -Hn` to "
                    + "\(DescriptorBudget.descriptors(connections: wanted, workers: workers))")
        }
        let text =
            "limits.connections is \(wanted), but the \(descriptors) descriptors of this process "
            + "suffice for \(held), which is the limit now; raise LimitNOFILE or `ulimit -Hn` to "
            + "\(DescriptorBudget.descriptors(connections: wanted, workers: workers))"
        log.warning("\(text)")
        return held
    }

    private static func makeFollower(
        _ configuration: ClickdConfiguration, _ keys: ClickKeys, _ directory: EdgeDirectory,
        _ log: Logger
    ) throws(StartError) -> (DaemonState, LinkSync) {
        var options = LinkSyncOptions(
            dsn: configuration.postgres.dsn, visitorKey: keys.visitorKey)
        options.refreshMicroseconds = configuration.links.refreshMicroseconds
        options.snapshotPath = configuration.links.snapshot
        options.log = { isError, text in
            if isError { log.warning("links: \(text)") } else { log.info("links: \(text)") }
        }
        do {
            return (try DaemonState(), try LinkSync(directory: directory, options: options))
        } catch {
            throw StartError(70, "cannot make the services: \(error)")
        }
    }

    /// Begins to follow the database, and waits for the first answer as long as that is worth it.
    private static func follow(_ linkSync: LinkSync, milliseconds: Int) throws(StartError) {
        do { try linkSync.start() } catch {
            throw StartError(70, "cannot start the link sync: \(error)")
        }
        for _ in 0..<milliseconds where linkSync.status.lastSyncAgeMicroseconds == nil {
            Thread.sleep(microseconds: 1000)
        }
    }

    private static func makeFlusher(
        _ configuration: ClickdConfiguration, _ keys: ClickKeys, _ store: RingLogStore,
        _ state: DaemonState
    ) throws(StartError) -> Flusher {
        do {
            return try Flusher(
                store: store,
                options: FlusherOptions(
                    dsn: configuration.postgres.dsn, batchRows: configuration.postgres.batchRows,
                    batchDelayMicroseconds: configuration.postgres.batchDelayMicroseconds,
                    node: configuration.node.id, keyFingerprint: keys.fingerprint,
                    machine: store.machine),
                onClaim: { claim in state.claim = claim })
        } catch {
            throw StartError(70, "cannot make the services: \(error)")
        }
    }

    /// Starts the threads, binds, serves, and drains.
    private func serve() throws(StartError) -> Int32 {
        warn()
        let certificates: TLSContext?
        do throws(TLSProblems) {
            certificates = try loadCertificates(configuration)
        } catch {
            throw StartError(
                error.exitCode, error.problems.map(\.message).joined(separator: "\n"))
        }
        let operations: OperationsServer
        let edge: EdgeServer
        let door: SuccessorDoor?
        do {
            try store.startSpooler()
            try flusher.start()
            operations = try OperationsServer(
                unixPath: configuration.ops.socket,
                tcp: configuration.ops.listen.map { [$0] } ?? [], handler: makeOperations())
            try operations.start()
            edge = try EdgeServer(
                options: edgeOptions(), store: store, directory: directory, counters: counters)
            edge.replaceGeo(places)
            if let certificates { edge.replaceTLS(certificates) }
            for notice in edge.notices { log.warning("\(notice)") }
            try edge.start()
            door = openDoor(edge)
            _ = try Thread.start(name: "recall") { [edge] in edge.recallMessages() }
        } catch {
            stopServices()
            throw Daemon.explain(error)
        }
        inherited.waiting?.noteServing()
        ServiceNotification.send("READY=1\nSTATUS=serving")
        log.info(
            "serving",
            metadata: [
                "listen": "\(configuration.http.listen)", "workers": "\(workers)",
                "node": "\(configuration.node.id)", "version": "\(Release.version)",
            ])
        waitForDrain(edge, hasSnapshot: hasSnapshot)
        ServiceNotification.send("STOPPING=1")
        watchForImpatience()
        log.info("draining")
        let begun = SystemClock.monotonicNanoseconds()
        if !edge.drain() { log.warning("some connections did not end in time") }
        let isQuiet = stopServices()
        operations.stop()
        door?.close()
        // While a thread may still read the spool, only the end of the process lets go of it.
        if let door, door.hasSuccessor, isQuiet { leave(to: door, edge, since: begun) }
        log.info("drained")
        return state.exitCode
    }

    /// What is wrong with the files that a configuration names, certificates aside, and the exit code
    /// for it; nil when a start can read them.
    public static func fileFault(
        _ configuration: ClickdConfiguration
    ) -> (message: String, exitCode: Int32)? {
        do throws(StartError) {
            _ = try Daemon.loadKeys(configuration)
            _ = try Daemon.openPlaces(configuration)
            return nil
        } catch {
            return (error.message, error.exitCode)
        }
    }

    private static func loadKeys(
        _ configuration: ClickdConfiguration
    ) throws(StartError) -> ClickKeys {
        do throws(ClickKeyFileError) {
            return try ClickKeyFile.load(configuration.keys.click)
        } catch {
            throw StartError(error.exitCode, error.message)
        }
    }

    /// The database of places; nil when none is configured.
    private static func openPlaces(
        _ configuration: ClickdConfiguration
    ) throws(StartError) -> GeoDatabase? {
        guard !configuration.geoip.database.isEmpty else { return nil }
        do throws(GeoDatabaseError) {
            return try GeoDatabase(path: configuration.geoip.database)
        } catch {
            throw StartError(78, "geoip.database: \(error.message)")
        }
    }

    private func warn() {
        for notice in store.notices { log.warning("\(notice)") }
        if (try? FileSystem.isMemoryBacked(configuration.spool.directory)) == true {
            let path = configuration.spool.directory
            log.warning(
                "spool.directory \(path) is in memory: a power cut takes what was acknowledged; use a disk"
            )
        }
        if !store.isRingMemoryBacked {
            log.warning(
                "ring.directory \(configuration.ring.directory) is not in memory: redirects may stall"
            )
        }
    }

    /// The services end without waiting for the database; what is recorded stays in the spool.
    ///
    /// - Returns: Whether none of them uses the spool any more.
    @discardableResult private func stopServices() -> Bool {
        linkSync.stop()
        let isThere = flusher.status.isConnected
        let isQuiet = flusher.stop(
            waitMilliseconds: isThere ? Limits.commitMilliseconds : 0)
        store.stopSpooler()
        return isQuiet
    }

    private func edgeOptions() -> EdgeServerOptions {
        var limits = EdgeLimits()
        let wanted = configuration.limits
        limits.headerBytes = wanted.headerBytes
        limits.bodyBytes = wanted.bodyBytes
        limits.headerTimeoutMicroseconds = wanted.headerTimeoutMicroseconds
        limits.idleTimeoutMicroseconds = wanted.idleTimeoutMicroseconds
        limits.connections = connectionLimit
        limits.connectionsPerAddress = wanted.perAddress
        limits.bufferedBytes = wanted.bufferedBytes
        limits.commitWaitMicroseconds = wanted.commitWaitMicroseconds
        let privacy: AddressPrivacy =
            switch configuration.privacy.ip {
            case .truncate: .truncate
            case .full: .full
            case .none: .none
            }
        var options = EdgeServerOptions(
            listen: configuration.http.listen, workers: workers, clickKey: keys.mintKey,
            verifyKeys: keys.verifyKeys, limits: limits, privacy: privacy,
            honoursGPC: configuration.privacy.honourGPC)
        options.proxies = TrustedProxies(configuration.proxy.trusted)
        options.proxyHeader =
            switch configuration.proxy.header {
            case .none: nil
            case .v1: .v1
            case .v2: .v2
            }
        options.listenTLS = configuration.https.listen
        options.inherited = inherited.sockets
        options.adopted = inherited.connections
        options.onSilence = { [log] silent in
            log.critical(
                "an event loop stands still: its open connections are stuck, new ones go to others",
                metadata: ["loop": "\(silent.loop)", "microseconds": "\(silent.microseconds)"])
        }
        return options
    }

    private static func explain(_ error: any Error) -> StartError {
        switch error {
        case let error as EdgeServerError: StartError(error.exitCode, error.message)
        case let error as OperationsServerError:
            StartError(error.exitCode, "\(error); free the address or change ops")
        case let error as RingLogError: StartError(error.exitCode, error.message)
        case let error as FlusherError: StartError(70, error.message)
        default: StartError(70, "\(error)")
        }
    }
}
