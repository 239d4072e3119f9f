// The head parser: what it takes, what it refuses, and that no split changes either.
import EdgeCore
import Testing
import Tracking
import Workbench

@Suite("Request heads")
struct RequestParserTests {
    @Test("A browser's request is taken apart")
    func browser() {
        let text = """
            GET /spring?sub1=a&x=%20y HTTP/1.1\r
            Host: go.example:8080\r
            User-Agent: Mozilla/5.0 (iPhone)\r
            Accept-Language: fr-FR,fr;q=0.9\r
            referer: https://www.instagram.com/\r
            Sec-Fetch-Mode: navigate\r
            SEC-GPC: 1\r
            Accept-Encoding: gzip\r
            X-Forwarded-For: 1.2.3.4\r
            \r

            """
        let (verdict, head) = WireText.parse(text)
        #expect(verdict == .complete)
        #expect(head.method == .get)
        #expect(head.headBytes == text.utf8.count)
        #expect(head.keepAlive && head.minorVersion == 1 && head.contentLength == -1)
        #expect(WireText.field(head.path, of: text) == "/spring")
        #expect(WireText.field(head.query, of: text) == "sub1=a&x=%20y")
        #expect(WireText.field(head.host, of: text) == "go.example:8080")
        #expect(WireText.field(head.userAgent, of: text) == "Mozilla/5.0 (iPhone)")
        #expect(WireText.field(head.acceptLanguage, of: text) == "fr-FR,fr;q=0.9")
        #expect(WireText.field(head.referer, of: text) == "https://www.instagram.com/")
        #expect(WireText.field(head.secFetchMode, of: text) == "navigate")
        #expect(WireText.field(head.secGPC, of: text) == "1")
        #expect(WireText.field(head.xForwardedFor, of: text) == "1.2.3.4")
        #expect(!head.cookie.isPresent)
    }

