// The producing end of a ring: one event loop writes records straight into mapped memory.
internal import CLinux
internal import LinuxIO
public import Tracking

/// Appends records to one ring.
///
/// Owned by one event loop; never shared.
///
/// Reserve, write the payload, commit: no allocation, no reference counting, no system call.
/// - SeeAlso: docs/formats/ring.md, "Publishing".
public struct RingAppender: ~Copyable {
    /// Bytes of the largest payload that ``reserve(bytes:priority:)`` can give.
    public static let maximumRecordBytes = RingLogLimits.maximumRecordBytes

    // Kept for their lifetime; the hot path uses only what is copied out of them below.
    private let handle: RingHandle
    private let memory: RingMemory
    private let wake: SpoolerWake

    private let body: UnsafeMutableRawPointer
    private let bodyBytes: Int
    private let slotCount: UInt64
    private let clickSlots: UInt64
    private let seed: UInt32
    private let headSlotCell, headSequenceCell, tailSlotCell: SharedCell
    private let durableCell, clicksHeldCell, lostCell, syncWantedCell: SharedCell
    private let identityCell, leaseCell, oldestCell: SharedCell

    private var headSlot: UInt64
    private var headOffset: Int
    private var sequence: UInt64
    private var cachedTail: UInt64
    private var reservedBytes = -1
    /// Clicks that found no room and are not noted yet.
    private var drops = RingAppender.noDrops

    init(handle: RingHandle, memory: RingMemory, wake: SpoolerWake) {
        self.handle = handle
        self.memory = memory
        self.wake = wake
        body = memory.body
        bodyBytes = memory.header.bodyBytes
        slotCount = memory.slotCount
        clickSlots = slotCount - slotCount / UInt64(RingLogLimits.conversionShare)
        seed = memory.seed
        headSlotCell = memory.headSlot
        headSequenceCell = memory.headSequence
        tailSlotCell = memory.tailSlot
        durableCell = handle.cells.durable
        clicksHeldCell = handle.cells.clicksHeld
        lostCell = handle.cells.durabilityLost
        syncWantedCell = handle.cells.syncWanted
        identityCell = handle.cells.latestIdentity
        leaseCell = handle.cells.lease
        oldestCell = handle.cells.oldestStamp
        headSlot = memory.headSlot.load()
        headOffset = Int(headSlot % slotCount) * RingLogLimits.slotBytes
        sequence = memory.headSequence.load()
        cachedTail = memory.tailSlot.acquire()
    }

    /// Room for a record's payload, in the ring itself.
    ///
    /// - Parameters:
    ///   - bytes: The most that the payload will have.
    ///   - priority: Clicks leave the last tenth to conversions.
    /// - Returns: `bytes` writable bytes, valid until ``commit(bytes:kind:)`` or ``cancel()``; nil
    ///   when
    ///   the ring has no room or `bytes` exceeds ``maximumRecordBytes``.
    /// - Complexity: O(1).
    /// - Precondition: No other reservation is open.
    @inline(__always) public mutating func reserve(
        bytes: Int, priority: AppendPriority
    ) -> UnsafeMutableRawBufferPointer? {
        precondition(reservedBytes < 0, "a reservation is open")
        guard bytes >= 0, bytes <= RingAppender.maximumRecordBytes else { return nil }
        let slots = UInt64(truncatingIfNeeded: RecordFormat.slots(payloadBytes: bytes))
        let limit: UInt64
        switch priority {
        case .click:
            if clicksHeldCell.load() != 0 { return nil }
            limit = clickSlots
        case .conversion:
            limit = slotCount
        }
        // Absolute positions are 64-bit slot counts: at 10^9 a second they last 584 years.
        if headSlot &- cachedTail &+ slots > limit {
            cachedTail = tailSlotCell.acquire()
            if headSlot &- cachedTail &+ slots > limit { return nil }
        }
        reservedBytes = bytes
        let record = body + headOffset
        // Until the head is stored last, the slot holds nothing that could pass for a record.
        record.storeBytes(of: 0, as: UInt64.self)
        return UnsafeMutableRawBufferPointer(
            start: record + RingLogLimits.recordHeadBytes, count: bytes)
    }

