// A PostgreSQL 15 cluster of one's own: made where it is missing, reached over a Unix socket only,
// run by an unprivileged user, ended with the process that started it.
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// Why a private cluster does not run.
public struct ClusterError: Error, Sendable, CustomStringConvertible {
    /// One sentence that says what to do, where something can be done.
    public let description: String
}

/// A running private cluster.
public final class PrivateCluster: Sendable {
    /// Bounds and places.
    public enum Limits {
        /// How long the server may take to answer after its start.
        static let startSeconds: Int64 = 60
        /// How long a fast shutdown may take before the server is told to drop everything.
        static let stopSeconds = 20
        /// The longest socket path of Linux, its terminating NUL left out.
        static let socketPathBytes = 107
        /// Where Debian keeps the programs of PostgreSQL 15.
        public static let binaries = "/usr/lib/postgresql/15/bin"
    }

    /// How a cluster is run.
    public struct Options: Sendable {
        /// Whether commits survive power loss; tests can do without.
        public var syncs = true
        /// Whether its directory goes when the process that started it has ended.
        public var isTemporary = false
        /// The database that is made in it.
        public var database = "clickd"
        /// Further settings, `name=value`.
        public var settings: [String] = []
        /// What `make run` wants.
        public init() {}
    }

    /// What the cluster lives in; another than asked for when its user could not reach that.
    public let directory: String
    /// Where the socket is: the `host` of a DSN.
    public let socketDirectory: String
    let options: Options
    private let owner: Owner?
    private let running = Mutex<Running?>(nil)

    private struct Running {
        var server: ChildProcess
        var watchdog: ChildProcess
    }

    /// The unprivileged user that the server runs as when the caller is root.
    private struct Owner: Sendable {
        var name: String
        var user: UInt32
        var group: UInt32
    }

    var data: String { "\(directory)/data" }
    var log: String { "\(directory)/postgresql.log" }

    /// A connection string for a database of the cluster.
    public func dsn(database: String? = nil) -> String {
        "host=\(socketDirectory) dbname=\(database ?? options.database) user=postgres"
    }

    /// Starts the cluster of a directory, making it first when there is none.
    ///
    /// One that another live process has started is used as it runs, and left running by ``stop()``.
    ///
    /// - Parameter directory: Made with mode 0700; a relative one begins at the working directory.
    public static func start(
        directory: String, options: Options = Options()
    ) throws(ClusterError) -> PrivateCluster {
        for program in ["postgres", "initdb", "pg_ctl", "pg_isready", "psql", "createdb"]
        where !FileSystem.isExecutable("\(Limits.binaries)/\(program)") {
            throw ClusterError(
                description: "\(Limits.binaries)/\(program) is missing: install postgresql-15 "
                    + "(apt-get install postgresql-15)")
        }
        let cluster = try PrivateCluster(directory: directory, options: options)
        try cluster.start()
        return cluster
    }

    init(directory wanted: String, options: Options) throws(ClusterError) {
        self.options = options
        owner = CurrentProcess.userID == 0 ? try PrivateCluster.unprivilegedOwner() : nil
        let absolute =
            wanted.hasPrefix("/") ? wanted : "\(FileSystem.workingDirectory)/\(wanted)"
        let tag = PrivateCluster.tag(of: absolute)
        let isReachable = owner.map { PrivateCluster.canReach(absolute, $0) } ?? true
        directory = isReachable ? absolute : "/var/tmp/clickd-postgres-\(tag)"
        let fits =
            "\(directory)/.s.PGSQL.5432.lock".utf8.count <= Limits.socketPathBytes
            && !directory.contains { $0 == "," || $0 == " " || $0 == "'" || $0 == "\\" }
        socketDirectory = fits ? directory : "/tmp/clickd-\(tag)"
        for path in [directory, socketDirectory] {
            do {
                try FileSystem.makeDirectories(path, permissions: 0o700)
                // In /tmp anyone could have made it first, or a link to somewhere else.
                let holder = try FileDescriptor.open(path, [.read, .directory]).status().ownerID
                guard holder == CurrentProcess.userID || holder == owner?.user else {
                    throw Errno.notPermitted
                }
                if let owner {
                    try FileSystem.setOwner(path, user: owner.user, group: owner.group)
                }
                try FileSystem.setPermissions(path, 0o700)
            } catch {
                throw ClusterError(description: "\(path) cannot be made ready: \(error)")
            }
        }
    }

