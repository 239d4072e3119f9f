// The daemon's two threads: one decides sales and releases holds, one does the upkeep. Each has its
// own connection, waits for a database that is away, and stops between two transactions.
public import LinuxIO
internal import Logging
internal import Postgres
internal import Schema
internal import Synchronization
internal import Telemetry

/// attributiond without its command line.
public final class AttributionDaemon: Sendable {
    /// What it needs to know.
    public struct Settings: Sendable {
        /// libpq connection string; it may hold a password, so it is never logged.
        public var dsn: String
        /// Time between runs that find nothing.
        public var intervalMicroseconds: Int64
        /// Most sales in a run.
        public var batch: Int

        /// Settings.
        public init(dsn: String, intervalMicroseconds: Int64, batch: Int) {
            self.dsn = dsn
            self.intervalMicroseconds = max(1_000, intervalMicroseconds)
            self.batch = max(1, batch)
        }
    }

    private let settings: Settings
    private let board = StatusBoard()
    private let stopping = Atomic<Bool>(false)
    private let running = Atomic<Int>(0)
    private let deciderWake: EventDescriptor
    private let upkeepWake: EventDescriptor
    private let ended: EventDescriptor
    private let logger = Logger(label: "attribution")
    private let repeated = RepeatedErrors()

    /// A daemon that has not started.
    /// - Throws: ``Errno`` when the system has no descriptor left.
    public init(_ settings: Settings) throws(Errno) {
        self.settings = settings
        deciderWake = try EventDescriptor()
        upkeepWake = try EventDescriptor()
        ended = try EventDescriptor()
    }

    /// How it is.
    public var status: AttributionStatus { board.current }

    /// Starts the threads; they wait for the database by themselves.
    public func start() throws(Errno) {
        running.store(2, ordering: .releasing)
        _ = try Thread.start(name: "attribution") { [self] in
            decideUntilStopped()
            end()
        }
        do {
            _ = try Thread.start(name: "upkeep") { [self] in
                keepUpUntilStopped()
                end()
            }
        } catch {
            end()
            throw error
        }
    }

    private func end() {
        running.subtract(1, ordering: .acquiringAndReleasing)
        ended.signal()
    }

    /// Ends the threads after the transaction in hand.
    ///
    /// - Returns: Whether they ended in time. A thread that is left behind holds a transaction that
    ///   the end of the process rolls back: nothing is half done.
    @discardableResult
    public func stop(waitMilliseconds: Int) -> Bool {
        stopping.store(true, ordering: .releasing)
        board.update { $0.isDraining = true }
        deciderWake.signal()
        upkeepWake.signal()
        let deadline = SystemClock.monotonicNanoseconds() + Int64(waitMilliseconds) * 1_000_000
        while running.load(ordering: .acquiring) > 0 {
            let rest = (deadline - SystemClock.monotonicNanoseconds()) / 1_000_000
            guard rest > 0 else { return false }
            ended.wait(milliseconds: Int(rest))
        }
        return true
    }

    private var isStopping: Bool { stopping.load(ordering: .acquiring) }

    // MARK: - Connections

    /// A connection to a database that has the schema; nil when there is none now.
    private func connect(statementMilliseconds: Int) -> Connection? {
        do {
            let connection = try Connection(
                dsn: settings.dsn, applicationName: "attributiond",
                connectTimeoutSeconds: ServiceLimits.connectSeconds,
                statementTimeoutMilliseconds: statementMilliseconds,
                lockTimeoutMilliseconds: ServiceLimits.lockMilliseconds, writes: true)
            board.update { $0.isConnected = true }
            let version = try SchemaRunner.version(connection)
            guard version >= SchemaRunner.latestVersion else {
                let wanted = SchemaRunner.latestVersion
                board.update { $0.knowsSchema = false }
                fail(
                    "schema",
                    "the schema is at \(version) of \(wanted): run 'clickctl migrate'; waiting")
                return nil
            }
            board.update {
                $0.knowsSchema = true
                $0.lastError = nil
            }
            if repeated.clear("database") || repeated.clear("schema") {
                logger.notice("the database is back")
            }
            return connection
        } catch let error as PostgresError {
            lose(error)
        } catch let error as SchemaError {
            fail("schema", "\(error); waiting")
        } catch {
            fail("database", "\(error); waiting")
        }
        return nil
    }

    private func lose(_ error: PostgresError) {
        board.update { $0.isConnected = false }
        fail("database", "the database is away: \(error); waiting")
    }

