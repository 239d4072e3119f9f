// Which URLs a link may lead to, and that a browser goes where the Location's host says.
import Testing
import Tracking

@testable import EdgeCore

@Suite("Destinations")
struct DestinationTests {
    private func problem(_ url: [UInt8]) -> DestinationProblem? {
        do throws(DestinationProblem) {
            _ = try LinkTemplate.compile(url)
            return nil
        } catch {
            return error
        }
    }

    static let good = [
        "https://a", "http://a.example/", "HTTPS://A.Example:443/x", "https://a.example:/",
        "https://1.2.3.4/", "https://[::1]:8080/x", "https://[2001:db8::1.2.3.4]", "https://a.b.",
        "https://xn--bcher-kva.example/?q=1#f", "https://a.example?x={sub1}",
        "https://a_b.example/",
        "https://a/{sub1}/{_sub2}", "https://a/ b\"<>\\^`{|}é", "https://a/%zz%", "https://a1/",
        "https://3com.example/", "https://a/\(String(repeating: "x", count: 8000))",
    ]

    @Test("Absolute http and https URLs with an ASCII host are taken", arguments: good)
    func taken(_ url: String) {
        #expect(problem(Array(url.utf8)) == nil)
    }

    static let bad: [(String, DestinationProblem)] = [
        ("", .notAbsolute), ("/x", .notAbsolute), ("//a/x", .notAbsolute),
        ("a.example", .notAbsolute),
        ("ftp://a/", .notAbsolute), ("javascript:alert(1)", .notAbsolute),
        ("https:/a", .notAbsolute),
        ("https:a", .notAbsolute), (" https://a/", .notAbsolute), ("https:\\\\a/", .notAbsolute),
        ("https://", .noHost), ("https:///x", .noHost), ("https://:80/", .noHost),
        ("https://?x", .noHost), ("https://u@a/", .userInformation),
        ("https://u:p@a/", .userInformation), ("https://a@evil/", .userInformation),
        ("https://{sub1}/", .macroInHost), ("https://a.{country}/", .macroInHost),
        ("https://a{slug}", .macroInHost), ("https://a b/", .badHost), ("https://a\\b/", .badHost),
        ("https://é.example/", .badHost), ("https://a%41/", .badHost), ("https://a..b/", .badHost),
        ("https://[::1/", .badHost), ("https://[::g]/", .badHost), ("https://[1:2]/", .badHost),
        ("https://[1::2::3]/", .badHost), ("https://[::1]x/", .badHost), ("https://a,b/", .badHost),
        ("https://1.2.3/", .badHost), ("https://256.1.1.1/", .badHost),
        ("https://01.2.3.4/", .badHost),
        ("https://0x7f000001/", .badHost), ("https://a.0x1/", .badHost), ("https://1/", .badHost),
        ("https://a:65536/", .badPort), ("https://a:x/", .badPort), ("https://a:1:2/", .badPort),
        ("https://a/\r\nX: y", .controlByte), ("https://a/\0", .controlByte),
        ("https://a/\u{7f}", .controlByte), ("https://a/\t", .controlByte),
        ("https://a/ ", .controlByte),
        ("https://a/\(String(repeating: "x", count: 8193))", .tooLong),
        ("https://a/\(String(repeating: "é", count: 3000))", .tooLong),
        ("https://a/\(String(repeating: "{link_id}", count: 65))", .tooManyMacros),
    ]

    @Test("Everything else is rejected with a reason", arguments: bad)
    func rejected(_ url: String, _ expected: DestinationProblem) {
        #expect(problem(Array(url.utf8)) == expected)
        #expect(!expected.reason.isEmpty)
    }

    @Test("A program gives back the URL it was made from, with unsafe bytes encoded")
    func source() throws {
        for (url, expected) in [
            ("https://a/{sub1}?x={_utm_x}#{click_id}", "https://a/{sub1}?x={_utm_x}#{click_id}"),
            ("https://a/é {gone}\\b?\\", "https://a/%C3%A9%20/b?%5C"),
        ] {
            let program = try LinkTemplate.compile(Array(url.utf8))
            program.withUnsafeBytes {
                #expect(LinkTemplate.isValid($0))
                #expect(String(decoding: LinkTemplate.source(of: $0), as: UTF8.self) == expected)
            }
        }
    }

    @Test(
        "Whatever URL is taken, a browser finds the host that its Location names",
        .enabled(if: WireText.corpora != nil, "CLICKD_CORPORA is not there"))
    func browsers() throws {
        let entries = UrlCorpus.entries(WireText.corpus("url/urltestdata.json"))
        #expect(entries.count > 400)
        var taken = 0
        for entry in entries where entry.base == nil && problem(entry.input) == nil {
            taken += 1
            var edge = EdgeFixture()
            edge.load([
                EdgeFixture.link("") {
                    $0.destination = entry.input
                    $0.forwardsQuery = true
                }
            ])
            let location = try #require(edge.send("/a?x=//evil.example").location)
            // What we take, a browser takes, and its host is the one that we have written.
            let host = try #require(entry.host, "a browser refuses \(location)")
            let rest = location.drop { $0 != "/" }.dropFirst(2)
            let written = rest.prefix { !"/?#".contains($0) }.lowercased()
            let scheme = location.prefix { $0 != ":" }.lowercased()
            let plain = written.hasSuffix(scheme == "https" ? ":443" : ":80")
            let port = plain ? (scheme == "https" ? 4 : 3) : written.hasSuffix(":") ? 1 : 0
            let shown = String(written.dropLast(port))
            // Brackets hold an address that a browser writes its shortest way.
            if !shown.hasPrefix("[") { #expect(shown == host, "\(location)") }
        }
        #expect(taken > 20)
    }
}