    /// Starts the server again after ``stop()``; nothing happens while it runs.
    public func start() throws(ClusterError) {
        try initialise()
        if running.withLock({ $0 == nil }), !isRunForAnother { try startServer() }
        let probe = ["-X", "-q", "-c", "SELECT 1"]
        if psql(probe, database: options.database) != 0 {
            let made = run("createdb", connection + [options.database])
            guard made == 0 else {
                throw ClusterError(description: "the database cannot be made: see \(log)")
            }
        }
    }

    /// Ends the server: what is committed is written out, connections are cut.
    public func stop() {
        guard let state = running.withLock({ $0.take() }) else { return }
        // The watchdog leads its own group: the shell and what it waits with.
        try? Signals.send(.kill, to: -state.watchdog.id)
        state.watchdog.wait()
        stopServer()
        state.server.wait()
        if options.isTemporary {
            try? FileSystem.removeTree(directory)
            try? FileSystem.removeTree(socketDirectory)
        }
    }

    /// Ends the server as its machine's death would: nothing more is written out.
    public func crash() {
        guard let state = running.withLock({ $0.take() }) else { return }
        try? Signals.send(.kill, to: -state.watchdog.id)
        state.watchdog.wait()
        _ = run("pg_ctl", ["stop", "-m", "immediate", "-D", data, "-w"])
        state.server.wait()
    }

    /// Runs SQL by psql, each statement on its own; throws when one is refused.
    public func script(_ sql: String, database: String? = nil) throws(ClusterError) {
        let status = psql(
            ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql],
            database: database ?? options.database)
        guard status == 0 else {
            throw ClusterError(description: "psql failed (\(status)): see \(log)")
        }
    }
}

// MARK: - Making and starting

extension PrivateCluster {
    private var connection: [String] { ["-h", socketDirectory, "-p", "5432", "-U", "postgres"] }

    private func psql(_ arguments: [String], database: String) -> Int32 {
        run("psql", connection + ["-d", database] + arguments)
    }

    private func initialise() throws(ClusterError) {
        guard !FileSystem.exists("\(data)/PG_VERSION") else { return }
        // Made under another name: an interrupted initdb never passes for a cluster.
        let fresh = "\(directory)/data.new"
        do {
            try FileSystem.removeTree(fresh)
        } catch {
            throw ClusterError(description: "\(fresh) cannot be removed: \(error)")
        }
        var arguments = ["-D", fresh, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        arguments.append("--locale=C.UTF-8")
        if !options.syncs { arguments.append("--no-sync") }
        let status = run("initdb", arguments)
        guard status == 0 else {
            throw ClusterError(description: "initdb failed (\(status)): see \(log)")
        }
        do {
            try FileSystem.rename(fresh, to: data)
        } catch {
            throw ClusterError(description: "\(data) cannot be named: \(error)")
        }
    }

    private var isReady: Bool {
        run("pg_isready", ["-q", "-h", socketDirectory, "-p", "5432"]) == 0
    }

    /// Whether the server runs for a process that lives.
    ///
    /// One whose starter has died is on its way out: it is helped along, so that it does not end
    /// under its next user.
    private var isRunForAnother: Bool {
        guard FileSystem.exists("\(data)/postmaster.pid") else { return false }
        let starter = (try? FileSystem.read(starterPath, limit: 64)) ?? []
        let id = String(decoding: starter, as: UTF8.self)
        if let number = Int32(id), FileSystem.exists("/proc/\(number)"), isReady { return true }
        stopServer()
        return false
    }

    private var starterPath: String { "\(directory)/starter" }

    /// Leaves word of who started the server.
    private func writeStarter() throws(Errno) {
        let id = Array(String(CurrentProcess.id).utf8)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: id.count, alignment: 1)
        defer { bytes.deallocate() }
        bytes.copyBytes(from: id)
        try FileSystem.replace(starterPath, with: UnsafeRawBufferPointer(bytes))
    }

    private func stopServer() {
        let wait = ["-D", data, "-w", "-t", String(Limits.stopSeconds)]
        if run("pg_ctl", ["stop", "-m", "fast"] + wait) != 0 {
            _ = run("pg_ctl", ["stop", "-m", "immediate"] + wait)
        }
    }

