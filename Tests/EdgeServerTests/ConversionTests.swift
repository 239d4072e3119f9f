// Conversions over real sockets: bodies in every shape, and no 200 before the disk has the record.
import EdgeCore
import LinuxIO
import RingLog
import TLS
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

private let proven = "merchant_id=\(Known.merchant)&token=\(Known.postbackToken)"

private func postback(_ order: String, amount: String = "10.00", headers: String = "") -> String {
    get("/postback?\(proven)&order_id=\(order)&amount=\(amount)", headers: headers)
}

private func form(_ body: String, headers: String) -> String {
    "POST /postback HTTP/1.1\r\nHost: go.example\r\n"
        + "Content-Type: application/x-www-form-urlencoded\r\n\(headers)\r\n\(body)"
}

/// A signed message with id `msg-1`.
private func signed(_ body: String) -> String {
    let time = SystemClock.wallMicroseconds() / 1_000_000
    let mac = OpenSSLDigests().hmacSHA256(
        key: Known.signingKey, message: Array("msg-1.\(time).\(body)".utf8))
    return "POST /v1/conversions HTTP/1.1\r\nHost: go.example\r\n"
        + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
        + "webhook-id: msg-1\r\nwebhook-timestamp: \(time)\r\n"
        + "webhook-signature: v1,\(Base64.encode(mac))\r\n\r\n\(body)"
}

@Suite(.serialized) struct ConversionTests {
    @Test("A conversion is answered 200 and is durable by then; again, the same answer")
    func accepted() throws {
        try EdgeFixture(syncMicroseconds: 1_000_000).run { edge in
            let client = try edge.client()
            let first = try client.ask(postback("A1"))
            #expect(first.status == 200)
            #expect(first.body.hasPrefix("{\"status\":\"accepted\",\"conversion_id\":\""))
            #expect(first.header("content-type") == "application/json")
            #expect(edge.store.rings[0].durableSequence >= 1)
            #expect(try client.ask(postback("A1")).body == first.body)
            #expect(edge.counters.total(.conversionsRecorded) == 2)
        }
    }

    @Test("The answer waits for the sync, and requests behind it wait with it")
    func parks() throws {
        let edge = try EdgeFixture()
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        try client.send(postback("A1") + get("/healthz"))
        // No spooler runs: nothing can become durable.
        while loop.slab.count == 0 { loop.turn(milliseconds: 1000) }
        while loop.slab[0].pointee.phase == .fresh { loop.turn(milliseconds: 1000) }
        let phase = loop.slab[0].pointee.phase
        let kept = loop.slab[0].pointee.inputCount
        #expect(phase == .parked)
        #expect(kept == UInt32(get("/healthz").utf8.count))
        #expect(edge.store.rings[0].headSequence == 1)
        #expect(edge.store.rings[0].durableSequence == 0)
        try edge.store.startSpooler()
        while loop.slab[0].pointee.phase == .parked { loop.turn(milliseconds: 1000) }
        #expect(edge.store.rings[0].durableSequence == 1)
        let answer = try client.response()
        #expect(answer.status == 200)
        #expect(answer.body.contains("accepted"))
        #expect(try client.response().body == "ok\n")
        loop.closeAll()
        edge.store.stopSpooler()
    }

    @Test("Past commit_wait the answer is 503 with Retry-After, and the connection ends")
    func commitWait() throws {
        var limits = EdgeLimits()
        limits.commitWaitMicroseconds = 50_000
        let edge = try EdgeFixture(limits: limits)
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        try client.send(postback("A1"))
        var hasParked = false
        while !hasParked || loop.slab[0].pointee.phase == .parked {
            loop.turn(milliseconds: 125)
            hasParked = hasParked || loop.slab.count > 0 && loop.slab[0].pointee.phase == .parked
        }
        let answer = try client.response()
        #expect(answer.status == 503)
        #expect(answer.header("retry-after") != nil)
        loop.closeAll()
    }

