// The three clocks, each for its own use, and the identities of boot and machine.
internal import CLinux
internal import Glibc

/// The kernel's clocks.
public enum SystemClock {
    @inline(__always) private static func read(_ clock: clockid_t) -> timespec {
        var value = timespec()
        clock_gettime(clock, &value)
        return value
    }

    /// Wall clock in microseconds since 1970, which can step: for what people and tables see.
    @inline(__always) public static func wallMicroseconds() -> Int64 {
        let now = read(CLOCK_REALTIME)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    /// Microseconds since boot, suspension included, never stepping: for carrying wall time on.
    @inline(__always) public static func bootMicroseconds() -> Int64 {
        let now = read(CLOCK_BOOTTIME)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    /// Nanoseconds that never step: for deadlines and durations.
    @inline(__always) public static func monotonicNanoseconds() -> Int64 {
        let now = read(CLOCK_MONOTONIC)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }

    /// The coarse monotonic clock, good to a few milliseconds, cheaper to read.
    @inline(__always) public static func coarseNanoseconds() -> Int64 {
        let now = read(CLOCK_MONOTONIC_COARSE)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }

    /// CPU time that the process has used, in nanoseconds.
    public static func processNanoseconds() -> Int64 {
        let used = read(CLOCK_PROCESS_CPUTIME_ID)
        return Int64(used.tv_sec) * 1_000_000_000 + Int64(used.tv_nsec)
    }
}

/// The kernel's randomness.
public enum Randomness {
    /// Fills bytes from getrandom(2).
    public static func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            let count = clinux_random(base + done, bytes.count - done)
            // EINTR is the only error a valid buffer can meet; anything else must not pass for randomness.
            precondition(count > 0 || errno == EINTR, "getrandom failed")
            if count > 0 { done += count }
        }
    }

    /// So many random bytes.
    public static func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            fill(UnsafeMutableRawBufferPointer(buffer))
            filled = count
        }
    }
}

/// What tells this machine and this boot from others.
public enum MachineIdentity {
    /// The kernel's ID of the present boot, as text.
    public static func bootID() -> String { line(of: "/proc/sys/kernel/random/boot_id") }
    /// The machine ID of systemd, or the host name where there is none.
    public static func machine() -> String {
        let id = line(of: "/etc/machine-id")
        return id.isEmpty ? hostName() : id
    }
    /// A machine's name and a directory on it, `id:inode`, at most 61 bytes: a copy of the directory on
    /// the same machine has another.
    public static func place(_ machine: String, inode: UInt64) -> String {
        "\(String(decoding: machine.utf8.prefix(40), as: UTF8.self)):\(inode)"
    }
    /// Whether what was stored names this place; before directories were told it was the machine alone.
    public static func isSame(_ stored: String, _ place: String) -> Bool {
        stored == place || place.hasPrefix("\(stored):")
    }
    /// The host's name.
    public static func hostName() -> String { line(of: "/proc/sys/kernel/hostname") }

    private static func line(of path: String) -> String {
        guard let bytes = try? FileSystem.read(path, limit: 4096) else { return "" }
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
}

/// The running process.
public enum CurrentProcess {
    /// Its number.
    public static var id: Int32 { getpid() }
    /// The user that it runs as.
    public static var userID: UInt32 { geteuid() }
    /// Cores that it may run on.
    public static var availableCores: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
    /// An environment variable.
    public static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
    /// Every environment variable, as name and value.
    public static func environment() -> [(name: String, value: String)] {
        var result: [(String, String)] = []
        guard var next = clinux_environment() else { return [] }
        while let entry = next.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") {
                result.append((String(text[..<equals]), String(text[text.index(after: equals)...])))
            }
            next += 1
        }
        return result
    }
    /// Ends the process at once.
    public static func exit(_ code: Int32) -> Never { Glibc.exit(code) }
    /// Ends the process without running handlers.
    public static func exitNow(_ code: Int32) -> Never { _exit(code) }
    /// Resident memory in bytes.
    public static func residentBytes() -> Int {
        guard let bytes = try? FileSystem.read("/proc/self/statm", limit: 4096) else { return 0 }
        let fields = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }
    /// Raises the descriptor limit to the hard limit and returns it.
    @discardableResult public static func raiseDescriptorLimit() -> Int {
        var limit = rlimit()
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(resource, &limit) == 0 else { return 1024 }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(resource, &limit)
        _ = getrlimit(resource, &limit)
        return Int(clamping: limit.rlim_cur)
    }
    /// Sets the soft descriptor limit, within the hard one; returns what it was.
    ///
    /// For tests.
    @discardableResult public static func setDescriptorLimit(_ count: Int) -> Int {
        var limit = rlimit()
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(resource, &limit) == 0 else { return 0 }
        let old = Int(clamping: limit.rlim_cur)
        limit.rlim_cur = rlim_t(clamping: count)
        _ = setrlimit(resource, &limit)
        return old
    }
    /// Writes to standard error.
    public static func writeError(_ text: String) { write(text, to: 2) }
    /// Writes to standard output.
    public static func writeOutput(_ text: String) { write(text, to: 1) }

    private static func write(_ text: String, to fd: CInt) {
        var copy = text
        copy.withUTF8 { buffer in
            var rest = UnsafeRawBufferPointer(buffer)
            while !rest.isEmpty {
                let count = Glibc.write(fd, rest.baseAddress, rest.count)
                if count < 0 {
                    if errno == EINTR { continue }
                    return  // Nobody is listening; there is no one to tell.
                }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
}
