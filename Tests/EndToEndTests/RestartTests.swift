// Restarts under load: by take-over and by passed sockets, no request is refused, reset or lost.
import LinuxIO
import Synchronization
import TLS
import Testing
import Tracking
import Workbench

@Suite("Restarts", .serialized)
struct RestartTests {
    /// How often the process is replaced: a hundred times in the long run.
    private static let rounds = CurrentProcess.environment("CLICKD_SOAK") == nil ? 5 : 100

    /// How many clients speak TLS.
    private static let secured = 6

    /// Has a stack serve TLS too; its port.
    private func secure(_ stack: ServiceStack) throws -> UInt16 {
        let authority = try PrivateAuthority(directory: "\(stack.directory)/authority")
        let files = try authority.issue("ec", names: ["go.example"], kind: .ecdsa)
        let port = try SocketAddress.freePort()
        stack.settings["https"] =
            "{ listen: [\"127.0.0.1:\(port)\"], certificates: "
            + "[{ certificate: \(files.certificate), key: \(files.key) }] }"
        try stack.writeConfiguration()
        return port
    }

    @Test(
        "Taken over again and again under load, no request is refused, reset or lost, nor over TLS")
    func takeOver() throws {
        try Stacks.with { stack in
            let port = try secure(stack)
            try stack.startClickd()
            let load = try startLoad(on: stack, secured: port)
            for round in 1...RestartTests.rounds {
                awaitTraffic(load, 200)
                // Another number of loops each time: no queue belongs to one of them.
                stack.settings["http"] =
                    "{ listen: [\"127.0.0.1:\(stack.port)\"], workers: \(round % 3 + 1) }"
                try stack.writeConfiguration()
                #expect(try stack.takeOverClickd() == 0, "round \(round)")
            }
            awaitTraffic(load, 200)
            let account = load.finish()
            print("\(RestartTests.rounds) take-overs: \(account)")
            // TLS connections too: each is told that an answer is its last.
            #expect(account.failures == 0 && account.endedIdle == 0, "\(account)")
            #expect(account.crossed == 0 && account.secured > 0, "\(account)")
            try expectRecorded(account, slack: 0, in: stack)
            #expect(stack.stopClickd() == 0)
        }
    }

