// Memory that a segment is read into, and the shelf it lies on between two reads.
internal import Synchronization

/// Bytes of a segment, kept for as long as a record in them is in use.
final class SegmentChunk: @unchecked Sendable {
    // Sendable: filled once, then only read.
    let start: UnsafeMutableRawPointer
    let capacity: Int
    private let shelf: ChunkShelf?
    var bytes: UnsafeMutableRawBufferPointer { .init(start: start, count: capacity) }

    init(capacity: Int, shelf: ChunkShelf?) {
        self.capacity = capacity
        self.shelf = shelf
        start = shelf?.take(capacity) ?? .allocate(byteCount: capacity, alignment: 64)
    }

    deinit { if shelf?.put(start, capacity) != true { start.deallocate() } }
}

/// Memory of whole chunks for the next reads: the kernel is not asked for it anew, page by page, and no
/// loop has to forget addresses that another thread gave back.
final class ChunkShelf: Sendable {
    // Addresses, which are numbers to the compiler's eyes: a pointer is not Sendable.
    private let spared = Mutex<[UInt]>([])

    deinit { clear() }

    /// Memory for so many bytes; nil when none is spared or they are no whole chunk.
    fileprivate func take(_ bytes: Int) -> UnsafeMutableRawPointer? {
        guard bytes == RingLogLimits.callBytes else { return nil }
        return spared.withLock { $0.popLast() }.flatMap { UnsafeMutableRawPointer(bitPattern: $0) }
    }

    /// Keeps a chunk's memory; false when it is not wanted.
    fileprivate func put(_ memory: UnsafeMutableRawPointer, _ bytes: Int) -> Bool {
        guard bytes == RingLogLimits.callBytes else { return false }
        return spared.withLock { spared in
            guard spared.count < RingLogLimits.sparedChunks else { return false }
            spared.append(UInt(bitPattern: memory))
            return true
        }
    }

    /// Gives everything back to the kernel.
    func clear() {
        let addresses = spared.withLock { spared in
            defer { spared = [] }
            return spared
        }
        for address in addresses { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() }
    }

    /// How many chunks lie ready.
    var count: Int { spared.withLock { $0.count } }
}
