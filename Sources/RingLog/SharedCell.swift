// One 64-bit number that two threads share, in mapped or allocated memory.
internal import Synchronization

/// A pointer to an atomic number; whoever holds one keeps the memory alive.
struct SharedCell: @unchecked Sendable {
    // Sendable: the number is only touched atomically.
    private let pointer: UnsafeMutablePointer<Atomic<UInt64>>

    /// The number at an address that is a multiple of eight.
    init(_ address: UnsafeMutableRawPointer) {
        pointer = address.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    @inline(__always) func load() -> UInt64 { pointer.pointee.load(ordering: .relaxed) }
    /// Sees everything that was stored before the number was published.
    @inline(__always) func acquire() -> UInt64 { pointer.pointee.load(ordering: .acquiring) }
    @inline(__always) func store(_ value: UInt64) {
        pointer.pointee.store(value, ordering: .relaxed)
    }
    /// Makes everything stored before visible to whoever acquires the number.
    @inline(__always) func publish(_ value: UInt64) {
        pointer.pointee.store(value, ordering: .releasing)
    }
    @inline(__always) func exchange(_ value: UInt64) -> UInt64 {
        pointer.pointee.exchange(value, ordering: .sequentiallyConsistent)
    }
}

/// The numbers that event loop, spooler and flusher share beside a ring's own header, each on a
/// cache line of its own.
final class SharedCells: @unchecked Sendable {
    // Sendable: the memory is only touched through SharedCell.
    private let memory: UnsafeMutableRawPointer

    /// The last spooled, durable and, by stream, flushed sequence.
    let spooled, durable, flushedClicks, flushedConversions: SharedCell
    /// 1 while clicks may not enter because the spool's last tenth has begun to be used.
    let clicksHeld: SharedCell
    /// 1 since the disk reported an error.
    let durabilityLost: SharedCell
    /// 1 when the event loop waits for a sync.
    let syncWanted: SharedCell
    /// The latest identity's milliseconds, as the event loop reports them.
    let latestIdentity: SharedCell
    /// The event loop's wall time less the boot clock, in microseconds; 0 before it has told.
    let clockOffset: SharedCell
    /// The milliseconds that no identity may reach, as the spool's disk knows them.
    let lease: SharedCell
    /// The milliseconds that no record still to come is stamped before; 0 before the loop has told.
    let oldestStamp: SharedCell

    init() {
        memory = .allocate(byteCount: 11 * 64, alignment: 64)
        memory.initializeMemory(as: UInt64.self, repeating: 0, count: 88)
        spooled = SharedCell(memory)
        durable = SharedCell(memory + 64)
        flushedClicks = SharedCell(memory + 128)
        flushedConversions = SharedCell(memory + 192)
        clicksHeld = SharedCell(memory + 256)
        durabilityLost = SharedCell(memory + 320)
        syncWanted = SharedCell(memory + 384)
        latestIdentity = SharedCell(memory + 448)
        clockOffset = SharedCell(memory + 512)
        lease = SharedCell(memory + 576)
        oldestStamp = SharedCell(memory + 640)
    }

    deinit { memory.deallocate() }
}
