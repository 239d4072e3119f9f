// A file's bytes in memory, shared with every other process that maps it.
internal import CLinux
internal import Glibc

/// A mapping that is undone when its owner lets go of it.
public struct MappedFile: ~Copyable, @unchecked Sendable {
    // Sendable: the mapping is plain memory; those who share it say how in their own types.

    /// The mapped bytes; the mirror, if any, lies behind them.
    public let bytes: UnsafeMutableRawBufferPointer
    /// The first of them.
    public let start: UnsafeMutableRawPointer
    private let reservedBytes: Int

    /// Maps the first `length` bytes of a file.
    public init(_ file: borrowing FileDescriptor, length: Int, writable: Bool) throws(Errno) {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        guard let base = mmap(nil, length, protection, MAP_SHARED, file.rawValue, 0),
            base != MAP_FAILED
        else { throw .current }
        start = base
        bytes = UnsafeMutableRawBufferPointer(start: base, count: length)
        reservedBytes = length
    }

    /// Maps a header and then a body twice in a row, so that what wraps round the body's end can be
    /// read and written in one piece.
    ///
    /// - Parameters:
    ///   - header: Bytes before the body; a multiple of the page size.
    ///   - body: Bytes of the body; a multiple of the page size. `bytes` spans header and one body.
    public init(
        mirroring file: borrowing FileDescriptor, header: Int, body: Int, writable: Bool
    ) throws(Errno) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        precondition(header % page == 0 && body % page == 0 && body > 0)
        let total = header + 2 * body
        guard let base = mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            base != MAP_FAILED
        else { throw .current }
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        for (offset, length, fileOffset) in [
            (0, header + body, 0), (header + body, body, header),
        ] {
            let part = mmap(
                base + offset, length, protection, MAP_SHARED | MAP_FIXED, file.rawValue, fileOffset
            )
            if part == MAP_FAILED {
                let error = Errno.current
                munmap(base, total)
                throw error
            }
        }
        start = base
        bytes = UnsafeMutableRawBufferPointer(start: base, count: header + body)
        reservedBytes = total
    }

    deinit { munmap(bytes.baseAddress, reservedBytes) }

    /// Keeps the mapping for as long as the process lives, or until ``unmap(_:)``; its bytes.
    public consuming func release() -> UnsafeRawBufferPointer {
        let kept = UnsafeRawBufferPointer(start: bytes.baseAddress, count: reservedBytes)
        discard self
        return kept
    }

    /// Undoes a mapping that was released.
    public static func unmap(_ bytes: UnsafeRawBufferPointer) {
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }

    /// Makes the pages of a part of the mapping ready to be written (MADV_POPULATE_WRITE, Linux 5.14);
    /// what cannot be made ready is left as it was.
    public func populate(offset: Int, length: Int) {
        precondition(offset >= 0 && length >= 0 && offset + length <= bytes.count)
        let within = offset % Int(sysconf(Int32(_SC_PAGESIZE)))
        madvise(start + (offset - within), length + within, MADV_POPULATE_WRITE)
    }

    /// Tells the kernel that the mapping will be read from front to back.
    public func adviseSequential() { madvise(bytes.baseAddress, reservedBytes, MADV_SEQUENTIAL) }
}
