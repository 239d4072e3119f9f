// Carries one ring's records into its segments: many records a write, then one sync, then the slots
// are free.
internal import LinuxIO
internal import Tracking

/// What came of a turn.
enum DrainFailure: Error {
    /// There is no room; the ring keeps its records.
    case full
    /// The disk reported an error; the tail is to be written again, to a new file.
    case failed(Errno, path: String)
}

/// The consuming end of a ring.
///
/// Used by one thread at a time.
struct RingDrain {
    let handle: RingHandle
    let memory: RingMemory
    private let pool: SegmentPool
    private let spoolUUID: EntityID
    /// The ring's pages before its loop.
    var pages: PagesAhead
    private var slot: UInt64
    private var sequence: UInt64
    private var current: SpoolSegment?
    private var writtenEnd = 0
    private var isDirty = false
    /// Where the last damaged run ended, so that each is noted once.
    private var lastGap: UInt64 = 0

    /// - Parameter sequence: The last record that the spool holds already.
    init(
        handle: RingHandle, memory: RingMemory, pool: SegmentPool, spoolUUID: EntityID,
        after sequence: UInt64
    ) {
        self.handle = handle
        self.memory = memory
        pages = PagesAhead(memory)
        self.pool = pool
        self.spoolUUID = spoolUUID
        self.sequence = sequence
        slot = memory.tailSlot.load()
    }

    /// Whether something has been committed that is not yet durable.
    var hasMore: Bool { isDirty || memory.headSlot.acquire() != slot }
    var currentSegment: SpoolSegment? { current }

    /// Writes everything that is committed to the spool.
    ///
    /// - Parameters:
    ///   - checking: Whether each checksum is verified, as after a crash; else heads only.
    ///   - makeRoom: Asked for a segment's room when the quota has none; whether it made some.
    mutating func spool(
        checking: Bool, now: Int64, forConversions: Bool, makeRoom: () -> Bool
    ) throws(DrainFailure) {
        // The sequence first, which is published last: the head read after it covers its record. What
        // is not found up to it is lost; one of a record still on its way would be given up here.
        let lastSequence = memory.headSequence.acquire()
        let head = memory.headSlot.acquire()
        while slot < head {
            guard let next = record(at: slot, head: head, checking: checking) else {
                skipDamage(to: head, lastSequence: lastSequence)
                continue
            }
            if next.sequence <= sequence {  // Spooled before the last crash, not yet freed.
                slot += UInt64(next.slots)
                continue
            }
            if next.sequence != sequence + 1 {
                note(first: sequence + 1, last: next.sequence - 1)
            }
            try ensureSegment(
                for: next, now: now, forConversions: forConversions, makeRoom: makeRoom)
            try writeRun(from: next, head: head, checking: checking)
        }
        // An old record within the slots of a damaged last one was taken for what follows it.
        if lastSequence > sequence { passOver(through: lastSequence) }
    }

    /// Makes what was written durable, publishes it and frees the slots.
    mutating func sync() throws(DrainFailure) {
        if isDirty, let current {
            do {
                try current.file.syncData()
            } catch {
                throw .failed(error, path: current.path)
            }
            isDirty = false
            current.publish(end: writtenEnd, lastSequence: sequence)
        }
        handle.cells.durable.publish(sequence)
        // The sequence first: after a crash between the two, the slots are skipped by their
        // sequence.
        memory.tailSequence.store(sequence)
        memory.tailSlot.publish(slot)
        assertOrder()
    }

    /// Leaves the present file for good after an error: its synced part stays, the rest is written
    /// again from the ring, whose slots have not been freed.
    mutating func abandonSegment() {
        if let current {
            current.seal()
            current.suspect()
            if current.lastSequence == 0 {
                handle.remove(current)
                pool.giveBack(current, spare: 0)
            }
        }
        current = nil
        isDirty = false
        sequence = handle.cells.durable.load()
        slot = memory.tailSlot.load()
        handle.cells.spooled.publish(sequence)
    }

