// What the main thread says once and not every second: a refused node, clicks that are lost, a wall
// clock that steps, a full disk, files that somebody removed.
internal import EdgeServices
internal import LinuxIO
internal import Logging
internal import RingLog

/// What has been said already.
struct ConditionReports {
    /// The least time between two lines about lost clicks.
    private static let pauseNanoseconds: Int64 = 10_000_000_000

    private var refusal = ""
    private var droppedClicks: UInt64 = 0
    private var saidAt: Int64?
    private var clockSteps = 0
    private var seenClicks: UInt64 = 0
    private var seenAt: Int64?
    private var wasDiskFull = false
    private var removedFiles: Set<String> = []

    /// Says why this node serves no click, once for each reason.
    mutating func refused(_ claim: NodeClaimState, _ log: Logger) {
        guard case .refused(let reason) = claim else {
            refusal = ""
            return
        }
        guard reason != refusal else { return }
        refusal = reason
        log.critical("no click is served: \(reason)")
    }

    /// Says that the wall clock has stepped.
    mutating func stepped(_ total: Int, _ log: Logger) {
        guard total > clockSteps else { return }
        clockSteps = total
        log.error(
            "the wall clock has stepped by a second or more: click IDs go on evenly and are drawn to it slowly; proofs of conversions are judged by it",
            metadata: ["steps_since_start": "\(total)"])
    }

    /// Says that the disk is full, once each time, and which files have been removed, each once.
    mutating func stands(_ store: StoreCondition, _ log: Logger) {
        if store.isDiskFull, !wasDiskFull { log.error("\(StoreCondition.fullDisk)") }
        wasDiskFull = store.isDiskFull
        for path in store.removedRings where removedFiles.insert(path).inserted {
            log.error("\(StoreCondition.removedRing(path))")
        }
        for path in store.removedSpoolFiles where removedFiles.insert(path).inserted {
            log.critical("\(StoreCondition.removedSpoolFile(path))")
        }
    }

    /// Says that clicks are being lost, now and then for as long as that goes on.
    ///
    /// - Returns: Whether any was lost within that pause.
    mutating func dropped(_ total: UInt64, _ log: Logger) -> Bool {
        let now = SystemClock.monotonicNanoseconds()
        if total > seenClicks {
            seenClicks = total
            seenAt = now
        }
        say(total, now, log)
        return seenAt.map { now - $0 < ConditionReports.pauseNanoseconds } ?? false
    }

    private mutating func say(_ total: UInt64, _ now: Int64, _ log: Logger) {
        guard total > droppedClicks else { return }
        if let saidAt, now - saidAt < ConditionReports.pauseNanoseconds { return }
        saidAt = now
        log.error(
            "ring and spool are full: clicks are redirected and not recorded",
            metadata: ["dropped": "\(total - droppedClicks)", "dropped_since_start": "\(total)"])
        droppedClicks = total
    }
}
