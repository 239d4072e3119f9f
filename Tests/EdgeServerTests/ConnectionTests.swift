// What a connection may do and may not, over real sockets.
import LinuxIO
import Telemetry
import Testing

@testable import EdgeServer

@Suite(.serialized) struct ConnectionTests {
    @Test("A hundred pipelined requests get a hundred answers, in order")
    func pipelining() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            var requests = ""
            for index in 0..<100 { requests += get(index % 2 == 0 ? "/robots.txt" : "/healthz") }
            try client.send(requests)
            for index in 0..<100 {
                let response = try client.response()
                #expect(response.status == 200)
                #expect(response.body.hasPrefix(index % 2 == 0 ? "User-agent" : "ok"))
            }
        }
    }

    /// Epoll tells once of what has come, so that a read that leaves something must ask again: the
    /// loop is held until more than one read's bytes wait for it.
    @Test("A client that has sent more than one read takes gets every answer without another word")
    func moreThanOneRead() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            let filling = String(repeating: "a", count: 15_000)
            let request = get("/healthz", headers: "X-Filling: \(filling)\r\n")
            // The kernel widens the window of a connection that is read fast.
            for _ in 0..<40 { #expect(try client.ask(request).status == 200) }
            for _ in 0..<10 {
                edge.server.shared.hold(0)
                defer { edge.server.shared.hold(-1) }
                let count = 2 * Limits.receiveBytes / request.utf8.count
                try client.send(String(repeating: request, count: count))
                edge.server.shared.hold(-1)
                for _ in 0..<count { #expect(try client.response().status == 200) }
            }
            client.finishSending()
            #expect(try client.isEndOfFile())
        }
    }

    @Test(
        "A request that comes together with the client's end is answered, and the connection ended")
    func requestWithEnd() throws {
        try EdgeFixture(publishing: false).run { edge in
            for _ in 0..<10 {
                let client = try edge.client()
                #expect(try client.ask(get("/healthz")).status == 200)
                edge.server.shared.hold(0)
                defer { edge.server.shared.hold(-1) }
                try client.send(get("/healthz") + get("/healthz"))
                client.finishSending()
                edge.server.shared.hold(-1)
                #expect(try client.response().status == 200)
                #expect(try client.response().status == 200)
                #expect(try client.isEndOfFile())
            }
        }
    }

    @Test("A port that another server listens on is refused, and not shared")
    func takenPort() throws {
        try EdgeFixture().run { edge in
            let error = #expect(throws: EdgeServerError.self) {
                _ = try EdgeFixture(port: edge.server.ports[0])
            }
            #expect(error?.exitCode == 73)
        }
    }

    @Test("A request may come byte by byte")
    func byteByByte() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            for _ in 0..<2 {
                for byte in get("/healthz", headers: "X-Long: abcdefghijklmnopqrstuvwxyz\r\n") {
                    try client.send(String(byte))
                }
                #expect(try client.response().status == 200)
            }
        }
    }

    @Test(
        "A malformed request is answered 400 and the connection closed",
        arguments: [
            "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n",
            "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /postback HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ])
    func malformed(request: String) throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            let response = try client.ask(request)
            #expect(response.status == 400)
            #expect(response.header("connection") == "close")
            client.finishSending()
            #expect(try client.isClosed())
        }
    }

    @Test("The answers before a malformed request are given, those behind it are not")
    func malformedInPipeline() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            try client.send(get("/healthz") + "BAD\r\n\r\n" + get("/healthz"))
            #expect(try client.response().status == 200)
            #expect(try client.response().status == 400)
            client.finishSending()
            #expect(try client.isClosed())
        }
    }

    @Test("A head past its limit is 431, and the client sees it while it still sends")
    func bigHead() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            let long = String(repeating: "x", count: 40_000)
            let response = try client.ask(get("/healthz", headers: "X-Long: \(long)\r\n"))
            #expect(response.status == 431)
            #expect(response.header("connection") == "close")
        }
    }

    @Test("HTTP/1.0 and Connection: close end the connection after the answer")
    func closing() throws {
        try EdgeFixture(publishing: false).run { edge in
            for request in [
                "GET /healthz HTTP/1.0\r\n\r\n", get("/healthz", headers: "Connection: close\r\n"),
            ] {
                let client = try edge.client()
                #expect(try client.ask(request).status == 200)
                #expect(try client.isClosed())
            }
        }
    }

    @Test("A client that ends its writing still gets its answers")
    func halfClose() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            try client.send(get("/healthz") + get("/robots.txt"))
            client.finishSending()
            #expect(try client.response().status == 200)
            #expect(try client.response().status == 200)
            #expect(try client.isClosed())
        }
    }

    @Test("A half head is answered 408 when its time is over, an idle connection just closed")
    func timeouts() throws {
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 200_000
        limits.idleTimeoutMicroseconds = 200_000
        try EdgeFixture(limits: limits, publishing: false).run { edge in
            let slow = try edge.client()
            try slow.send("GET /healthz HTTP/1.1\r\nHo")
            #expect(try slow.response().status == 408)
            let idle = try edge.client()
            #expect(try idle.ask(get("/healthz")).status == 200)
            #expect(try idle.isClosed())
            let silent = try edge.client()
            #expect(try silent.isClosed())
            #expect(edge.counters.total(.connectionsTimedOut) >= 3)
        }
    }

    @Test("A reader that does not read is not buffered for without end")
    func slowReader() throws {
        var limits = EdgeLimits()
        limits.idleTimeoutMicroseconds = 20_000_000
        try EdgeFixture(limits: limits, publishing: false).run { edge in
            let client = try edge.client()
            // More answers than all the sockets' buffers hold: the server must stop reading, so
            // that this thread's writes stop too; a second thread would only hide that.
            let request = get("/t.js")
            var sent = 0
            for _ in 0..<400 {
                try client.send(request)
                sent += 1
            }
            for _ in 0..<sent { #expect(try client.response().status == 200) }
        }
    }

    @Test("OPTIONS tells the methods, an unknown method is 405")
    func methods() throws {
        try EdgeFixture(publishing: false).run { edge in
            let client = try edge.client()
            let options = try client.ask(get("/postback", method: "OPTIONS"))
            #expect(options.status == 204)
            #expect(options.header("allow") == "GET, POST, OPTIONS")
            let delete = try client.ask(get("/shoes", method: "DELETE"))
            #expect(delete.status == 405)
            #expect(delete.header("allow") != nil)
            #expect(try client.ask(get("/.well-known/x")).status == 404)
            #expect(try client.ask(get("/favicon.ico")).status == 204)
        }
    }
}