    private func record(at slot: UInt64, head: UInt64, checking: Bool) -> RecordHead? {
        let address = memory.address(ofSlot: slot)
        let available = Int(head - slot) * RingLogLimits.slotBytes
        guard checking else {
            guard let peeked = RecordFormat.peek(address), peeked.bytes <= available,
                peeked.sequence == sequence + 1
            else {
                return RecordFormat.check(
                    address, available: available, seed: memory.seed,
                    sequences: 1...UInt64.max - 1)
            }
            return peeked
        }
        return RecordFormat.check(
            address, available: available, seed: memory.seed, sequences: 1...UInt64.max - 1)
    }

    /// Goes slot by slot to the next valid record, or to the head when there is none.
    private mutating func skipDamage(to head: UInt64, lastSequence: UInt64) {
        while slot < head {
            slot += 1
            if slot < head, record(at: slot, head: head, checking: true) != nil { return }
        }
        if lastSequence > sequence { passOver(through: lastSequence) }
    }

    /// What lies up to a sequence is lost.
    private mutating func passOver(through last: UInt64) {
        note(first: sequence + 1, last: last)
        sequence = last
        handle.cells.spooled.publish(sequence)
    }

    private mutating func note(first: UInt64, last: UInt64) {
        guard first > lastGap else { return }
        lastGap = last
        handle.noteDamage([RingGap(firstSequence: first, lastSequence: last, cause: .ringDamaged)])
    }

    private mutating func ensureSegment(
        for next: RecordHead, now: Int64, forConversions: Bool, makeRoom: () -> Bool
    ) throws(DrainFailure) {
        if current != nil {
            if writtenEnd + next.bytes <= pool.segmentBytes { return }
            try sync()
            current?.seal()
            current = nil
        }
        // What is flushed yields first; only then do conversions use the last tenth.
        while !pool.hasRoom(forConversions: false) {
            if makeRoom() { continue }
            guard forConversions, pool.hasRoom(forConversions: true) else { throw .full }
            break
        }
        let header = SegmentHeader(
            spoolUUID: spoolUUID, ringUUID: handle.ringUUID, nonce: memory.header.nonce,
            firstSequence: next.sequence, epoch: handle.epoch, number: 0, segmentBytes: 0,
            createdMicroseconds: now, ringID: handle.ringID, node: memory.header.node, isInUse: true
        )
        let segment = try take(header, now: now, makeRoom: makeRoom)
        handle.add(segment)
        current = segment
        writtenEnd = RingLogLimits.fileHeadBytes
    }

    /// A segment; on a full disk what is flushed yields, as it does for the quota.
    private func take(
        _ header: SegmentHeader, now: Int64, makeRoom: () -> Bool
    ) throws(DrainFailure) -> SpoolSegment {
        while true {
            do {
                return try pool.take(header, now: now)
            } catch {
                switch error {
                case .diskFull where makeRoom(): pool.retry()
                case .quota, .diskFull: throw .full
                case .failed(let errno): throw .failed(errno, path: pool.directory)
                }
            }
        }
    }

    /// Writes as many whole records as follow each other and fit, in one call.
    private mutating func writeRun(
        from first: RecordHead, head: UInt64, checking: Bool
    ) throws(DrainFailure) {
        guard let current else { return }
        let start = memory.address(ofSlot: slot)
        let room = min(pool.segmentBytes - writtenEnd, RingLogLimits.callBytes)
        var bytes = first.bytes
        var last = first.sequence
        var end = slot + UInt64(first.slots)
        let before = sequence
        sequence = last
        while end < head, let next = record(at: end, head: head, checking: checking),
            next.sequence == last + 1, bytes + next.bytes <= room
        {
            bytes += next.bytes
            last = next.sequence
            sequence = last
            end += UInt64(next.slots)
        }
        do {
            // In one piece even across the ring's end: the body is mapped twice in a row.
            try current.file.write(
                UnsafeRawBufferPointer(start: start, count: bytes), at: writtenEnd)
        } catch {
            sequence = before
            throw error.isFull ? .full : .failed(error, path: current.path)
        }
        isDirty = true
        writtenEnd += bytes
        slot = end
        handle.cells.spooled.publish(sequence)
    }

    private func assertOrder() {
        let durable = handle.cells.durable.load()
        assert(handle.flushedSequence <= durable && durable <= handle.cells.spooled.load())
        assert(handle.cells.spooled.load() <= handle.headSequence)
    }
}