    @Test("A parked client that goes away leaves nothing behind")
    func parkedClientLeaves() throws {
        let edge = try EdgeFixture()
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        do {
            let client = try edge.client()
            try client.send(postback("A1"))
            while loop.parked.isEmpty { loop.turn(milliseconds: 1000) }
            withExtendedLifetime(client) {}
        }
        try edge.store.startSpooler()
        while !loop.parked.isEmpty { loop.turn(milliseconds: 1000) }
        while loop.slab.count > 0 { loop.turn(milliseconds: 125) }
        let used = loop.pool.usedBytes
        #expect(used == 0)
        edge.store.stopSpooler()
    }

    @Test("A body may come by length or in chunks, whole or byte by byte")
    func bodies() throws {
        try EdgeFixture().run { edge in
            let body = "\(proven)&order_id=B1&amount=5.00"
            let half = body.utf8.count / 2
            let chunks =
                "\(String(half, radix: 16))\r\n\(body.prefix(half))\r\n"
                + "\(String(body.utf8.count - half, radix: 16));x=y\r\n\(body.dropFirst(half))\r\n0\r\n\r\n"
            let byLength = form(body, headers: "Content-Length: \(body.utf8.count)\r\n")
            let inChunks = form(chunks, headers: "Transfer-Encoding: chunked\r\n")
            var answers: Set<String> = []
            for request in [byLength, inChunks] {
                let client = try edge.client()
                let whole = try client.ask(request + get("/healthz"))
                #expect(whole.status == 200)
                #expect(try client.response().body == "ok\n")
                answers.insert(whole.body)
                for byte in request { try client.send(String(byte)) }
                answers.insert(try client.response().body)
                #expect(try client.ask(get("/healthz")).body == "ok\n")
            }
            #expect(answers.count == 1)
            #expect(answers.first?.contains("accepted") == true)
        }
    }