    /// Heads that are good, each with what must follow from it.
    static let good: [String] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n",
        "GET /? HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a?b?c=/?{}|\"' HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET HTTP://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00012\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\t~\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: x\r\n\r\n",
    ]

    @Test("Good heads are taken", arguments: good)
    func taken(_ text: String) {
        let (verdict, head) = WireText.parse(text)
        #expect(verdict == .complete)
        #expect(head.headBytes == text.utf8.count)
    }

    /// Heads that are refused, each one fault away from a good one.
    static let bad: [(String, UInt16)] = [
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\u{7f}b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nH(ost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n", 400
        ),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /?a#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET http://a#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://" + String(repeating: "a", count: 256) + "/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHost: a\r\nwebhook-signature: a\r\nwebhook-signature: b\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
        (String(repeating: "A", count: 40) + " / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ]

    @Test("One fault is enough to be refused", arguments: bad)
    func refused(_ text: String, _ status: UInt16) {
        #expect(WireText.parse(text).0 == .refused(status: status))
    }

    @Test(
        "Every prefix of a good head needs more, and bytes behind it change nothing",
        arguments: good)
    func prefixes(_ text: String) {
        let bytes = Array(text.utf8)
        for count in 0..<bytes.count {
            #expect(WireText.parse(Array(bytes[..<count])).0 == .needMore, "\(count)")
        }
        let (verdict, head) = WireText.parse(bytes + Array("\0garbage\r\n".utf8))
        #expect(verdict == .complete)
        #expect(head.headBytes == bytes.count)
    }

    @Test(
        "Resumed at each byte or at one split, a head gives what it gives in one piece",
        arguments: good)
    func resumed(_ text: String) {
        let bytes = Array(text.utf8)
        let (verdict, whole) = WireText.parse(bytes)
        let verdicts = WireText.resumed(bytes)
        #expect(verdicts.count == bytes.count && verdicts.last == verdict)
        for cut in 1..<bytes.count {
            var head = RequestHead()
            var progress = HeadProgress()
            bytes.withUnsafeBytes { all in
                let first = UnsafeRawBufferPointer(rebasing: all[..<cut])
                #expect(
                    RequestParser.parse(first, limit: 16_384, into: &head, resuming: &progress)
                        == .needMore)
                #expect(
                    RequestParser.parse(all, limit: 16_384, into: &head, resuming: &progress)
                        == verdict)
            }
            #expect(WireText.field(head.path, of: text) == WireText.field(whole.path, of: text))
            #expect(head.query == whole.query && head.host == whole.host)
            #expect(head.headBytes == whole.headBytes && head.keepAlive == whole.keepAlive)
        }
    }

    @Test("A refused head, resumed at each byte, is refused at the same byte", arguments: bad)
    func resumedRefusals(_ text: String, _ status: UInt16) {
        let bytes = Array(text.utf8)
        let verdicts = WireText.resumed(bytes)
        #expect(verdicts.last == .refused(status: status))
        for (index, verdict) in verdicts.enumerated() {
            #expect(verdict == WireText.parse(Array(bytes[...index])).0)
        }
    }

    @Test("A refusal may come early but never changes", arguments: bad)
    func prefixesOfRefused(_ text: String, _ status: UInt16) {
        let bytes = Array(text.utf8)
        var isRefused = false
        for count in 0...bytes.count {
            let verdict = WireText.parse(Array(bytes[..<count])).0
            if isRefused || verdict != .needMore {
                #expect(verdict == .refused(status: status), "\(count)")
                isRefused = true
            }
        }
        #expect(isRefused)
    }

    @Test("A head past the limit is 431, a request line past it 414, wherever it is split")
    func limits() {
        let long = String(repeating: "x", count: 300)
        let line = "GET /\(long) HTTP/1.1\r\nHost: a\r\n\r\n"
        #expect(WireText.parse(line, limit: 256).0 == .refused(status: 414))
        #expect(WireText.parse(String(line.prefix(255)), limit: 256).0 == .needMore)
        #expect(WireText.parse(String(line.prefix(256)), limit: 256).0 == .refused(status: 414))
        let fields = "GET / HTTP/1.1\r\nHost: a\r\nX: \(long)\r\n\r\n"
        #expect(WireText.parse(fields, limit: 256).0 == .refused(status: 431))
        #expect(WireText.parse(fields, limit: fields.utf8.count).0 == .complete)
        #expect(WireText.parse(fields, limit: fields.utf8.count - 1).0 == .refused(status: 431))
        let many = String(repeating: "X: y\r\n", count: WireLimits.headerLines)
        #expect(
            WireText.parse("GET / HTTP/1.1\r\nHost: a\r\n\(many)\r\n").0 == .refused(status: 431))
        let enough = String(repeating: "X: y\r\n", count: WireLimits.headerLines - 1)
        #expect(WireText.parse("GET / HTTP/1.1\r\nHost: a\r\n\(enough)\r\n").0 == .complete)
    }

    /// Connection header lines, version, and whether the connection stays.
    static let persistence: [(String, Int, Bool)] = [
        ("", 1, true), ("", 0, false), ("Connection: close\r\n", 1, false),
        ("Connection: keep-alive\r\n", 0, true), ("Connection: Keep-Alive, CLOSE\r\n", 0, false),
        ("Connection: x , close,y\r\n", 1, false), ("Connection: closed\r\n", 1, true),
        ("Connection: keep-alive\r\nConnection: close\r\n", 1, false),
    ]

    @Test("Each byte at each place of a name or a host is judged by its class alone")
    func classes() {
        let names = Set("!#$%&'*+-.^_`|~0123456789".utf8)
        let hosts = Set("-._~!$&'()*+,;=%0123456789".utf8)
        func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) &- 0x61 < 26 && byte < 0x80 }
        for length in 1...18 {
            for place in 0..<length {
                for byte in UInt8.min...UInt8.max where byte != 0x3A {
                    var text = [UInt8](repeating: UInt8(ascii: "q"), count: length)
                    text[place] = byte
                    let name =
                        Array("GET / HTTP/1.1\r\nHost: a\r\n".utf8) + text
                        + Array(": 1\r\n\r\n".utf8)
                    let isName = names.contains(byte) || isLetter(byte)
                    #expect(
                        WireText.parse(name).0
                            == (isName ? .complete : .refused(status: 400)),
                        "\(byte) at \(place) of \(length)")
                    // White space around a value is none of it.
                    if byte == 0x20 || byte == 0x09 { continue }
                    let host =
                        Array("GET / HTTP/1.1\r\nHost: ".utf8) + text + Array("\r\n\r\n".utf8)
                    let isHost = hosts.contains(byte) || isLetter(byte)
                    #expect(
                        WireText.parse(host).0
                            == (isHost ? .complete : .refused(status: 400)),
                        "\(byte) at \(place) of \(length)")
                }
            }
        }
    }

    @Test("Every method token and version digit is told apart")
    func firstLines() {
        for method in ["GET", "GETS", "get", "GE", "GET\u{1}", "HEAD", "POST", "G", "GEX"] {
            let text = "\(method) / HTTP/1.1\r\nHost: a\r\n\r\n"
            let (verdict, head) = WireText.parse(Array(text.utf8))
            guard method != "GET\u{1}" else {
                #expect(verdict == .refused(status: 400))
                continue
            }
            let wanted: [String: RequestMethod] = ["GET": .get, "HEAD": .head, "POST": .post]
            #expect(verdict == .complete && head.method == wanted[method] ?? .other, "\(method)")
        }
        for byte in UInt8.min...UInt8.max {
            let text = Array("GET / HTTP/1.".utf8) + [byte] + Array("\r\nHost: a\r\n\r\n".utf8)
            let wanted: RequestParse =
                byte == 0x30 || byte == 0x31
                ? .complete
                : .refused(status: byte &- 0x30 < 10 ? 505 : 400)
            let (verdict, head) = WireText.parse(text)
            #expect(verdict == wanted, "\(byte)")
            if wanted == .complete { #expect(head.minorVersion == byte &- 0x30) }
        }
    }

    @Test("Connection decides whether the connection stays", arguments: persistence)
    func keepAlive(_ lines: String, _ minor: Int, _ stays: Bool) {
        let (verdict, head) = WireText.parse("GET / HTTP/1.\(minor)\r\nHost: a\r\n\(lines)\r\n")
        #expect(verdict == .complete)
        #expect(head.keepAlive == stays)
    }

    @Test("Framing headers are read")
    func framing() {
        let (_, length) = WireText.parse(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0042\r\n\r\n")
        #expect(length.contentLength == 42 && length.hasBody && !length.isChunked)
        let (_, chunked) = WireText.parse(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        #expect(chunked.isChunked && chunked.expectsContinue && chunked.hasBody)
        let (_, old) = WireText.parse(
            "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        #expect(!old.expectsContinue)
    }

    @Test("Of repeated X-Forwarded-For lines the last is kept, and it shows")
    func forwarding() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\n\r\n"
        let (_, head) = WireText.parse(text)
        #expect(WireText.field(head.xForwardedFor, of: text) == "2")
        #expect(head.forwardingIsRepeated)
    }

    @Test("Random bytes and mutilated heads never trap, and no split changes the verdict")
    func fuzz() {
        var random = SeededGenerator(seed: 0xC11C_D001)
        let seeds = (RequestParserTests.good + RequestParserTests.bad.map(\.0)).map {
            Array($0.utf8)
        }
        let spice: [UInt8] = [0, 9, 10, 13, 32, 35, 58, 63, 64, 127, 128, 255]
        for _ in 0..<4000 {
            var bytes = seeds.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[index] = spice.randomElement(using: &random) ?? 0
                case 2: bytes.remove(at: index)
                default: bytes.insert(spice.randomElement(using: &random) ?? 0, at: index)
                }
            }
            let whole = WireText.parse(bytes).0
            var decided: RequestParse?
            for count in 0...bytes.count {
                let verdict = WireText.parse(Array(bytes[..<count])).0
                if let decided {
                    #expect(verdict == decided, "\(bytes) at \(count)")
                } else if verdict != .needMore {
                    decided = verdict
                }
            }
            #expect(decided ?? .needMore == whole)
            #expect(WireText.resumed(bytes).last ?? .needMore == whole, "\(bytes)")
        }
        for _ in 0..<4000 {
            let count = Int.random(in: 0...200, using: &random)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            _ = WireText.parse(bytes)
        }
    }

    @Test(
        "A head that comes byte by byte is looked at once: time grows with its length, not its square"
    )
    func linear() {
        // Counted, not timed: what an attempt finds done it does not look at again, so that the bytes
        // before the mark may change without changing the verdict.
        let text =
            "GET /" + String(repeating: "a", count: 4000) + "?"
            + String(repeating: "b", count: 4000) + " HTTP/1.1\r\nHost: a\r\nX: "
            + String(repeating: "c ", count: 2000)
        for end in [3000, 7000, text.utf8.count] {
            var bytes = Array(text.utf8)
            var head = RequestHead()
            var progress = HeadProgress()
            bytes.withUnsafeBytes { all in
                let prefix = UnsafeRawBufferPointer(rebasing: all[..<(end - 1)])
                #expect(
                    RequestParser.parse(prefix, limit: 16_384, into: &head, resuming: &progress)
                        == .needMore)
            }
            // A byte that would be refused if it were looked at.
            bytes[end - 500] = 0
            bytes.withUnsafeBytes { all in
                let prefix = UnsafeRawBufferPointer(rebasing: all[..<end])
                #expect(
                    RequestParser.parse(prefix, limit: 16_384, into: &head, resuming: &progress)
                        == .needMore)
            }
        }
    }
}
