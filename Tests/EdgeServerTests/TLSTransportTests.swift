// The tests of plain connections and conversions again, over TLS: what lies inside must not differ.
import LinuxIO
import Telemetry
import Testing

@testable import EdgeServer

@Suite(.serialized) struct TLSTransportTests {
    private func overTLS(_ body: () throws -> Void) rethrows {
        try Transport.$current.withValue(.tls) { try body() }
    }

    @Test("Pipelines, split requests and malformed ones are served over TLS as in the clear")
    func requests() throws {
        let tests = ConnectionTests()
        try overTLS {
            try tests.pipelining()
            try tests.byteByByte()
            try tests.malformedInPipeline()
            try tests.methods()
            for request in ["GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
                try tests.malformed(request: request)
            }
        }
    }

    @Test("What is refused in the clear is refused over TLS")
    func refusals() throws {
        let tests = HTTPStrictnessTests()
        try overTLS {
            for refusal in HTTPStrictnessTests.refusals where refusal.request.utf8.count < 200 {
                try tests.refused(refusal)
            }
            try tests.continues()
            try tests.splits()
        }
    }

    @Test("Limits and endings hold over TLS as in the clear")
    func endings() throws {
        let tests = ConnectionTests()
        try overTLS {
            try tests.bigHead()
            try tests.closing()
            try tests.halfClose()
            try tests.timeouts()
            try tests.slowReader()
        }
    }

    @Test("Past the limit of connections the idle TLS client gives way")
    func connectionLimit() throws {
        var limits = EdgeLimits()
        limits.connections = 1
        try overTLS {
            try EdgeFixture(limits: limits, publishing: false).run { edge in
                let one = try edge.client()
                #expect(try one.ask(get("/healthz")).status == 200)
                let two = try edge.client()
                #expect(try two.ask(get("/healthz")).status == 200)
                #expect(throws: (any Error).self) { _ = try one.ask(get("/healthz")) }
                #expect(edge.counters.total(.connectionsGivenWay) == 1)
            }
        }
    }
}

extension TLSTransportTests {
    @Test("Conversions are taken over TLS as in the clear")
    func conversions() throws {
        let tests = ConversionTests()
        try overTLS {
            try tests.accepted()
            try tests.bodies()
            try tests.expects()
            try tests.tooLarge()
            try tests.largest()
            try tests.pipelinedChunks()
            try tests.groupCommit()
        }
    }

    @Test("Clicks are recorded over TLS, and a drain loses none")
    func clicks() throws {
        let tests = RedirectTests()
        try overTLS {
            try tests.pipelining()
            try tests.byteByByte()
            try tests.drain()
        }
    }

    @Test("Hundreds of answers to one write reach a reader that comes later")
    func laterReader() throws {
        try overTLS {
            try EdgeFixture(publishing: false).run { edge in
                let client = try edge.client()
                // Two records of requests; most of them wait inside the session while the first
                // answers wait for the reader.
                try client.send(String(repeating: get("/t.js"), count: 500))
                for _ in 0..<500 { #expect(try client.response().status == 200) }
                #expect(try client.ask(get("/healthz")).body == "ok\n")
            }
        }
    }

    @Test("Conversions that fill more than a record in one write are all answered")
    func manyConversions() throws {
        try overTLS {
            try EdgeFixture().run { edge in
                let client = try edge.client()
                let known = "merchant_id=\(Known.merchant)&token=\(Known.postbackToken)&amount=1.00"
                let requests = (0..<200).map { get("/postback?\(known)&order_id=many-\($0)") }
                let text = requests.joined()
                #expect(text.utf8.count > 20_000)
                try client.send(text)
                for _ in requests { #expect(try client.response().status == 200) }
                #expect(edge.counters.total(.conversionsRecorded) == requests.count)
            }
        }
    }
}
