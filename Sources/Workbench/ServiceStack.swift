// The whole product in one directory: a private PostgreSQL, a configuration, the daemons. What
// `make run`, the benchmarks and the end-to-end tests start and stop.
public import LinuxIO
internal import Tracking

/// What a stack could not do, in words for the person at the terminal.
public struct StackError: Error, CustomStringConvertible, Sendable {
    /// What happened and what to do.
    public let description: String
    /// An error in words.
    public init(_ description: String) { self.description = description }
}

/// A finished command.
public struct CommandResult: Sendable {
    /// The exit code, or 128 plus a signal.
    public let code: Int32
    /// Standard output and error, together.
    public let output: String
}

/// A private PostgreSQL, clickd and attributiond over one directory.
///
/// Not Sendable: one thread starts and stops it.
public final class ServiceStack {
    /// Where everything lies, absolute.
    public let directory: String
    /// clickd's port on 127.0.0.1.
    public let port: UInt16
    /// The database server.
    public let cluster: PrivateCluster
    /// The database's name in it.
    public let database: String
    /// Where the executables are.
    public let binaries: String
    /// Lines put over the defaults of the configuration, by section.
    public var settings: [String: String]
    /// What clickd is started with: a program that ends in executing the rest of its arguments.
    public var launcher: [String] = []
    /// The running edge.
    public private(set) var clickd: ChildProcess?
    /// The running companion.
    public private(set) var attributiond: ChildProcess?

    /// A stack over a directory, which is made when missing.
    ///
    /// - Parameters:
    ///   - directory: An absolute path.
    ///   - port: clickd's port.
    ///   - cluster: A server, started or to be started by the caller.
    ///   - database: A database in it.
    public init(
        directory: String, port: UInt16, cluster: PrivateCluster, database: String = "clickd"
    ) {
        self.directory = directory
        self.port = port
        self.cluster = cluster
        self.database = database
        binaries = ServiceStack.binaryDirectory()
        settings = [:]
    }

    /// `$CLICKD_BINARIES`, else the folder of the running executable.
    public static func binaryDirectory() -> String {
        if let set = CurrentProcess.environment("CLICKD_BINARIES") { return set }
        return FileSystem.directory(of: FileSystem.realPath("/proc/self/exe"))
    }

    /// The edge's address.
    public var address: SocketAddress { .loopback(port: port) }
    /// The address in URLs.
    public var url: String { "http://127.0.0.1:\(port)" }
    /// The edge's operations socket.
    public var socket: String { "\(directory)/clickd.sock" }
    /// The companion's operations socket.
    public var attributionSocket: String { "\(directory)/attributiond.sock" }
    /// The configuration file.
    public var configuration: String { "\(directory)/clickd.yaml" }
    /// Where the rings are: memory that outlives the process, one folder for each directory's inode,
    /// so that a directory made anew never meets the rings of its predecessor.
    public var ringDirectory: String {
        let inode = (try? FileSystem.status(directory).inode) ?? 0
        return "/dev/shm/clickd-\(CurrentProcess.userID)-\(inode)"
    }

    /// Writes the configuration file.
    public func writeConfiguration() throws {
        try FileSystem.makeDirectories(directory, permissions: 0o755)
        let operations = UInt32(port) + 1100
        var sections = [
            "node": "{ id: 0 }",
            "http": "{ listen: [\"127.0.0.1:\(port)\"] }",
            "links": "{ snapshot: \(directory)/links.snapshot }",
            "ring": "{ directory: \(ringDirectory) }",
            "spool": "{ directory: \(directory)/spool }",
            "postgres": "{ dsn: \"\(cluster.dsn(database: database))\" }",
            "keys": "{ click: \(directory)/secrets/click.key }",
            "ops": "{ socket: \(socket), listen: \"127.0.0.1:\(operations)\" }",
            "log": "{ format: text }",
            "attribution":
                "{ ops: { socket: \(attributionSocket), listen: \"127.0.0.1:\(operations + 1)\" } }",
        ]
        sections.merge(settings) { $1 }
        let lines = sections.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        let text =
            "# Written by the workbench; config/clickd.yaml explains every key.\n"
            + lines.joined(separator: "\n") + "\n"
        try Array(text.utf8).withUnsafeBytes { try FileSystem.replace(configuration, with: $0) }
    }