    private func fail(_ kind: String, _ message: String) {
        board.update { $0.lastError = message }
        let now = SystemClock.monotonicNanoseconds()
        guard let left = repeated.note(kind, nowNanoseconds: now) else { return }
        logger.warning("\(message)", metadata: left > 0 ? ["repeated": "\(left)"] : [:])
    }

    // MARK: - Deciding

    private func decideUntilStopped() {
        var pace = BatchPace(limit: settings.batch)
        while !isStopping {
            guard
                let connection = connect(statementMilliseconds: ServiceLimits.statementMilliseconds)
            else {
                deciderWake.wait(milliseconds: ServiceLimits.reconnectMilliseconds)
                continue
            }
            decide(over: connection, &pace)
            connection.close()
        }
    }

    /// Runs until the connection is lost or the daemon stops.
    private func decide(over connection: Connection, _ pace: inout BatchPace) {
        let run = AttributionRun(connection)
        var nextRelease: Int64 = 0
        while !isStopping, connection.isOpen {
            var isBusy = false
            do {
                let started = SystemClock.monotonicNanoseconds()
                let summary = try run.decide(limit: pace.limit)
                board.add(summary)
                isBusy = summary.taken >= pace.limit
                // Long transactions hold locks and delay the drain.
                let taken = (SystemClock.monotonicNanoseconds() - started) / 1_000
                if taken > ServiceLimits.longRunMicroseconds {
                    pace.halve()
                } else {
                    pace.succeed()
                }
                let now = SystemClock.monotonicNanoseconds() / 1_000
                if now >= nextRelease {
                    let released = try run.release()
                    board.update { $0.total.released += released }
                    nextRelease =
                        released < ServiceLimits.releasesPerRun
                        ? now + ServiceLimits.releaseMicroseconds : now
                }
            } catch {
                if error.connectionLost || !connection.isOpen { return lose(error) }
                recover(from: error, run, &pace)
            }
            if !isBusy {
                deciderWake.wait(milliseconds: Int(settings.intervalMicroseconds / 1_000))
            }
        }
    }

    /// After a refused run: a smaller one.
    ///
    /// Data that cannot be written is found by halving and set aside; a run that took too long is
    /// made shorter.
    private func recover(
        from error: PostgresError, _ run: AttributionRun, _ pace: inout BatchPace
    ) {
        board.update { $0.failures += 1 }
        fail("run", "a run was refused: \(error)")
        guard let state = error.state else { return }
        let isData = state.isClass("22") || state.isClass("23")
        guard isData || state == .queryCanceled else { return }
        guard pace.limit == 1 else { return pace.halve() }
        guard isData else { return }
        do {
            if let id = try run.setAsideFirst(reason: "refused_\(state)") {
                logger.error("sale \(id) cannot be decided and rests: \(error)")
            }
            pace.succeed()
        } catch {
            fail("run", "a sale could not be set aside: \(error)")
        }
    }

    // MARK: - Upkeep

    private func keepUpUntilStopped() {
        while !isStopping {
            if let connection = connect(statementMilliseconds: ServiceLimits.upkeepMilliseconds) {
                keepUp(over: connection)
                connection.close()
            }
            if !isStopping { upkeepWake.wait(milliseconds: ServiceLimits.reconnectMilliseconds) }
        }
    }

    private func keepUp(over connection: Connection) {
        var upkeep = Upkeep(connection)
        var nextPartitions: Int64 = 0
        while !isStopping, connection.isOpen {
            do {
                let now = SystemClock.monotonicNanoseconds() / 1_000
                if now >= nextPartitions {
                    let made = try upkeep.makePartitions()
                    if made > 0 { logger.info("made \(made) partitions ahead") }
                    nextPartitions = now + ServiceLimits.partitionMicroseconds
                }
                if try upkeep.refreshStatistics() { board.update { $0.refreshes += 1 } }
                let counts = try upkeep.countPending()
                board.update {
                    $0.pending = counts.pending
                    $0.holds = counts.holds
                }
            } catch {
                if error.connectionLost || !connection.isOpen { return lose(error) }
                fail("upkeep", "the upkeep was refused: \(error)")
            }
            upkeepWake.wait(milliseconds: Int(ServiceLimits.refreshMicroseconds / 1_000))
        }
    }
}

/// How many sales a run takes: fewer after one that the data made fail, more again after success.
struct BatchPace {
    private let most: Int
    private(set) var limit: Int

    init(limit: Int) {
        most = max(1, limit)
        self.limit = most
    }

    mutating func halve() { limit = max(1, limit / 2) }

    mutating func succeed() { limit = limit > most / 2 ? most : limit * 2 }
}
