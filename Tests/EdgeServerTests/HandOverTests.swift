// Sockets and connections that outlive a server: inherited, handed over, and left alone.
import LinuxIO
import RingLog
import Synchronization
import TLS
import Telemetry
import Testing
import Workbench

@testable import EdgeServer

@Suite(.serialized) struct HandOverTests {
    /// A listening socket as a service manager would hold it.
    private func held() throws -> FileDescriptor {
        try Socket.listen(SocketAddress(bytes: [127, 0, 0, 1], port: 0), reusePort: false)
    }

    private func passed(_ socket: borrowing FileDescriptor, _ name: String = "http") throws
        -> InheritedSockets
    {
        let copy = try socket.duplicate().release()
        return InheritedSockets(
            .serviceManager, [PassedDescriptor(descriptor: copy, name: name)])
    }

    @Test(
        "Between two servers a passed socket keeps its queue: who comes then is answered by the next"
    )
    func queueOutlivesServer() throws {
        let socket = try held()
        let port = try Socket.localPort(socket.rawValue)
        for workers in [2, 1, 3] {
            let waiting = try RawClient(port: port)
            try waiting.send(get("/healthz"))
            let edge = try EdgeFixture(
                workers: workers, publishing: false, port: port, inherited: passed(socket))
            try edge.run { (edge) throws in
                #expect(edge.server.listenersOutliveProcess)
                #expect(edge.server.ports == [port])
                #expect(try waiting.response().status == 200)
                #expect(try edge.client().ask(get("/healthz")).status == 200)
            }
        }
    }

