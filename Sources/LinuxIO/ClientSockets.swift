// What a client of many connections needs, and how a server ends one that does not read: connecting
// without waiting, from an address of one's choice; the error that came of it; resets.
internal import CLinux
internal import Glibc

extension Socket {
    /// Begins a TCP connection without waiting for it; ready to write, it stands or has failed.
    ///
    /// - Parameters:
    ///   - address: The server.
    ///   - source: The address to come from; its port is the kernel's choice. Nil: any.
    public static func beginConnect(
        _ address: SocketAddress, from source: SocketAddress? = nil
    ) throws(Errno) -> FileDescriptor {
        let family = address.bytes.count == 16 ? AF_INET6 : AF_INET
        let type =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(family, type, 0) })
        if let source {
            // The port is chosen with the connection, so that one port serves several servers.
            try setOption(fd.rawValue, Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1)
            let bound = source.withSockAddr { bind(fd.rawValue, $0, $1) }
            if bound != 0 { throw .current }
        }
        setNoDelay(fd.rawValue)
        let result = address.withSockAddr { Glibc.connect(fd.rawValue, $0, $1) }
        if result != 0, errno != EINPROGRESS { throw .current }
        return fd
    }

    /// A second raw descriptor of the same socket.
    public static func duplicate(_ fd: CInt) throws(Errno) -> CInt {
        try retrying { clinux_fcntl_int(fd, F_DUPFD_CLOEXEC, 0) }
    }

    /// Two connected stream sockets of this machine, neither of which ever waits; the caller closes them.
    public static func pair() throws(Errno) -> (first: CInt, second: CInt) {
        let type =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        var ends: (CInt, CInt) = (-1, -1)
        _ = try withUnsafeMutablePointer(to: &ends) { (both) throws(Errno) in
            try both.withMemoryRebound(to: CInt.self, capacity: 2) { (first) throws(Errno) in
                try retrying { socketpair(AF_UNIX, type, 0, first) }
            }
        }
        return (ends.0, ends.1)
    }

    /// The error that a socket has met and not told yet; nil for none.
    public static func pendingError(_ fd: CInt) -> Errno? {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        let result = getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length)
        if result != 0 { return .current }
        return value == 0 ? nil : Errno(rawValue: value)
    }

    /// Resets the connection at the descriptor's close, and frees what the kernel holds for it.
    public static func resetAtClose(_ fd: CInt) {
        var value = linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }

    /// Milliseconds after which the kernel gives up a peer that acknowledges nothing or keeps its
    /// window shut (`TCP_USER_TIMEOUT`); accepted sockets inherit their listener's.
    public static func setUserTimeout(_ fd: CInt, milliseconds: Int) {
        try? setOption(
            fd, Int32(IPPROTO_TCP), CInt(TCP_USER_TIMEOUT), CInt(clamping: milliseconds))
    }

    /// Bytes that the kernel takes before it has sent them (`TCP_NOTSENT_LOWAT`), whatever its send
    /// buffer grows to; accepted sockets inherit their listener's.
    public static func setUnsentLimit(_ fd: CInt, bytes: Int) {
        try? setOption(
            fd, Int32(IPPROTO_TCP), CInt(TCP_NOTSENT_LOWAT), CInt(clamping: bytes))
    }

    /// The size of the receive buffer that the kernel keeps (`SO_RCVBUF`); before connecting it also
    /// limits the window that is offered.
    public static func setReceiveBuffer(_ fd: CInt, bytes: Int) {
        try? setOption(fd, SOL_SOCKET, SO_RCVBUF, CInt(clamping: bytes))
    }

    /// Bytes given to send(2) that the peer has not acknowledged yet (`SIOCOUTQ`).
    public static func unacknowledgedBytes(_ fd: CInt) -> Int { Int(clinux_unacknowledged(fd)) }
}
