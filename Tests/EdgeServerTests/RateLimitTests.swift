// Token buckets: the arithmetic with a clock of the test's own, then what an edge does with them.
import Configuration
import EdgeCore
import LinuxIO
import RingLog
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

private func four(_ number: UInt64) -> PeerAddress {
    PeerAddress(high: number << 32, low: 0, isIPv6: false)
}

@Suite struct RateTableTests {
    private let start: Int64 = 1_000_000_000

    @Test("A burst passes, one more waits for the next token, and another address is not affected")
    func burst() {
        let table = RateTable(ClientRate(perSecond: 10, burst: 5))
        defer { table.deallocate() }
        for _ in 0..<5 { #expect(table.take(four(1), at: start) == 0) }
        #expect(table.take(four(1), at: start) == 100_000)
        #expect(table.take(four(1), at: start + 60_000) == 40_000)
        #expect(table.take(four(2), at: start) == 0)
        // Refused requests cost nothing: the token comes when it was due.
        #expect(table.take(four(1), at: start + 100_000) == 0)
        #expect(table.take(four(1), at: start + 100_000) == 100_000)
    }

    @Test("A bucket fills up to its burst and no further")
    func refill() {
        let table = RateTable(ClientRate(perSecond: 10, burst: 5))
        defer { table.deallocate() }
        for _ in 0..<5 { #expect(table.take(four(1), at: start) == 0) }
        let later = start + 3_600_000_000
        for _ in 0..<5 { #expect(table.take(four(1), at: later) == 0) }
        #expect(table.take(four(1), at: later) == 100_000)
    }

    @Test("A /64 is one address, an IPv4 address and an IPv6 one of the same bytes are two")
    func families() {
        let table = RateTable(ClientRate(perSecond: 1, burst: 1))
        defer { table.deallocate() }
        #expect(table.take(PeerAddress(high: 5 << 32, low: 1, isIPv6: true), at: start) == 0)
        #expect(table.take(PeerAddress(high: 5 << 32, low: 2, isIPv6: true), at: start) > 0)
        #expect(table.take(PeerAddress(high: 6 << 32, low: 1, isIPv6: true), at: start) == 0)
        #expect(table.take(four(5), at: start) == 0)
    }

    @Test("Who comes from a million addresses does not take away another's burst")
    func manyAddresses() {
        let table = RateTable(ClientRates().unknownSlugs)
        defer { table.deallocate() }
        // A million requests within a second, each from an address of its own: 30 in every cell.
        for number in 0..<1_000_000 {
            let moment = start + Int64(number)
            #expect(table.take(four(0x0A00_0000 + UInt64(number)), at: moment) == 0)
        }
        var waited = 0
        for _ in 0..<100 where table.take(four(1), at: start + 1_000_000) > 0 { waited += 1 }
        #expect(waited == 0)
    }

    @Test("Retry-After is in whole seconds, at least one")
    func retryAfter() {
        #expect(RateTable.retryAfter(1) == 1)
        #expect(RateTable.retryAfter(1_000_000) == 1)
        #expect(RateTable.retryAfter(1_000_001) == 2)
        #expect(RateTable.retryAfter(.max / 2) == .max)
    }

    @Test("The rates of an edge are generous: a merchant's server and a shared address fit in")
    func generous() {
        let rates = ClientRates()
        #expect(rates.conversions.intervalMicroseconds <= 2_000 && rates.conversions.burst >= 5000)
        #expect(rates.clicks.intervalMicroseconds <= 10_000 && rates.clicks.burst >= 1000)
        #expect(
            rates.unknownSlugs.intervalMicroseconds <= 20_000 && rates.unknownSlugs.burst >= 500)
    }
}

@Suite(.serialized) struct RateLimitTests {
    /// Three at once, and no other within an hour.
    private func fixture(trusting: Bool = false) throws -> EdgeFixture {
        try EdgeFixture {
            let three = ClientRate(intervalMicroseconds: 3_600_000_000, burst: 3)
            $0.rates.conversions = three
            $0.rates.unknownSlugs = three
            $0.rates.clicks = three
            if trusting {
                $0.proxies = TrustedProxies(["127.0.0.0/8"].compactMap { AddressRange($0) })
            }
        }
    }

    @Test(
        "Unknown slugs beyond the burst are 429 with Retry-After; a known link is served all the same"
    )
    func unknownSlugs() throws {
        try fixture().run { edge in
            let client = try edge.client()
            for _ in 0..<3 { #expect(try client.ask(get("/nothing")).status == 404) }
            for _ in 0..<2 {
                let limited = try client.ask(get("/nothing"))
                #expect(limited.status == 429)
                #expect(limited.header("retry-after").flatMap { Int($0) } ?? 0 > 3000)
                // The connection goes on.
                #expect(try client.ask(get("/shoes")).status == 302)
            }
            #expect(try client.ask(get("/healthz")).status == 200)
            #expect(edge.counters.total(.requestsLimited) == 2)
        }
    }

    @Test("Clicks beyond the burst are redirected as ever, and marked velocity")
    func clicks() throws {
        let edge = try fixture()
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        try client.send((0..<5).map { _ in get("/shoes") }.joined())
        while edge.counters.total(.clicksRecorded) < 5 { loop.turn(milliseconds: 1000) }
        for _ in 0..<5 { #expect(try client.response().status == 302) }
        #expect(edge.counters.total(.clicksRapid) == 2)
        #expect(edge.counters.total(.requestsLimited) == 0)
        loop.closeAll()
    }

    @Test("Conversions beyond the burst are 429; the pixel is an image all the same, unrecorded")
    func conversions() throws {
        try fixture().run { edge in
            let client = try edge.client()
            for _ in 0..<3 { #expect(try client.ask(get("/postback?x=y")).status == 400) }
            let limited = try client.ask(get("/postback?x=y"))
            #expect(limited.status == 429 && limited.header("retry-after") != nil)
            let rejected = edge.counters.total(.conversionsRejected)
            let pixel = try client.ask(
                get("/pixel.gif?merchant_id=\(Known.merchant)&order_id=1&amount=1"))
            #expect(pixel.status == 200 && pixel.header("content-type") == "image/gif")
            #expect(edge.counters.total(.conversionsRejected) == rejected)
            #expect(edge.counters.total(.conversionsRecorded) == 0)
            // A body is not asked for.
            let posted = try client.ask(
                "POST /v1/conversions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                    + "Expect: 100-continue\r\n\r\n")
            #expect(posted.status == 429 && posted.header("connection") == "close")
        }
    }

    @Test("Behind a trusted proxy each client has a bucket of its own, and the proxy has none")
    func proxied() throws {
        try fixture(trusting: true).run { edge in
            let client = try edge.client()
            for host in 1...3 {
                let forwarded = "X-Forwarded-For: 203.0.113.\(host)\r\n"
                for _ in 0..<3 {
                    #expect(try client.ask(get("/nothing", headers: forwarded)).status == 404)
                }
                #expect(try client.ask(get("/nothing", headers: forwarded)).status == 429)
            }
            for _ in 0..<10 { #expect(try client.ask(get("/nothing")).status == 404) }
            // A client that contradicts its proxy hides nothing by it.
            let both = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=192.0.2.1\r\n"
            for _ in 0..<3 { #expect(try client.ask(get("/nothing", headers: both)).status == 404) }
            #expect(try client.ask(get("/nothing", headers: both)).status == 429)
        }
    }
}
