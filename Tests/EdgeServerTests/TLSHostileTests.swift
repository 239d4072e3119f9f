// Clients that do not speak TLS, or not as they should.
import Configuration
import EdgeCore
import LinuxIO
import RingLog
import Synchronization
import Telemetry
import Testing

@testable import EdgeServer
@testable import TLS

@Suite(.serialized) struct TLSHostileTests {
    @Test("A handshake that comes byte by byte ends at its deadline, whatever still comes")
    func slowHandshake() throws {
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 300_000
        try withTLS(limits: limits) { edge in
            let socket = try edge.rawSocket()
            let descriptor = socket.rawValue
            final class Flags: Sendable {
                let isOver = Atomic<Bool>(false)
                let hasEnded = Atomic<Bool>(false)
            }
            let flags = Flags()
            _ = try Thread.start(name: "trickle") {
                // The header of a record of 16,000 bytes, then its bytes, as slow as a client may be.
                for byte in [0x16, 3, 1, 0x3E, 0x80] + [UInt8](repeating: 1, count: 2000) {
                    let sent = withUnsafeBytes(of: byte) { Socket.send(descriptor, $0) }
                    if sent < 0 || flags.isOver.load(ordering: .acquiring) { break }
                    Thread.sleep(microseconds: 10_000)
                }
                flags.hasEnded.store(true, ordering: .releasing)
            }
            #expect(edge.hear(socket).isEmpty)
            flags.isOver.store(true, ordering: .releasing)
            while !flags.hasEnded.load(ordering: .acquiring) { Thread.sleep(microseconds: 1000) }
            #expect(edge.counters.total(.connectionsTimedOut) == 1)
            #expect(edge.counters.total(.tlsHandshakesFailed) == 1)
            #expect(try edge.client().ask(get("/shoes")).status == 302)
        }
    }

    @Test("What OpenSSL holds for handshakes is in the budget: beyond it the oldest gives way")
    func handshakesInBudget() throws {
        var limits = EdgeLimits()
        // A loop may use seven eighths for requests: room for four handshakes.
        limits.bufferedBytes = 4 * Limits.handshakeBytes * 8 / 7 + 8
        try withTLS(limits: limits) { edge in
            let begun: [UInt8] = [0x16, 3, 1, 2, 0, 1]
            func begin() throws -> FileDescriptor {
                let socket = try edge.rawSocket()
                try begun.withUnsafeBytes { try socket.writeAll($0) }
                return socket
            }
            func wait(until condition: () -> Bool) {
                for _ in 0..<5000 where !condition() { Thread.sleep(microseconds: 1000) }
            }
            let first = try begin()
            wait { edge.counters.total(.bytesReceived) == begun.count }
            let (second, third, fourth) = (try Held(begin()), try Held(begin()), try Held(begin()))
            wait { edge.counters.total(.bytesReceived) == 4 * begun.count }
            #expect(edge.counters.total(.connectionsGivenWay) == 0)
            // The fifth takes the place of the first, and so does a visitor that of the second.
            let fifth = try Held(begin())
            #expect(edge.hear(first).isEmpty)
            #expect(edge.counters.total(.connectionsGivenWay) == 1)
            let visitor = try edge.client()
            #expect(try visitor.ask(get("/shoes")).status == 302)
            #expect(edge.counters.total(.connectionsGivenWay) == 2)
            #expect(edge.hear(second.socket).isEmpty)
            // Its handshake is complete and counts no more: another one has room.
            let sixth = try Held(begin())
            wait { edge.counters.total(.tlsConnectionsOpened) == 7 }
            #expect(try visitor.ask(get("/shoes")).status == 302)
            #expect(edge.counters.total(.connectionsGivenWay) == 2)
            #expect(edge.counters.total(.connectionsRefused) == 0)
            withExtendedLifetime([third, fourth, fifth, sixth]) {}
        }
    }

    @Test("A part of a record is in the budget until the rest of it has come")
    func partsInBudget() throws {
        var limits = EdgeLimits()
        limits.bufferedBytes = Limits.handshakeBytes * 8 / 7 + 8
        try withTLS(limits: limits) { edge in
            let client = try edge.client()
            #expect(try client.ask(get("/healthz")).status == 200)
            // The head of a record of 256 bytes of application data, and a bit of it.
            let part: [UInt8] = [0x17, 3, 3, 1, 0, 9, 9]
            try part.withUnsafeBytes {
                _ = Socket.send(try client.secured().descriptor, $0)
            }
            let received = edge.counters.total(.bytesReceived)
            for _ in 0..<5000 where edge.counters.total(.bytesReceived) == received {
                Thread.sleep(microseconds: 1000)
            }
            // No handshake fits beside it, and nothing that is whole gives way to one.
            #expect(throws: (any Error).self) { _ = try edge.client() }
            #expect(edge.counters.total(.connectionsRefused) == 1)
            client.resetAtClose()
        }
    }

    @Test("Whoever connects and says nothing is closed at the same deadline")
    func silence() throws {
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 200_000
        try withTLS(limits: limits) { edge in
            let socket = try edge.rawSocket()
            #expect(edge.hear(socket).isEmpty)
            #expect(edge.counters.total(.connectionsTimedOut) == 1)
            // Nothing was begun, so nothing has failed.
            #expect(edge.counters.total(.tlsHandshakesFailed) == 0)
        }
    }