    @Test("Expect: 100-continue is answered before the body comes")
    func expects() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            let body = "\(proven)&order_id=C1&amount=5.00"
            try client.send(
                form(
                    "", headers: "Content-Length: \(body.utf8.count)\r\nExpect: 100-continue\r\n"))
            #expect(try client.response().status == 100)
            #expect(try client.ask(body).status == 200)
        }
    }

    @Test("A body past its limit is 413 and the connection closed, announced or not")
    func tooLarge() throws {
        var limits = EdgeLimits()
        limits.bodyBytes = 1000
        try EdgeFixture(limits: limits).run { edge in
            let long = String(repeating: "x", count: 1001)
            for request in [
                form(long, headers: "Content-Length: 1001\r\n"),
                form("", headers: "Content-Length: 1001\r\nExpect: 100-continue\r\n"),
                form("", headers: "Content-Length: 999999999999\r\n"),
                form("3e9\r\n\(long)\r\n0\r\n\r\n", headers: "Transfer-Encoding: chunked\r\n"),
                form(
                    "3E8\r\n\(long.dropFirst())\r\n1\r\n", headers: "Transfer-Encoding: chunked\r\n"
                ),
            ] {
                let client = try edge.client()
                let response = try client.ask(request)
                #expect(response.status == 413)
                #expect(response.header("connection") == "close")
                client.finishSending()
                #expect(try client.isClosed())
            }
        }
    }

    @Test("The largest body that is allowed is judged, not cut")
    func largest() throws {
        try EdgeFixture().run { edge in
            let start = "\(proven)&order_id=D1&amount=5.00&pad="
            let body = start + String(repeating: "x", count: (64 << 10) - start.utf8.count)
            let client = try edge.client()
            #expect(
                try client.ask(form(body, headers: "Content-Length: \(64 << 10)\r\n")).status == 200
            )
            #expect(try client.ask(get("/healthz")).status == 200)
        }
    }

    @Test("What is refused says why and is recorded for the intake log only")
    func refused() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            let missing = try client.ask(get("/postback?\(proven)&amount=1.00"))
            #expect(missing.status == 400)
            #expect(missing.body.contains("order_id"))
            let forged = String(repeating: "A", count: 22)
            let token = try client.ask(postback("E1&click_id=\(forged)"))
            #expect(token.status == 422)
            #expect(try client.ask(get("/postback?order_id=1&amount=1.00")).status == 400)
            #expect(
                try client.ask(
                    get("/postback?merchant_id=\(Known.merchant)&order_id=1&amount=1.00")
                ).status == 401)
            #expect(edge.counters.total(.conversionsRejected) == 4)
            #expect(edge.counters.total(.conversionsRecorded) == 0)
        }
    }

    @Test("The pixel answers its image, whatever becomes of the claim")
    func pixel() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            for target in [
                "/pixel.gif?merchant_id=\(Known.merchant)&order_id=P1&amount=3.00", "/pixel.gif",
                "/pixel.gif?%zz",
            ] {
                try client.send(get(target))
                let response = try client.response()
                #expect(response.status == 200)
                #expect(response.header("content-type") == "image/gif")
                #expect(response.header("content-length") == "43")
                #expect(response.header("cache-control") == "no-store")
            }
            #expect(edge.counters.total(.requestsPixel) == 3)
            #expect(edge.counters.total(.conversionsRecorded) == 1)
        }
    }

    @Test("HEAD of the pixel gets the image's head and claims nothing")
    func pixelHead() throws {
        try EdgeFixture().run { edge in
            let client = try edge.client()
            let target = "/pixel.gif?merchant_id=\(Known.merchant)&order_id=A1&amount=5"
            try client.send(get(target, method: "HEAD"))
            let answer = try client.response(withoutBody: true)
            #expect(answer.status == 200)
            #expect(answer.header("content-length") == "43")
            #expect(edge.counters.total(.conversionsRecorded) == 0)
            #expect(try client.ask(get("/healthz")).status == 200)
        }
    }

    @Test("A thousand chunked messages in one write are answered in order, without recursion")
    func pipelinedChunks() throws {
        let request =
            "POST /v1/conversions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "0\r\n\r\n"
        let count = 1000
        try EdgeFixture().run { edge in
            let client = try edge.client()
            try client.send(String(repeating: request, count: count))
            for _ in 0..<count { #expect(try client.response().status == 400) }
            #expect(try client.ask(get("/healthz")).body == "ok\n")
        }
    }

    @Test("A signed message's id with another body is 409, on whichever loop it comes")
    func messageReuse() throws {
        try EdgeFixture(workers: 2).run { edge in
            let one =
                "{\"merchant_id\":\"\(Known.merchant)\",\"order_id\":\"S1\",\"amount\":\"9.00\"}"
            let other = one.replacing("9.00", with: "8.00")
            for _ in 0..<4 {
                let first = try edge.client().ask(signed(one))
                let second = try edge.client().ask(signed(other))
                #expect(first.status == 200)
                #expect(second.status == 409)
            }
        }
    }

    @Test("A restart does not forget the ids of signed messages")
    func messageReuseAfterRestart() throws {
        let one =
            "{\"merchant_id\":\"\(Known.merchant)\",\"order_id\":\"S1\",\"amount\":\"9.00\"}"
        let owner = try EdgeFixture(publishing: false)
        let path = "\(owner.path)/again"
        try EdgeFixture(at: path).run { edge in
            let first = try edge.client().ask(signed(one))
            #expect(first.status == 200)
        }
        try EdgeFixture(at: path).run { edge in
            edge.server.recallMessages()
            let other = try edge.client().ask(signed(one.replacing("9.00", with: "8.00")))
            #expect(other.status == 409)
            let same = try edge.client().ask(signed(one))
            #expect(same.status == 200)
        }
    }

    @Test("Many conversions over many connections are answered, each by one sync or a shared one")
    func groupCommit() throws {
        try EdgeFixture(workers: 2).run { edge in
            let clients = try (0..<50).map { _ in try edge.client() }
            for (index, client) in clients.enumerated() {
                try client.send((0..<4).map { postback("G\(index)-\($0)") }.joined())
            }
            for client in clients {
                for _ in 0..<4 { #expect(try client.response().status == 200) }
            }
            #expect(edge.counters.total(.conversionsRecorded) == 200)
        }
    }
}
