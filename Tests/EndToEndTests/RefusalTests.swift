// Bad input on the real executables: the right status or exit code, a line that says what to do, and
// nothing in the tables.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Refusals", .serialized)
struct RefusalTests {
    @Test("Malformed requests are 400 and closed, unknown slugs 404, and none is a click")
    func malformed() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            for text in [
                "GET /demo\r\n\r\n", "GET /demo HTTP/1.1\r\n\r\n",
                "GET  /demo HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /demo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                "GET /demo HTTP/1.1\nHost: a\n\n",
                "GET /demo HTTP/1.1\r\nHost : a\r\n\r\n", "\u{1}\u{2}\u{3}\r\n\r\n",
                "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ] {
                var probe = try HTTPProbe(stack.address)
                try probe.send(text)
                let answer = try probe.response()
                #expect(answer.status == 400, "\(text.debugDescription): \(answer.status)")
                #expect(try probe.isAtEnd())
            }
            var probe = try HTTPProbe(stack.address)
            #expect(try probe.request("GET", "/no-such-link").status == 404)
            #expect(try probe.request("HEAD", "/demo").status == 302)
            #expect(try probe.request("GET", "/healthz").status == 200)
            #expect(try probe.request("GET", "/favicon.ico").status == 204)
            try stack.flush()
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == 0)
        }
    }

    @Test("A forged token is 422, a bad signature 401, and neither is a sale")
    func forged() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let merchant = SampleData.merchant(2)
            let key = try stack.signingKey(merchant: merchant)
            let token = try stack.click().token
            let forged = (token.first == "A" ? "B" : "A") + token.dropFirst()
            #expect(try stack.convert(order: "F-1", token: forged).status == 422)
            let foreign = try stack.click("/s2").token
            #expect(try stack.convert(order: "F-2", token: foreign).status == 422)
            var probe = try HTTPProbe(stack.address)
            let body = "{\"merchant_id\":\"\(merchant)\",\"order_id\":\"F-3\",\"amount\":\"1\"}"
            func post(_ headers: [String], _ body: String) throws -> Int {
                try probe.request("POST", "/v1/conversions", headers: headers, body: body).status
            }
            #expect(try post(stack.signature(of: body, key: key), body + " ") == 401)
            #expect(try post(stack.signature(of: body, key: key, age: 301), body) == 401)
            #expect(try post([], body) == 401)
            let wrong = body.replacing("\"1\"", with: "\"1e3\"")
            #expect(try post(stack.signature(of: wrong, key: key), wrong) == 422)
            let unknown = body.replacing(merchant, with: "00000000-0000-4000-8000-00000000ffff")
            #expect(try post(stack.signature(of: unknown, key: key), unknown) == 404)
            let broken = "{\"merchant_id\":"
            #expect(try post(stack.signature(of: broken, key: key), broken) == 400)
            let pixel = try probe.request("GET", "/pixel.gif?merchant_id=nonsense")
            #expect(pixel.status == 200 && pixel.body.count == 43)
            try stack.flush()
            #expect(try stack.count("SELECT count(*) FROM sales") == 0)
            #expect(try stack.statistic("conversions", "rejected") >= 7)
        }
    }

    @Test(
        "Key and configuration at fault end the start with 77 or 78 and one line that says what to do"
    )
    func startRefusals() throws {
        try Stacks.with { stack in
            let clickd = "\(stack.binaries)/clickd"
            let key = "\(stack.directory)/secrets/click.key"
            func start(_ path: String) throws -> CommandResult {
                try stack.run([clickd, "run", "--config", path])
            }
            try FileSystem.setPermissions(key, 0o640)
            var result = try start(stack.configuration)
            #expect(result.code == 77 && result.output.contains("click.key"), "\(result.output)")
            try FileSystem.setPermissions(key, 0o600)
            try Array("rubbish\n".utf8).withUnsafeBytes { try FileSystem.replace(key, with: $0) }
            result = try start(stack.configuration)
            #expect(result.code == 78, "\(result.output)")
            try FileSystem.remove(key)
            for flags in [[], ["--check-config"]] {
                result = try stack.run(
                    [clickd, "run", "--config", stack.configuration] + flags)
                #expect(
                    result.code == 78 && result.output.contains("clickctl key new"),
                    "\(result.output)")
            }
            #expect(
                try stack.run([
                    "\(stack.binaries)/clickctl", "key", "new", key,
                ]).code == 0)
            stack.settings["geoip"] = "{ database: \(stack.configuration) }"
            try stack.writeConfiguration()
            result = try stack.run([
                clickd, "run", "--config", stack.configuration, "--check-config",
            ])
            #expect(result.code == 78 && result.output.contains("geoip.database"))
            #expect(try start("\(stack.directory)/none.yaml").code == 78)
            let bad = "\(stack.directory)/bad.yaml"
            let text = "node: { id: 128 }\nhttp: { listne: [] }\nring: { bytes: 1KiB }\n"
            try Array(text.utf8).withUnsafeBytes { try FileSystem.replace(bad, with: $0) }
            result = try stack.run([clickd, "run", "--config", bad, "--check-config"])
            #expect(result.code == 78)
            for place in ["bad.yaml:1:", "bad.yaml:2:", "bad.yaml:3:"] {
                #expect(result.output.contains(place), "\(result.output)")
            }
            #expect(try stack.run([clickd, "wrong"]).code == 64)
            #expect(try stack.run([clickd, "run"]).code == 64)
            #expect(try stack.run([clickd]).code == 64)
            #expect(try stack.run(["\(stack.binaries)/attributiond"]).code == 64)
        }
    }

    @Test("Operations over TCP are read-only, over the socket they answer in the contract's names")
    func operations() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let port = try #require(SocketAddress("127.0.0.1:\(Int(stack.port) + 1100)"))
            var probe = try HTTPProbe(port)
            #expect(
                try probe.request("POST", "/flush", headers: ["Connection: close"]).status == 405)
            let stats = try stack.ask("/stats").text
            for name in [
                "version", "uptime_seconds", "requests", "clicks", "recorded", "flushed", "pending",
                "dropped",
                "bots", "conversions", "rejected", "rings", "ring", "head_seq", "spooled_seq",
                "durable_seq",
                "flushed_seq", "ring_used_bytes", "spool_used_bytes", "oldest_unflushed_seconds",
                "links",
                "count", "invalid", "last_sync_age_seconds", "connections", "database", "connected",
                "last_error", "partitions_ahead",
            ] { #expect(stats.contains("\"\(name)\""), "\(name): \(stats)") }
            #expect(try stack.ask("/metrics").text.contains("clickd_"))
            #expect(try stack.ask("/healthz").status == 200)
            #expect(try stack.ask("/readyz").status == 200)
            #expect(try stack.ask("/nothing").status == 404)
        }
    }
}