    @Test("A passed socket that does not fit is refused with 78 and a reason")
    func unfitSockets() throws {
        let socket = try held()
        let port = try Socket.localPort(socket.rawValue)
        func refusal(_ inherited: InheritedSockets, port: UInt16) -> EdgeServerError? {
            #expect(throws: EdgeServerError.self) {
                _ = try EdgeFixture(port: port, inherited: inherited)
            }
        }
        let other = refusal(try passed(socket), port: port &+ 1)
        #expect(other?.exitCode == 78)
        #expect(other?.message.contains("127.0.0.1:\(port), which http.listen") == true)
        let kind = refusal(try passed(socket, "https"), port: port)
        #expect(kind?.message.contains("https.listen does not name") == true)
        let null = try FileDescriptor.open("/dev/null", .read).release()
        let file = refusal(
            InheritedSockets(.serviceManager, [PassedDescriptor(descriptor: null, name: "")]),
            port: port)
        #expect(file?.message.contains("no listening TCP socket") == true)
        let connected = try Socket.connect(
            SocketAddress(bytes: [127, 0, 0, 1], port: port), timeoutSeconds: 5
        ).release()
        let stream = refusal(
            InheritedSockets(.serviceManager, [PassedDescriptor(descriptor: connected, name: "")]),
            port: port)
        #expect(stream?.exitCode == 78)
    }

    @Test("A predecessor's socket that is no longer configured is closed, a new address is bound")
    func changedAddress() throws {
        let socket = try held()
        let port = try Socket.localPort(socket.rawValue)
        let copy = try socket.duplicate().release()
        _ = socket.release()  // Nobody else holds it now but the copy, which the server closes.
        let edge = try EdgeFixture(
            publishing: false,
            inherited: InheritedSockets(
                .predecessor, [PassedDescriptor(descriptor: copy, name: "http")]))
        try edge.run { (edge) throws in
            #expect(edge.server.notices.count == 1)
            #expect(edge.server.ports[0] != port)
            #expect(!edge.server.listenersOutliveProcess)
            #expect(try edge.client().ask(get("/healthz")).status == 200)
        }
    }

    @Test("A successor gets the sockets and every open connection, wherever its request was")
    func connectionsPassed() throws {
        let old = try EdgeFixture(workers: 2)
        try old.start()
        let idle = try old.client()
        #expect(try idle.ask(get("/healthz")).status == 200)
        let silent = try old.client()
        let head = try old.client()
        try head.send("GET /robots.txt HTTP/1.1\r\nHo")
        let body = try old.client()
        let form =
            "merchant_id=\(Known.merchant)&order_id=h-1&amount=5&token=\(Known.postbackToken)"
        try body.send(
            "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                + "Content-Length: \(form.utf8.count)\r\n\r\n" + form.prefix(20))
        let chunked = try old.client()
        let digits = String(form.utf8.count, radix: 16)
        let pieces = (form.prefix(7), form.dropFirst(7))
        try chunked.send(
            "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n\(digits)\r\n\(pieces.0)")
        let slow = try old.client()
        try slow.send(String(repeating: get("/t.js"), count: 200))
        for _ in 0..<2000 where old.counters.total(.connectionsAccepted) < 6 {
            Thread.sleep(microseconds: 1000)
        }
        let path = "\(old.path)/door"
        let inheritance = try handOver(old, path: path)
        #expect(inheritance.sockets.count == 2)
        #expect(inheritance.connections.count == 6)
        #expect(old.counters.total(.connectionsPassed) == 6)
        #expect(!FileSystem.exists(path))
        let new = try EdgeFixture(
            workers: 3, port: old.server.ports[0],
            inherited: InheritedSockets(.predecessor, inheritance.sockets),
            adopted: inheritance.connections)
        try new.run { (new) throws in
            let redirect = try idle.ask(get("/shoes"))
            #expect(redirect.status == 302, "\(redirect)")
            #expect(try silent.ask(get("/healthz")).status == 200)
            try head.send("st: a\r\n\r\n")
            #expect(try head.response().status == 200)
            try body.send(String(form.dropFirst(20)))
            #expect(try body.response().status == 200)
            try chunked.send("\(pieces.1)\r\n0\r\n\r\n")
            #expect(try chunked.response().status == 200)
            for _ in 0..<200 { #expect(try slow.response().status == 200) }
            #expect(try new.client().ask(get("/healthz")).status == 200)
            #expect(new.counters.total(.connectionsAdopted) == 6)
        }
    }

    @Test("TLS connections are carried: each gets one more answer, its last, and an end in order")
    func carried() throws {
        try Transport.$current.withValue(.tls) {
            let old = try EdgeFixture(workers: 2)
            try old.start()
            let idle = try old.client()
            #expect(try idle.ask(get("/healthz")).status == 200)
            let silent = try old.client()
            let head = try old.client()
            try head.send("GET /shoes HTTP/1.1\r\nHo")
            let chunked = try old.client()
            let form =
                "merchant_id=\(Known.merchant)&order_id=h-2&amount=5&token=\(Known.postbackToken)"
            try chunked.send(
                "POST /postback HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                    + "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
                    + String(form.utf8.count, radix: 16) + "\r\n" + form.prefix(9))
            // Its handshake has not begun: it is passed itself.
            let before = try Socket.connect(
                .loopback(port: old.server.ports[1]), timeoutSeconds: 20)
            for _ in 0..<2000 where old.counters.total(.tlsConnectionsOpened) < 5 {
                Thread.sleep(microseconds: 1000)
            }
            Thread.sleep(microseconds: 50_000)
            let inheritance = try handOver(old, path: "\(old.path)/door")
            #expect(inheritance.connections.count == 5)
            let new = try EdgeFixture(
                workers: 1, port: old.server.ports[0],
                inherited: InheritedSockets(.predecessor, inheritance.sockets),
                adopted: inheritance.connections
            ) { $0.listenTLS = [.loopback(port: old.server.ports[1])] }
            try new.run { (new) throws in
                func expectLast(_ client: RawClient, _ answer: RawResponse, _ status: Int) throws {
                    #expect(answer.status == status, "\(answer)")
                    #expect(answer.header("connection") == "close", "\(answer.head)")
                    #expect(try client.isEndOfFile())
                }
                try expectLast(idle, try idle.ask(get("/shoes")), 302)
                try expectLast(silent, try silent.ask(get("/healthz")), 200)
                try head.send("st: go.example\r\n\r\n")
                try expectLast(head, try head.response(), 302)
                try chunked.send(String(form.dropFirst(9)) + "\r\n0\r\n\r\n")
                try expectLast(chunked, try chunked.response(), 200)
                old.server.waitForRelays()
                let late = try TLSClient(
                    try before.duplicate(), context: Certificates.client(), name: "go.example")
                try late.write(Array(get("/healthz").utf8))
                #expect(try late.read().starts(with: "HTTP/1.1 200".utf8))
                #expect(new.counters.total(.clicksRecorded) == 2)
                #expect(old.counters.openTLSConnections == 0)
            }
        }
    }

    @Test("Whom the successor never answers is ended in order when the successor has gone")
    func carriedToNobody() throws {
        try Transport.$current.withValue(.tls) {
            let old = try EdgeFixture(workers: 1)
            try old.start()
            let idle = try old.client()
            #expect(try idle.ask(get("/healthz")).status == 200)
            let inheritance = try handOver(old, path: "\(old.path)/door")
            for passed in inheritance.connections { Socket.close(passed.descriptor) }
            for passed in inheritance.sockets { Socket.close(passed.descriptor) }
            #expect(try idle.isEndOfFile())
            old.server.waitForRelays(atOnce: true)
        }
    }

    @Test(
        "A successor is told that all is free; its word and its end are told apart, and its silence"
    )
    func fates() throws {
        for (fate, serves) in [(SuccessorFate.serves, true), (.ended, false), (.silent, nil)] {
            let old = try EdgeFixture(publishing: false)
            try old.start()
            let path = "\(old.path)/door"
            let door = try SuccessorDoor(path: path)
            let asked = EventBox(try EventDescriptor())
            try door.open(old.server) { _ in asked.event.signal() }
            #expect(!door.hasSuccessor)
            let result = ResultBox()
            let taken = EventBox(try EventDescriptor())
            try Thread.start(name: "successor") {
                result.value.withLock { $0 = try? Predecessor.takeOver(path: path) }
                if serves == true { result.value.withLock { $0?.waiting?.noteServing() } }
                if serves == false { result.value.withLock { $0?.waiting = nil } }
                taken.event.signal()
            }.detach()
            #expect(asked.wait() && door.hasSuccessor)
            old.stop()
            old.store.release()
            #expect(door.release(waitingMilliseconds: serves == nil ? 100 : 10_000) == fate)
            #expect(taken.wait())
            door.close()
            result.value.withLock { left in
                for passed in left?.sockets ?? [] { Socket.close(passed.descriptor) }
                left = nil
            }
        }
    }

    /// Drains a server towards a successor, and gives what that one received.
    private func handOver(_ old: EdgeFixture, path: String) throws -> Inheritance {
        let asked = try EventDescriptor()
        let box = EventBox(asked)
        var door: SuccessorDoor? = try SuccessorDoor(path: path)
        let status = try FileSystem.status(path)
        #expect(status.permissions == 0o600)
        try door?.open(old.server) { _ in box.event.signal() }
        let ended = EventBox(try EventDescriptor())
        let shared = ResultBox()
        try Thread.start(name: "successor") {
            shared.value.withLock { $0 = try? Predecessor.takeOver(path: path) }
            ended.event.signal()
        }.detach()
        #expect(box.wait())
        old.stop()
        door?.close()
        door = nil
        #expect(ended.wait())
        return try #require(shared.value.withLock { $0 })
    }

    @Test("A visitor of the door who says anything else, or nothing to take over, changes nothing")
    func wrongVisitors() throws {
        let edge = try EdgeFixture(publishing: false)
        try edge.run { (edge) throws in
            let path = "\(edge.path)/door"
            #expect(try Predecessor.takeOver(path: path) == nil)
            let door = try SuccessorDoor(path: path)
            let called = EventBox(try EventDescriptor())
            try door.open(edge.server) { _ in called.event.signal() }
            for word in ["clickd hand-over 1", "", "clickd hand-over 2"] {
                let visitor = try PacketSocket.connect(path, timeoutSeconds: 5)
                try Array(word.utf8).withUnsafeBytes {
                    try PacketSocket.send(visitor.rawValue, $0)
                }
                if word.hasSuffix("2") {
                    // Asks for the sockets and leaves without the word that begins the drain.
                    var heard: [UInt8] = []
                    if let first = try PacketSocket.receive(visitor.rawValue, limit: 64) {
                        heard = first.bytes
                    }
                    #expect(heard == Array("socket http".utf8))
                }
            }
            #expect(try edge.client().ask(get("/healthz")).status == 200)
            #expect(!called.isSignalled && !edge.server.isDraining)
            door.close()
        }
    }

    @Test("A packet of another version or length is no connection")
    func malformedConnections() {
        var bytes = [UInt8](repeating: 0, count: 64)
        let whole = bytes.withUnsafeMutableBytes { room in
            var passed = PassedConnection()
            passed.isProxy = true
            passed.deadline = -5
            return passed.write(to: room)
        }
        #expect(whole == 40)
        func reads(_ bytes: [UInt8]) -> Bool {
            bytes.withUnsafeBytes { PassedConnection($0)?.deadline == -5 }
        }
        let good = Array(bytes[..<whole])
        #expect(reads(good))
        #expect(!reads(Array(good.dropLast())) && !reads(good + [0]))
        for (position, value) in [(0, 1), (1, 2), (2, 9), (24, 1), (27, 255), (31, 255)] {
            var bad = good
            bad[position] = UInt8(value)
            #expect(!reads(bad), "byte \(position)")
        }
    }

    @Test("An idle connection that a drain closes sees an end, and what it sends then no reset")
    func drainWithoutReset() throws {
        let edge = try EdgeFixture(publishing: false)
        try edge.start()
        let idle = try edge.client()
        #expect(try idle.ask(get("/healthz")).status == 200)
        let late = try edge.client()
        #expect(try late.ask(get("/healthz")).status == 200)
        let ended = EventBox(try EventDescriptor())
        let server = edge.server
        try Thread.start(name: "drain") {
            server.drain()
            ended.event.signal()
        }.detach()
        while !server.isDraining { Thread.sleep(microseconds: 200) }
        // Within the grace: answered, and told that it is the last.
        let last = try late.ask(get("/healthz"))
        #expect(last.status == 200 && last.header("connection") == "close")
        #expect(try late.isClosed())
        #expect(try idle.isEndOfFile())
        try idle.send(get("/healthz"))
        #expect(try idle.isEndOfFile())
        #expect(ended.wait())
        edge.stop()
    }

    @Test("While one loop stands still, every new connection is served by the others")
    func silentLoop() throws {
        let edge = try EdgeFixture(workers: 2, publishing: false)
        try edge.run { (edge) throws in
            for held in 0..<2 {
                edge.server.shared.hold(held)
                for _ in 0..<5000 where edge.server.silentLoops.isEmpty {
                    Thread.sleep(microseconds: 1000)
                }
                #expect(edge.server.silentLoops.map(\.loop) == [held])
                for _ in 0..<64 {
                    #expect(try edge.client().ask(get("/healthz")).status == 200)
                }
                #expect(edge.server.silentLoops.map(\.loop) == [held])
                edge.server.shared.hold(-1)
                for _ in 0..<5000 where !edge.server.silentLoops.isEmpty {
                    Thread.sleep(microseconds: 1000)
                }
                #expect(edge.server.silentLoops.isEmpty)
            }
        }
    }
}

/// An event that several threads hold.
private final class EventBox: Sendable {
    let event: EventDescriptor
    init(_ event: consuming EventDescriptor) { self.event = event }
    /// Whether it came within ten seconds.
    func wait() -> Bool { event.wait(milliseconds: 10_000) }
    var isSignalled: Bool { event.clear() }
}

/// What another thread was handed.
private final class ResultBox: Sendable {
    let value = Mutex<Inheritance?>(nil)
}
