// HTTP/1.1 as the port speaks it: what is refused and closed, what goes on, over real sockets.
import LinuxIO
import RingLog
import Telemetry
import Testing

@testable import EdgeServer

private let post = "POST /postback HTTP/1.1\r\nHost: go.example\r\n"

@Suite(.serialized) struct HTTPStrictnessTests {
    struct Refusal: CustomTestStringConvertible {
        var testDescription: String
        var request: String
        var status = 400

        init(_ name: String, _ request: String, _ status: Int = 400) {
            testDescription = name
            self.request = request
            self.status = status
        }
    }

    static let refusals = [
        Refusal(
            "Content-Length with Transfer-Encoding",
            post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refusal(
            "a repeated Content-Length", post + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        Refusal("a list as Content-Length", post + "Content-Length: 1, 1\r\n\r\nx"),
        Refusal("a plus sign in a number", post + "Content-Length: +1\r\n\r\nx"),
        Refusal("a minus sign in a number", post + "Content-Length: -1\r\n\r\n"),
        Refusal("a space in a number", post + "Content-Length: 1 0\r\n\r\n"),
        Refusal("a hexadecimal number", post + "Content-Length: 0x1\r\n\r\nx"),
        Refusal("gzip before chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        Refusal("xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        Refusal("chunked twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        Refusal("a quoted chunked", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        Refusal(
            "two lines of Transfer-Encoding",
            post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        Refusal(
            "Transfer-Encoding in HTTP/1.0",
            "POST /postback HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Refusal("a bare LF", "GET /healthz HTTP/1.1\nHost: a\n\n"),
        Refusal("a bare CR in a value", get("/healthz", headers: "X: a\rb\r\n")),
        Refusal("a NUL in a value", get("/healthz", headers: "X: a\0b\r\n")),
        Refusal("a NUL in the target", get("/heal\0thz")),
        Refusal("a folded line", get("/healthz", headers: "X: a\r\n b\r\n")),
        Refusal("a folded line with a tab", get("/healthz", headers: "X: a\r\n\tb\r\n")),
        Refusal("a space before a colon", get("/healthz", headers: "X : a\r\n")),
        Refusal("a space before the first name", "GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n"),
        Refusal("no Host", "GET /healthz HTTP/1.1\r\n\r\n"),
        Refusal("two Hosts", get("/healthz", headers: "Host: go.example\r\n")),
        Refusal("two Hosts in HTTP/1.0", "GET /healthz HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        Refusal("a Host with a slash", "GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        Refusal("a Host with a user", "GET /healthz HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        Refusal("another host in the target", get("http://evil.example/healthz")),
        Refusal("another port in the target", get("http://go.example:81/healthz")),
        Refusal("a fragment in the target", get("/healthz#x")),
        Refusal("a fragment behind the query", get("/healthz?a#x")),
        Refusal("an asterisk with GET", get("*")),
        Refusal("an authority as the target", get("go.example:80")),
        Refusal("two spaces", "GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        Refusal("two empty lines ahead", "\r\n\r\n" + get("/healthz")),
        Refusal("a method that is no token", get("/healthz", method: "GE(T")),
        Refusal("a method without end", get("/healthz", method: String(repeating: "A", count: 33))),
        Refusal("CONNECT", "CONNECT go.example:443 HTTP/1.1\r\nHost: go.example:443\r\n\r\n", 405),
        Refusal("another expectation", post + "Content-Length: 1\r\nExpect: 200-ok\r\n\r\nx", 417),
        Refusal("an expectation of a GET", get("/healthz", headers: "Expect: magic\r\n"), 417),
        Refusal("HTTP/2", "GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        Refusal("a chunk size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n"),
        Refusal("a chunk size with 0x", post + "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n"),
        Refusal("a chunk without its end", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n"),
        Refusal("a bare LF in chunks", post + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n"),
        Refusal(
            "a chunk extension without end",
            post + "Transfer-Encoding: chunked\r\n\r\n1;" + String(repeating: "x", count: 300)),
        Refusal(
            "trailers without end",
            post + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: "
                + String(repeating: "x", count: 5000)),
        Refusal("a body past its limit", post + "Content-Length: 65537\r\n\r\n", 413),
        Refusal(
            "a chunk past the limit", post + "Transfer-Encoding: chunked\r\n\r\n10001\r\n", 413),
        Refusal("a number past counting", post + "Content-Length: 1000000000000000\r\n\r\n", 413),
        Refusal("a target past the limit", get("/" + String(repeating: "x", count: 17_000)), 414),
        Refusal(
            "a header past the limit",
            get("/healthz", headers: "X: " + String(repeating: "x", count: 17_000) + "\r\n"), 431),
        Refusal(
            "too many headers",
            get("/healthz", headers: String(repeating: "X: y\r\n", count: 100)), 431),
    ]

    @Test(
        "It is refused, in HTTP/1.1, the connection closed and no later byte parsed",
        arguments: refusals)
    func refused(_ refusal: Refusal) throws {
        try EdgeFixture().run { edge in
            for isByteWise in [false, true] where !isByteWise || refusal.request.utf8.count < 600 {
                let client = try edge.client()
                let sent = refusal.request + get("/shoes") + get("/shoes")
                if isByteWise {
                    for byte in refusal.request.utf8 {
                        // The server may have closed before the last byte.
                        do { try client.send([byte]) } catch { break }
                    }
                } else {
                    try client.send(sent)
                }
                let response = try client.response()
                #expect(response.status == refusal.status)
                #expect(response.head.hasPrefix("HTTP/1.1 "))
                #expect(response.header("connection") == "close")
                if refusal.status == 405 { #expect(response.header("allow") != nil) }
                client.finishSending()
                #expect(try client.isClosed())
            }
            #expect(edge.counters.total(.clicksRecorded) == 0)
            #expect(edge.counters.total(.conversionsRecorded) == 0)
        }
    }

    static let unread: [(String, Int)] = [
        (get("/shoes", headers: "Content-Length: 9\r\n") + "GET / HTT", 302),
        (get("/shoes", headers: "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 302),
        (get("/shoes", method: "HEAD", headers: "Content-Length: 9\r\n") + "GET / HTT", 302),
        (get("/nothing", headers: "Content-Length: 9\r\n") + "GET / HTT", 404),
        (get("/healthz", headers: "Content-Length: 9\r\n") + "GET / HTT", 200),
        (get("/pixel.gif", headers: "Content-Length: 9\r\n") + "GET / HTT", 200),
        (get("/postback", headers: "Content-Length: 9\r\n") + "GET / HTT", 400),
        (get("/shoes", method: "POST", headers: "Content-Length: 9\r\n") + "GET / HTT", 405),
        (get("/x", method: "OPTIONS", headers: "Content-Length: 9\r\n") + "GET / HTT", 204),
        // Never asked for either.
        (get("/shoes", headers: "Content-Length: 9\r\nExpect: 100-continue\r\n"), 302),
    ]

    @Test("A body that nobody reads ends the connection behind the answer", arguments: unread)
    func unreadBody(_ request: String, _ status: Int) throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            try client.send(request + get("/shoes"))
            let response = try client.response(withoutBody: request.hasPrefix("HEAD"))
            #expect(response.status == status)
            #expect(response.header("connection") == "close")
            client.finishSending()
            #expect(try client.isClosed())
            #expect(edge.counters.total(.clicksRecorded) <= 1)
        }
    }

    @Test("Content-Length: 0 is no body, and the connection goes on")
    func emptyBody() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            #expect(try client.ask(get("/shoes", headers: "Content-Length: 0\r\n")).status == 302)
            #expect(try client.ask(get("/shoes")).status == 302)
        }
    }

    @Test(
        "Absolute targets with the Host's own authority are served, http and https, default ports or none"
    )
    func absolute() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for target in [
                "http://go.example/shoes", "HTTP://GO.example:80/shoes",
                "https://go.example:443/shoes",
            ] {
                #expect(try client.ask(get(target)).status == 302)
            }
            #expect(try client.ask(get("http://go.example")).status == 404)
        }
    }

    @Test("HTTP/1.0 without Host is served; the connection closes unless it asks to stay")
    func old() throws {
        try EdgeFixture().run { edge in
            for (lines, stays) in [
                ("", false), ("Connection: keep-alive\r\n", true),
                ("Connection: keep-alive, close\r\n", false),
            ] {
                let client = try edge.client()
                let response = try client.ask("GET /shoes HTTP/1.0\r\n\(lines)\r\n")
                #expect(response.status == 302)
                #expect(response.head.hasPrefix("HTTP/1.1 "))
                if stays {
                    #expect(response.header("connection")?.lowercased() == "keep-alive")
                    #expect(try client.ask(get("/healthz")).status == 200)
                } else {
                    #expect(response.header("connection") == "close")
                    #expect(try client.isClosed())
                }
            }
        }
    }

    @Test("HEAD has the headers of GET and no body")
    func head() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for path in ["/healthz", "/robots.txt", "/t.js", "/nothing"] {
                let got = try client.ask(get(path))
                try client.send(get(path, method: "HEAD"))
                let told = try client.response(withoutBody: true)
                #expect(told.status == got.status)
                #expect(told.header("content-length") == got.header("content-length"))
                #expect(told.header("content-type") == got.header("content-type"))
            }
            // Nothing of a body was left over.
            #expect(try client.ask(get("/healthz")).body == "ok\n")
        }
    }

    @Test("405 and OPTIONS name the methods of their path")
    func allow() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for (path, allow) in [
                ("/shoes", "GET, HEAD, OPTIONS"), ("/postback", "GET, POST, OPTIONS"),
                ("/v1/conversions", "POST, OPTIONS"), ("/pixel.gif", "GET, HEAD, OPTIONS"),
            ] {
                let options = try client.ask(get(path, method: "OPTIONS"))
                #expect(options.status == 204 && options.header("allow") == allow)
                let other = try client.ask(get(path, method: "DELETE"))
                #expect(other.status == 405 && other.header("allow") == allow)
                // Methods are case-sensitive.
                #expect(try client.ask(get(path, method: "get")).status == 405)
            }
            let all = try client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(all.status == 204 && all.header("allow") == "GET, HEAD, POST, OPTIONS")
        }
    }

    @Test("100 Continue is sent once, and for a request that is refused not at all")
    func continues() throws {
        let form = "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n"
        try EdgeFixture().run { edge in
            let client = try edge.client()
            try client.send(post + form + "Content-Length: 2\r\n\r\n")
            #expect(try client.response().status == 100)
            try client.send("a")
            try client.send("=")
            #expect(try client.response().status == 400)
            // A body that is there already needs no word.
            try client.send(post + form + "Content-Length: 2\r\n\r\na=")
            #expect(try client.response().status == 400)
            try client.send(post + form + "Transfer-Encoding: chunked\r\n\r\n")
            #expect(try client.response().status == 100)
            try client.send("2\r\na=\r\n0\r\n\r\n")
            #expect(try client.response().status == 400)
            for (request, status) in [
                (post + form + "Content-Length: 65537\r\n\r\n", 413),
                ("POST /shoes HTTP/1.1\r\nHost: a\r\n" + form + "Content-Length: 2\r\n\r\n", 405),
                (post + form + "Content-Length: x\r\n\r\n", 400),
            ] {
                #expect(try edge.client().ask(request).status == status)
            }
            // HTTP/1.0 knows no 100.
            let old = try edge.client()
            try old.send("POST /postback HTTP/1.0\r\n" + form + "Content-Length: 2\r\n\r\n")
            try old.send("a=")
            #expect(try old.response().status == 400)
        }
    }

    @Test("A request split at any byte gets the same answers")
    func splits() throws {
        let request =
            get("/healthz") + post
            + "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "2;x=y\r\na=\r\n0\r\nT: u\r\n\r\n" + get("/robots.txt")
        let bytes = Array(request.utf8)
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for cut in stride(from: 1, to: bytes.count, by: 3) {
                try client.send(Array(bytes[..<cut]))
                try client.send(Array(bytes[cut...]))
                #expect(try client.response().body == "ok\n")
                #expect(try client.response().status == 400)
                #expect(try client.response().body.hasPrefix("User-agent"))
            }
        }
    }

    @Test("A client that takes no 100 is not told twice")
    func continueUnread() throws {
        let edge = try EdgeFixture()
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        let request =
            post + "Expect: 100-continue\r\nContent-Length: 2\r\n"
            + "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        try client.send(request)
        while loop.slab.count == 0 { loop.turn(milliseconds: 1000) }
        while loop.slab[0].pointee.phase != .body { loop.turn(milliseconds: 1000) }
        #expect(loop.slab[0].pointee.hasContinued)
        // As after an interim answer that had to wait for its reader.
        loop.slab[0].pointee.phase = .sending
        loop.continueSending(0)
        #expect(loop.slab[0].pointee.phase == .body)
        try client.send("a=")
        while loop.slab[0].pointee.phase == .body { loop.turn(milliseconds: 1000) }
        #expect(!loop.slab[0].pointee.hasContinued)
        loop.closeAll()
        #expect(try client.response().status == 100)
        #expect(try client.response().status == 400)
        #expect(try client.isClosed())
    }
}
