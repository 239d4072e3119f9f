// How the process's allocator treats the system's memory.
internal import CLinux
internal import Glibc

extension CurrentProcess {
    /// Has large blocks go back to the system when they are freed.
    ///
    /// Before any thread starts.
    public static func keepMemorySmall() { clinux_keep_memory_small() }

    /// Gives back what a start or a burst has left behind in the allocator, and the pages of code that
    /// it ran: those that are needed again are mapped again, a microsecond each.
    public static func returnUnusedMemory() { clinux_return_memory() }
}

/// Zeroed memory from the system for tables that are looked up at random, in huge pages where the
/// system gives them: a look-up then misses the processor's table of pages less often.
public struct TableMemory: @unchecked Sendable {
    // Sendable: plain memory; those who share it say how in their own types.

    /// The bytes.
    public let bytes: UnsafeMutableRawBufferPointer
    /// The first of them.
    public let start: UnsafeMutableRawPointer

    /// So many bytes; 1 or more.
    public init(byteCount: Int) throws(Errno) {
        let protection = PROT_READ | PROT_WRITE
        guard let base = mmap(nil, byteCount, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            base != MAP_FAILED
        else { throw .current }
        // Advice: a system without huge pages goes on with small ones.
        if byteCount >= TableMemory.hugeBytes { madvise(base, byteCount, MADV_HUGEPAGE) }
        start = base
        bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
    }

    /// Gives the bytes back; they are not touched after it.
    public func deallocate() { munmap(bytes.baseAddress, bytes.count) }

    /// Bytes of a huge page on this architecture; less is not worth the advice.
    private static let hugeBytes = 2 << 20
}
