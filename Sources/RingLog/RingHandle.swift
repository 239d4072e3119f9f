// What everyone may know of one ring and its spool: positions, fill, age, gaps.
internal import LinuxIO
internal import Synchronization
public import Tracking

/// One log of records: a live ring with its spool, or what is left of a former one (``isRetired``).
///
/// All positions are "the last sequence that is …", 0 for none, and may be read from any thread:
/// flushed ≤ durable ≤ spooled ≤ head.
public final class RingHandle: Sendable {
    /// node × 32 + worker.
    public let ringID: UInt16
    /// The log's identity; a new or doubtful ring file has a new one.
    public let ringUUID: EntityID
    /// How often the store has been opened; a higher one fences the lower.
    public let epoch: UInt64
    /// Nothing is appended any more; what is there is still to be flushed.
    public let isRetired: Bool
    /// Records lost behind the log's end, which no tailer can see.
    ///
    /// Kept over restarts until
    /// ``RingLogStore/acknowledgeGaps(of:)``. Losses before the end are found by the tailers.
    public var recoveredGaps: [RingGap] { mutable.withLock { $0.gaps } }
    /// Identities of this run must lie above this time, in milliseconds since 1970.
    public let idFloorMilliseconds: Int64
    /// The body's size in bytes; 0 for a retired ring.
    public var ringBytes: Int { memory.map { Int($0.slotCount) * RingLogLimits.slotBytes } ?? 0 }

    /// When the store was opened, by the wall clock: what was there waits at least since then.
    private let openedAtMicroseconds: Int64
    /// ``headSequence`` when the store was opened: what follows is of this run.
    public let openedAtSequence: UInt64

    let memory: RingMemory?
    let cells = SharedCells()
    let durableEvent: EventDescriptor
    let isAppenderTaken = Atomic<Bool>(false)
    private let mutable: Mutex<Mutable>

    private struct Mutable {
        var segments: [SpoolSegment]
        var gaps: [RingGap]
        var damage: [RingGap] = []
        var marks: [(sequence: UInt64, microseconds: Int64)] = []
        var durableMark: (sequence: UInt64, wallMicroseconds: Int64)
    }

    /// What recovery found out about a log.
    struct Found {
        var ringID: UInt16
        var ringUUID: EntityID
        var epoch: UInt64
        var isRetired: Bool
        var gaps: [RingGap]
        var damage: [RingGap] = []
        var idFloorMilliseconds: Int64
        var leaseMilliseconds: Int64
        var memory: RingMemory?
        var segments: [SpoolSegment]
        var lastSequence: UInt64
    }

    init(_ found: Found, openedAtMicroseconds: Int64) throws(RingLogError) {
        self.openedAtMicroseconds = openedAtMicroseconds
        ringID = found.ringID
        ringUUID = found.ringUUID
        epoch = found.epoch
        isRetired = found.isRetired
        idFloorMilliseconds = found.idFloorMilliseconds
        memory = found.memory
        openedAtSequence = max(found.lastSequence, found.memory?.headSequence.acquire() ?? 0)
        mutable = Mutex(
            Mutable(
                segments: found.segments, gaps: found.gaps, durableMark: (found.lastSequence, 0)))
        do {
            durableEvent = try EventDescriptor()
        } catch {
            throw .inputOutput(path: "eventfd", error)
        }
        cells.spooled.store(found.lastSequence)
        cells.durable.publish(found.lastSequence)
        cells.latestIdentity.store(UInt64(bitPattern: found.idFloorMilliseconds))
        cells.lease.publish(UInt64(bitPattern: found.leaseMilliseconds))
    }

    /// The last record that was committed to the ring.
    public var headSequence: UInt64 {
        // A ring that continues after everything was spooled knows at least what is spooled.
        max(memory?.headSequence.acquire() ?? 0, cells.spooled.acquire())
    }
    /// The last record that was written to the spool.
    public var spooledSequence: UInt64 { cells.spooled.acquire() }
    /// The last record that a sync covers.
    public var durableSequence: UInt64 { cells.durable.acquire() }
    /// Every record of the stream up to this sequence is committed in the database.
    public func flushedSequence(_ stream: RecordStream) -> UInt64 { cell(stream).acquire() }

    /// Notes that every record of the stream up to a sequence is committed in the database.
    ///
    /// May go down again: an asynchronous failover takes rows and cursor back together.
    /// - Precondition: `through` is at most ``durableSequence``, or lies before all that is kept.
    public func setFlushed(_ stream: RecordStream, through sequence: UInt64) {
        cell(stream).publish(min(sequence, durableSequence))
    }

    /// The event loop's wall time less the boot clock, in microseconds; nil before it has told.
    public var clockOffset: Int64? {
        let value = Int64(bitPattern: cells.clockOffset.acquire())
        return value == 0 ? nil : value
    }

    /// The smaller of the streams' flushed sequences.
    public var flushedSequence: UInt64 {
        min(cells.flushedClicks.acquire(), cells.flushedConversions.acquire())
    }

    private func cell(_ stream: RecordStream) -> SharedCell {
        switch stream {
        case .clicks: cells.flushedClicks
        case .conversions: cells.flushedConversions
        }
    }