    /// Makes the key file when there is none, and migrates the schema.
    public func prepare() throws {
        try writeConfiguration()
        if !FileSystem.exists("\(directory)/secrets/click.key") {
            try FileSystem.makeDirectories("\(directory)/secrets")
            try expect(clickctl(["key", "new", "\(directory)/secrets/click.key"]))
        }
        try expect(clickctl(["migrate", "--config", configuration]))
    }

    /// Runs clickctl and waits.
    public func clickctl(_ arguments: [String]) throws -> CommandResult {
        try run(["\(binaries)/clickctl"] + arguments, environment: ["CLICKD_CONFIG": configuration])
    }

    /// Runs a program and waits; its output comes back.
    public func run(
        _ command: [String], environment: [String: String] = [:]
    ) throws -> CommandResult {
        try FileSystem.makeDirectories("\(directory)/log", permissions: 0o755)
        let name = Randomness.bytes(8)
        let output = "\(directory)/log/command-\(hexadecimalText(name)).txt"
        defer { try? FileSystem.remove(output) }
        let code = try ChildProcess.start(command, environment: environment, output: output).wait()
        let text = String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
        return CommandResult(code: code, output: text)
    }

    /// Runs SQL with psql and gives what it prints.
    public func psql(_ sql: String, _ options: [String] = ["-At"]) throws -> String {
        let result = try run(
            [
                "\(PrivateCluster.Limits.binaries)/psql", "-X", "-v", "ON_ERROR_STOP=1", "-d",
                cluster.dsn(database: database),
            ]
                + options + ["-c", sql])
        try expect(result)
        return result.output
    }

    /// The first field of the first row, as a number.
    public func count(_ sql: String) throws -> Int {
        guard let first = try psql(sql).split(separator: "\n").first, let value = Int(first) else {
            throw StackError("no number came of: \(sql)")
        }
        return value
    }

    /// Throws what a command printed when it failed.
    @discardableResult public func expect(_ result: CommandResult) throws -> CommandResult {
        guard result.code == 0 else { throw StackError("exit \(result.code): \(result.output)") }
        return result
    }

    /// Starts clickd and waits until it is ready (or only alive, when the database may be away).
    public func startClickd(waitsForReady: Bool = true, environment: [String: String] = [:]) throws
    {
        clickd = try start("clickd", environment: environment, launcher: launcher)
        try wait(for: waitsForReady ? "/readyz" : "/healthz", on: socket, of: "clickd", clickd)
    }

    /// Starts attributiond and waits until it is ready.
    public func startAttributiond() throws {
        attributiond = try start("attributiond")
        try wait(for: "/readyz", on: attributionSocket, of: "attributiond", attributiond)
    }

    /// Has a second clickd take over from the running one; the first one's exit code.
    public func takeOverClickd() throws -> Int32 {
        let old = clickd
        clickd = try start("clickd", arguments: ["--take-over"])
        let code = old?.wait() ?? -1
        try wait(for: "/readyz", on: socket, of: "clickd", clickd)
        return code
    }

    /// Starts clickd with listening sockets as a service manager would pass them, and waits until
    /// it is ready.
    public func startClickd(passing sockets: [PassedDescriptor]) throws {
        clickd = try start("clickd", passing: sockets)
        try wait(for: "/readyz", on: socket, of: "clickd", clickd)
    }

