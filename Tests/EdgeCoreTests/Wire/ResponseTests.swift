// Fixed answers, the Date header and the routes.
import EdgeCore
import Testing
import Tracking

@Suite("Answers and routes")
struct ResponseTests {
    private func write(
        _ status: UInt16, _ text: StaticString = "", _ options: ResponseOptions = ResponseOptions(),
        closing: Bool = false, omittingBody: Bool = false, room: Int = 2048
    ) -> String {
        var clock = LoopClock()
        clock.update(wallMicroseconds: 784_111_777_999_999)
        var bytes = [UInt8](repeating: 0, count: room)
        let count = bytes.withUnsafeMutableBytes {
            FixedResponse.write(
                status: status, text: text, options: options, closing: closing,
                omittingBody: omittingBody, clock: clock, to: $0)
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    @Test("A fixed answer is whole: status, date, headers, length, body")
    func whole() {
        let options = ResponseOptions(
            contentType: "text/plain", cacheControl: "no-store", allow: "GET", retryAfterSeconds: 12
        )
        #expect(
            write(503, "later\n", options, closing: true) == """
                HTTP/1.1 503 Service Unavailable\r
                Date: Sun, 06 Nov 1994 08:49:37 GMT\r
                Content-Type: text/plain\r
                Cache-Control: no-store\r
                Allow: GET\r
                Retry-After: 12\r
                Connection: close\r
                Content-Length: 6\r
                \r
                later

                """)
    }

    @Test("HEAD gets the length without the body, 204 neither")
    func lengths() {
        #expect(write(200, "body", omittingBody: true).hasSuffix("Content-Length: 4\r\n\r\n"))
        #expect(!write(204).contains("Content-Length"))
        #expect(write(204).hasSuffix("\r\n\r\n"))
    }

    @Test("An answer that does not fit is not written at all")
    func tooSmall() {
        #expect(write(200, "body", room: 60) == "")
    }

    @Test("The date follows the clock, day and month names too")
    func dates() {
        var clock = LoopClock()
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] as [(Int64, String)] {
            clock.update(wallMicroseconds: seconds * 1_000_000)
            var bytes = [UInt8](repeating: 0, count: 512)
            let count = bytes.withUnsafeMutableBytes {
                FixedResponse.write(status: 204, closing: false, clock: clock, to: $0)
            }
            let text = String(decoding: bytes[..<count], as: UTF8.self)
            #expect(text.contains("\r\nDate: \(date)\r\n"))
        }
    }

    private func route(_ method: String, _ target: String) -> Route {
        let text = "\(method) \(target) HTTP/1.1\r\nHost: a\r\n\r\n"
        var (verdict, head) = WireText.parse(text)
        #expect(verdict == .complete)
        return Array(text.utf8).withUnsafeBytes { Router.route(&head, $0) }
    }

    static let reserved: [(String, Route)] = [
        ("/pixel.gif?x", .pixel), ("/postback", .postback), ("/t.js", .snippet),
        ("/robots.txt", .robots), ("/favicon.ico", .favicon), ("/healthz?a", .health),
        ("/.well-known/acme", .wellKnown), ("/.well-known", .wellKnown), ("/v1/x", .notFound),
        ("/v1", .notFound), ("/v1/conversions", .methodNotAllowed(allow: .write)),
    ]

    @Test("Reserved paths are never looked up as links", arguments: reserved)
    func reservedPaths(_ target: String, _ expected: Route) {
        #expect(route("GET", target) == expected)
    }

    @Test(
        "Everything else is a link",
        arguments: ["/", "/a", "/Pixel.gif", "/postbacks", "/v1x", "/a/b"])
    func links(_ target: String) {
        guard case .redirect = route("GET", target) else {
            Issue.record("\(target) is no link")
            return
        }
    }

    @Test("A method that a path does not have is 405 with what it has")
    func methods() {
        #expect(route("POST", "/a") == .methodNotAllowed(allow: .read))
        #expect(route("DELETE", "/a") == .methodNotAllowed(allow: .read))
        #expect(route("get", "/a") == .methodNotAllowed(allow: .read))
        #expect(route("POST", "/pixel.gif") == .methodNotAllowed(allow: .read))
        #expect(route("HEAD", "/postback") == .methodNotAllowed(allow: .readWrite))
        #expect(route("POST", "/postback") == .postback)
        #expect(route("POST", "/v1/conversions") == .conversions)
        #expect(route("PUT", "/v1/conversions") == .methodNotAllowed(allow: .write))
        #expect(route("OPTIONS", "/a") == .options(allow: .read))
        #expect(route("OPTIONS", "*") == .options(allow: .any))
        #expect("\(AllowedMethods.read.header)" == "GET, HEAD, OPTIONS")
    }
}
