// What a caller chooses, what the formats fix, and the small values of the public interface.

/// Limits of ring and spool.
public enum RingLogLimits {
    /// Bytes of a slot; records begin on slots.
    public static let slotBytes = 64
    /// Slots of the largest record.
    public static let maximumRecordSlots = 2047
    /// Bytes before a record's payload.
    public static let recordHeadBytes = 16
    /// Bytes of the largest payload.
    public static let maximumRecordBytes = maximumRecordSlots * slotBytes - recordHeadBytes
    /// Rings of one node; a ring's number is node × 32 + worker.
    public static let maximumWorkers = 32
    /// Node numbers, 0...127.
    public static let maximumNode: UInt8 = 127
    /// Bytes before a ring's first slot and before a segment's first record.
    public static let fileHeadBytes = 4096
    /// The smallest ring body: two of the largest records.
    public static let minimumRingBytes = 262_144
    /// The smallest segment: its head and the largest record, in whole pages.
    public static let minimumSegmentBytes = 139_264
    /// One part in so many of ring and quota is kept for conversions.
    public static let conversionShare = 10
    /// How far ahead of the latest identity the lease reaches.
    public static let leaseMilliseconds: Int64 = 3000
    /// How long before its end the lease is renewed: a disk may stand for that long, less
    /// `ClickIDMinter.reserveMilliseconds`, before the loops have to hold their clocks.
    public static let leaseMarginMilliseconds: Int64 = 2000
    /// How far the wall clock may be off the latest lease at a start before it is doubted.
    public static let doubtMilliseconds: Int64 = 86_400_000
    /// The longest that the spooler sleeps, so that a long `spool.sync` cannot let a ring fill.
    public static let maximumTickMicroseconds: Int64 = 100_000
    /// How long the spooler waits after the disk was full before it tries to make a file again.
    public static let fullRetryMicroseconds: Int64 = 1_000_000
    /// How long after the last dropped click the drops are noted in the ring.
    public static let dropNoteMicroseconds: Int64 = 1_000_000
    /// How long drops may go on before they are noted all the same.
    public static let longDropMicroseconds: Int64 = 10_000_000
    /// Segment files that are kept ready, so that no ring waits for one to be made.
    public static let readySegments = 3
    /// How far ahead of a loop its ring's pages are made ready: more than 100,000 clicks a second fill
    /// between two turns of the spooler.
    static let pagesAheadBytes = 4 << 20
    /// Bytes of one read or write of a file at most: many kernels let nobody else have the processor
    /// before the call has returned, and a loop may be waiting for it (decision 0013).
    public static let callBytes = 128 << 10
    /// Chunks that a tailer keeps for its next reads while it has some.
    ///
    /// More than the usual batch of 20,000 clicks. Whoever has caught up keeps none.
    static let sparedChunks = 64
    /// How far the thread that makes segments stands back behind the loops, as the flusher does; where
    /// they are busy, it has a quarter of a processor, and the spooler waits for it when no segment is ready.
    static let preparerNiceness: Int32 = 5
    /// Bytes behind a record that are fetched for the next one: most clicks' size.
    static let prefetchBytes = 320
    /// Gaps that a tailer holds; it reads on once they are taken.
    public static let tailerGaps = 64
    /// Files of a directory that are looked at.
    public static let maximumFiles = 65_536
    /// How many moments are remembered to tell the age of the oldest unflushed record.
    static let ageMarks = 1024
}

/// How the rings are made.
public struct RingOptions: Sendable {
    /// The directory of the ring files; memory that outlives the process.
    public var directory: String
    /// Bytes of each ring's body, rounded up to whole pages.
    public var bytes: Int

    /// Rings in a directory.
    public init(directory: String, bytes: Int) {
        self.directory = directory
        self.bytes = bytes
    }
}

/// How the spool is kept.
public struct SpoolOptions: Sendable {
    /// The directory of the segment files, on disk.
    public var directory: String
    /// Bytes of each segment, rounded up to whole pages.
    public var segmentBytes: Int
    /// Bytes that all segments together may have.
    public var quotaBytes: Int
    /// How often what is new is synced.
    public var syncMicroseconds: Int64
    /// How long flushed segments are kept.
    public var retainMicroseconds: Int64

    /// A spool in a directory.
    public init(
        directory: String, segmentBytes: Int, quotaBytes: Int, syncMicroseconds: Int64,
        retainMicroseconds: Int64
    ) {
        self.directory = directory
        self.segmentBytes = segmentBytes
        self.quotaBytes = quotaBytes
        self.syncMicroseconds = syncMicroseconds
        self.retainMicroseconds = retainMicroseconds
    }
}

/// Who may use the last tenth of ring and quota.
public enum AppendPriority: Sendable {
    /// Everything but the last tenth.
    case click
    /// All of it.
    case conversion
}

/// Records that are lost, by their sequence.
public struct RingGap: Equatable, Sendable {
    /// The first that is missing.
    public let firstSequence: UInt64
    /// The last that is missing; nil when nothing tells how many there were.
    public let lastSequence: UInt64?
    /// Why: one of ``Cause``'s words.
    public let cause: Cause

    /// Why records are missing; `ingest_gaps.cause`.
    public enum Cause: String, CaseIterable, Sendable {
        /// The ring file vanished while the machine stayed up.
        case ringMissing = "ring_missing"
        /// The machine went down without a clean stop; what was not yet synced went with it.
        case machineStopped = "machine_stopped"
        /// Records in the ring did not match their checksum.
        case ringDamaged = "ring_damaged"
        /// Records in the spool did not match their checksum, or could not be read.
        case spoolDamaged = "spool_damaged"
        /// The segment is no longer there: recycled, or removed by hand.
        case segmentMissing = "segment_missing"
    }

    /// A run of missing records.
    public init(firstSequence: UInt64, lastSequence: UInt64?, cause: Cause) {
        self.firstSequence = firstSequence
        self.lastSequence = lastSequence
        self.cause = cause
    }
}