    private func startServer() throws(ClusterError) {
        var settings = [
            "listen_addresses=", "port=5432", "unix_socket_directories=\(socketDirectory)",
            "unix_socket_permissions=0700", "max_connections=100", "timezone=UTC",
            "log_timezone=UTC",
        ]
        if !options.syncs {
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        }
        settings += options.settings
        let command =
            ["\(Limits.binaries)/postgres", "-D", data] + settings.flatMap { ["-c", $0] }
        let server: ChildProcess
        do {
            server = try ChildProcess.start(
                asOwner(command), environment: ["LC_ALL": "C"], output: log, ownSession: true)
        } catch {
            throw ClusterError(description: "postgres cannot be started: \(error)")
        }
        let deadline = SystemClock.monotonicNanoseconds() + Limits.startSeconds * 1_000_000_000
        while !isReady {
            if let code = server.poll() {
                throw ClusterError(description: "postgres ended (\(code)): see \(log)")
            }
            guard SystemClock.monotonicNanoseconds() < deadline else {
                server.send(.kill)
                server.wait()
                throw ClusterError(description: "postgres does not answer: see \(log)")
            }
            Thread.sleep(microseconds: 20_000)
        }
        let watchdog: ChildProcess
        do {
            watchdog = try watch(server)
            try writeStarter()
        } catch {
            server.send(.interrupt)
            server.wait()
            throw ClusterError(description: "the watchdog cannot be started: \(error)")
        }
        running.withLock { $0 = Running(server: server, watchdog: watchdog) }
    }

    /// Starts a shell that waits for this process to end, however it ends, and then ends the server.
    private func watch(_ server: ChildProcess) throws(Errno) -> ChildProcess {
        let script = """
            tail --pid="$1" -f /dev/null
            kill -INT "$2"
            tail --pid="$2" -f /dev/null
            if [ "$3" = temporary ]; then rm -rf -- "$4" "$5"; fi
            """
        return try ChildProcess.start(
            [
                "sh", "-c", script, "clickd-watchdog", String(CurrentProcess.id),
                String(server.id), options.isTemporary ? "temporary" : "kept", directory,
                socketDirectory,
            ],
            output: "/dev/null", ownSession: true)
    }

    /// Runs one of PostgreSQL's programs to its end; what it says goes to the cluster's log.
    func run(_ program: String, _ arguments: [String]) -> Int32 {
        do {
            let command = ["\(Limits.binaries)/\(program)"] + arguments
            let environment = ["LC_ALL": "C", "PGCONNECT_TIMEOUT": "5"]
            let child = try ChildProcess.start(
                asOwner(command), environment: environment, output: log, ownSession: true)
            return child.wait()
        } catch { return 127 }
    }

    private func asOwner(_ command: [String]) -> [String] {
        guard let owner else { return command }
        return [
            "setpriv", "--reuid=\(owner.user)", "--regid=\(owner.group)", "--clear-groups", "--",
        ] + command
    }

    private static func unprivilegedOwner() throws(ClusterError) -> Owner {
        let accounts: String
        do {
            accounts = String(decoding: try FileSystem.read("/etc/passwd"), as: UTF8.self)
        } catch {
            throw ClusterError(description: "/etc/passwd cannot be read: \(error)")
        }
        for name in ["postgres", "nobody"] {
            for line in accounts.split(separator: "\n") {
                let fields = line.split(separator: ":", omittingEmptySubsequences: false)
                if fields.count >= 4, fields[0] == name, let user = UInt32(fields[2]),
                    let group = UInt32(fields[3])
                {
                    return Owner(name: name, user: user, group: group)
                }
            }
        }
        throw ClusterError(
            description: "PostgreSQL refuses to run as root, and there is no user postgres")
    }

    /// Whether the user may pass through every directory above a path.
    private static func canReach(_ path: String, _ owner: Owner) -> Bool {
        var parent = FileSystem.directory(of: path)
        while true {
            if let status = try? FileSystem.status(parent) {
                let bit: UInt32 = status.ownerID == owner.user ? 0o100 : 0o001
                guard status.permissions & bit != 0 else { return false }
            }
            if parent == "/" || parent == "." { return true }
            parent = FileSystem.directory(of: parent)
        }
    }

    /// A short name for a long path.
    private static func tag(of path: String) -> String {
        var copy = path
        let key = SipHashKey(first: 0, second: 0)
        let hash = copy.withUTF8 { SipHash24.hash(UnsafeRawBufferPointer($0), key: key) }
        return String(hash, radix: 36)
    }
}
