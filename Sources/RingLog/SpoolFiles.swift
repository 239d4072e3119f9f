// The file operations of the spool behind a seam, so that tests can make the disk lie.
internal import LinuxIO

/// One open file.
protocol SpoolFile: AnyObject, Sendable {
    /// Reads at an offset; 0 at the end.
    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(Errno) -> Int
    /// Writes all bytes at an offset.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Errno)
    /// Makes written data durable.
    func syncData() throws(Errno)
    /// Makes data and metadata durable.
    func sync() throws(Errno)
    /// Allocates blocks for the first bytes.
    func allocate(_ bytes: Int) throws(Errno)
    /// Gives the file another length.
    func truncate(to bytes: Int) throws(Errno)
    /// Length, owner and kind.
    func status() throws(Errno) -> FileStatus
}

/// A directory's files.
protocol SpoolFileSystem: Sendable {
    /// Opens a file for reading and writing; makes it, empty, with `create`.
    func open(_ path: String, create: Bool) throws(Errno) -> any SpoolFile
    /// The names in a directory.
    func list(_ path: String) throws(Errno) -> [String]
    /// Gives a file another name.
    func rename(_ old: String, to new: String) throws(Errno)
    /// Removes a file.
    func remove(_ path: String) throws(Errno)
    /// Makes a directory's entries durable.
    func syncDirectory(_ path: String) throws(Errno)
}

/// The kernel's files.
struct KernelFiles: SpoolFileSystem {
    /// Whether files are opened for reading alone, so that the kernel refuses every write.
    var isReadOnly = false

    private final class File: SpoolFile {
        let descriptor: FileDescriptor
        init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

        func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(Errno) -> Int {
            try descriptor.read(into: bytes, at: offset)
        }
        func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Errno) {
            try descriptor.writeAll(bytes, at: offset)
        }
        func syncData() throws(Errno) { try descriptor.syncData() }
        func sync() throws(Errno) { try descriptor.sync() }
        func allocate(_ bytes: Int) throws(Errno) { try descriptor.allocate(bytes) }
        func truncate(to bytes: Int) throws(Errno) { try descriptor.truncate(to: bytes) }
        func status() throws(Errno) -> FileStatus { try descriptor.status() }
    }

    func open(_ path: String, create: Bool) throws(Errno) -> any SpoolFile {
        if isReadOnly { return File(try FileDescriptor.open(path, .read)) }
        return File(
            try FileDescriptor.open(path, create ? [.readWrite, .create, .truncate] : .readWrite))
    }
    func list(_ path: String) throws(Errno) -> [String] { try FileSystem.list(path) }
    func rename(_ old: String, to new: String) throws(Errno) {
        try FileSystem.rename(old, to: new)
    }
    func remove(_ path: String) throws(Errno) { try FileSystem.remove(path) }
    func syncDirectory(_ path: String) throws(Errno) { try FileSystem.syncDirectory(path) }
}

extension SpoolFile {
    /// Whether somebody has removed the file: the next start will not find it.
    var isRemoved: Bool { (try? status().links) == 0 }

    /// Reads until the buffer is full or the file ends; how much was read.
    func readFully(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(Errno) -> Int {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
            let count = try read(into: rest, at: offset + done)
            if count == 0 { break }
            done += count
        }
        return done
    }
}
