// Files that have no name and lie in memory.
internal import CLinux

extension FileDescriptor {
    /// A new empty file in memory (memfd_create(2)), close-on-exec.
    ///
    /// For libraries that map a file by its path: a copy in memory cannot be cut short under the
    /// mapping, which would kill the process by SIGBUS. Its path is ``descriptorPath``.
    /// - Parameter name: What /proc shows of it.
    public static func inMemory(_ name: String) throws(Errno) -> FileDescriptor {
        FileDescriptor(owning: try retrying { clinux_memory_file(name) })
    }

    /// A path that opens the same file for as long as this descriptor is open.
    public var descriptorPath: String { "/proc/self/fd/\(rawValue)" }
}