    /// Completes the reserved record and publishes it.
    ///
    /// - Parameters:
    ///   - bytes: What the payload really has, at most what was reserved.
    ///   - kind: What the payload is, 0...15; `RecordKind.rawValue`.
    /// - Returns: The proof that lets the record's answer go.
    /// - Precondition: A reservation of at least `bytes` is open.
    @inline(__always) @discardableResult
    public mutating func commit(bytes: Int, kind: UInt8) -> Appended {
        precondition(bytes >= 0 && bytes <= reservedBytes && kind < 16)
        reservedBytes = -1
        let slots = RecordFormat.slots(payloadBytes: bytes)
        let total = slots &* RingLogLimits.slotBytes  // At most 2,047 × 64.
        let record = body + headOffset
        let used = RingLogLimits.recordHeadBytes &+ bytes
        if used < total {
            (record + used).initializeMemory(
                as: UInt8.self, repeating: 0, count: total &- used)
        }
        sequence &+= 1  // 64 bits do not run out.
        record.storeBytes(of: sequence.littleEndian, toByteOffset: 8, as: UInt64.self)
        let shape = RecordFormat.shape(slots: slots, payloadBytes: bytes, kind: kind)
        record.storeBytes(of: shape.littleEndian, toByteOffset: 4, as: UInt32.self)
        let crc = clinux_record_crc(seed, record, total)
        SharedCell(record).publish((UInt64(shape) << 32 | UInt64(crc)).littleEndian)
        headSlot &+= UInt64(truncatingIfNeeded: slots)
        headOffset &+= total
        if headOffset >= bodyBytes { headOffset &-= bodyBytes }
        // The sequence last: who reads it before the position has never one that is not covered by it.
        headSlotCell.publish(headSlot)
        headSequenceCell.publish(sequence)
        // The next record's lines: the spooler's core has read them since they were last written here,
        // so that the first store to each would wait for it.
        clinux_prefetch_write(body + headOffset, RingLogLimits.prefetchBytes)
        return Appended(sequence: sequence)
    }

    /// Gives the reservation back.
    public mutating func cancel() { reservedBytes = -1 }

    /// The proof that a sync covers a record; nil while none does.
    public func durable(_ sequence: UInt64) -> Durable? {
        let covered = durableCell.acquire()
        return sequence <= covered ? Durable(sequence: covered) : nil
    }

    // MARK: - Drops

    /// Counts a click that the ring had no room for.
    public mutating func noteDrop(at time: Timestamp) {
        if drops.count == 0 { drops.firstAt = time }
        drops.count &+= 1  // 64 bits do not run out.
        drops.lastAt = time
    }

    /// Says in the ring what it did not take, once the drops have ended or gone on for a while.
    ///
    /// - Parameter isLast: Whether there will be no other occasion.
    @inline(__always)
    public mutating func recordDrops(now: Timestamp, isLast: Bool = false) {
        if drops.count > 0 { writeDrops(now: now, isLast: isLast) }
    }

    private mutating func writeDrops(now: Timestamp, isLast: Bool) {
        let hasEnded =
            now.microseconds &- drops.lastAt.microseconds
            >= RingLogLimits.dropNoteMicroseconds
        let isOverdue =
            now.microseconds &- drops.firstAt.microseconds
            >= RingLogLimits.longDropMicroseconds
        guard isLast || hasEnded || isOverdue,
            let room = reserve(bytes: DropRecord.bytes, priority: .conversion)
        else { return }
        let count = drops.write(to: room)
        _ = commit(bytes: count, kind: RecordKind.drop.rawValue)
        drops = RingAppender.noDrops
    }

    private static let noDrops = DropRecord(
        count: 0, firstAt: Timestamp(microseconds: 0), lastAt: Timestamp(microseconds: 0))

    // MARK: - Positions

    /// The last sequence that a sync covers.
    @inline(__always) public var durableSequence: UInt64 { durableCell.acquire() }
    /// The last sequence that was committed; 0 before the first.
    @inline(__always) public var lastSequence: UInt64 { sequence }
    /// Whether the disk has reported an error: conversions must be refused from now on.
    public var durabilityLost: Bool { lostCell.load() != 0 }

    /// Has everything committed so far synced at once; ``durableEventDescriptor`` tells when.
    public func requestSync() {
        if syncWantedCell.exchange(1) == 0 { wake.event.signal() }
    }

    /// Becomes readable after a sync that ``requestSync()`` asked for, and when durability is lost.
    public var durableEventDescriptor: CInt { handle.durableEvent.descriptor.rawValue }
    /// Makes the descriptor unreadable again; read ``durableSequence`` after it.
    public func clearDurableEvent() { handle.durableEvent.clear() }

    /// The time that no identity may reach, in milliseconds since 1970; it is durable.
    @inline(__always) public var leaseMilliseconds: Int64 { Int64(bitPattern: leaseCell.acquire()) }

    /// Tells the lease how far the loop's identities and its clock have come, in milliseconds since
    /// 1970.
    @inline(__always) public func noteLatestIdentity(milliseconds: Int64) {
        identityCell.store(UInt64(bitPattern: milliseconds))
    }

    /// Promises the flusher's watermark that nothing appended from now on is stamped before a time,
    /// in milliseconds since 1970.
    ///
    /// What was appended before is published before it.
    @inline(__always) public func noteOldestStamp(milliseconds: Int64) {
        oldestCell.publish(UInt64(bitPattern: milliseconds))
    }

    /// Tells the flusher by which clock the loop stamps what it appends, so that it makes no leaves
    /// for days that no click will see.
    ///
    /// - Parameter offset: Its wall time less the boot clock, in microseconds; it may change by less
    ///   than a second in a second.
    public func noteClock(offset: Int64) {
        handle.cells.clockOffset.publish(UInt64(bitPattern: offset))
    }

    /// The ring that is appended to.
    public var ring: RingHandle { handle }
}
