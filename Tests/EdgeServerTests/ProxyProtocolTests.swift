// The PROXY protocol over real sockets: who may send it, what it changes, what it ends.
import Configuration
import EdgeCore
import LinuxIO
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

private let loopback = TrustedProxies(["127.0.0.0/8"].compactMap { AddressRange($0) })

private func binary(_ address: [UInt8]) -> [UInt8] {
    Array("\r\n\r\n\0\r\nQUIT\n".utf8) + [0x21, 0x11, 0, 12] + address + [10, 0, 0, 1, 1, 2, 3, 4]
}

@Suite(.serialized) struct ProxyProtocolTests {
    /// An edge behind a proxy of that version, and what loop 0 knows of its first connection after
    /// `bytes` came and were answered.
    private func peer(_ version: ProxyVersion, _ bytes: [UInt8]) throws -> (PeerAddress, Bool) {
        let edge = try EdgeFixture {
            $0.proxies = loopback
            $0.proxyHeader = version
        }
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        try client.send(bytes + Array(get("/healthz").utf8))
        while edge.counters.total(.requestsOther) == 0 { loop.turn(milliseconds: 1000) }
        #expect(try client.response().body == "ok\n")
        let connection = loop.slab[0].pointee
        loop.closeAll()
        return (connection.peer, connection.isProxy)
    }

    @Test("The address that a header gives is the client's; without one the peer's stays")
    func addresses() throws {
        let visitor = PeerAddress(high: 0xCB00_7109 << 32, low: 0, isIPv6: false)
        let proxy = PeerAddress(high: 0x7F00_0001 << 32, low: 0, isIPv6: false)
        let text = Array("PROXY TCP4 203.0.113.9 10.0.0.1 5 80\r\n".utf8)
        #expect(try peer(.v1, text) == (visitor, false))
        #expect(try peer(.v2, binary([203, 0, 113, 9])) == (visitor, false))
        #expect(try peer(.v1, Array("PROXY UNKNOWN\r\n".utf8)) == (proxy, true))
        let local = Array("\r\n\r\n\0\r\nQUIT\n".utf8) + [0x20, 0, 0, 0]
        #expect(try peer(.v2, local) == (proxy, true))
    }

    @Test("A header may come byte by byte, and requests behind it in the same segment are served")
    func split() throws {
        let cases: [(ProxyVersion, [UInt8])] = [
            (.v1, Array("PROXY TCP6 2001:db8::1 ::1 5 80\r\n".utf8)),
            (.v2, binary([203, 0, 113, 9])),
        ]
        for (version, header) in cases {
            let edge = try EdgeFixture {
                $0.proxies = loopback
                $0.proxyHeader = version
            }
            try edge.run { edge in
                let client = try edge.client()
                for byte in header.dropLast() { try client.send([byte]) }
                try client.send(
                    [header[header.count - 1]] + Array((get("/shoes") + get("/healthz")).utf8))
                #expect(try client.response().status == 302)
                #expect(try client.response().status == 200)
                // Once a connection, not once a request.
                #expect(try client.ask(get("/shoes")).status == 302)
            }
        }
    }

    @Test("Whatever is not the configured version ends the connection without a word")
    func refused() throws {
        let plain = Array(get("/healthz").utf8)
        let cases: [(ProxyVersion, [UInt8])] = [
            (.v1, plain), (.v2, plain), (.v1, binary([203, 0, 113, 9])),
            (.v2, Array("PROXY TCP4 1.1.1.1 2.2.2.2 5 80\r\n".utf8)),
            (.v1, Array("PROXY TCP4 1.1.1.1 2.2.2.2 5 80\n".utf8) + plain),
        ]
        for (version, bytes) in cases {
            let edge = try EdgeFixture {
                $0.proxies = loopback
                $0.proxyHeader = version
            }
            try edge.run { edge in
                let client = try edge.client()
                try client.send(bytes)
                #expect(try client.isClosed())
                #expect(edge.counters.total(.requestsOther) == 0)
                #expect(edge.counters.total(.connectionsRefused) == 1)
            }
        }
    }

    @Test(
        "Only trusted proxies may connect, and where none is configured a header is a bad request")
    func untrusted() throws {
        let text = "PROXY TCP4 203.0.113.9 10.0.0.1 5 80\r\n" + get("/healthz")
        let strict = try EdgeFixture {
            $0.proxies = TrustedProxies(["10.0.0.0/8"].compactMap { AddressRange($0) })
            $0.proxyHeader = .v1
        }
        try strict.run { edge in
            let client = try edge.client()
            do { try client.send(text) } catch {}
            #expect(try client.isClosed())
            #expect(edge.counters.total(.connectionsRefused) == 1)
        }
        try EdgeFixture { $0.proxies = loopback }.run { edge in
            let client = try edge.client()
            #expect(try client.ask(text).status == 400)
        }
    }

    @Test("A header must come within the time of a request's head")
    func late() throws {
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 200_000
        let edge = try EdgeFixture(limits: limits) {
            $0.proxies = loopback
            $0.proxyHeader = .v1
        }
        try edge.run { edge in
            let client = try edge.client()
            try client.send("PROXY TCP4 203.")
            #expect(try client.isClosed())
            #expect(edge.counters.total(.connectionsTimedOut) == 1)
        }
    }

    @Test("The limit of connections per address is the proxied client's, not the proxy's")
    func perAddress() throws {
        var limits = EdgeLimits()
        limits.connectionsPerAddress = 2
        let edge = try EdgeFixture(limits: limits) {
            $0.proxies = loopback
            $0.proxyHeader = .v1
        }
        try edge.run { edge in
            var held: [RawClient] = []
            for host in 1...4 {
                for _ in 1...2 {
                    let client = try edge.client()
                    let line = "PROXY TCP4 203.0.113.\(host) 10.0.0.1 5 80\r\n"
                    #expect(try client.ask(line + get("/healthz")).status == 200)
                    held.append(client)
                }
            }
            let third = try edge.client()
            try third.send("PROXY TCP4 203.0.113.1 10.0.0.1 5 80\r\n" + get("/healthz"))
            // The client's oldest connection gives way; other clients' do not.
            #expect(try third.response().status == 200)
            #expect(edge.counters.total(.connectionsGivenWay) == 1)
            #expect(throws: (any Error).self) { _ = try held[0].ask(get("/healthz")) }
            for other in held.dropFirst() {
                #expect(try other.ask(get("/healthz")).status == 200)
            }
            held.removeAll()
        }
    }

    @Test("A header stands before the handshake, in the clear, and none is a handshake refused")
    func beforeTLS() throws {
        try Transport.$current.withValue(.tls) {
            let edge = try EdgeFixture {
                $0.proxies = loopback
                $0.proxyHeader = .v2
            }
            try edge.run { edge in
                let port = edge.server.ports[1]
                let client = try RawClient(
                    port: port, context: Certificates.client(), preamble: binary([203, 0, 113, 9]))
                #expect(try client.ask(get("/shoes")).status == 302)
                #expect(throws: (any Error).self) {
                    _ = try RawClient(port: port, context: Certificates.client())
                        .ask(get("/shoes"))
                }
                #expect(edge.counters.total(.connectionsRefused) == 1)
            }
        }
    }
}
