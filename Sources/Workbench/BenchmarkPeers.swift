// The peers of the benchmark: the do-nothing server, nginx with its log off and with it buffered.
internal import LinuxIO

/// Servers to compare with, all on the first core.
struct BenchmarkPeers {
    struct Peer {
        let name: String
        let port: UInt16
        let process: ChildProcess
        /// The process to end; nginx's master, whose worker is `process`.
        let owner: ChildProcess
    }

    private let sources: String
    private let directory: String
    private(set) var running: [Peer] = []

    init(sources: String, directory: String) {
        self.sources = sources
        self.directory = directory
    }

    mutating func start() throws {
        let binary = "\(directory)/do-nothing"
        let code = try ChildProcess.start(["cc", "-O2", "-o", binary, "\(sources)/do-nothing.c"])
            .wait()
        guard code == 0 else { throw StackError("do-nothing.c did not compile") }
        let port = try SocketAddress.freePort()
        let server = try start([binary, "\(port)"], name: "do-nothing")
        running.append(Peer(name: "do-nothing", port: port, process: server, owner: server))
        try startNginx("nginx", log: "off")
        try startNginx("nginx-log", log: "\(directory)/access.log combined buffer=64k flush=1s")
        for peer in running { try waitForAnswer(peer) }
    }

    private mutating func startNginx(_ name: String, log: String) throws {
        let port = try SocketAddress.freePort()
        let folder = "\(directory)/\(name)"
        try FileSystem.makeDirectories(folder, permissions: 0o755)
        var map = ""
        for number in 1...SampleData.links {
            map +=
                "        /\(SampleData.slug(number)) https://shop.example/products/\(number)?ref=clickd;\n"
        }
        let text = String(decoding: try FileSystem.read("\(sources)/nginx.conf"), as: UTF8.self)
            .replacing("@DIR@", with: folder).replacing("@LOG@", with: log)
            .replacing("@MAP@", with: map).replacing("@PORT@", with: "\(port)")
        try Array(text.utf8).withUnsafeBytes {
            try FileSystem.replace("\(folder)/nginx.conf", with: $0, permissions: 0o644)
        }
        let master = try start(["nginx", "-p", folder, "-c", "\(folder)/nginx.conf"], name: name)
        let worker = try worker(of: master)
        running.append(Peer(name: name, port: port, process: worker, owner: master))
    }

    private func start(_ command: [String], name: String) throws -> ChildProcess {
        try ChildProcess.start(
            ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", "0"] + command,
            output: "\(directory)/\(name).log", ownSession: true)
    }

    private func worker(of master: ChildProcess) throws -> ChildProcess {
        for _ in 0..<500 {
            let path = "/proc/\(master.id)/task/\(master.id)/children"
            let text = String(decoding: (try? FileSystem.read(path)) ?? [], as: UTF8.self)
            if let id = text.split(separator: " ").first.flatMap({ Int32($0) }) {
                return ChildProcess(id: id)
            }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("nginx started no worker")
    }

    private func waitForAnswer(_ peer: Peer) throws {
        for _ in 0..<500 {
            if var probe = try? HTTPProbe(.loopback(port: peer.port)),
                let answer = try? probe.request("GET", "/demo"), answer.status == 302
            {
                return
            }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("\(peer.name) does not answer")
    }

    func stop() {
        for peer in running {
            peer.owner.send(.terminate)
            peer.owner.wait()
        }
    }
}