    @Test("With passed sockets, TERM and start again and again lose no request")
    func socketActivation() throws {
        try Stacks.with { stack in
            let port = try secure(stack)
            let socket = try Socket.listen(stack.address, reusePort: false)
            let sealed = try Socket.listen(.loopback(port: port), reusePort: false)
            let passed = [
                PassedDescriptor(descriptor: socket.rawValue, name: "http"),
                PassedDescriptor(descriptor: sealed.rawValue, name: "https"),
            ]
            try stack.startClickd(passing: passed)
            let load = try startLoad(on: stack, secured: port)
            for round in 1...RestartTests.rounds {
                awaitTraffic(load, 200)
                #expect(stack.stopClickd() == 0, "round \(round)")
                try stack.startClickd(passing: passed)
            }
            awaitTraffic(load, 200)
            let account = load.finish()
            print("\(RestartTests.rounds) restarts with passed sockets: \(account)")
            #expect(account.failures == 0, "\(account)")
            // Who pauses for longer than the drain's grace may ask at the instant of the end: the race
            // of HTTP/1.1, which a client may repeat. It is rare, and counted for itself.
            #expect(account.secured > 0, "\(account)")
            #expect(
                account.crossed <= RestartTests.secured * RestartTests.rounds / 10, "\(account)")
            try expectRecorded(account, slack: 0, in: stack)
            #expect(stack.stopClickd() == 0)
        }
    }

    @Test("With passed sockets, kill -9 again and again refuses no connection and loses no click")
    func killedWithPassedSockets() throws {
        let clients = 12
        try Stacks.with { stack in
            let socket = try Socket.listen(stack.address, reusePort: false)
            let passed = [PassedDescriptor(descriptor: socket.rawValue, name: "http")]
            try stack.startClickd(passing: passed)
            let load = try startLoad(on: stack)
            for _ in 1...RestartTests.rounds {
                awaitTraffic(load, 200)
                stack.killClickd()
                try stack.startClickd(passing: passed)
            }
            awaitTraffic(load, 200)
            let account = load.finish()
            print("\(RestartTests.rounds) kills with passed sockets: \(account)")
            // Who was connected to the killed process meets its end; nobody else notices.
            #expect(account.refused == 0 && account.late == 0 && account.others == 0, "\(account)")
            #expect(account.reset + account.lost > 0, "no kill met a request: \(account)")
            #expect(account.reset + account.lost <= clients * RestartTests.rounds, "\(account)")
            try expectRecorded(account, slack: clients * RestartTests.rounds, in: stack)
            #expect(stack.stopClickd() == 0)
        }
    }

    @Test("An address that is no longer configured is closed by the successor, a new one is bound")
    func movedAddress() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let other = try SocketAddress.freePort()
            stack.settings["http"] = "{ listen: [\"127.0.0.1:\(other)\"] }"
            try stack.writeConfiguration()
            #expect(try stack.takeOverClickd() == 0)
            var probe = try HTTPProbe(.loopback(port: other))
            #expect(try probe.request("GET", "/healthz").status == 200)
            #expect(throws: ProbeError.system(.connectionRefused)) {
                _ = try HTTPProbe(stack.address)
            }
        }
    }

    @Test("A successor that cannot start leaves the running daemon alone")
    func refusedSuccessor() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let text = String(decoding: try FileSystem.read(stack.configuration), as: UTF8.self)
            let bad = "\(stack.directory)/bad.yaml"
            let changed = text.replacing("secrets/click.key", with: "secrets/none.key")
            try Array(changed.utf8).withUnsafeBytes { try FileSystem.replace(bad, with: $0) }
            let result = try stack.run([
                "\(stack.binaries)/clickd", "run", "--take-over", "--config", bad,
            ])
            #expect(result.code == 78, "\(result.output)")
            #expect(stack.clickd?.poll() == nil)
            _ = try stack.click()
        }
    }

    @Test("Passed descriptors that do not fit are refused with 78")
    func unfitDescriptors() throws {
        try Stacks.with { stack in
            let command = ["\(stack.binaries)/clickd", "run", "--config", stack.configuration]
            for count in ["1", "x", "-1", "257"] {
                let result = try stack.run(
                    ["sh", "-c", "LISTEN_PID=$$ exec \"$@\" 3</dev/null", "sh"] + command,
                    environment: ["LISTEN_FDS": count])
                #expect(result.code == 78, "\(count): \(result.output)")
            }
            // Another process's descriptors are nobody's business.
            try stack.startClickd(environment: ["LISTEN_FDS": "1", "LISTEN_PID": "1"])
            _ = try stack.click()
        }
    }

    private func startLoad(
        on stack: ServiceStack, secured port: UInt16? = nil
    ) throws -> RestartLoad {
        let load = try RestartLoad(
            stack.address, secured: port.map { .loopback(port: $0) },
            slugs: (1...SampleData.links).map { SampleData.slug($0) },
            post: try stack.signedPosts())
        try load.start(
            clients: 9, senders: 3, secured: port == nil ? 0 : RestartTests.secured)
        return load
    }

    /// Waits for so many more answers: a restart meets traffic, not a pause.
    private func awaitTraffic(_ load: RestartLoad, _ answers: Int) {
        let target = load.count + answers
        while load.count < target { Thread.sleep(microseconds: 500) }
    }

    /// Every redirect is a row and every accepted conversion a sale, once each; at most `slack` rows
    /// more, of clicks whose answer a killed process still owed.
    private func expectRecorded(
        _ account: RestartAccount, slack: Int, in stack: ServiceStack
    ) throws {
        try stack.flush()
        #expect(Set(account.clicks).count == account.clicks.count)
        try stack.fill("seen (click_id bigint)", account.clicks.map { "\($0)" })
        try stack.fill("ordered (order_id text)", account.orders)
        #expect(
            try stack.count(
                "SELECT count(*) FROM seen s WHERE NOT EXISTS (SELECT 1 FROM clicks_logs c WHERE c.click_id = s.click_id)"
            ) == 0)
        #expect(
            try stack.count("SELECT count(*) - count(DISTINCT click_id) FROM clicks_logs") == 0)
        let rows = try stack.count("SELECT count(*) FROM clicks_logs")
        #expect(
            rows >= account.clicks.count && rows <= account.clicks.count + slack,
            "\(rows) rows, \(account.clicks.count) redirects")
        #expect(
            try stack.count(
                "SELECT count(*) FROM ordered o WHERE (SELECT count(*) FROM sales s WHERE s.order_id = o.order_id) <> 1"
            ) == 0)
        let sales = try stack.count("SELECT count(*) FROM sales")
        #expect(
            sales >= account.orders.count && sales <= account.orders.count + slack,
            "\(sales) sales, \(account.orders.count) accepted")
    }
}
