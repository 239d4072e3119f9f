// What stands in Location: macros, the click parameter, forwarded parameters, and what never does.
import EdgeCore
import Testing
import Tracking
import Workbench

@Suite("Locations")
struct LocationTests {
    /// The Location of one link for one request, with the token as `T`.
    private func location(
        _ destination: String, _ target: String = "/a", forwards: Bool = false,
        headers: [String] = [], parameter: String? = nil
    ) throws -> String {
        var edge = EdgeFixture()
        var merchants: [MerchantDefinition] = []
        if let parameter {
            merchants = [
                MerchantDefinition(
                    id: EdgeFixture.merchant, clickParameter: Array(parameter.utf8),
                    currency: try #require(Currency("EUR")))
            ]
        }
        edge.load(
            [EdgeFixture.link(destination) { $0.forwardsQuery = forwards }], merchants: merchants)
        edge.place = ClickPlace(country: 0x5246)
        let reply = edge.send(target, headers: headers)
        let token = try reply.withRecord {
            ClickToken.text($0.clickID, merchant: EdgeFixture.merchant, key: EdgeFixture.key)
        }
        let location = try #require(reply.location)
        let parts = location.split(separator: token, omittingEmptySubsequences: false)
        return parts.joined(separator: "T")
    }

    /// Destination, request target, Location.
    static let macros: [(String, String, String)] = [
        ("https://s.example/?c={click_id}", "/a", "https://s.example/?c=T"),
        ("https://s.example/{click_id}/x#{click_id}", "/a", "https://s.example/T/x#T"),
        ("https://s.example/", "/a", "https://s.example/?click_id=T"),
        ("https://s.example", "/a", "https://s.example?click_id=T"),
        ("https://s.example/?", "/a", "https://s.example/?click_id=T"),
        ("https://s.example/?x=1&", "/a", "https://s.example/?x=1&click_id=T"),
        ("https://s.example/?x=1#f?g", "/a", "https://s.example/?x=1&click_id=T#f?g"),
        ("https://s.example/#f", "/a", "https://s.example/?click_id=T#f"),
        ("https://s.example/?x={sub1}", "/a", "https://s.example/?x=&click_id=T"),
        (
            "https://s.example/?c={click_id}&1={sub1}&10={sub10}", "/a?sub1=a%20b%26&sub10=%C3%A9",
            "https://s.example/?c=T&1=a%20b%26&10=%C3%A9"
        ),
        (
            "https://s.example/{_sub1}?c={click_id}&s={sub1}", "/a?sub1=x/y%3F%0D%0A%23z+",
            "https://s.example/x/y%3F%0D%0A%23z%20?c=T&s=x%2Fy%3F%0D%0A%23z%20"
        ),
        ("https://s.example/?c={click_id}&z={nope}{_nope}", "/a", "https://s.example/?c=T&z="),
        (
            "https://s.example/?c={click_id}&j={\"a\":1}", "/a",
            "https://s.example/?c=T&j=%7B%22a%22:1%7D"
        ),
        (
            "https://s.example/?c={click_id}&s={slug}&k={country}", "/a",
            "https://s.example/?c=T&s=a&k=FR"
        ),
        (
            "https://s.example/?c={click_id}&l={link_id}&m={merchant_id}&i={influencer_id}", "/a",
            "https://s.example/?c=T&l=\(EdgeFixture.link)&m=\(EdgeFixture.merchant)"
                + "&i=\(EdgeFixture.influencer)"
        ),
        (
            "https://s.example/?c={click_id}&t={timestamp}", "/a",
            "https://s.example/?c=T&t=1772366400"
        ),
        (
            "https://s.example/?c={click_id}&u={utm_source}&v={utm_campaign}",
            "/a?utm_source=a%20b&%75tm_campaign=c%2Fd+",
            "https://s.example/?c=T&u=a%20b&v=c%2Fd%20"
        ),
        ("https://s.example/?c={_click_id}&{", "/a", "https://s.example/?c=T&%7B"),
    ]

    @Test("Macros are filled in and encoded; unknown ones vanish", arguments: macros)
    func filled(_ destination: String, _ target: String, _ expected: String) throws {
        #expect(try location(destination, target) == expected)
    }

    @Test(
        "Header macros take the language and the referrer's host, the agent tells device and system"
    )
    func headers() throws {
        let phone =
            "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) "
            + "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
        #expect(
            try location(
                "https://s.example/?c={click_id}&l={language}&r={referrer_host}&d={device}&o={os}",
                headers: [
                    "Accept-Language: fr-FR,fr;q=0.9", "Referer: https://u:p@WWW.Insta.com:8/x?y",
                    phone,
                ]) == "https://s.example/?c=T&l=fr-FR&r=www.insta.com&d=mobile&o=ios")
        #expect(
            try location(
                "https://s.example/?c={click_id}&l={language}&r={referrer_host}",
                headers: ["Accept-Language: *", "Referer: about:blank"])
                == "https://s.example/?c=T&l=&r=")
    }

    @Test("The merchant's own parameter carries the token; a name that is not safe does not")
    func parameter() throws {
        #expect(try location("https://s.example/", parameter: "cid") == "https://s.example/?cid=T")
        #expect(
            try location("https://s.example/", parameter: "a&b=") == "https://s.example/?click_id=T"
        )
        #expect(
            try location("https://s.example/", parameter: "") == "https://s.example/?click_id=T")
    }

    /// Destination, request target, Location.
    static let forwarded: [(String, String, String)] = [
        ("https://s.example/", "/a?x=1&y", "https://s.example/?x=1&y&click_id=T"),
        ("https://s.example/?x=own#f", "/a?x=1&y=2", "https://s.example/?x=own&y=2&click_id=T#f"),
        ("https://s.example/?x=own", "/a?%78=1", "https://s.example/?x=own&click_id=T"),
        ("https://s.example/?%78=own", "/a?x=1", "https://s.example/?%78=own&click_id=T"),
        (
            "https://s.example/", "/a?sub1=1&subid=2&s5=3&aff_sub=4&aff_sub5=5&sub10=6&q=7",
            "https://s.example/?q=7&click_id=T"
        ),
        (
            "https://s.example/", "/a?aff_click_id=1&source_id=2&no_track=0&qr=1&click_id=forged",
            "https://s.example/?click_id=T"
        ),
        ("https://s.example/", "/a?%63lick_id=forged&cid=x", "https://s.example/?cid=x&click_id=T"),
        (
            "https://s.example/", "/a?a=%0d%0aSet-Cookie:x&b=%zz&c={}\\\"<>^`|&d=x+y",
            "https://s.example/?a=%0d%0aSet-Cookie:x&b=%25zz&c=%7B%7D%5C%22%3C%3E%5E%60%7C&d=x+y"
                + "&click_id=T"
        ),
        ("https://s.example/", "/a?&&=x&z=1", "https://s.example/?z=1&click_id=T"),
        (
            "https://s.example/?c={click_id}", "/a?utm_source=i",
            "https://s.example/?c=T&utm_source=i"
        ),
    ]

    @Test(
        "A visitor's parameters are merged, never a reserved one, never over the own",
        arguments: forwarded)
    func merged(_ destination: String, _ target: String, _ expected: String) throws {
        #expect(try location(destination, target, forwards: true) == expected)
    }

    @Test(
        "The merchant's parameter cannot be forged, nor anything forwarded where it is not wanted")
    func notForwarded() throws {
        #expect(
            try location(
                "https://s.example/", "/a?cid=forged&x=1", forwards: true, parameter: "cid")
                == "https://s.example/?x=1&cid=T")
        #expect(try location("https://s.example/", "/a?x=1") == "https://s.example/?click_id=T")
    }

    @Test("A Location past 8 KiB goes without the visitor's parameters, then without the visitor")
    func long() throws {
        let value = String(repeating: "v", count: 9000)
        #expect(
            try location("https://s.example/", "/a?x=\(value)", forwards: true)
                == "https://s.example/?click_id=T")
        let fits = String(repeating: "v", count: 8192 - 20 - 23 - 12)
        let whole = try location("https://s.example/", "/a?x=\(fits)", forwards: true)
        #expect(whole.utf8.count > 8000)
        let literal = String(repeating: "l", count: 7000)
        let many = String(repeating: "%00", count: 250)
        let reply = try location(
            "https://s.example/\(literal)?a={sub1}&b={sub2}",
            "/a?sub1=\(many)&sub2=\(many)")
        #expect(reply == "https://s.example/\(literal)?a=&b=&click_id=T")
    }

    @Test("Many parameters cost a bounded amount of work")
    func bounded() throws {
        let many = (0..<2000).map { "p\($0)=" }.joined(separator: "&")
        let result = try location("https://s.example/", "/a?\(many)", forwards: true)
        #expect(result.split(separator: "&").count == 65)
    }

    @Test("Whatever a visitor sends, scheme and host stay and the answer has one Location line")
    func hostStays() throws {
        var edge = EdgeFixture()
        edge.load([
            EdgeFixture.link(
                "https://s.example/{_sub1}?{_utm_x}={_sub2}&l={_language}#{_referrer_host}"
            ) {
                $0.forwardsQuery = true
            }
        ])
        var random = SeededGenerator(seed: 99)
        let pieces = [
            "%0d%0a", "%00", "//evil.example", "@evil.example", "\\", "%5c%5c", "sub1=", "&", "=",
            "utm_x=", "sub2=", "http://", "?", "%", "%2", "+", "%ff", "%e2%82", ":", ";", "..%2f",
        ]
        for _ in 0..<3000 {
            let query = (0..<12).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            let header = (0..<4).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            let reply = edge.send(
                "/a?\(query)",
                headers: ["Referer: https://\(header)/", "Accept-Language: \(header)"])
            let location = try #require(reply.location)
            #expect(location.hasPrefix("https://s.example/"))
            #expect(location.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F })
            #expect(reply.text.split(separator: "\r\n" as Character).count == 6)
        }
    }
}
