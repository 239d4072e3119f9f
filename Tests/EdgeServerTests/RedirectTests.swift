// Clicks over real sockets: what is answered, and what is in the ring when it is.
import EdgeCore
import LinuxIO
import RingLog
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

@Suite(.serialized) struct RedirectTests {
    @Test("A click is redirected with a token of its own, and is in the ring by then")
    func redirects() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            var tokens: Set<String> = []
            for count in 1...10 {
                let response = try client.ask(get("/shoes"))
                #expect(response.status == 302)
                let location = try #require(response.header("location"))
                #expect(location.hasPrefix("https://shop.example/shoes?click_id="))
                #expect(response.header("cache-control") == "private, no-store")
                #expect(response.header("x-robots-tag") == "noindex")
                #expect(response.header("content-length") == "0")
                #expect(response.header("date") != nil)
                let token = String(location.drop { $0 != "=" }.dropFirst())
                tokens.insert(token)
                let verified = Array(token.utf8).withUnsafeBytes {
                    ClickToken.verify($0, merchant: Known.merchant, keys: [Known.key])
                }
                #expect(verified?.ring == edge.store.rings[0].ringID)
                #expect(edge.store.rings[0].headSequence == UInt64(count))
            }
            #expect(tokens.count == 10)
            #expect(edge.counters.total(.clicksRecorded) == 10)
            #expect(edge.counters.total(.requestsRedirected) == 10)
        }
    }

    @Test("HEAD gets the same answer without a click ID and is not recorded")
    func head() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            try client.send(get("/shoes", method: "HEAD"))
            let response = try client.response(withoutBody: true)
            #expect(response.status == 302)
            #expect(response.header("location")?.contains("click_id") == false)
            #expect(edge.store.rings[0].headSequence == 0)
            #expect(edge.counters.total(.requestsHead) == 1)
        }
    }

    @Test("An unknown slug is 404, and nothing is recorded")
    func unknown() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            #expect(try client.ask(get("/nothing")).status == 404)
            #expect(try client.ask(get("/")).status == 404)
            #expect(edge.store.rings[0].headSequence == 0)
            #expect(edge.counters.total(.requestsNotFound) == 2)
        }
    }

    @Test("With nothing loaded a click is 503, never 404; afterwards it is served")
    func notLoaded() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            let early = try client.ask(get("/shoes"))
            #expect(early.status == 503)
            #expect(early.header("retry-after") != nil)
            edge.directory.publish(try EdgeFixture.tables())
            #expect(try client.ask(get("/shoes")).status == 302)
        }
    }

    @Test("Before the spool has claimed its node no identity is minted: 503, then 302")
    func unclaimed() throws {
        try EdgeFixture(claiming: false).run { edge in
            let early = try edge.client().ask(get("/shoes"))
            #expect(early.status == 503)
            #expect(early.header("retry-after") != nil)
            #expect(edge.store.rings[0].headSequence == 0)
            try edge.store.markClaimed()
            edge.server.admit()
            // The loop is woken before this connection can be accepted, so it knows.
            #expect(try edge.client().ask(get("/shoes")).status == 302)
        }
    }

    @Test("While the spooler stands no identity reaches the lease, and every link redirects")
    func standingSpooler() throws {
        let edge = try EdgeFixture()
        // Nobody renews the lease.
        try edge.server.start()
        defer { edge.stop() }
        let ring = edge.store.rings[0]
        let lease = ring.leaseMilliseconds
        let client = try edge.client()
        var last: UInt64 = 0
        var isPast = false
        while !isPast {
            isPast = SystemClock.wallMicroseconds() / 1000 > lease + 300
            for _ in 0..<20 {
                let location = try #require(try client.ask(get("/shoes")).header("location"))
                let token = Array(location.drop { $0 != "=" }.dropFirst().utf8)
                let identity = try #require(
                    token.withUnsafeBytes {
                        ClickToken.verify($0, merchant: Known.merchant, keys: [Known.key])
                    })
                #expect(identity.rawValue > last)
                #expect(identity.clickedAt.milliseconds < lease)
                last = identity.rawValue
            }
            Thread.sleep(microseconds: 100_000)
        }
        #expect(ring.leaseMilliseconds == lease)
        let held = lease - ClickIDMinter.reserveMilliseconds
        #expect(ClickID(rawValue: last)?.clickedAt.milliseconds == held)
        // The promise to the watermark holds too.
        let promised = try #require(ring.oldestStampMilliseconds)
        #expect(promised <= held && promised > held - 2_000)
    }

    @Test("A hundred pipelined clicks are a hundred records and a hundred answers")
    func pipelining() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            try client.send((0..<100).map { _ in get("/shoes") }.joined())
            for _ in 0..<100 { #expect(try client.response().status == 302) }
            #expect(edge.store.rings[0].headSequence == 100)
        }
    }

    @Test("A click may come byte by byte")
    func byteByByte() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for byte in get("/shoes", headers: "User-Agent: Mozilla/5.0\r\n") {
                try client.send(String(byte))
            }
            #expect(try client.response().status == 302)
        }
    }

    @Test("A drain during traffic answers what is in hand and loses no recorded click")
    func drain() throws {
        let edge = try EdgeFixture(workers: 2)
        try edge.start()
        let clients = try (0..<20).map { _ in try edge.client() }
        var answered = 0
        for round in 0..<20 {
            for client in clients {
                #expect(try client.ask(get("/shoes")).status == 302)
                answered += 1
            }
            if round == 10 {
                // Requests that are under way when the drain begins.
                for client in clients { try client.send(get("/shoes")) }
                break
            }
        }
        #expect(edge.server.drain())
        for client in clients {
            let response = try client.response()
            #expect(response.status == 302)
            answered += 1
            #expect(try client.isClosed())
        }
        edge.store.stopSpooler()
        let recorded = edge.store.rings.reduce(0) { $0 + $1.headSequence }
        let durable = edge.store.rings.reduce(0) { $0 + $1.durableSequence }
        #expect(recorded == UInt64(answered))
        #expect(durable == recorded)
        #expect(edge.server.connectionCount == 0)
    }
}
