// Listening sockets that outlive a process: those that a service manager passes (sd_listen_fds(3)),
// and what the kernel tells of any of them.
internal import CLinux
internal import Glibc

/// A descriptor that this process was started with.
public struct PassedDescriptor: Sendable, Equatable {
    /// The number; whoever takes it over closes it.
    public let descriptor: CInt
    /// Its name (`FileDescriptorName=`), empty when none was given.
    public let name: String

    /// A descriptor and its name.
    public init(descriptor: CInt, name: String) {
        self.descriptor = descriptor
        self.name = name
    }
}

/// The protocol of socket activation.
public enum SocketActivation {
    /// The first passed descriptor (`SD_LISTEN_FDS_START`).
    static let firstDescriptor: CInt = 3
    /// Descriptors that are taken; one more is refused.
    public static let maximumDescriptors = 256

    /// Set when this process was another before, whose own sockets these are: no manager keeps them.
    static let ownVariable = "LISTEN_FDS_OWN"

    /// Whether the passed descriptors are this process's own, of before it became this program.
    ///
    /// Once, before ``takePassed()``.
    public static func takeOwnership() -> Bool {
        defer { unsetenv(ownVariable) }
        return CurrentProcess.environment(ownVariable) != nil
    }

    /// The descriptors passed to this process, in order; they become close-on-exec.
    ///
    /// The variables are removed, so that no child believes they are meant for it. Once, before any
    /// thread starts: the environment belongs to all of them.
    /// - Returns: Empty when none were passed, or when they are another process's.
    /// - Throws: ``Errno/invalidArgument`` for a count that is no number, out of range, or of closed
    ///   descriptors.
    public static func takePassed() throws(Errno) -> [PassedDescriptor] {
        let process = CurrentProcess.environment("LISTEN_PID")
        let count = CurrentProcess.environment("LISTEN_FDS")
        let names = CurrentProcess.environment("LISTEN_FDNAMES") ?? ""
        for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"] {
            unsetenv(variable)
        }
        guard let process, let count, Int32(process) == CurrentProcess.id else { return [] }
        guard let total = Int(count), (0...maximumDescriptors).contains(total) else {
            throw .invalidArgument
        }
        let labels = names.split(separator: ":", omittingEmptySubsequences: false)
        var passed: [PassedDescriptor] = []
        for index in 0..<total {
            let descriptor = firstDescriptor + CInt(index)
            _ = try retrying { clinux_fcntl_int(descriptor, F_SETFD, FD_CLOEXEC) }
            passed.append(
                PassedDescriptor(
                    descriptor: descriptor,
                    name: index < labels.count ? String(labels[index]) : ""))
        }
        return passed
    }
}

/// What the kernel tells of a socket.
public struct SocketFacts: Sendable {
    /// Whether it is a TCP stream socket over IPv4 or IPv6.
    public let isTCP: Bool
    /// Whether it listens.
    public let isListening: Bool
    /// Whether an IPv6 socket takes IPv4 connections too.
    public let isDualStack: Bool
    /// Where it is bound; nil for other families.
    public let address: SocketAddress?
}

extension Socket {
    /// Asks the kernel about a socket.
    /// - Throws: ``Errno`` (`ENOTSOCK`, `EBADF`) when it is none.
    public static func facts(_ fd: CInt) throws(Errno) -> SocketFacts {
        let type = try option(fd, SOL_SOCKET, SO_TYPE)
        let family = try option(fd, SOL_SOCKET, SO_DOMAIN)
        let isIP = family == AF_INET || family == AF_INET6
        let isStream = type == CInt(SOCK_STREAM.rawValue)
        let transport = try option(fd, SOL_SOCKET, SO_PROTOCOL)
        let isListening = try option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0
        let isOneStack =
            family == AF_INET6 ? try option(fd, CInt(IPPROTO_IPV6), IPV6_V6ONLY) != 0 : true
        return SocketFacts(
            isTCP: isIP && isStream && transport == CInt(IPPROTO_TCP), isListening: isListening,
            isDualStack: !isOneStack,
            address: isIP ? try localAddress(fd) : nil)
    }

    /// Where an IP socket is bound.
    private static func localAddress(_ fd: CInt) throws(Errno) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
        }
        if result != 0 { throw .current }
        return withUnsafeBytes(of: storage) { bytes in
            let port = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            let range = CInt(storage.ss_family) == AF_INET6 ? 8..<24 : 4..<8
            return SocketAddress(bytes: Array(bytes[range]), port: port)
        }
    }

    private static func option(_ fd: CInt, _ level: CInt, _ name: CInt) throws(Errno) -> CInt {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        if getsockopt(fd, level, name, &value, &length) != 0 { throw .current }
        return value
    }

    /// Makes calls on a descriptor return instead of wait, for all who share its description.
    public static func setNonBlocking(_ fd: CInt) throws(Errno) {
        let flags = try retrying { clinux_fcntl_int(fd, F_GETFL, 0) }
        _ = try retrying { clinux_fcntl_int(fd, F_SETFL, flags | O_NONBLOCK) }
    }
}
