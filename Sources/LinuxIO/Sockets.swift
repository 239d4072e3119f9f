// Listening, accepting and talking sockets: TCP over IPv4 and IPv6, and Unix.
internal import CLinux
internal import Glibc

/// Where a TCP socket listens or connects.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// The address in network order; IPv4 in the first four bytes.
    public var bytes: [UInt8]
    /// The port.
    public var port: UInt16

    /// An address by its bytes.
    /// - Precondition: `bytes` are 4 (IPv4) or 16 (IPv6).
    public init(bytes: [UInt8], port: UInt16) {
        precondition(bytes.count == 4 || bytes.count == 16)
        self.bytes = bytes
        self.port = port
    }

    /// Parses `127.0.0.1:8080`, `[::1]:8080`, or `:8080` and `*:8080` for every IPv4 address.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
            digits.utf8.count <= 5,
            let port = UInt16(digits)
        else { return nil }
        var host = String(text[..<colon])
        if host.isEmpty || host == "*" { host = "0.0.0.0" }
        if host == "localhost" { host = "127.0.0.1" }
        var storage = [UInt8](repeating: 0, count: 16)
        if host.hasPrefix("["), host.hasSuffix("]") {
            guard inet_pton(AF_INET6, String(host.dropFirst().dropLast()), &storage) == 1 else {
                return nil
            }
            bytes = storage
        } else {
            guard inet_pton(AF_INET, host, &storage) == 1 else { return nil }
            bytes = Array(storage[..<4])
        }
        self.port = port
    }

    /// The text that ``init(_:)`` reads.
    public var description: String {
        guard bytes.count == 16 else {
            return bytes.map { String($0) }.joined(separator: ".") + ":\(port)"
        }
        var text = [CChar](repeating: 0, count: 46)
        inet_ntop(AF_INET6, bytes, &text, 46)
        return "["
            + String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            + "]:\(port)"
    }

    func withSockAddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        if bytes.count == 16 {
            var value = sockaddr_in6()
            value.sin6_family = sa_family_t(AF_INET6)
            value.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: bytes) }
            return withUnsafePointer(to: value) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        var value = sockaddr_in()
        value.sin_family = sa_family_t(AF_INET)
        value.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &value.sin_addr) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: value) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}

/// The address of a peer: 16 bytes in two big-endian halves, IPv4 in the first four bytes.
public struct PeerAddress: Hashable, Sendable, BitwiseCopyable {
    /// Bytes 0...7.
    public var high: UInt64 = 0
    /// Bytes 8...15.
    public var low: UInt64 = 0
    /// Whether it is IPv6 (an IPv4-mapped one counts as IPv4).
    public var isIPv6 = false
    /// No address, as on a Unix socket.
    @inline(__always) public init() {}
    /// An address by its halves.
    @inline(__always) public init(high: UInt64, low: UInt64, isIPv6: Bool) {
        self.high = high
        self.low = low
        self.isIPv6 = isIPv6
    }
}

