// The rows of contract 3: what each request for a link is answered, and what is recorded of it.
import EdgeCore
import Testing
import Tracking

@Suite("Redirects")
struct RedirectTests {
    private func reason(_ reply: EdgeReply) throws -> UInt8 {
        try reply.withRecord { $0.invalidReason }
    }

    @Test("An active link redirects with its status, a token that verifies, and its headers")
    func active() throws {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://shop.example/x")])
        let reply = edge.send()
        #expect(reply.answer.outcome == .redirected && !reply.answer.isDropped)
        #expect(reply.text.hasPrefix("HTTP/1.1 302 Found\r\n"))
        #expect(reply.text.hasSuffix("\r\n\r\n"))
        #expect(reply.header("Cache-Control") == "private, no-store")
        #expect(reply.header("X-Robots-Tag") == "noindex")
        #expect(reply.header("Content-Length") == "0")
        #expect(reply.header("Date") == "Sun, 01 Mar 2026 12:00:00 GMT")
        #expect(reply.header("Connection") == nil)
        let location = try #require(reply.location)
        #expect(location.hasPrefix("https://shop.example/x?click_id="))
        let token = Array(location.utf8.suffix(22))
        let id = try #require(
            token.withUnsafeBytes {
                ClickToken.verify($0, merchant: EdgeFixture.merchant, keys: [EdgeFixture.key])
            })
        #expect(id.clickedAt == Timestamp(microseconds: EdgeFixture.now) && id.ring == 5)
        try reply.withRecord { record in
            #expect(record.clickID == id)
            #expect(record.linkID == EdgeFixture.link)
            #expect(record.merchantID == EdgeFixture.merchant)
            #expect(record.influencerID == EdgeFixture.influencer)
            #expect(record.invalidReason == 0)
            #expect(record.visitorID != 0 && record.visitorID >> 63 == 0)
        }
    }

    @Test(
        "The redirect status decides the caching",
        arguments: [
            (301, "private, max-age=90"), (302, "private, no-store"), (307, "private, no-store"),
            (308, "private, max-age=90"),
        ])
    func statuses(_ status: Int, _ caching: String) {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://s.example/") { $0.redirectStatus = UInt16(status) }])
        let reply = edge.send()
        #expect(reply.status == status)
        #expect(reply.header("Cache-Control") == caching)
    }

    @Test("HEAD gets the same answer without a click ID, and nothing is recorded")
    func head() {
        var edge = EdgeFixture()
        edge.load([
            EdgeFixture.link("https://s.example/?a={click_id}&b={slug}"),
            EdgeFixture.link("https://s.example/", slug: "b"),
        ])
        let reply = edge.send(method: "HEAD")
        #expect(reply.answer.outcome == .head && reply.answer.recordBytes == 0)
        #expect(reply.status == 302 && reply.location == "https://s.example/?a=&b=a")
        #expect(edge.send("/b", method: "HEAD").location == "https://s.example/")
        #expect(edge.send("/none", method: "HEAD").text.hasSuffix("\r\n\r\n"))
    }

    @Test(
        "A prefetch is answered like a visit and recorded as one that does not count",
        arguments: ["Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch"])
    func prefetch(_ header: String) throws {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://s.example/")])
        let reply = edge.send(headers: [header])
        #expect(reply.status == 302 && reply.answer.outcome == .prefetch)
        #expect(reply.location?.contains("?click_id=") == true)
        #expect(try reason(reply) == InvalidReason.prefetch.rawValue)
        #expect(try self.reason(edge.send(headers: ["Purpose: x"])) == 0)
    }

    /// A change to a link, and what it is answered without and with each further URL.
    struct Row: CustomTestStringConvertible, Sendable {
        var name: String
        var bare: Int
        var reason: InvalidReason
        var usesExpiredURL: Bool
        var change: @Sendable (inout LinkDefinition) -> Void
        var testDescription: String { name }
    }

    static let rows: [Row] = [
        Row(name: "paused", bare: 404, reason: .paused, usesExpiredURL: false) {
            $0.status = .paused
        },
        Row(name: "not started", bare: 404, reason: .notStarted, usesExpiredURL: false) {
            $0.startsAt = Timestamp(microseconds: EdgeFixture.now + 1)
        },
        Row(name: "expired", bare: 410, reason: .expired, usesExpiredURL: true) {
            $0.expiresAt = Timestamp(microseconds: EdgeFixture.now)
        },
        Row(name: "archived", bare: 410, reason: .archived, usesExpiredURL: true) {
            $0.status = .archived
        },
        Row(name: "paused and expired", bare: 410, reason: .expired, usesExpiredURL: true) {
            $0.status = .paused
            $0.expiresAt = Timestamp(microseconds: EdgeFixture.now - 1)
        },
    ]

    @Test("A link that does not work leads to its further URLs, else nowhere", arguments: rows)
    func further(_ row: Row) throws {
        var edge = EdgeFixture()
        let fallback = Array("https://f.example/?s={slug}".utf8)
        edge.load([
            EdgeFixture.link("https://s.example/", row.change),
            EdgeFixture.link("https://s.example/", slug: "f") {
                row.change(&$0)
                $0.redirectStatus = 301
                $0.fallbackURL = fallback
            },
            EdgeFixture.link("https://s.example/", slug: "e") {
                row.change(&$0)
                $0.fallbackURL = fallback
                $0.expiredURL = Array("https://e.example/".utf8)
            },
        ])
        let bare = edge.send()
        #expect(bare.status == row.bare && bare.answer.recordBytes == 0 && !bare.answer.isDropped)
        #expect(bare.answer.outcome == (row.bare == 404 ? .notFound : .gone))
        #expect(bare.location == nil)
        let second = edge.send("/f")
        #expect(second.status == 302 && second.location == "https://f.example/?s=f")
        #expect(second.header("Cache-Control") == "private, no-store")
        #expect(second.answer.outcome == .fallback)
        #expect(try reason(second) == row.reason.rawValue)
        let third = edge.send("/e")
        let expected = row.usesExpiredURL ? "https://e.example/" : "https://f.example/?s=e"
        #expect(third.location == expected)
        #expect(try reason(third) == row.reason.rawValue)
        #expect(edge.send("/f", method: "HEAD").answer.recordBytes == 0)
    }

    @Test("Dates are from their instant on, until the instant before")
    func dates() {
        var edge = EdgeFixture()
        edge.load([
            EdgeFixture.link("https://s.example/") {
                $0.startsAt = Timestamp(microseconds: EdgeFixture.now)
                $0.expiresAt = Timestamp(microseconds: EdgeFixture.now + 1)
            }
        ])
        #expect(edge.send().status == 302)
        edge.clock.update(wallMicroseconds: EdgeFixture.now - 1)
        #expect(edge.send().status == 404)
        edge.clock.update(wallMicroseconds: EdgeFixture.now + 1)
        #expect(edge.send().status == 410)
    }

    @Test("The host's domain comes first, then the empty one; case, port and dot do not matter")
    func domains() {
        var edge = EdgeFixture()
        edge.load([
            EdgeFixture.link("https://any.example/"),
            EdgeFixture.link("https://own.example/", domain: "Go.Example"),
            EdgeFixture.link("https://any.example/", slug: "b"),
            EdgeFixture.link("https://other.example/", slug: "c", domain: "other.example"),
        ])
        for host in ["go.example", "GO.EXAMPLE", "go.example:8080", "go.example."] {
            #expect(edge.send(host: host).location?.hasPrefix("https://own.example/") == true)
            #expect(edge.send("/b", host: host).location?.hasPrefix("https://any.") == true)
            #expect(edge.send("/c", host: host).status == 404)
        }
        #expect(edge.send(host: "x.example").location?.hasPrefix("https://any.") == true)
        #expect(edge.send(host: "").location?.hasPrefix("https://any.") == true)
    }

    @Test("An unknown slug leads to its domain's default, else to 404; nothing is recorded")
    func unknown() {
        var edge = EdgeFixture()
        edge.load(
            [EdgeFixture.link("https://s.example/")],
            domains: [
                DomainDefinition(
                    name: Array("d.example".utf8), defaultURL: Array("https://home.example".utf8)),
                DomainDefinition(name: Array("n.example".utf8), defaultURL: nil),
            ])
        for target in ["/none", "/", "/A", "/a/", "/a/b", "/%00", "/%zz", "/a%2Fb", "/a+b"] {
            let reply = edge.send(target, host: "d.example")
            #expect(reply.status == 302 && reply.location == "https://home.example")
            #expect(reply.answer.outcome == .domainDefault && reply.answer.recordBytes == 0)
            #expect(edge.send(target, host: "n.example").status == 404)
            #expect(edge.send(target).answer.outcome == .notFound)
        }
        #expect(edge.send("/a", host: "d.example").answer.outcome == .redirected)
    }

    @Test("A slug is compared after decoding, up to 128 bytes, with its case")
    func slugs() {
        var edge = EdgeFixture()
        let long = String(repeating: "s", count: 128)
        edge.load([
            EdgeFixture.link("https://s.example/", slug: "Ab-_.~9"),
            EdgeFixture.link("https://s.example/", slug: long),
        ])
        #expect(edge.send("/Ab-_.~9").status == 302)
        #expect(edge.send("/%41%62-_.%7e9").status == 302)
        #expect(edge.send("/ab-_.~9").status == 404)
        #expect(edge.send("/%2541b-_.~9").status == 404)
        #expect(edge.send("/\(long)").status == 302)
        #expect(edge.send("/\(long)s").status == 404)
        #expect(edge.send("/%73\(long.dropFirst())").status == 302)
        #expect(edge.send("/%73\(long)").status == 404)
    }

    @Test("Nothing loaded is 503 with Retry-After, never 404")
    func notLoaded() {
        var edge = EdgeFixture()
        let reply = edge.send()
        #expect(reply.status == 503 && reply.header("Retry-After") == "1")
        #expect(reply.answer.outcome == .notLoaded)
    }

    @Test("A full ring costs the record, not the redirect")
    func dropped() {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://s.example/")])
        let reply = edge.send(hasMemory: false)
        #expect(reply.status == 302 && reply.answer.isDropped && reply.answer.recordBytes == 0)
        #expect(!edge.send("/none", hasMemory: false).answer.isDropped)
        #expect(!edge.send(method: "HEAD", hasMemory: false).answer.isDropped)
    }

    @Test("Beyond the lease a link redirects without an identity, and the click is a dropped one")
    func beyondLease() throws {
        var edge = EdgeFixture(leaseMilliseconds: EdgeFixture.now / 1000)
        edge.load([
            EdgeFixture.link("https://s.example/?c={click_id}&x=1"),
            EdgeFixture.link("https://s.example/", slug: "b"),
        ])
        #expect(edge.send().answer.recordBytes > 0)
        edge.engine.extend(leaseMilliseconds: 0)
        for (slug, location) in [("/a", "https://s.example/?c=&x=1"), ("/b", "https://s.example/")]
        {
            let reply = edge.send(slug)
            #expect(reply.status == 302 && reply.answer.isDropped)
            #expect(reply.answer.recordBytes == 0 && reply.answer.outcome == .redirected)
            #expect(reply.header("Location") == location)
        }
        #expect(!edge.send("/none").answer.isDropped)
        #expect(!edge.send(method: "HEAD").answer.isDropped)
        edge.engine.extend(leaseMilliseconds: EdgeFixture.now / 1000 + 1000)
        let reply = edge.send()
        #expect(reply.answer.recordBytes > 0 && !reply.answer.isDropped)
    }

    @Test("A suspended merchant's links redirect; the click is marked")
    func suspended() throws {
        var edge = EdgeFixture()
        var merchant = try MerchantDefinition(
            id: EdgeFixture.merchant, currency: #require(Currency("EUR")))
        merchant.isSuspended = true
        merchant.isOverQuota = true
        edge.load([EdgeFixture.link("https://s.example/")], merchants: [merchant])
        let reply = edge.send()
        #expect(reply.status == 302)
        try reply.withRecord {
            #expect($0.flags.contains(.merchantSuspended) && $0.flags.contains(.overQuota))
            #expect($0.invalidReason == 0)
        }
    }

    @Test("The connection closes when either side wants it, or a body was left unread")
    func closing() {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://s.example/")])
        #expect(edge.send(closing: true).header("Connection") == "close")
        #expect(edge.send(headers: ["Connection: close"]).header("Connection") == "close")
        #expect(edge.send(headers: ["Content-Length: 1"]).answer.closes)
        #expect(edge.send(version: "1.0").header("Connection") == "close")
        let kept = edge.send(headers: ["Connection: keep-alive"], version: "1.0")
        #expect(kept.header("Connection") == "keep-alive" && !kept.answer.closes)
    }

    @Test("Identities rise even when the clock steps back")
    func identities() throws {
        var edge = EdgeFixture()
        edge.load([EdgeFixture.link("https://s.example/")])
        var last: ClickID?
        for step in 0..<50 {
            edge.clock.update(wallMicroseconds: EdgeFixture.now - Int64(step) * 1_000_000)
            let id = try edge.send().withRecord { $0.clickID }
            if let last { #expect(id > last) }
            last = id
        }
    }
}
