// Giving open descriptors to another process: messages over a Unix socket that keeps their bounds.
internal import CLinux
internal import Glibc

/// Who is at the other end of a Unix socket, as the kernel noted it when the connection was made.
public struct PeerCredentials: Sendable {
    /// The effective user.
    public let userID: UInt32
    /// The process.
    public let processID: Int32
}

/// One message, and the descriptor that came with it.
public struct PassedMessage: ~Copyable {
    /// The bytes.
    public let bytes: [UInt8]
    /// The descriptor, close-on-exec; -1 when there is none, or when it has been taken.
    private var descriptor: CInt

    init(bytes: [UInt8], descriptor: CInt) {
        self.bytes = bytes
        self.descriptor = descriptor
    }

    deinit { if descriptor >= 0 { Socket.close(descriptor) } }

    /// Takes the descriptor over; the caller closes it.
    ///
    /// Nil when none came.
    public mutating func takeDescriptor() -> CInt? {
        guard descriptor >= 0 else { return nil }
        defer { descriptor = -1 }
        return descriptor
    }
}

/// A Unix socket of sequenced packets.
public enum PacketSocket {
    /// A listening socket at a path, for its owner only (0600); a stale file is replaced, see
    /// ``Socket/listen(unix:permissions:backlog:)``.
    public static func listen(_ path: String) throws(Errno) -> FileDescriptor {
        try Socket.listen(
            unix: path, permissions: 0o600, backlog: 4, type: CInt(SOCK_SEQPACKET.rawValue))
    }

    /// A blocking connection, with a limit on each send and receive.
    public static func connect(_ path: String, timeoutSeconds: Int) throws(Errno) -> FileDescriptor
    {
        try Socket.connect(
            unix: path, timeoutSeconds: timeoutSeconds, type: CInt(SOCK_SEQPACKET.rawValue))
    }

    /// Accepts a connection, blocking from here on with a limit on each send and receive.
    public static func accept(_ fd: CInt, timeoutSeconds: Int) throws(Errno) -> FileDescriptor {
        let accepted = FileDescriptor(owning: try retrying { Glibc.accept(fd, nil, nil) })
        // No child is started in between: the daemons start none.
        _ = try retrying { clinux_fcntl_int(accepted.rawValue, F_SETFD, FD_CLOEXEC) }
        try Socket.setTimeouts(accepted.rawValue, seconds: timeoutSeconds)
        return accepted
    }

    /// Who is at the other end.
    public static func peer(_ fd: CInt) throws(Errno) -> PeerCredentials {
        var user: uid_t = 0
        var process: pid_t = 0
        if clinux_peer_credentials(fd, &user, &process) != 0 { throw .current }
        return PeerCredentials(userID: user, processID: process)
    }

    /// Sends a message and, if given, a duplicate of a descriptor.
    public static func send(
        _ fd: CInt, _ bytes: UnsafeRawBufferPointer, descriptor: CInt = -1
    ) throws(Errno) {
        _ = try retrying {
            clinux_send_descriptor(fd, bytes.baseAddress, bytes.count, descriptor)
        }
    }

    /// The next message of at most `limit` bytes; nil at the end.
    /// - Throws: ``Errno/wouldBlock`` when the time was over, `EMSGSIZE` for a larger one.
    public static func receive(_ fd: CInt, limit: Int) throws(Errno) -> PassedMessage? {
        var descriptor: CInt = -1
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: limit, alignment: 16)
        defer { buffer.deallocate() }
        let count = try retrying {
            clinux_receive_descriptor(fd, buffer.baseAddress, buffer.count, &descriptor)
        }
        if count == 0 && descriptor < 0 { return nil }
        return PassedMessage(bytes: Array(buffer[..<count]), descriptor: descriptor)
    }
}
