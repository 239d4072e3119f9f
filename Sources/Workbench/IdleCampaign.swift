// Idle connections by the ten thousand: what each costs in the edge's memory, and what they cost the
// visitors beside them. One process may not hold them all where the hard descriptor limit is low, so
// there are as many edges (and clients) as it takes.
internal import LinuxIO

/// The campaign of idle connections.
public struct IdleCampaign {
    private let connections: Int

    /// So many connections, each of which has made one request.
    public init(connections: Int) { self.connections = connections }

    /// One edge and who holds connections to it.
    private struct Edge {
        let stack: ServiceStack
        let connections: Int
        var holder: ChildProcess?
        var before = 0
    }

    /// Holds the connections and prints resident memory with and without them, and how redirects
    /// fare in both cases.
    /// - Returns: Whether a connection costs at most 1 KiB.
    public func run() throws -> Bool {
        let descriptors = CurrentProcess.raiseDescriptorLimit()
        let perEdge = descriptors - 1000
        guard perEdge > 1000 else {
            throw StackError("only \(descriptors) descriptors a process: raise `ulimit -Hn`")
        }
        let count = (connections + perEdge - 1) / perEdge
        CampaignStage.say(
            "\(connections) connections; \(descriptors) descriptors a process: \(count) edges")
        var isFine = false
        try CampaignStage.with("idle", settings: limits) { first in
            var edges: [Edge] = []
            defer {
                for edge in edges {
                    edge.holder?.send(.terminate)
                    edge.holder?.wait()
                    if edge.stack !== first { edge.stack.stop(removingRings: true) }
                }
            }
            for number in 0..<count {
                let stack = number == 0 ? first : try another(number, beside: first)
                try stack.startClickd()
                let share = connections / count + (number < connections % count ? 1 : 0)
                edges.append(Edge(stack: stack, connections: share))
            }
            try report("without", first)
            for index in edges.indices {
                edges[index].before = try edges[index].stack.residentKibibytes()
            }
            for index in edges.indices { edges[index].holder = try hold(edges[index]) }
            try waitUntilHeld(edges)
            isFine = try conclude(edges)
            try report("with", first)
        }
        return isFine
    }

    private var limits: [String: String] {
        [
            "limits":
                "{ per_address: 1000000, connections: 100000, idle_timeout: 1h, header_timeout: 1min }"
        ]
    }

    /// A further node of the fleet over the same database.
    private func another(_ number: Int, beside first: ServiceStack) throws -> ServiceStack {
        let stack = ServiceStack(
            directory: "\(first.directory)/\(number)", port: try SocketAddress.freePort(),
            cluster: first.cluster)
        stack.settings = limits
        stack.settings["log"] = "{ level: warning, format: text }"
        stack.settings["node"] = "{ id: \(number) }"
        stack.settings["keys"] = "{ click: \(first.directory)/secrets/click.key }"
        try stack.writeConfiguration()
        return stack
    }

    private func hold(_ edge: Edge) throws -> ChildProcess {
        try ChildProcess.start(
            [
                "setpriv", "--pdeathsig", "TERM", "\(edge.stack.binaries)/clickd-workbench", "hold",
                "--port", "\(edge.stack.port)", "--connections", "\(edge.connections)",
            ], output: "\(edge.stack.directory)/log/hold.log")
    }

    private func waitUntilHeld(_ edges: [Edge]) throws {
        for edge in edges {
            var open = 0
            for _ in 0..<1200 where open < edge.connections {
                if let code = edge.holder?.poll() {
                    throw StackError("a client ended with \(code)")
                }
                Thread.sleep(microseconds: 100_000)
                let log = (try? FileSystem.read("\(edge.stack.directory)/log/hold.log")) ?? []
                if String(decoding: log, as: UTF8.self).contains("held") {
                    open = try edge.stack.metric("connections")
                }
            }
            guard open >= edge.connections else {
                throw StackError("only \(open) of \(edge.connections) connections stand")
            }
        }
    }

    private func conclude(_ edges: [Edge]) throws -> Bool {
        var before = 0
        var after = 0
        var held = 0
        for edge in edges {
            before += edge.before
            after += try edge.stack.residentKibibytes()
            held += try edge.stack.metric("connections")
        }
        let bytes = (after - before) * 1024 / max(1, held)
        CampaignStage.say(
            "held \(held) idle connections: resident \(after) KiB with, \(before) KiB without: "
                + "\(bytes) bytes a connection")
        return bytes <= 1024 && held >= connections
    }

    /// Redirects at a pace, with their CPU time on the loops.
    private func report(_ when: String, _ stack: ServiceStack) throws {
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        let options = PacedLoadOptions(
            server: stack.address, paths: ["/demo"], connections: 64, rate: 5000, seconds: 5)
        _ = try PacedLoad(options).run()
        let before = try CPUTime(of: clickd)
        let result = try PacedLoad(options).run()
        let after = try CPUTime(of: clickd)
        CampaignStage.say(
            "redirects \(when) them: \(result.latencies.count) answers, \(result.failures) failures, "
                + "\(result.latencies.summary), "
                + "\((after.loops - before.loops) / max(1, result.latencies.count)) ns/request on loops"
        )
    }
}

/// The client's side: connections that ask once and then say nothing.
public enum IdleHolder {
    /// Opens them, says `held`, and stands still until a signal ends the process.
    public static func run(port: UInt16, connections: Int) throws {
        CurrentProcess.raiseDescriptorLimit()
        let request = Array("GET /demo HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
        var held: [CInt] = []
        held.reserveCapacity(connections)
        for index in 0..<connections {
            let source = SocketAddress(bytes: [127, 0, 1, UInt8(index % 8 + 1)], port: 0)
            let socket = try Socket.connect(.loopback(port: port), timeoutSeconds: 30, from: source)
            let descriptor = socket.release()
            guard request.withUnsafeBytes({ Socket.send(descriptor, $0) }) == request.count,
                Socket.receive(descriptor, chunk) > 12, chunk[9] == UInt8(ascii: "3")
            else { throw StackError("connection \(index) was not redirected") }
            held.append(descriptor)
        }
        CurrentProcess.writeOutput("held \(held.count)\n")
        while true { Thread.sleep(microseconds: 1_000_000) }
    }
}
