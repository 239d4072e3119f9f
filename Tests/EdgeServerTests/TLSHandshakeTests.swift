// Handshakes with real clients of the same OpenSSL: versions, certificates by name, sessions, refusals.
import LinuxIO
import Synchronization
import Telemetry
import Testing

@testable import EdgeServer
@testable import TLS

/// Runs a body against an edge that serves TLS.
func withTLS(
    limits: EdgeLimits = EdgeLimits(), workers: Int = 1, _ body: (EdgeFixture) throws -> Void
) throws {
    try Transport.$current.withValue(.tls) {
        try EdgeFixture(limits: limits, workers: workers).run(body)
    }
}

extension EdgeFixture {
    /// A TLS connection.
    func secured(
        _ context: TLSClientContext, name: String? = nil, session: TLSClientSession? = nil
    ) throws -> RawClient {
        try RawClient(port: server.ports[1], context: context, name: name, session: session)
    }

    /// Whether a session is resumed.
    func resumes(_ session: TLSClientSession, _ context: TLSClientContext) throws -> Bool {
        let client = try secured(context, name: "go.example", session: session)
        return try client.secured().isResumed
    }

    /// A session that can be resumed.
    func session(_ context: TLSClientContext, name: String = "go.example") throws
        -> TLSClientSession
    {
        let client = try secured(context, name: name)
        #expect(try client.ask(get("/healthz")).status == 200)
        guard let session = try client.secured().session() else {
            throw FixtureError(description: "no session")
        }
        return session
    }
}

@Suite(.serialized) struct TLSHandshakeTests {
    @Test("TLS 1.2 and 1.3 are spoken, 1.1 is refused")
    func versions() throws {
        try withTLS { edge in
            for version in [TLSClientOptions.Version.tls12, .tls13] {
                let context = try Certificates.client {
                    $0.versions = version.rawValue...version.rawValue
                }
                let client = try edge.secured(context, name: "go.example")
                #expect(try client.secured().version == version.rawValue)
                #expect(try client.ask(get("/shoes")).status == 302)
            }
            let old = try Certificates.client {
                $0.versions = TLSClientOptions.Version.tls11.rawValue...0x0302
                $0.ciphers = "ALL:@SECLEVEL=0"
            }
            #expect(throws: TLSClientError.self) { _ = try edge.secured(old) }
            #expect(edge.counters.total(.tlsHandshakesFull) == 2)
            #expect(edge.counters.total(.tlsHandshakesFailed) == 1)
        }
    }

    @Test("Of two twins the EC one is served to who can, the RSA one to others")
    func twins() throws {
        try withTLS { edge in
            for version in [TLSClientOptions.Version.tls12, .tls13] {
                let any = try Certificates.client {
                    $0.versions = version.rawValue...version.rawValue
                }
                #expect(try edge.secured(any, name: "www.go.example").secured().hasECDSA)
                let rsa = try Certificates.client {
                    $0.versions = version.rawValue...version.rawValue
                    $0.ciphers = "ECDHE-RSA-AES128-GCM-SHA256"
                    $0.signatureAlgorithms = "RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA256"
                    if version == .tls13 {
                        // The chain's own signatures are ECDSA, so TLS 1.3 leaves the choice.
                        $0.signatureAlgorithms = "RSA-PSS+SHA256:RSA+SHA256"
                        $0.authority = nil
                    }
                }
                #expect(try !edge.secured(rsa, name: "go.example").secured().hasECDSA)
            }
        }
    }