/// Calls on sockets; those of the event loop take and give raw descriptors, which its slab owns.
public enum Socket {
    /// A listening TCP socket, non-blocking, with SO_REUSEADDR and, if asked for, SO_REUSEPORT.
    public static func listen(
        _ address: SocketAddress, reusePort: Bool, backlog: Int32 = 4096
    ) throws(Errno) -> FileDescriptor {
        let family = address.bytes.count == 16 ? AF_INET6 : AF_INET
        let type =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(family, type, 0) })
        try setOption(fd.rawValue, SOL_SOCKET, SO_REUSEADDR, 1)
        if reusePort { try setOption(fd.rawValue, SOL_SOCKET, SO_REUSEPORT, 1) }
        if family == AF_INET6 { try setOption(fd.rawValue, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        let bound = address.withSockAddr { bind(fd.rawValue, $0, $1) }
        if bound != 0 { throw .current }
        if Glibc.listen(fd.rawValue, backlog) != 0 { throw .current }
        return fd
    }

    /// Fails when anybody listens on the address already, be it with SO_REUSEPORT.
    ///
    /// That would let a second process of this user take half of the connections.
    public static func requireFree(_ address: SocketAddress) throws(Errno) {
        let family = address.bytes.count == 16 ? AF_INET6 : AF_INET
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(family, type, 0) })
        try setOption(fd.rawValue, SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6 { try setOption(fd.rawValue, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        let bound = address.withSockAddr { bind(fd.rawValue, $0, $1) }
        if bound != 0 { throw .current }
    }

    /// A listening Unix socket at a path of at most 107 bytes, with the given permissions; a stale
    /// socket file is replaced, one that somebody listens on and any other file never.
    public static func listen(
        unix path: String, permissions: UInt32 = 0o660, backlog: Int32 = 128
    ) throws(Errno) -> FileDescriptor {
        try listen(
            unix: path, permissions: permissions, backlog: backlog,
            type: CInt(SOCK_STREAM.rawValue))
    }

    static func listen(
        unix path: String, permissions: UInt32, backlog: Int32, type: CInt
    ) throws(Errno) -> FileDescriptor {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(AF_UNIX, type | flags, 0) })
        try removeStale(path, type)
        let old = umask(0o777 & ~mode_t(permissions))
        defer { umask(old) }
        let bound = try withUnixAddress(path) { bind(fd.rawValue, $0, $1) }
        if bound != 0 { throw .current }
        if Glibc.listen(fd.rawValue, backlog) != 0 { throw .current }
        return fd
    }

    /// Removes a socket file that nobody listens on any more.
    private static func removeStale(_ path: String, _ type: CInt) throws(Errno) {
        var value = stat()
        guard lstat(path, &value) == 0 else { return }
        guard value.st_mode & S_IFMT == S_IFSOCK else { throw .fileExists }
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(AF_UNIX, type | flags, 0) })
        let result = try withUnixAddress(path) { Glibc.connect(fd.rawValue, $0, $1) }
        // EAGAIN: its backlog is full, so somebody listens.
        let error = Errno.current
        if result == 0 || error == .wouldBlock { throw .addressInUse }
        guard error == .connectionRefused else { throw error }
        unlink(path)
    }

    /// A blocking connection to a Unix socket, with a limit on each read and write.
    public static func connect(unix path: String, timeoutSeconds: Int) throws(Errno)
        -> FileDescriptor
    {
        try connect(
            unix: path, timeoutSeconds: timeoutSeconds, type: CInt(SOCK_STREAM.rawValue))
    }

    static func connect(
        unix path: String, timeoutSeconds: Int, type: CInt
    ) throws(Errno) -> FileDescriptor {
        let flags = Int32(SOCK_CLOEXEC.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(AF_UNIX, type | flags, 0) })
        try setTimeouts(fd.rawValue, seconds: timeoutSeconds)
        let result = try withUnixAddress(path) { Glibc.connect(fd.rawValue, $0, $1) }
        if result != 0 { throw .current }
        return fd
    }

    /// A blocking TCP connection, with a limit on each read and write.
    ///
    /// - Parameters:
    ///   - address: The server.
    ///   - timeoutSeconds: Of each read and write.
    ///   - source: The address to come from, at a port of the kernel's choice; nil: any.
    public static func connect(
        _ address: SocketAddress, timeoutSeconds: Int, from source: SocketAddress? = nil
    ) throws(Errno) -> FileDescriptor {
        let family = address.bytes.count == 16 ? AF_INET6 : AF_INET
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let fd = FileDescriptor(owning: try retrying { socket(family, type, 0) })
        try setTimeouts(fd.rawValue, seconds: timeoutSeconds)
        if let source, source.withSockAddr({ bind(fd.rawValue, $0, $1) }) != 0 { throw .current }
        let result = address.withSockAddr { Glibc.connect(fd.rawValue, $0, $1) }
        if result != 0 { throw .current }
        setNoDelay(fd.rawValue)
        return fd
    }

    /// The port that a listening socket was given.
    public static func localPort(_ fd: CInt) throws(Errno) -> UInt16 {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
        }
        if result != 0 { throw .current }
        return withUnsafeBytes(of: storage) {
            UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
    }

    /// Accepts a connection, non-blocking; -1 and errno when there is none.
    @inline(__always) public static func accept(_ fd: CInt, peer: inout PeerAddress) -> CInt {
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let accepted = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { clinux_accept(fd, $0, &length) }
        }
        if accepted >= 0 { peer = readPeer(&storage) }
        return accepted
    }

    @inline(__always) private static func readPeer(_ storage: inout sockaddr_in6) -> PeerAddress {
        withUnsafeBytes(of: &storage) { bytes in
            let family = bytes.loadUnaligned(fromByteOffset: 0, as: UInt16.self)
            if family == UInt16(AF_INET) {
                let address = UInt32(
                    bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
                return PeerAddress(high: UInt64(address) << 32, low: 0, isIPv6: false)
            }
            guard family == UInt16(AF_INET6) else { return PeerAddress() }
            let high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            let low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            if high == 0, low >> 32 == 0xFFFF {  // IPv4-mapped
                return PeerAddress(high: low << 32, low: 0, isIPv6: false)
            }
            return PeerAddress(high: high, low: low, isIPv6: true)
        }
    }

    /// recv(2): bytes read, 0 at the end, a negative error number.
    @inline(__always) public static func receive(_ fd: CInt, _ bytes: UnsafeMutableRawBufferPointer)
        -> Int
    {
        while true {
            let count = clinux_receive(fd, bytes.baseAddress, bytes.count)
            if count >= 0 { return count }
            if errno != EINTR { return -Int(errno) }
        }
    }

    /// recv(2) that leaves the bytes where they are; results as in ``receive(_:_:)``.
    public static func peek(_ fd: CInt, _ bytes: UnsafeMutableRawBufferPointer) -> Int {
        while true {
            let count = recv(fd, bytes.baseAddress, bytes.count, Int32(MSG_PEEK))
            if count >= 0 { return count }
            if errno != EINTR { return -Int(errno) }
        }
    }

    /// send(2) without SIGPIPE: bytes taken, or a negative error number.
    ///
    /// - Parameter beforeEnd: Close or shutdown follows at once: the kernel keeps the bytes until
    ///   then, so that they and the end of the stream leave in one segment (`MSG_MORE`).
    @inline(__always)
    public static func send(
        _ fd: CInt, _ bytes: UnsafeRawBufferPointer, beforeEnd: Bool = false
    ) -> Int {
        while true {
            let count = clinux_send(fd, bytes.baseAddress, bytes.count, beforeEnd ? 1 : 0)
            if count >= 0 { return count }
            if errno != EINTR { return -Int(errno) }
        }
    }

    /// Closes a raw descriptor.
    @inline(__always) public static func close(_ fd: CInt) { _ = clinux_close(fd) }
    /// Ends the writing half.
    public static func shutdownWriting(_ fd: CInt) { _ = shutdown(fd, Int32(SHUT_WR)) }
    /// Sends small segments at once (TCP_NODELAY).
    public static func setNoDelay(_ fd: CInt) {
        try? setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }
    /// The number of EAGAIN, as ``receive(_:_:)`` negates it.
    public static var wouldBlock: Int { Int(EAGAIN) }

    /// Limits each blocking read and write.
    public static func setTimeouts(_ fd: CInt, seconds: Int) throws(Errno) {
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            var value = timeval(tv_sec: seconds, tv_usec: 0)
            let result = setsockopt(
                fd, SOL_SOCKET, option, &value, socklen_t(MemoryLayout<timeval>.size))
            if result != 0 { throw .current }
        }
    }

    static func setOption(_ fd: CInt, _ level: CInt, _ name: CInt, _ value: CInt)
        throws(Errno)
    {
        var copy = value
        if setsockopt(fd, level, name, &copy, socklen_t(MemoryLayout<CInt>.size)) != 0 {
            throw .current
        }
    }

    private static func withUnixAddress<Result>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) throws(Errno) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw Errno(rawValue: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// Tells the service manager how the daemon is (sd_notify(3)): one datagram to $NOTIFY_SOCKET.
public enum ServiceNotification {
    /// Sends a state such as `READY=1`; nothing when no manager listens.
    public static func send(_ state: String) {
        guard let path = CurrentProcess.environment("NOTIFY_SOCKET"), !path.isEmpty else { return }
        let fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return }
        defer { close(fd) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(2 + bytes.count)
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { target in
                let text = Array(state.utf8)
                _ = sendto(fd, text, text.count, Int32(MSG_NOSIGNAL), target, length)
            }
        }
    }
}
