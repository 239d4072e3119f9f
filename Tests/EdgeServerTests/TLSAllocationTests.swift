// What a steady request costs the allocator over TLS: what OpenSSL takes for opening and sealing a record,
// its two buffers among it, which an idle connection must not keep.
import CMallocCounter
import LinuxIO
import Synchronization
import Testing

@testable import EdgeServer

@Suite(.serialized) struct TLSAllocationTests {
    /// Sendable: written before `isReady` is set, read after.
    private final class Handoff: @unchecked Sendable {
        var client: RawClient?
        let isReady = Atomic<Bool>(false)
    }

    /// Allocations of OpenSSL 3.0 for a record in and a record out.
    private let openSSLAllocations: UInt64 = 6

    @Test("A keep-alive request over TLS allocates what OpenSSL needs for its two records")
    func steadyRequest() throws {
        try Transport.$current.withValue(.tls) {
            let edge = try EdgeFixture()
            var loop = try edge.server.makeLoop(0)
            try loop.begin()
            let port = edge.server.ports[1]
            let context = try Certificates.client()
            let handoff = Handoff()
            _ = try Thread.start(name: "handshake") {
                handoff.client = try? RawClient(port: port, context: context, name: "go.example")
                handoff.isReady.store(true, ordering: .releasing)
            }
            var turns = 0
            while !handoff.isReady.load(ordering: .acquiring), turns < 2000 {
                loop.turn(milliseconds: 10)
                turns += 1
            }
            let client = try #require(handoff.client)
            var calls: UInt64 = 0
            for round in 0..<300 {
                try client.send(get("/shoes", headers: "User-Agent: Mozilla/5.0\r\n"))
                let before = malloc_calls()
                loop.turn(milliseconds: 1000)
                if round >= 100 { calls += malloc_calls() - before }
                #expect(try client.response().status == 302)
            }
            #expect(calls <= openSSLAllocations * 200, "\(calls)")
            loop.closeAll()
        }
    }
}