    @Test("Whoever says nothing does not hold a drain up")
    func silentAtDrain() throws {
        try Transport.$current.withValue(.tls) {
            let edge = try EdgeFixture()
            try edge.start()
            let socket = try edge.rawSocket()
            for _ in 0..<5000 where edge.counters.total(.tlsConnectionsOpened) == 0 {
                Thread.sleep(microseconds: 1000)
            }
            #expect(edge.counters.openTLSConnections == 1)
            // Half of the time after which a drain leaves what is unfinished.
            #expect(edge.server.drain(withinMicroseconds: Limits.drainMicroseconds / 2))
            #expect(edge.hear(socket).isEmpty)
            edge.store.stopSpooler()
        }
    }

    @Test("A PROXY header comes before the handshake, in the clear")
    func proxied() throws {
        try Transport.$current.withValue(.tls) {
            let fixture = try EdgeFixture {
                $0.proxies = TrustedProxies(["127.0.0.0/8"].compactMap { AddressRange($0) })
                $0.proxyHeader = .v1
            }
            try fixture.run { edge in
                let socket = try edge.rawSocket()
                let header = Array("PROXY TCP4 203.0.113.9 10.0.0.1 5 443\r\n".utf8)
                _ = header.withUnsafeBytes { Socket.send(socket.rawValue, $0) }
                let client = try TLSClient(
                    socket, context: Certificates.client(), name: "go.example")
                try client.write(Array(get("/shoes").utf8))
                #expect(try client.read().starts(with: "HTTP/1.1 302".utf8))
                #expect(throws: TLSClientError.self) { _ = try edge.client() }
            }
        }
    }

    @Test("A request in the clear is answered 400 and closed")
    func plainRequest() throws {
        try withTLS { edge in
            let client = try RawClient(port: edge.server.ports[1])
            let response = try client.ask(get("/shoes"))
            #expect(response.status == 400)
            #expect(response.header("connection") == "close")
            client.finishSending()
            #expect(try client.isClosed())
            #expect(edge.counters.openTLSConnections == 0)
        }
    }

    @Test("Garbage is refused, at the beginning, within a record and within a handshake")
    func garbage() throws {
        try withTLS { edge in
            var random: [[UInt8]] = [
                [0], [0xFF, 0xFF], [0x16, 3, 1, 0, 0], [0x16, 3, 1, 0xFF, 0xFF, 0],
                [0x16, 3, 1, 0, 4, 1, 0, 0, 0], [0x16, 3, 1, 0, 4, 2, 0, 0, 0],
                [0x15, 3, 1, 0, 2, 2, 40], [0x17, 3, 3, 0, 1, 0], [0x80, 0x2E, 1, 3, 1],
            ]
            for _ in 0..<50 { random.append([0x16, 3, 1, 0, 100] + Randomness.bytes(100)) }
            for bytes in random {
                let socket = try edge.rawSocket()
                _ = bytes.withUnsafeBytes { Socket.send(socket.rawValue, $0) }
                Socket.shutdownWriting(socket.rawValue)
                // At most an alert.
                #expect(edge.hear(socket).count <= 7, "\(bytes)")
            }
            #expect(edge.counters.total(.tlsHandshakesFull) == 0)
            #expect(try edge.client().ask(get("/shoes")).status == 302)
        }
    }

    @Test("A record that was changed on its way ends the connection, and only that")
    func tampering() throws {
        try withTLS { edge in
            let other = try edge.client()
            let client = try edge.client()
            #expect(try client.ask(get("/healthz")).status == 200)
            let record: [UInt8] = [0x17, 3, 3, 0, 32] + [UInt8](repeating: 7, count: 32)
            let descriptor = try client.secured().descriptor
            _ = record.withUnsafeBytes { Socket.send(descriptor, $0) }
            #expect(throws: (any Error).self) { _ = try client.response() }
            #expect(try other.ask(get("/healthz")).status == 200)
        }
    }

    @Test("The server says close_notify when it closes: after an answer, and when patience ends")
    func closeNotify() throws {
        var limits = EdgeLimits()
        limits.idleTimeoutMicroseconds = 200_000
        try withTLS(limits: limits) { edge in
            for version in [TLSClientOptions.Version.tls12, .tls13] {
                let context = try Certificates.client {
                    $0.versions = version.rawValue...version.rawValue
                }
                for headers in ["Connection: close\r\n", ""] {
                    let client = try edge.secured(context)
                    #expect(try client.ask(get("/healthz", headers: headers)).status == 200)
                    // An end without close_notify would throw.
                    #expect(try client.secured().read().isEmpty)
                }
            }
        }
    }

    @Test("A client that is cut off, or says its last within a request, leaves nothing behind")
    func cutOff() throws {
        try withTLS { edge in
            do {
                let client = try edge.client()
                try client.send("GET /healthz HTTP/1.1\r\nHo")
                Socket.shutdownWriting(try client.secured().descriptor)
                #expect(throws: (any Error).self) { _ = try client.response() }
            }
            let polite = try edge.client()
            try polite.send("GET /healthz HTTP/1.1\r\nHo")
            polite.finishSending()
            #expect(try polite.secured().read().isEmpty)
            #expect(edge.counters.openTLSConnections == 0)
        }
    }
}

extension EdgeFixture {
    /// A connection to the TLS port that speaks bytes.
    func rawSocket() throws -> FileDescriptor {
        guard let address = SocketAddress("127.0.0.1:\(server.ports[1])") else {
            throw FixtureError(description: "no address")
        }
        return try Socket.connect(address, timeoutSeconds: 20)
    }

    /// Everything until the end.
    func hear(_ socket: borrowing FileDescriptor) -> [UInt8] {
        var heard: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = chunk.withUnsafeMutableBytes { Socket.receive(socket.rawValue, $0) }
            guard count > 0 else { return heard }
            heard += chunk[..<count]
        }
    }
}

/// A socket that stays open.
private final class Held {
    let socket: FileDescriptor
    init(_ socket: consuming FileDescriptor) { self.socket = socket }
}
