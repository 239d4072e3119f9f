// Starting, signalling and reaping other programs; for the workbench and tests.
internal import CLinux
internal import Glibc

/// A program that runs beside this one.
public struct ChildProcess: Sendable {
    /// Its process number.
    public let id: Int32

    /// A child by its number.
    public init(id: Int32) { self.id = id }

    /// Starts a program found in PATH.
    ///
    /// - Parameters:
    ///   - arguments: The program and its arguments.
    ///   - environment: Variables set over the present ones.
    ///   - output: A file that standard output and error are appended to; nil leaves them as they are.
    ///   - passing: Descriptors that the program finds as 3, 4, … (see ``SocketActivation``).
    ///   - ownSession: Whether it leads a session of its own, as under a service manager: a terminal's Ctrl-C
    ///     passes it by, and the scheduler (autogroups) shares processors between it and what started it.
    public static func start(
        _ arguments: [String], environment: [String: String] = [:], output: String? = nil,
        passing: [CInt] = [], ownSession: Bool = false
    ) throws(Errno) -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let output {
            posix_spawn_file_actions_addopen(
                &actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o644)
            posix_spawn_file_actions_adddup2(&actions, 1, 2)
        }
        // By way of high numbers, so that no target is another's source.
        var copies: [CInt] = []
        defer { for copy in copies { close(copy) } }
        for descriptor in passing {
            copies.append(try retrying { clinux_fcntl_int(descriptor, F_DUPFD_CLOEXEC, 512) })
        }
        for (index, copy) in copies.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, copy, 3 + CInt(index))
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        sigaddset(&defaults, SIGPIPE)
        sigaddset(&defaults, SIGINT)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        var flags = Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
        if ownSession { flags |= clinux_spawn_session_flag() }
        posix_spawnattr_setflags(&attributes, flags)
        var variables: [String: String] = [:]
        for (name, value) in CurrentProcess.environment() { variables[name] = value }
        variables.merge(environment) { $1 }
        var argv = arguments.map { strdup($0) } + [nil]
        var envp = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var id: pid_t = 0
        let error = posix_spawnp(&id, arguments[0], &actions, &attributes, &argv, &envp)
        guard error == 0 else { throw Errno(rawValue: error) }
        return ChildProcess(id: id)
    }

    /// Sends a signal.
    public func send(_ signal: Signal) { _ = kill(id, signal.rawValue) }

    /// Waits for the end: the exit code, or 128 plus the signal that ended it.
    @discardableResult public func wait() -> Int32 {
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0 { if errno != EINTR { return -1 } }
        return ChildProcess.code(status)
    }

    /// The end if it has come, without waiting.
    public func poll() -> Int32? {
        var status: Int32 = 0
        return waitpid(id, &status, WNOHANG) == id ? ChildProcess.code(status) : nil
    }

    private static func code(_ status: Int32) -> Int32 {
        status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
    }
}
