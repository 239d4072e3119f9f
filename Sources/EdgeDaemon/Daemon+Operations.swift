// Where the operations endpoint gets its facts, and whom it gives orders.
internal import Configuration
internal import EdgeServer
internal import EdgeServices
internal import LinuxIO
internal import RingLog
internal import Telemetry
internal import Tracking

extension Daemon {
    /// The handler of `/stats`, `/metrics` and the others.
    func makeOperations() -> EdgeOperations {
        var sources = EdgeOperationsSources()
        sources.rings = { [store] in
            let now = SystemClock.wallMicroseconds()
            return store.rings.map { RingFacts($0, now: now) }
        }
        sources.spool = { [store, state, pressure] in
            var facts = SpoolFacts()
            facts.usedBytes = store.spoolUsedBytes()
            facts.quotaBytes = store.quotaBytes
            facts.roomBytes = state.store.roomBytes
            facts.isDiskFull = state.store.isDiskFull
            facts.durabilityLost = store.durabilityLost
            let reading = pressure.reading
            facts.usedPercent = reading.usedPercent
            facts.bytesPerSecond = reading.bytesPerSecond
            facts.secondsUntilFull = reading.secondsUntilFull
            return facts
        }
        sources.links = { [linkSync] in
            let status = linkSync.status
            var facts = LinkFacts()
            facts.count = status.links
            facts.invalid = status.invalid
            facts.lastSyncAgeMicroseconds = status.lastSyncAgeMicroseconds
            facts.isLoaded = status.loaded
            return facts
        }
        sources.database = { [flusher] in flusher.facts }
        sources.hindrances = { [state, store, flusher] in
            let silent = state.edge?.silentLoops.map { loop in
                "event loop \(loop.loop) stands still for \(loop.microseconds / 1_000_000) s"
            }
            switch state.claim {
            case .refused(let reason), .fenced(let reason): return [reason]
            case .unknown, .claimed:
                guard store.isClaimed else { return [Daemon.unclaimed(flusher.status.lastError)] }
                guard state.edge?.isAdmitting == true else {
                    return ["the listeners are not open yet"]
                }
                return silent ?? []
            }
        }
        sources.warnings = { [state] in
            (state.isDropping
                ? ["ring and spool are full: clicks are redirected and not recorded"] : [])
                + state.store.warnings
        }
        sources.silentLoops = { [state] in state.edge?.silentLoops.count ?? 0 }
        sources.certificatesEnd = { [state] in state.edge?.certificatesEnd }
        sources.isDraining = { [state] in state.isDraining || state.wantsDrain }
        sources.drain = { [state] in state.requestDrain() }
        sources.reload = { [self] in reload() }
        sources.flush = { [flusher] milliseconds in
            flusher.flush(timeoutMilliseconds: milliseconds)
        }
        return EdgeOperations(version: Release.version, counters: counters, sources: sources)
    }

    /// Why the node is not claimed yet, in the words of whatever keeps it from that.
    private static func unclaimed(_ lastError: String) -> String {
        let cause = lastError.isEmpty ? "" : " (\(lastError))"
        return "node not claimed: the database has not been reached yet\(cause)"
    }
}

extension RingFacts {
    /// A ring's facts now.
    init(_ ring: RingHandle, now: Int64) {
        self.init(
            ring: ring.ringID, headSequence: ring.headSequence,
            spooledSequence: ring.spooledSequence, durableSequence: ring.durableSequence,
            flushedSequence: ring.flushedSequence, ringUsedBytes: ring.ringUsedBytes,
            ringBytes: ring.ringBytes, spoolUsedBytes: ring.spoolUsedBytes,
            oldestUnflushedMicroseconds: ring.oldestUnflushedMicroseconds(now: now))
    }
}
