// Names in directories: making, listing, renaming, removing.
internal import CLinux
internal import Glibc

/// Calls on paths.
public enum FileSystem {
    /// Makes a directory and its missing parents (the last with `permissions`, parents with 0755).
    public static func makeDirectories(_ path: String, permissions: UInt32 = 0o700) throws(Errno) {
        if mkdir(path, permissions) == 0 { return }
        let error = Errno.current
        if error == .fileExists {
            guard try status(path).isDirectory else { throw .notDirectory }
            return
        }
        guard error == .noSuchFile, let slash = path.lastIndex(of: "/"), slash != path.startIndex
        else {
            throw error
        }
        try makeDirectories(String(path[..<slash]), permissions: 0o755)
        if mkdir(path, permissions) != 0, errno != EEXIST { throw .current }
    }

    /// What stat(2) tells.
    public static func status(_ path: String) throws(Errno) -> FileStatus {
        var value = stat()
        _ = try retrying { stat(path, &value) }
        return FileStatus(value)
    }

    /// Whether anything has that name.
    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
    /// Whether this process may run the file.
    public static func isExecutable(_ path: String) -> Bool { access(path, X_OK) == 0 }

    /// The names in a directory without `.` and `..`, sorted.
    public static func list(_ path: String) throws(Errno) -> [String] {
        guard let directory = opendir(path) else { throw .current }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Gives a file another name, replacing what has it.
    public static func rename(_ old: String, to new: String) throws(Errno) {
        if Glibc.rename(old, new) != 0 { throw .current }
    }

    /// Removes a file.
    public static func remove(_ path: String) throws(Errno) {
        if unlink(path) != 0 { throw .current }
    }

    /// Removes a file or a whole directory; nothing there is no error.
    public static func removeTree(_ path: String) throws(Errno) {
        var value = stat()
        guard lstat(path, &value) == 0 else { return }
        guard value.st_mode & S_IFMT == S_IFDIR else { return try remove(path) }
        for name in try list(path) { try removeTree("\(path)/\(name)") }
        if rmdir(path) != 0 { throw .current }
    }

    /// Makes a directory's entries durable.
    public static func syncDirectory(_ path: String) throws(Errno) {
        try FileDescriptor.open(path, [.read, .directory], followingLinks: true).sync()
    }

    /// Sets the permission bits.
    public static func setPermissions(_ path: String, _ permissions: UInt32) throws(Errno) {
        if chmod(path, permissions) != 0 { throw .current }
    }

    /// Changes owner and group.
    public static func setOwner(_ path: String, user: UInt32, group: UInt32) throws(Errno) {
        if chown(path, user, group) != 0 { throw .current }
    }

    /// The whole of a file, at most `limit` bytes.
    public static func read(_ path: String, limit: Int = 64 << 20) throws(Errno) -> [UInt8] {
        let file = try FileDescriptor.open(path, .read, followingLinks: true)
        var bytes: [UInt8] = []
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { chunk.deallocate() }
        while bytes.count <= limit {
            let count = try file.read(into: chunk)
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
        }
        throw Errno(rawValue: EFBIG)
    }

    /// Replaces a file's content in one step: a new file, synced, renamed over the old, the directory synced.
    public static func replace(
        _ path: String, with bytes: UnsafeRawBufferPointer, permissions: UInt32 = 0o600
    ) throws(Errno) {
        let temporary = "\(path).new"
        do {
            let file = try FileDescriptor.open(
                temporary, [.readWrite, .create, .truncate], permissions: permissions)
            try file.writeAll(bytes)
            try file.sync()
        }
        try rename(temporary, to: path)
        try syncDirectory(directory(of: path))
    }

    /// Makes a file that shares its blocks with another as that is at this instant, between two writes;
    /// on a file system that can (FICLONE: XFS, btrfs).
    ///
    /// For tests: what a disk had been given when the power went.
    public static func clone(_ source: String, to destination: String) throws(Errno) {
        let from = try FileDescriptor.open(source, .read)
        let to = try FileDescriptor.open(destination, [.readWrite, .create, .truncate])
        _ = try retrying { clinux_clone_file(to.rawValue, from.rawValue) }
    }

    /// The part of a path before its last name, `.` when there is none.
    public static func directory(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The last name of a path.
    public static func name(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return path }
        return String(path[path.index(after: slash)...])
    }

    /// The directory that relative paths begin at.
    public static var workingDirectory: String {
        guard let buffer = getcwd(nil, 0) else { return "." }
        defer { free(buffer) }
        return String(cString: buffer)
    }

    /// Whether the file system behind a path keeps its files in memory (tmpfs).
    public static func isMemoryBacked(_ path: String) throws(Errno) -> Bool {
        var type: Int64 = 0
        var available: Int64 = 0
        _ = try retrying { clinux_file_system(path, &type, &available) }
        return type == 0x0102_1994  // TMPFS_MAGIC
    }

    /// Bytes that an unprivileged writer can still use.
    public static func availableBytes(_ path: String) throws(Errno) -> Int {
        var type: Int64 = 0
        var available: Int64 = 0
        _ = try retrying { clinux_file_system(path, &type, &available) }
        return Int(available)
    }
}

extension FileSystem {
    /// The absolute path without links; the path itself where that cannot be told.
    public static func realPath(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
