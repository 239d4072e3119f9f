// Becoming another program, with listening sockets passed as a service manager would: the same
// process number, so that whoever watches the process notices nothing.
internal import CLinux
internal import Glibc

extension FileDescriptor {
    /// A raw duplicate that a program executed by this process keeps, out of the way of passed
    /// sockets.
    public func duplicateForProgram() throws(Errno) -> CInt {
        let lowest = SocketActivation.firstDescriptor + CInt(SocketActivation.maximumDescriptors)
        return try retrying { clinux_fcntl_int(rawValue, F_DUPFD, lowest) }
    }
}

extension CurrentProcess {
    /// The running executable, also when its file has been replaced or removed since.
    public static let executable = "/proc/self/exe"

    /// Replaces this process by a program; every other descriptor closes, every other thread ends.
    ///
    /// - Parameters:
    ///   - program: Its path.
    ///   - arguments: Its arguments, the name first.
    ///   - sockets: What it finds by ``SocketActivation/takePassed()``.
    ///   - areOwn: Whether nobody but this process keeps them open.
    /// - Throws: ``Errno`` when the kernel refuses; then the passed sockets' copies are open as 3, 4, …
    public static func replace(
        by program: String, arguments: [String], passing sockets: [PassedDescriptor],
        areOwn: Bool
    ) throws(Errno) -> Never {
        precondition(sockets.count <= SocketActivation.maximumDescriptors)
        // By way of high numbers, so that no target is another's source.
        let lowest = SocketActivation.firstDescriptor + CInt(SocketActivation.maximumDescriptors)
        var copies: [CInt] = []
        for socket in sockets {
            copies.append(
                try retrying { clinux_fcntl_int(socket.descriptor, F_DUPFD_CLOEXEC, lowest) })
        }
        for (index, copy) in copies.enumerated() {
            _ = try retrying { dup2(copy, SocketActivation.firstDescriptor + CInt(index)) }
        }
        var variables: [String: String] = [:]
        for (name, value) in environment() { variables[name] = value }
        if !sockets.isEmpty {
            variables["LISTEN_PID"] = "\(id)"
            variables["LISTEN_FDS"] = "\(sockets.count)"
            if areOwn { variables[SocketActivation.ownVariable] = "1" }
            variables["LISTEN_FDNAMES"] = sockets.map(\.name).joined(separator: ":")
        }
        var argv = arguments.map { strdup($0) } + [nil]
        var envp = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        // The new program unblocks and blocks what it wants; it begins with nothing blocked.
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        _ = execve(program, &argv, &envp)
        throw .current
    }
}
