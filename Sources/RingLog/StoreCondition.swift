// What befalls ring and spool from outside while they are in use: files that somebody removes, a disk
// that others fill.
internal import LinuxIO

/// How ring and spool stand.
public struct StoreCondition: Equatable, Sendable {
    /// Ring files that were removed: what a killed process leaves in them is lost.
    public var removedRings: [String] = []
    /// Files of the spool that were removed with records in them that the database does not have, or
    /// with its identity: they last as long as the process.
    public var removedSpoolFiles: [String] = []
    /// Whether a new segment was wanted, the disk had no room for it, and has none yet.
    public var isDiskFull = false
    /// Bytes that segments may have, those that are there and those to come: the quota, or less where
    /// the disk has less room.
    public var roomBytes = 0

    /// Nothing looked at yet.
    public init() {}
}

extension RingLogStore {
    /// Looks at the files and the disk: a system call for each segment that waits for the database.
    public func condition() -> StoreCondition {
        var condition = StoreCondition()
        for ring in rings {
            if let memory = ring.memory, memory.isRemoved {
                condition.removedRings.append(memory.path)
            }
            let flushed = ring.flushedSequence
            for segment in ring.segments where !segment.isSealed || segment.lastSequence > flushed {
                // Given back meanwhile: it may be removed.
                guard segment.file.isRemoved, ring.segments.contains(where: { $0 === segment })
                else { continue }
                condition.removedSpoolFiles.append(segment.path)
            }
        }
        condition.removedSpoolFiles += spooler.removedIdentity
        let pool = spooler.pool
        condition.roomBytes = quotaBytes
        if let available = try? FileSystem.availableBytes(pool.directory) {
            condition.roomBytes = min(quotaBytes, pool.inUseBytes + max(0, available))
            condition.isDiskFull = pool.maker.hasMetFullDisk && available < pool.segmentBytes
        }
        return condition
    }
}
