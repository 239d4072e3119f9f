// Who the client is and how fast it may go, on the real executables: what a proxy says ends up in the
// rows, and a client that clicks too fast is redirected and marked.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Clients behind proxies", .serialized)
struct ClientAddressTests {
    @Test("The address of a PROXY header is the visitor's, and HTTP without one is closed")
    func proxyHeader() throws {
        let settings = ["proxy": "{ trusted: [127.0.0.0/8], protocol: v1 }"]
        try Stacks.with(settings: settings) { stack in
            try stack.startClickd()
            var probe = try HTTPProbe(stack.address)
            try probe.send("PROXY TCP4 198.51.100.77 127.0.0.1 5000 80\r\n")
            #expect(try probe.request("GET", "/demo", headers: LoadGenerator.browser).status == 302)
            #expect(try probe.request("GET", "/demo", headers: LoadGenerator.browser).status == 302)
            var bare = try HTTPProbe(stack.address)
            try bare.send("GET /demo HTTP/1.1\r\nHost: a\r\n\r\n")
            let isClosed = (try? bare.isAtEnd()) ?? true
            #expect(isClosed)
            try stack.flush()
            #expect(
                try stack.count("SELECT count(*) FROM clicks_logs WHERE ip <<= '198.51.100.0/24'")
                    == 2)
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == 2)
        }
    }

    @Test(
        "Clicks too fast from one forwarded address are marked, all are redirected, others are not")
    func velocity() throws {
        try Stacks.with(settings: ["proxy": "{ trusted: [127.0.0.0/8] }"]) { stack in
            try stack.startClickd()
            let browser = LoadGenerator.browser.map { $0 + "\r\n" }.joined()
            func visit(_ address: String) -> String {
                "GET /demo HTTP/1.1\r\nHost: localhost\r\n\(browser)X-Forwarded-For: \(address)\r\n\r\n"
            }
            var probe = try HTTPProbe(stack.address)
            // A burst is 10,000 and a second brings 1,000 more: of 30,000 some are too many, however
            // slow the machine.
            for _ in 0..<300 {
                try probe.send(String(repeating: visit("198.51.100.1"), count: 100))
                for _ in 0..<100 { #expect(try probe.response().status == 302) }
            }
            try probe.send(visit("203.0.113.5"))
            #expect(try probe.response().status == 302)
            try stack.flush()
            let marked = try stack.count(
                "SELECT count(*) FROM clicks_logs WHERE invalid_reason = 'velocity'")
            #expect(marked > 0 && marked <= 20_000)
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == 30_001)
            #expect(
                try stack.count(
                    "SELECT count(*) FROM clicks_logs WHERE ip <<= '203.0.113.0/24' "
                        + "AND invalid_reason IS NULL") == 1)
        }
    }
}
