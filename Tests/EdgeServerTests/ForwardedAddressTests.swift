// Who is believed about whose address.
import Configuration
import EdgeCore
import LinuxIO
import Testing

@testable import EdgeServer

private func parse(_ text: String) -> PeerAddress? {
    Array(text.utf8).withUnsafeBytes { AddressText.parse($0) }
        .map { PeerAddress(high: $0.high, low: $0.low, isIPv6: $0.isIPv6) }
}

private func four(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) -> PeerAddress {
    PeerAddress(high: (a << 24 | b << 16 | c << 8 | d) << 32, low: 0, isIPv6: false)
}

private func client(of peer: PeerAddress, _ headers: String) -> PeerAddress {
    let proxies = TrustedProxies(["10.0.0.0/8", "fd00::/8"].compactMap { AddressRange($0) })
    let request = Array("GET /a HTTP/1.1\r\nHost: a\r\n\(headers)\r\n".utf8)
    return request.withUnsafeBytes { bytes in
        var head = RequestHead()
        guard RequestParser.parse(bytes, limit: 65_536, into: &head) == .complete else {
            return peer
        }
        return proxies.client(of: peer, head, bytes)
    }
}

@Suite struct ForwardedAddressTests {
    @Test("Addresses are read with and without port and brackets")
    func addresses() {
        #expect(parse("1.2.3.4") == four(1, 2, 3, 4))
        #expect(parse(" 1.2.3.4:80\t") == four(1, 2, 3, 4))
        #expect(parse("::ffff:1.2.3.4") == four(1, 2, 3, 4))
        #expect(parse("::") == PeerAddress(high: 0, low: 0, isIPv6: true))
        #expect(parse("::1") == PeerAddress(high: 0, low: 1, isIPv6: true))
        #expect(parse("1::") == PeerAddress(high: 1 << 48, low: 0, isIPv6: true))
        let full = PeerAddress(
            high: 0x2001_0db8_0000_0000, low: 0x0000_0000_0000_00Ff, isIPv6: true)
        for text in [
            "2001:db8::ff", "[2001:DB8::ff]:443", "2001:db8:0:0:0:0:0:ff", "[2001:db8::ff]",
        ] {
            #expect(parse(text) == full)
        }
    }