    /// Bytes of the ring that hold records not yet freed.
    public var ringUsedBytes: Int {
        guard let memory else { return 0 }
        // Tail first: it never passes the head that is read after it.
        let tail = memory.tailSlot.acquire()
        let head = memory.headSlot.acquire()
        return Int(clamping: head &- tail) * RingLogLimits.slotBytes
    }

    /// Bytes of segments that hold records not yet flushed.
    public var spoolUsedBytes: Int {
        let flushed = flushedSequence
        return segments.reduce(0) { sum, segment in
            segment.lastSequence > flushed
                ? sum + segment.durableEnd - RingLogLimits.fileHeadBytes : sum
        }
    }

    /// How long the oldest unflushed record has waited, in microseconds; 0 when there is none.
    public func oldestUnflushedMicroseconds(now: Int64) -> Int64 {
        let flushed = flushedSequence
        guard headSequence > flushed else { return 0 }
        let since = mutable.withLock { state in
            state.marks.first { $0.sequence > flushed }?.microseconds
                ?? max(state.durableMark.wallMicroseconds, openedAtMicroseconds)
        }
        return since == 0 ? 0 : max(0, now - since)
    }

    /// Records appended before `wallMicroseconds` have at most this sequence and are durable.
    ///
    /// It moves
    /// with every tick of the spooler, also when there is nothing new.
    ///
    /// A click's own time is a little older than its append: leave a margin for the loop's turn.
    public var durableMark: (sequence: UInt64, wallMicroseconds: Int64) {
        mutable.withLock { $0.durableMark }
    }

    /// No identity of the ring is at or beyond this time until it has been raised.
    public var leaseMilliseconds: Int64 { Int64(bitPattern: cells.lease.acquire()) }

    /// No record that is published after ``headSequence`` is stamped before this time, in milliseconds
    /// since 1970; nil before the event loop has told.
    ///
    /// Read it before the head.
    public var oldestStampMilliseconds: Int64? {
        let value = Int64(bitPattern: cells.oldestStamp.acquire())
        return value == 0 ? nil : value
    }

    /// Reads the ring's records from a sequence on, in order, as they become durable.
    ///
    /// - Parameter kinds: Bit n asks for records of kind n; the others are passed over unchecked.
    public func makeTailer(from sequence: UInt64, kinds: UInt16 = .max) -> SpoolTailer {
        SpoolTailer(handle: self, from: sequence, kinds: kinds)
    }

    // MARK: For the spooler

    /// - Precondition: The identity file says so already, and a sync covers it.
    func setLease(_ milliseconds: Int64) { cells.lease.publish(UInt64(bitPattern: milliseconds)) }
    var segments: [SpoolSegment] { mutable.withLock { $0.segments } }
    func add(_ segment: SpoolSegment) { mutable.withLock { $0.segments.append(segment) } }
    /// Remembers why records before the end are missing, for the tailer that will miss them.
    func noteDamage(_ gaps: [RingGap]) { mutable.withLock { $0.damage += gaps } }
    func forgetGaps() { mutable.withLock { $0.gaps = [] } }
    /// The cause of a loss that begins at a sequence, if it was seen when the ring was read.
    func knownCause(of sequence: UInt64) -> RingGap.Cause? {
        mutable.withLock { state in
            state.damage.first {
                $0.firstSequence <= sequence && sequence <= $0.lastSequence ?? .max
            }?.cause
        }
    }
    func remove(_ segment: SpoolSegment) {
        mutable.withLock { state in state.segments.removeAll { $0 === segment } }
    }

    /// Notes that all that was in the ring at a moment is durable, and when the previous such
    /// moment
    /// was: what came in between is no older than that.
    func note(durable sequence: UInt64, at microseconds: Int64) {
        let flushed = flushedSequence
        mutable.withLock { state in
            if sequence > state.durableMark.sequence {
                let since = state.durableMark.wallMicroseconds
                state.marks.removeAll { $0.sequence <= flushed }
                if state.marks.count >= RingLogLimits.ageMarks {
                    // Half the marks still tell the age, rounded up to the mark before.
                    state.marks = state.marks.enumerated().compactMap { index, mark in
                        index % 2 == 0
                            ? (
                                state.marks[min(index + 1, state.marks.count - 1)].sequence,
                                mark.microseconds
                            ) : nil
                    }
                }
                state.marks.append((sequence, since == 0 ? microseconds : since))
            }
            state.durableMark = (sequence, microseconds)
        }
    }

    /// Records that were there at open are as old as their segment.
    func noteRecovered(sequence: UInt64, since microseconds: Int64) {
        mutable.withLock { $0.marks.append((sequence, microseconds)) }
    }

    /// The segment that has, or would have, a sequence, and where the next one begins.
    func segment(for sequence: UInt64) -> (segment: SpoolSegment, next: UInt64?)? {
        mutable.withLock { state in
            // Few enough to walk: a quota's worth of segments, and a batch asks once.
            guard let index = state.segments.lastIndex(where: { $0.firstSequence <= sequence })
            else {
                guard let first = state.segments.first else { return nil }
                return (first, state.segments.dropFirst().first?.firstSequence)
            }
            let next = index + 1 < state.segments.count ? state.segments[index + 1] : nil
            return (state.segments[index], next?.firstSequence)
        }
    }
}
