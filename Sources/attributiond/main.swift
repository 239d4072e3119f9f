// attributiond: attributes sales and keeps the ledger. Wiring only.
internal import ArgumentParser
internal import AttributionService
internal import Configuration
internal import LinuxIO
internal import Logging
internal import Postgres
internal import Telemetry

struct AttributionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attributiond",
        abstract: "Matches sales to clicks and keeps commissions and ledger.",
        version: Release.version,
        subcommands: [Run.self])

    func run() throws {
        throw ValidationError("a command is missing (allowed: run)")
    }
}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Runs the daemon.")

    @Option(help: "The configuration file.") var config: String
    @Flag(help: "Validates the configuration, prints every problem and exits.")
    var checkConfig = false

    /// How long TERM waits for the transaction in hand.
    static let drainMilliseconds = 7_000

    func run() throws {
        let settings = load()
        if checkConfig {
            CurrentProcess.writeOutput("\(config): valid\n")
            return
        }
        // Before any thread starts, so that all inherit the mask.
        Signals.blockAll()
        LogSetup.bootstrap(
            format: LogFormat(rawValue: settings.log.format.rawValue) ?? .json,
            level: Logger.Level(rawValue: settings.log.level.rawValue) ?? .info)
        let logger = Logger(label: "attributiond")
        do {
            let signals = try Signals.descriptor()
            let daemon = try AttributionDaemon(
                AttributionDaemon.Settings(
                    dsn: settings.postgres.dsn,
                    intervalMicroseconds: settings.attribution.intervalMicroseconds,
                    batch: settings.attribution.batch))
            let ops = settings.attribution.ops
            let server = try OperationsServer(
                unixPath: ops.socket.isEmpty ? nil : ops.socket, tcp: ops.listen.map { [$0] } ?? [],
                handler: AttributionOperations(daemon: daemon, version: Release.version))
            try server.start()
            try daemon.start()
            ServiceNotification.send("READY=1\nSTATUS=attributing")
            logger.notice("attributiond is up")
            try waitForEnd(signals, logger)
            ServiceNotification.send("STOPPING=1")
            let force = try Thread.start(name: "force") { Run.exitOnSecondSignal() }
            let inTime = daemon.stop(waitMilliseconds: Run.drainMilliseconds)
            server.stop()
            if !inTime { logger.warning("a transaction was left to the database to roll back") }
            logger.notice("attributiond has stopped")
            _ = consume force
            CurrentProcess.exitNow(0)
        } catch let error as OperationsServerError {
            CurrentProcess.writeError("attributiond: \(error)\n")
            CurrentProcess.exit(error.exitCode)
        } catch {
            CurrentProcess.writeError("attributiond: \(error)\n")
            CurrentProcess.exit(70)
        }
    }

    private func load() -> ClickdConfiguration {
        do {
            return try ConfigurationLoader.load(
                path: config, connectionStrings: Connection.canRead)
        } catch {
            CurrentProcess.writeError("\(error)\n")
            CurrentProcess.exit(error.exitCode)
        }
    }

    /// Returns at TERM or INT.
    private func waitForEnd(_ signals: borrowing FileDescriptor, _ logger: Logger) throws {
        while true {
            switch try Signals.next(from: signals) {
            case .terminate, .interrupt: return
            case .hangUp: reload(logger)
            case .kill, .stop, .continue, nil: continue
            }
        }
    }

    /// HUP: the log level.
    ///
    /// The rest takes a restart. The old settings stay on any error.
    private func reload(_ logger: Logger) {
        do {
            let settings = try ConfigurationLoader.load(
                path: config, connectionStrings: Connection.canRead)
            LogSetup.setLevel(Logger.Level(rawValue: settings.log.level.rawValue) ?? .info)
            logger.notice("configuration reloaded (the log level; the rest takes a restart)")
        } catch {
            logger.error("the configuration stays as it was: \(error)")
        }
    }

    private static func exitOnSecondSignal() {
        do {
            let signals = try Signals.descriptor()
            while true {
                switch try Signals.next(from: signals) {
                case .terminate, .interrupt: CurrentProcess.exitNow(0)
                case .hangUp, .kill, .stop, .continue, nil: continue
                }
            }
        } catch {
            return  // Then the drain's own time limit ends the process.
        }
    }
}

AttributionCommand.main()