    @Test(
        "What is no address is none",
        arguments: [
            "", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:123456", "1.2.3.4:8x", "[::1", "[::1]x", "1:2:3", ":::", "1::2::3", "12345::",
            "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1.2.3", "1:2:3:4:5:6:7:1.2.3.4", "g::",
            "1:",
        ])
    func refusals(text: String) {
        #expect(parse(text) == nil)
    }

    @Test("A chain is read from the right, past trusted proxies, and no further")
    func chains() {
        let proxy = four(10, 0, 0, 1)
        let visitor = four(203, 0, 113, 9)
        #expect(client(of: proxy, "X-Forwarded-For: 203.0.113.9\r\n") == visitor)
        #expect(client(of: proxy, "X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.2.3.4\r\n") == visitor)
        #expect(
            client(of: proxy, "Forwarded: for=1.1.1.1, For=\"203.0.113.9:99\";proto=https\r\n")
                == visitor)
        #expect(
            client(of: proxy, "Forwarded: for=\"[2001:db8::ff]:99\"\r\n")
                == PeerAddress(high: 0x2001_0db8_0000_0000, low: 0xff, isIPv6: true))
        // All of the chain are proxies: the farthest of them is the best that is known.
        #expect(client(of: proxy, "X-Forwarded-For: 10.9.9.9\r\n") == four(10, 9, 9, 9))
    }

    @Test("Nothing is believed of an untrusted peer, nor of a chain that makes no sense")
    func disbelief() {
        let stranger = four(198, 51, 100, 1)
        #expect(client(of: stranger, "X-Forwarded-For: 203.0.113.9\r\n") == stranger)
        let proxy = four(10, 0, 0, 1)
        for headers in [
            "", "X-Forwarded-For: \r\n", "X-Forwarded-For: nonsense\r\n",
            "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.8\r\n",
            "X-Forwarded-For: unknown\r\n", "X-Forwarded-For: 203.0.113.9, _hidden\r\n",
            "Forwarded: for=_hidden\r\n", "Forwarded: for=\"unknown\"\r\n",
            "Forwarded: for=1.1.1.1;for=2.2.2.2\r\n", "Forwarded: for=\"1.1.1.1\r\n",
            "Forwarded: for=unknown\r\n", "Forwarded: by=203.0.113.9\r\n",
            "X-Forwarded-For: " + String(repeating: "10.0.0.2,", count: 20) + "10.0.0.3\r\n",
        ] {
            #expect(client(of: proxy, headers) == proxy)
        }
    }

    @Test("Several header lines are one list, in their order")
    func lines() {
        let proxy = four(10, 0, 0, 1)
        let visitor = four(203, 0, 113, 9)
        for headers in [
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "X-Forwarded-For: 1.1.1.1,203.0.113.9\r\nA: b\r\nx-forwarded-for: 10.0.0.2\r\n",
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For:\r\nX-Forwarded-For: 10.1.1.1,\r\n",
            "Forwarded: for=1.1.1.1\r\nForwarded: for=203.0.113.9, for=10.0.0.2\r\n",
        ] {
            #expect(client(of: proxy, headers) == visitor, "\(headers)")
        }
    }

    @Test(
        "A thousand hops: those behind the visitor are not looked at, a thousand proxies not believed"
    )
    func thousandHops() {
        let proxy = four(10, 0, 0, 1)
        let hops = String(repeating: "1.1.1.1,", count: 1000)
        #expect(
            client(of: proxy, "X-Forwarded-For: \(hops)203.0.113.9\r\n") == four(203, 0, 113, 9))
        let proxies = String(repeating: "10.0.0.2,", count: 1000)
        #expect(client(of: proxy, "X-Forwarded-For: 203.0.113.9,\(proxies)10.0.0.2\r\n") == proxy)
    }

    @Test("What a proxy quotes of its client is not taken for an element or a parameter")
    func quotes() {
        let proxy = four(10, 0, 0, 1)
        let visitor = four(203, 0, 113, 9)
        for headers in [
            "Forwarded: for=203.0.113.9;host=\"a,for=6.6.6.6;x=\"\r\n",
            "Forwarded: host=\"a;for=6.6.6.6;x=\";for=203.0.113.9\r\n",
            "Forwarded: for=203.0.113.9;host=\"a\\\",for=6.6.6.6;x=\\\"\"\r\n",
            // A quote that the client has left open reaches no farther than its own element.
            "Forwarded: for=\", for=203.0.113.9\r\n",
        ] {
            #expect(client(of: proxy, headers) == visitor, "\(headers)")
        }
    }

    @Test("Of two headers that contradict each other neither counts, and the limits still hold")
    func contradiction() {
        let proxies = TrustedProxies(["10.0.0.0/8"].compactMap { AddressRange($0) })
        let proxy = four(10, 0, 0, 1)
        let both = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n"
        #expect(client(of: proxy, both) == four(203, 0, 113, 9))
        for (headers, isLimited) in [
            ("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=6.6.6.6\r\n", true),
            ("X-Forwarded-For: 10.0.0.2\r\n", false), ("", false),
        ] {
            let request = Array("GET /a HTTP/1.1\r\nHost: a\r\n\(headers)\r\n".utf8)
            request.withUnsafeBytes { bytes in
                var head = RequestHead()
                #expect(RequestParser.parse(bytes, limit: 4096, into: &head) == .complete)
                let found = proxies.client(of: proxy, head, bytes)
                #expect(proxies.contains(found))
                #expect(proxies.isLimited(found, head) == isLimited)
            }
        }
    }
}
