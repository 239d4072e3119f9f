// The kernel's error numbers, and the one place where EINTR is answered.
internal import CLinux
internal import Glibc

/// An error number of the kernel.
public struct Errno: RawRepresentable, Error, Hashable, Sendable, CustomStringConvertible {
    /// The number as in errno(3).
    public let rawValue: CInt

    /// An error by its number.
    public init(rawValue: CInt) { self.rawValue = rawValue }

    /// The error of the call that just failed on this thread.
    public static var current: Errno { Errno(rawValue: errno) }

    /// No such file or directory (`ENOENT`).
    public static var noSuchFile: Errno { Errno(rawValue: ENOENT) }
    /// The file is there already (`EEXIST`).
    public static var fileExists: Errno { Errno(rawValue: EEXIST) }
    /// Nothing to read or no room to write right now (`EAGAIN`).
    public static var wouldBlock: Errno { Errno(rawValue: EAGAIN) }
    /// No right to do so (`EACCES`).
    public static var accessDenied: Errno { Errno(rawValue: EACCES) }
    /// Not permitted (`EPERM`).
    public static var notPermitted: Errno { Errno(rawValue: EPERM) }
    /// No space left (`ENOSPC`).
    public static var noSpace: Errno { Errno(rawValue: ENOSPC) }
    /// An I/O error of the device (`EIO`).
    public static var inputOutput: Errno { Errno(rawValue: EIO) }
    /// The address is taken (`EADDRINUSE`).
    public static var addressInUse: Errno { Errno(rawValue: EADDRINUSE) }
    /// The process has no descriptor left (`EMFILE`).
    public static var tooManyDescriptors: Errno { Errno(rawValue: EMFILE) }
    /// The system has no descriptor left (`ENFILE`).
    public static var tooManyFilesInSystem: Errno { Errno(rawValue: ENFILE) }
    /// A symbolic link where none may be (`ELOOP`).
    public static var symbolicLink: Errno { Errno(rawValue: ELOOP) }
    /// No such process (`ESRCH`).
    public static var noSuchProcess: Errno { Errno(rawValue: ESRCH) }
    /// Not a directory (`ENOTDIR`).
    public static var notDirectory: Errno { Errno(rawValue: ENOTDIR) }
    /// The connection was refused (`ECONNREFUSED`).
    public static var connectionRefused: Errno { Errno(rawValue: ECONNREFUSED) }
    /// The argument does not fit (`EINVAL`).
    public static var invalidArgument: Errno { Errno(rawValue: EINVAL) }
    /// A cross-device operation, or a timeout (`ETIMEDOUT`).
    public static var timedOut: Errno { Errno(rawValue: ETIMEDOUT) }

    /// Interrupted by a signal (`EINTR`).
    public static var interrupted: Errno { Errno(rawValue: EINTR) }
    /// The kernel has no memory (`ENOMEM`).
    public static var noMemory: Errno { Errno(rawValue: ENOMEM) }
    /// The kernel has no buffers (`ENOBUFS`).
    public static var noBuffers: Errno { Errno(rawValue: ENOBUFS) }
    /// The connection ended before it was accepted (`ECONNABORTED`).
    public static var connectionAborted: Errno { Errno(rawValue: ECONNABORTED) }
    /// An error of the protocol (`EPROTO`).
    public static var protocolError: Errno { Errno(rawValue: EPROTO) }
    /// The network is down (`ENETDOWN`).
    public static var networkDown: Errno { Errno(rawValue: ENETDOWN) }
    /// No way to the network (`ENETUNREACH`).
    public static var networkUnreachable: Errno { Errno(rawValue: ENETUNREACH) }
    /// The host is down (`EHOSTDOWN`).
    public static var hostDown: Errno { Errno(rawValue: EHOSTDOWN) }
    /// No way to the host (`EHOSTUNREACH`).
    public static var hostUnreachable: Errno { Errno(rawValue: EHOSTUNREACH) }

    /// strerror(3) of the number.
    public var description: String { String(cString: strerror(rawValue)) }
}

/// Runs a call that answers -1 and errno on failure, again for as long as it was interrupted.
@inline(__always)
func retrying<Result: FixedWidthInteger>(_ call: () -> Result) throws(Errno) -> Result {
    while true {
        let result = call()
        if result != -1 { return result }
        let error = errno
        if error != EINTR { throw Errno(rawValue: error) }
    }
}
