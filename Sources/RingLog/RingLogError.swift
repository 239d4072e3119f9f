// What can go wrong when ring and spool are opened, and how a program ends for it (contract, 1).
public import LinuxIO

/// An error of the ring log; each has one line that says what to do, and an exit code.
public enum RingLogError: Error, Sendable {
    /// Another process holds the directory.
    case lockedBy(pid: Int32, path: String)
    /// A file or directory could not be made.
    case cannotCreate(path: String, Errno)
    /// Somebody else's, or not usable by this user.
    case rights(path: String, reason: String)
    /// Reading or writing failed.
    case inputOutput(path: String, Errno)
    /// The directory belongs to another node.
    case foreignNode(path: String, found: UInt8, expected: UInt8)
    /// The file system of the ring directory cannot hold the rings.
    case tooSmall(path: String, neededBytes: Int, availableBytes: Int)
    /// An option lies outside what the formats allow.
    case option(String)
    /// A file is of a version that this program does not read.
    case version(path: String, found: UInt32)

    /// The exit code of a program that ends for this error.
    public var exitCode: Int32 {
        switch self {
        case .lockedBy, .cannotCreate, .foreignNode, .tooSmall: 73
        case .inputOutput, .version: 74
        case .rights: 77
        case .option: 78
        }
    }

    /// One line that says what happened and what to do.
    public var message: String {
        switch self {
        case .lockedBy(let pid, let path):
            "\(path) is in use by \(pid > 0 ? "process \(pid)" : "another process"); "
                + "stop it or configure another directory"
        case .cannotCreate(let path, let error):
            "cannot create \(path): \(error)"
        case .rights(let path, let reason):
            "\(path): \(reason)"
        case .inputOutput(let path, let error):
            "\(path): \(error)"
        case .foreignNode(let path, let found, let expected):
            "\(path) belongs to node \(found), but node.id is \(expected); "
                + "give each node its own ring and spool directories"
        case .tooSmall(let path, let needed, let available):
            "the file system of \(path) is too small: the rings need \(needed) bytes, "
                + "\(available) are free; lower ring.bytes, free some memory, "
                + "or give the container a larger --shm-size"
        case .option(let text):
            text
        case .version(let path, let found):
            "\(path) has format version \(found), which this release does not read"
        }
    }

    /// The error for a failed call on a path: missing rights are their own case.
    static func access(_ path: String, _ error: Errno) -> RingLogError {
        switch error {
        case .accessDenied, .notPermitted:
            .rights(path: path, reason: "no right to use it: \(error)")
        case .symbolicLink:
            .rights(path: path, reason: "is a symbolic link; name the directory itself")
        case .notDirectory:
            .rights(path: path, reason: "is not a directory (symbolic links are not followed)")
        default:
            .inputOutput(path: path, error)
        }
    }
}
