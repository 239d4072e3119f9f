// Successors that never serve: the running daemon serves again, with its sockets and their queues.
import LinuxIO
import Synchronization
import Testing
import Workbench

@Suite("Take-overs that fail", .serialized)
struct FailedTakeOverTests {
    /// Visitors with a connection each, one after the other, until they are told to stop.
    private final class Visitors: Sendable {
        private let stopping = Atomic<Bool>(false)
        private let ended = Atomic<Bool>(false)
        let answered = Atomic<Int>(0)
        let refused = Atomic<Int>(0)
        /// The longest time to an answer, microseconds.
        let slowest = Atomic<Int>(0)

        init(_ address: SocketAddress) throws {
            try Thread.start(name: "visitors") { [self] in
                while !stopping.load(ordering: .relaxed) {
                    let begun = SystemClock.monotonicNanoseconds()
                    do {
                        var probe = try HTTPProbe(address)
                        let answer = try probe.request(
                            "GET", "/demo", headers: ["Connection: close"])
                        if answer.status == 302 { answered.add(1, ordering: .relaxed) }
                    } catch {
                        if error as? ProbeError == .system(.connectionRefused) {
                            refused.add(1, ordering: .relaxed)
                        }
                    }
                    let took = Int(SystemClock.monotonicNanoseconds() - begun) / 1000
                    slowest.max(took, ordering: .relaxed)
                }
                ended.store(true, ordering: .releasing)
            }.detach()
        }

        func awaitAnswers(_ count: Int) {
            let target = answered.load(ordering: .relaxed) + count
            for _ in 0..<20_000 where answered.load(ordering: .relaxed) < target {
                Thread.sleep(microseconds: 1000)
            }
        }

        func stop() {
            stopping.store(true, ordering: .relaxed)
            while !ended.load(ordering: .acquiring) { Thread.sleep(microseconds: 1000) }
        }
    }

    private func say(_ word: String, to socket: borrowing FileDescriptor) throws {
        try Array(word.utf8).withUnsafeBytes { try PacketSocket.send(socket.rawValue, $0) }
    }

    /// A successor that asks for everything; it is gone when the descriptor is closed.
    private func askForAll(_ stack: ServiceStack) throws -> FileDescriptor {
        let socket = try PacketSocket.connect("\(stack.socket).handover", timeoutSeconds: 5)
        try say("clickd hand-over 2", to: socket)
        while let message = try PacketSocket.receive(socket.rawValue, limit: 1 << 20) {
            if message.bytes == Array("sockets".utf8) { break }
        }
        try say("drain", to: socket)
        return socket
    }

    /// The daemon serves, is the same process, and refuses nobody meanwhile.
    private func expectServes(
        _ stack: ServiceStack, _ visitors: Visitors, as process: Int32?
    ) throws {
        visitors.awaitAnswers(50)
        #expect(stack.clickd?.id == process && stack.clickd?.poll() == nil)
        _ = try stack.click()
        visitors.stop()
        #expect(visitors.answered.load(ordering: .relaxed) >= 100)
        #expect(visitors.refused.load(ordering: .relaxed) == 0)
        let milliseconds = visitors.slowest.load(ordering: .relaxed) / 1000
        print("longest wait of a visitor: \(milliseconds) ms")
        #expect(milliseconds < 5000)
        try stack.flush()
        let rows = try stack.count("SELECT count(*) FROM clicks_logs")
        #expect(rows >= visitors.answered.load(ordering: .relaxed))
        #expect(
            try stack.count("SELECT count(*) - count(DISTINCT click_id) FROM clicks_logs") == 0)
        #expect(stack.stopClickd() == 0)
    }

    @Test(
        "A successor that dies once the drain has begun leaves a daemon that serves again",
        arguments: [false, true])
    func dies(afterRelease: Bool) throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let process = stack.clickd?.id
            let visitors = try Visitors(stack.address)
            visitors.awaitAnswers(50)
            do {
                let successor = try askForAll(stack)
                if afterRelease {
                    while let message = try PacketSocket.receive(
                        successor.rawValue, limit: 1 << 20)
                    {
                        if message.bytes == Array("released".utf8) { break }
                    }
                }
            }
            try expectServes(stack, visitors, as: process)
        }
    }

    @Test(
        "A successor that cannot bind its new address ends with 73; the old configuration serves on"
    )
    func cannotBind() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let process = stack.clickd?.id
            let taken = try Socket.listen(.loopback(port: 0), reusePort: false)
            let port = try Socket.localPort(taken.rawValue)
            let visitors = try Visitors(stack.address)
            visitors.awaitAnswers(50)
            stack.settings["http"] =
                "{ listen: [\"127.0.0.1:\(stack.port)\", \"127.0.0.1:\(port)\"] }"
            try stack.writeConfiguration()
            let result = try stack.run([
                "\(stack.binaries)/clickd", "run", "--take-over", "--config", stack.configuration,
            ])
            #expect(result.code == 73, "\(result.output)")
            try expectServes(stack, visitors, as: process)
        }
    }

    @Test("A successor with another spool ends with 73 before anything is handed over")
    func otherSpool() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let process = stack.clickd?.id
            let visitors = try Visitors(stack.address)
            visitors.awaitAnswers(50)
            stack.settings["spool"] = "{ directory: \(stack.directory)/other-spool }"
            try stack.writeConfiguration()
            let result = try stack.run([
                "\(stack.binaries)/clickd", "run", "--take-over", "--config", stack.configuration,
            ])
            #expect(result.code == 73 && result.output.contains("spool.directory"), "\(result)")
            #expect(!FileSystem.exists("\(stack.directory)/other-spool/identity"))
            try expectServes(stack, visitors, as: process)
        }
    }
}