    @Test("The name chooses the certificate: exact before wildcard, else the first")
    func names() throws {
        try withTLS { edge in
            edge.server.replaceTLS(
                try TLSContext(Certificates.several(), tickets: edge.tickets, loops: 1))
            let context = try Certificates.client()
            let trusting = try TLSClientContext()
            func name(_ asked: String?) throws -> String {
                // One request makes sure that the loop has taken the certificates over.
                let client = try edge.secured(trusting, name: asked)
                #expect(try client.ask(get("/healthz")).status == 200)
                return try client.secured().peerName
            }
            _ = try name(nil)
            #expect(try name(nil) == "go.example")
            #expect(try name("unknown.example") == "go.example")
            #expect(try name("A.Shop.Example") == "*.shop.example")
            #expect(try name("vip.shop.example") == "vip.shop.example")
            #expect(try name("a.b.shop.example") == "go.example")
            #expect(try name("shop.example") == "go.example")
            #expect(try edge.secured(context, name: "a.shop.example").ask(get("/x")).status == 404)
            #expect(throws: TLSClientError.self) {
                _ = try edge.secured(context, name: "unknown.example")
            }
        }
    }

    @Test("A session is resumed on whichever loop the client comes back to, and after a reload")
    func resumption() throws {
        try withTLS(workers: 2) { edge in
            for version in [TLSClientOptions.Version.tls12, .tls13] {
                let context = try Certificates.client {
                    $0.versions = version.rawValue...version.rawValue
                }
                var session = try edge.session(context)
                #expect(session.lifetimeHint > 0 && session.lifetimeHint <= 43_200)
                var before = [0, 0]
                for loop in 0..<2 {
                    before[loop] = edge.counters.block(loop).value(.tlsHandshakesResumed)
                }
                var isEverywhere = false
                for round in 0..<200 where !isEverywhere {
                    if round == 3 {
                        edge.server.replaceTLS(
                            try TLSContext(Certificates.twins(), tickets: edge.tickets, loops: 2))
                    }
                    let client = try edge.secured(context, name: "go.example", session: session)
                    #expect(try client.secured().isResumed)
                    #expect(try client.ask(get("/shoes")).status == 302)
                    session = try #require(try client.secured().session())
                    isEverywhere = (0..<2).allSatisfy {
                        edge.counters.block($0).value(.tlsHandshakesResumed) > before[$0]
                    }
                }
                #expect(isEverywhere)
            }
        }
    }

    @Test("A ticket is taken while its key is the current or the previous one, not after")
    func rotation() throws {
        final class Clock: Sendable { let now = Atomic<Int64>(0) }
        let clock = Clock()
        let tickets = TLSTicketKeys { clock.now.load(ordering: .relaxed) }
        try withTLS { edge in
            edge.server.replaceTLS(try TLSContext(Certificates.twins(), tickets: tickets, loops: 1))
            let context = try Certificates.client()
            _ = try edge.session(context)
            let first = try edge.session(context)
            #expect(try edge.resumes(first, context))
            clock.now.store(TLSTicketKeys.Limits.periodMicroseconds, ordering: .relaxed)
            #expect(try edge.resumes(first, context))
            clock.now.store(2 * TLSTicketKeys.Limits.periodMicroseconds - 1, ordering: .relaxed)
            #expect(try edge.resumes(first, context))
            clock.now.store(2 * TLSTicketKeys.Limits.periodMicroseconds, ordering: .relaxed)
            #expect(try !edge.resumes(first, context))
        }
    }

    @Test("Other certificates are for new connections; those that are open go on")
    func reload() throws {
        try withTLS { edge in
            let context = try TLSClientContext()
            let open = try edge.secured(context, name: "go.example")
            #expect(try open.ask(get("/healthz")).status == 200)
            edge.server.replaceTLS(
                try TLSContext(Certificates.renewed(), tickets: edge.tickets, loops: 1))
            #expect(try open.ask(get("/healthz")).status == 200)
            #expect(try edge.secured(context).secured().peerName == "renewed.example")
            #expect(try open.ask(get("/shoes")).status == 302)
        }
    }

    @Test("ALPN chooses http/1.1, and refuses a client that offers only others")
    func protocols() throws {
        try withTLS { edge in
            let both = try Certificates.client { $0.protocols = ["h2", "http/1.1"] }
            #expect(try edge.secured(both).secured().chosenProtocol == "http/1.1")
            let other = try Certificates.client { $0.protocols = ["h2", "spdy/3"] }
            let error = #expect(throws: TLSClientError.self) { _ = try edge.secured(other) }
            #expect(error?.description.contains("no application protocol") == true)
        }
    }

    @Test("Renegotiation is refused; an update of keys is not")
    func renewal() throws {
        try withTLS { edge in
            let old = try edge.secured(try Certificates.client { $0.versions = 0x0303...0x0303 })
            #expect(try old.ask(get("/healthz")).status == 200)
            #expect(throws: TLSClientError.self) { try old.secured().renew() }
            let new = try edge.secured(try Certificates.client { $0.versions = 0x0304...0x0304 })
            for _ in 0..<3 {
                try new.secured().renew()
                #expect(try new.ask(get("/healthz")).status == 200)
            }
        }
    }

    @Test("Full handshakes wait when a turn's budget is spent; those that resume go first")
    func budget() throws {
        try Transport.$current.withValue(.tls) {
            let edge = try EdgeFixture()
            let context = try Certificates.client()
            let seen = HandshakeTally()
            let port = edge.server.ports[1]
            @Sendable func connect(resuming: Bool) {
                do {
                    let client = try RawClient(
                        port: port, context: context, name: "go.example",
                        session: resuming ? seen.session.withLock { $0 } : nil)
                    guard try client.ask(get("/healthz")).status == 200,
                        try client.secured().isResumed == resuming
                    else { throw FixtureError(description: "resuming \(resuming)") }
                    let session = try client.secured().session()
                    seen.session.withLock { $0 = session }
                } catch {
                    seen.failure.withLock { $0 = "\(error)" }
                }
                seen.done.add(1, ordering: .releasing)
            }
            try withThreads({ connect(resuming: $0) }, edge, seen)
            #expect(seen.failure.withLock { $0 } == nil)
        }
    }

    private func withThreads(
        _ connect: @escaping @Sendable (Bool) -> Void, _ edge: EdgeFixture,
        _ seen: HandshakeTally
    ) throws {
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        _ = try Thread.start(name: "first") { connect(false) }
        loop.turn(until: 1, seen)
        loop.handshakesPerTurn.full = 0
        _ = try Thread.start(name: "full") { connect(false) }
        var turns = 0
        while loop.deferredHandshakes.isEmpty, turns < 2000 {
            loop.turn(milliseconds: 10)
            turns += 1
        }
        #expect(edge.counters.total(.tlsHandshakesDeferred) == 1)
        _ = try Thread.start(name: "resumed") { connect(true) }
        loop.turn(until: 2, seen)
        #expect(edge.counters.total(.tlsHandshakesResumed) == 1)
        #expect(edge.counters.total(.tlsHandshakesFull) == 1)
        loop.handshakesPerTurn.full = 8
        loop.turn(until: 3, seen)
        #expect(edge.counters.total(.tlsHandshakesFull) == 2)
        loop.closeAll()
    }
}

/// What the threads of the budget's test have seen.
private final class HandshakeTally: Sendable {
    let done = Atomic<Int>(0)
    let failure = Mutex<String?>(nil)
    let session = Mutex<TLSClientSession?>(nil)
}

extension EventLoop {
    fileprivate mutating func turn(until count: Int, _ seen: HandshakeTally) {
        // While a handshake waits for its turn, a turn waits for nothing.
        let end = SystemClock.monotonicNanoseconds() + 20_000_000_000
        while seen.done.load(ordering: .acquiring) < count,
            SystemClock.monotonicNanoseconds() < end
        {
            turn(milliseconds: 10)
        }
        #expect(seen.done.load(ordering: .acquiring) == count)
    }
}
