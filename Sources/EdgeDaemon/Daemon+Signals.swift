// The main thread's life between start and end: signals, the claim of the node, reload.
internal import Configuration
internal import EdgeServer
internal import EdgeServices
internal import GeoIP
internal import LinuxIO
internal import Logging
internal import Postgres
internal import RingLog
internal import TLS
internal import Telemetry

extension Daemon {
    /// How long a drain may take before the process leaves anyway.
    private static let drainLimitMicroseconds: Int64 = 9_500_000
    /// When a database that is away at the start is spoken of.
    private static let patienceNanoseconds: Int64 = 3_000_000_000

    /// Keys that a reload puts in force.
    private static let reloadedKeys: Set<String> = [
        "log.level", "geoip.database", "https.certificates",
    ]

    /// Acts upon signals and orders until a drain is asked for.
    func waitForDrain(_ edge: EdgeServer, hasSnapshot: Bool) {
        let startedAt = SystemClock.monotonicNanoseconds()
        var hasReported = false
        var reports = ConditionReports()
        state.edge = edge
        inspectStore(&reports)
        CurrentProcess.returnUnusedMemory()
        do throws(Errno) {
            let signals = try Signals.descriptor()
            let epoll = try Epoll()
            let events = Epoll.EventList(capacity: 2)
            try epoll.add(signals.rawValue, .readable, data: 0)
            try epoll.add(state.descriptor, .readable, data: 1)
            while !state.wantsDrain {
                let count = epoll.wait(events, milliseconds: 1000)
                for index in 0..<count {
                    if events.data(index) == 1 {
                        state.clear()
                    } else if let signal = try Signals.next(from: signals) {
                        obey(signal)
                    }
                }
                follow(state.claim, edge)
                reports.refused(state.claim, log)
                tickets.rotateIfDue()
                reports.stepped(counters.total(.clockSteps), log)
                state.isDropping = reports.dropped(
                    UInt64(clamping: counters.total(.clicksDropped)), log)
                inspectStore(&reports)
                measurePressure()
                // The service manager restarts a daemon whose loops stand still for too long.
                if edge.silentLoops.isEmpty { ServiceNotification.send("WATCHDOG=1") }
                let age = SystemClock.monotonicNanoseconds() - startedAt
                if !hasReported, age > Daemon.patienceNanoseconds {
                    hasReported = true
                    CurrentProcess.returnUnusedMemory()
                    reportDatabase(hasSnapshot: hasSnapshot)
                }
            }
        } catch {
            log.critical("cannot wait for signals: \(error)")
            state.requestDrain(exitCode: 70)
        }
        state.beginDrain()
    }

    private func obey(_ signal: Signal) {
        switch signal {
        case .terminate, .interrupt: state.requestDrain()
        case .hangUp:
            for problem in reload() { log.error("reload refused: \(problem)") }
        case .kill, .stop, .continue: break
        }
    }

    /// Identities are minted only while the node is this spool's.
    private func follow(_ claim: NodeClaimState, _ edge: EdgeServer) {
        switch claim {
        case .unknown: break
        case .claimed: edge.admit()
        case .refused:
            edge.suspend()
        case .fenced(let reason):
            log.critical("leaving: \(reason)")
            edge.suspend()
            state.requestDrain(exitCode: 73)
        }
    }

    private func reportDatabase(hasSnapshot: Bool) {
        let status = flusher.status
        guard !status.isConnected else { return }
        if case .refused = state.claim { return }  // Said already.
        let links = linkSync.status
        let origin = hasSnapshot ? " from the snapshot" : ""
        let served =
            links.loaded
            ? "serving \(links.links) links\(origin)" : "nothing is loaded, so clicks are 503"
        let claim = store.isClaimed ? "" : "; this node is not claimed yet, so clicks are 503"
        log.warning(
            "the database is away or not fit for use: \(served)\(claim)",
            metadata: ["error": "\(status.lastError)"])
    }

    /// Reads the configuration again; what is wrong with it, empty when it was taken over.
    ///
    /// The log's level, the certificates and the GeoIP database change at once; other keys take a
    /// restart.
    func reload() -> [String] {
        do throws(ConfigurationError) {
            let fresh = try ConfigurationLoader.load(
                path: path, connectionStrings: Connection.canRead,
                certificates: Daemon.certificateFaults)
            // Everything is loaded before anything is taken over.
            var places: GeoDatabase?
            do throws(GeoDatabaseError) {
                if !fresh.geoip.database.isEmpty {
                    places = try GeoDatabase(path: fresh.geoip.database)
                }
            } catch {
                return ["geoip.database: \(error.message)"]
            }
            do throws(TLSProblems) {
                // Who does not listen for TLS begins to with a restart.
                if !configuration.https.listen.isEmpty,
                    let certificates = try loadCertificates(fresh)
                {
                    state.edge?.replaceTLS(certificates)
                }
            } catch {
                return error.problems.map { "https.certificates: \($0.message)" }
            }
            state.edge?.replaceGeo(places)
            state.configurationText = (try? FileSystem.read(path)) ?? state.configurationText
            LogSetup.setLevel(Logger.Level(rawValue: fresh.log.level.rawValue) ?? .info)
            log.info("reloaded", metadata: ["log.level": "\(fresh.log.level.rawValue)"])
            let waiting = fresh.changedKeys(from: configuration).filter {
                !Daemon.reloadedKeys.contains($0) && !$0.hasPrefix("attribution.")
            }
            if !waiting.isEmpty {
                log.warning(
                    "changed in the file, and not in force before a restart",
                    metadata: ["keys": "\(waiting.joined(separator: ", "))"])
            }
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    /// From here on a second signal leaves at once, and so does a drain that takes too long.
    func watchForImpatience() {
        let log = log
        do throws(Errno) {
            _ = try Thread.start(name: "last-signal") {
                do throws(Errno) {
                    let signals = try Signals.descriptor()
                    while let signal = try Signals.next(from: signals) {
                        guard signal == .terminate || signal == .interrupt else { continue }
                        CurrentProcess.exitNow(0)
                    }
                } catch {
                    log.warning("a second signal will not be seen: \(error)")
                }
            }
            _ = try Thread.start(name: "drain-limit") {
                Thread.sleep(microseconds: Daemon.drainLimitMicroseconds)
                log.critical("the drain did not end in time: leaving")
                CurrentProcess.exitNow(74)
            }
        } catch {
            log.warning("the drain has no limit: \(error)")
        }
    }
}

extension Daemon {
    /// Looks whether ring and spool are still where they were and have room, and acts upon it.
    private func inspectStore(_ reports: inout ConditionReports) {
        let condition = store.condition()
        // What is written into a file without a name does not outlive this process.
        if !condition.removedSpoolFiles.isEmpty { store.loseDurability() }
        state.store = condition
        reports.stands(condition, log)
    }

    /// Reads the fill of the spool, and warns at its thresholds.
    func measurePressure() {
        let now = SystemClock.monotonicNanoseconds() / 1000
        let crossed = pressure.observe(
            now: now, used: store.spoolUsedBytes(), quota: state.store.roomBytes)
        guard let crossed else { return }
        let left = pressure.reading.secondsUntilFull.map { "\($0)" } ?? "unknown"
        log.warning(
            "the spool fills: the database does not take what is recorded",
            metadata: ["used_percent": "\(crossed)", "seconds_until_full": "\(left)"])
    }
}
