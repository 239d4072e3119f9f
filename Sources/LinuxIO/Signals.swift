// Signals read from a descriptor, never handled asynchronously.
internal import CLinux
internal import Glibc

/// The signals that the daemons know.
public enum Signal: Int32, Sendable {
    /// Reload.
    case hangUp = 1
    /// Drain, from a terminal.
    case interrupt = 2
    /// At once, no clean-up.
    case kill = 9
    /// Drain.
    case terminate = 15
    /// Stand still.
    case stop = 19
    /// Go on.
    case `continue` = 18
}

/// The process's signal mask.
public enum Signals {
    /// Blocks every signal that can be blocked on the calling thread, and ignores SIGPIPE for the process.
    public static func blockAll() {
        var set = sigset_t()
        sigfillset(&set)
        for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT] { sigdelset(&set, fault) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
    }

    /// Unblocks every signal on the calling thread.
    public static func unblockAll() {
        var set = sigset_t()
        sigfillset(&set)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    /// A descriptor that gives TERM, INT and HUP as they come, after ``blockAll()``.
    public static func descriptor() throws(Errno) -> FileDescriptor {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        return FileDescriptor(owning: try retrying { signalfd(-1, &set, Int32(SFD_CLOEXEC)) })
    }

    /// The next signal; waits for it.
    public static func next(from descriptor: borrowing FileDescriptor) throws(Errno) -> Signal? {
        var info = signalfd_siginfo()
        let count = try withUnsafeMutableBytes(of: &info) { (bytes) throws(Errno) in
            try descriptor.read(into: bytes)
        }
        return count == MemoryLayout<signalfd_siginfo>.size
            ? Signal(rawValue: Int32(info.ssi_signo)) : nil
    }

    /// Sends a signal to a process.
    public static func send(_ signal: Signal, to process: Int32) throws(Errno) {
        if Glibc.kill(process, signal.rawValue) != 0 { throw .current }
    }
}