    private func start(
        _ name: String, arguments: [String] = [], environment: [String: String] = [:],
        launcher: [String] = [], passing sockets: [PassedDescriptor] = []
    ) throws -> ChildProcess {
        try FileSystem.makeDirectories("\(directory)/log", permissions: 0o755)
        var variables = environment
        // The kernel ends the daemon if whoever started it dies without a word.
        var command = ["setpriv", "--pdeathsig", "TERM"]
        if !sockets.isEmpty {
            variables["LISTEN_FDS"] = "\(sockets.count)"
            variables["LISTEN_FDNAMES"] = sockets.map(\.name).joined(separator: ":")
            // The shell's number is the daemon's: each program replaces the one before.
            command = ["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"] + command
        }
        command += launcher + ["\(binaries)/\(name)", "run", "--config", configuration]
        return try ChildProcess.start(
            command + arguments, environment: variables,
            output: "\(directory)/log/\(name).log", passing: sockets.map(\.descriptor),
            ownSession: true)
    }

    private func wait(
        for path: String, on socket: String, of name: String, _ process: ChildProcess?
    ) throws {
        for _ in 0..<3000 {
            if let code = process?.poll() {
                throw StackError(
                    "\(name) ended with \(code); \(directory)/log/\(name).log ends with:\n\(tail(name))"
                )
            }
            if let answer = try? ask(path, socket: socket), answer.status == 200 { return }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("\(name) did not answer \(path) within 30 s:\n\(tail(name))")
    }

    /// The last lines of a daemon's log.
    public func tail(_ name: String) -> String {
        let bytes = (try? FileSystem.read("\(directory)/log/\(name).log")) ?? []
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").suffix(12)
            .joined(separator: "\n")
    }

    /// Asks a daemon's operations socket.
    public func ask(
        _ path: String, method: String = "GET", socket: String? = nil
    ) throws(ProbeError) -> ProbeResponse {
        var probe = try HTTPProbe(unix: socket ?? self.socket)
        return try probe.request(method, path, headers: ["Connection: close"])
    }

    /// Waits until all that was recorded is in PostgreSQL.
    public func flush() throws {
        let answer = try ask("/flush", method: "POST")
        guard answer.status == 200 else {
            throw StackError("flush: \(answer.status) \(answer.text)")
        }
    }

    /// Kills clickd without a word, as a power cut of the process would.
    public func killClickd() {
        clickd?.send(.kill)
        clickd?.wait()
        clickd = nil
    }

    /// Drains clickd; its exit code.
    @discardableResult public func stopClickd() -> Int32? {
        clickd?.send(.terminate)
        defer { clickd = nil }
        return clickd?.wait()
    }

    /// Drains attributiond; its exit code.
    @discardableResult public func stopAttributiond() -> Int32? {
        attributiond?.send(.terminate)
        defer { attributiond = nil }
        return attributiond?.wait()
    }

    /// Stops the daemons and removes the rings; the database server is its owner's.
    public func stop(removingRings: Bool = false) {
        stopAttributiond()
        stopClickd()
        if removingRings { try? FileSystem.removeTree(ringDirectory) }
    }
}

extension SocketAddress {
    /// 127.0.0.1 at a port; 0 lets the kernel choose.
    public static func loopback(port: UInt16) -> SocketAddress {
        SocketAddress(bytes: [127, 0, 0, 1], port: port)
    }

    /// A port of the loopback that is free right now, its operations ports (+1100, +1101) too.
    ///
    /// Below the range from which the kernel serves clients, so that no connection takes it meanwhile.
    public static func freePort() throws(Errno) -> UInt16 {
        var failure = Errno.current
        for _ in 0..<1000 {
            let port = UInt16.random(in: 10_000..<30_000)
            do throws(Errno) {
                for offset: UInt16 in [0, 1100, 1101] {
                    _ = try Socket.listen(.loopback(port: port + offset), reusePort: false)
                }
                return port
            } catch {
                failure = error
            }
        }
        throw failure
    }
}
