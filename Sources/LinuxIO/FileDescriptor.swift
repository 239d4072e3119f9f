// An owned descriptor: closed exactly once, by its owner's end.
internal import CLinux
internal import Glibc

/// A descriptor that closes when its owner lets go of it.
public struct FileDescriptor: ~Copyable, Sendable {
    /// The number, valid for as long as this value lives.
    public let rawValue: CInt

    /// Takes over an open descriptor.
    public init(owning rawValue: CInt) { self.rawValue = rawValue }

    deinit { _ = Glibc.close(rawValue) }

    /// Gives the descriptor away; the caller closes it.
    public consuming func release() -> CInt {
        let fd = rawValue
        discard self
        return fd
    }

    /// How a file is opened.
    public struct Mode: OptionSet, Sendable {
        /// open(2) flags.
        public let rawValue: CInt
        /// Flags as in open(2).
        public init(rawValue: CInt) { self.rawValue = rawValue }
        /// Reading only.
        public static var read: Mode { Mode(rawValue: O_RDONLY) }
        /// Reading and writing.
        public static var readWrite: Mode { Mode(rawValue: O_RDWR) }
        /// Made when missing.
        public static var create: Mode { Mode(rawValue: O_CREAT) }
        /// With `create`: an error when it is there.
        public static var exclusive: Mode { Mode(rawValue: O_EXCL) }
        /// Emptied.
        public static var truncate: Mode { Mode(rawValue: O_TRUNC) }
        /// Every write goes to the end.
        public static var append: Mode { Mode(rawValue: O_APPEND) }
        /// Only a directory.
        public static var directory: Mode { Mode(rawValue: O_DIRECTORY) }
    }

    /// Opens a file, close-on-exec, following no symbolic link in the last component.
    public static func open(
        _ path: String, _ mode: Mode, permissions: UInt32 = 0o600, followingLinks: Bool = false
    ) throws(Errno) -> FileDescriptor {
        let flags = mode.rawValue | O_CLOEXEC | (followingLinks ? 0 : O_NOFOLLOW)
        return FileDescriptor(owning: try retrying { clinux_open(path, flags, permissions) })
    }

    /// Reads at the current position; 0 at the end.
    public func read(into bytes: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        try retrying { Glibc.read(rawValue, bytes.baseAddress, bytes.count) }
    }

    /// Reads at an offset; 0 at the end.
    public func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(Errno) -> Int
    {
        try retrying { pread(rawValue, bytes.baseAddress, bytes.count, offset) }
    }

    /// Writes at the current position, perhaps less than all.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(Errno) -> Int {
        try retrying { Glibc.write(rawValue, bytes.baseAddress, bytes.count) }
    }

    /// Writes all bytes at the current position.
    public func writeAll(_ bytes: UnsafeRawBufferPointer) throws(Errno) {
        var rest = bytes
        while !rest.isEmpty {
            let written = try write(rest)
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
    }

    /// Writes all bytes at an offset.
    public func writeAll(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Errno) {
        var done = 0
        while done < bytes.count {
            done += try retrying {
                pwrite(
                    rawValue, bytes.baseAddress.map { $0 + done }, bytes.count - done, offset + done
                )
            }
        }
    }

    /// Makes written data durable (fdatasync(2)).
    public func syncData() throws(Errno) { _ = try retrying { fdatasync(rawValue) } }
    /// Makes data and metadata durable (fsync(2)).
    public func sync() throws(Errno) { _ = try retrying { fsync(rawValue) } }
    /// Sets the length.
    public func truncate(to bytes: Int) throws(Errno) {
        _ = try retrying { ftruncate(rawValue, bytes) }
    }

    /// Allocates blocks for the first `bytes`, so that no later store can find the disk full.
    public func allocate(_ bytes: Int) throws(Errno) {
        while true {
            let error = posix_fallocate(rawValue, 0, bytes)
            if error == 0 { return }
            if error != EINTR { throw Errno(rawValue: error) }
        }
    }

    /// What fstat(2) tells.
    public func status() throws(Errno) -> FileStatus {
        var value = stat()
        _ = try retrying { fstat(rawValue, &value) }
        return FileStatus(value)
    }

    /// Takes the file's exclusive lock for as long as the description is open.
    /// - Throws: ``Errno/wouldBlock`` or ``Errno/accessDenied`` when another holds it.
    public func lockExclusively() throws(Errno) {
        _ = try retrying { clinux_lock(rawValue, Int16(F_WRLCK)) }
    }

    /// Gives the lock back, also when a child process that has just been forked still shares the
    /// description.
    public func unlock() { _ = clinux_lock(rawValue, Int16(F_UNLCK)) }

    /// Takes the exclusive lock of a directory, or of a file of any mode, for as long as the
    /// description is open: flock(2), which knows nothing of ``lockExclusively()``.
    /// - Throws: ``Errno/wouldBlock`` when another holds it.
    public func lockWhole() throws(Errno) {
        _ = try retrying { flock(rawValue, LOCK_EX | LOCK_NB) }
    }

    /// Gives the lock of ``lockWhole()`` back.
    public func unlockWhole() { _ = flock(rawValue, LOCK_UN) }

    /// A second descriptor of the same description.
    public func duplicate() throws(Errno) -> FileDescriptor {
        FileDescriptor(owning: try retrying { clinux_fcntl_int(rawValue, F_DUPFD_CLOEXEC, 0) })
    }
}

/// What stat(2) tells of a file.
public struct FileStatus: Sendable {
    /// Length in bytes.
    public let bytes: Int
    /// Permission bits, 0...0o7777.
    public let permissions: UInt32
    /// Who owns it.
    public let ownerID: UInt32
    /// Whether it is a regular file.
    public let isRegularFile: Bool
    /// Whether it is a directory.
    public let isDirectory: Bool
    /// The inode number.
    public let inode: UInt64
    /// Names that it has; 0 for a file that was removed while somebody had it open.
    public let links: Int
    /// When its content last changed, seconds since 1970.
    public let modifiedSeconds: Int64

    init(_ value: stat) {
        bytes = Int(value.st_size)
        permissions = value.st_mode & 0o7777
        ownerID = value.st_uid
        isRegularFile = value.st_mode & S_IFMT == S_IFREG
        isDirectory = value.st_mode & S_IFMT == S_IFDIR
        inode = UInt64(value.st_ino)
        links = Int(value.st_nlink)
        modifiedSeconds = Int64(value.st_mtim.tv_sec)
    }
}
