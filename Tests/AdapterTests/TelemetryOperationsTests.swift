// The operations endpoint: its parser, and the server over real sockets.
import LinuxIO
import Testing
import Tracking

@testable import Telemetry

@Suite("Telemetry: parsing operations requests")
struct TelemetryOperationsParserTests {
    private func parse(_ text: String) -> OperationsHTTP.Parsed {
        OperationsHTTP.parse(Array(text.utf8), overUnixSocket: true)
    }

    @Test("A request is parsed, its query decoded once")
    func request() {
        let text = "GET /links/a%20b?host=x&q=1+2&e=%26&flag HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"
        let expected = OperationsRequest(
            method: .get, path: "/links/a b",
            query: [
                .init(name: "host", value: "x"), .init(name: "q", value: "1 2"),
                .init(name: "e", value: "&"), .init(name: "flag", value: ""),
            ], overUnixSocket: true)
        #expect(parse(text) == .request(expected, totalBytes: text.utf8.count))
        #expect(expected.parameter("q") == "1 2")
        #expect(expected.parameter("none") == nil)
    }

    @Test("Every cut of a request needs more")
    func cuts() {
        let text = Array("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
        for end in 0..<text.count {
            #expect(
                OperationsHTTP.parse(Array(text[..<end]), overUnixSocket: false) == .needMore)
        }
    }

    @Test(
        "What is not exactly HTTP is refused",
        arguments: [
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
            ("\r\n\r\n", 400), (" / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\0\r\n\r\n", 400),
            ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ])
    func refusals(text: String, status: Int) {
        #expect(parse(text) == .refused(status: status))
    }

    @Test("A head past its limits is refused, one at the limit is not")
    func limits() {
        func request(fill: Int) -> String {
            "GET / HTTP/1.1\r\nHost: x\r\nA: \(String(repeating: "a", count: fill))\r\n\r\n"
        }
        let overhead = request(fill: 0).utf8.count
        let limit = OperationsHTTP.Limits.headBytes
        guard case .request = parse(request(fill: limit - overhead)) else {
            Issue.record("a head of the largest size was refused")
            return
        }
        #expect(parse(request(fill: limit - overhead + 1)) == .refused(status: 431))
        #expect(parse(String(repeating: "a", count: limit)) == .refused(status: 431))
        let many = String(repeating: "A: b\r\n", count: OperationsHTTP.Limits.headers)
        #expect(parse("GET / HTTP/1.1\r\nHost: x\r\n\(many)\r\n") == .refused(status: 431))
    }

    @Test("Random bytes never trap the parser")
    func randomBytes() {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("GET /?=&%+ HTTP/1.1\r\n\r\nHost: Content-Length0\0\u{7F}é".utf8)
        for _ in 0..<2000 {
            let count = Int.random(in: 0..<120, using: &generator)
            let bytes = (0..<count).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
            _ = OperationsHTTP.parse(bytes, overUnixSocket: false)
            _ = OperationsHTTP.parse(bytes + Array("\r\n\r\n".utf8), overUnixSocket: false)
        }
    }
}

@Suite("Telemetry: the operations server")
struct TelemetryOperationsServerTests {
    private struct Echo: OperationsHandler {
        func respond(to request: OperationsRequest) -> OperationsResponse {
            .text("\(request.method.rawValue) \(request.path) \(request.overUnixSocket)")
        }
    }

    private final class Client {
        let fd: FileDescriptor
        init(unix path: String) throws { fd = try Socket.connect(unix: path, timeoutSeconds: 10) }
        init(_ address: SocketAddress) throws {
            fd = try Socket.connect(address, timeoutSeconds: 10)
        }

        func exchange(_ text: String) -> String {
            var request = text
            _ = request.withUTF8 { Socket.send(fd.rawValue, UnsafeRawBufferPointer($0)) }
            return readAll()
        }

        func readAll() -> String {
            var bytes: [UInt8] = []
            let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 1)
            defer { chunk.deallocate() }
            while true {
                let count = Socket.receive(fd.rawValue, chunk)
                guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
                bytes.append(contentsOf: chunk[..<count])
            }
        }
    }

    private func temporaryPath() -> String {
        "/tmp/clickd-ops-\(CurrentProcess.id)-\(UInt64.random(in: 0...UInt64.max)).sock"
    }

    @Test("The Unix socket is 0660, answers GET, HEAD and POST, and is gone after stop")
    func unixSocket() throws {
        let path = temporaryPath()
        let server = try OperationsServer(unixPath: path, tcp: [], handler: Echo())
        try server.start()
        #expect(try FileSystem.status(path).permissions == 0o660)
        for method in ["GET", "POST", "HEAD"] {
            let answer = try Client(unix: path).exchange(
                "\(method) /stats HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(answer.hasSuffix("\(method) /stats true\n") == (method != "HEAD"))
        }
        server.stop()
        #expect(!FileSystem.exists(path))
        #expect(throws: Errno.self) { try Client(unix: path) }
    }

    @Test("TCP reads and never posts")
    func tcp() throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let server = try OperationsServer(unixPath: nil, tcp: [address], handler: Echo())
        try server.start()
        defer { server.stop() }
        let bound = try #require(SocketAddress("127.0.0.1:\(server.tcpPorts[0])"))
        let read = try Client(bound).exchange("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(read.hasSuffix("GET /x false\n"))
        let refused = try Client(bound).exchange("POST /flush HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(refused.hasPrefix("HTTP/1.1 405 "))
        #expect(try Client(bound).exchange("nonsense\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
    }

    @Test("A taken port and a path too long are refused with the address")
    func refusals() throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let server = try OperationsServer(unixPath: nil, tcp: [address], handler: Echo())
        defer { server.stop() }
        let taken = try #require(SocketAddress("127.0.0.1:\(server.tcpPorts[0])"))
        let error = #expect(throws: OperationsServerError.self) {
            try OperationsServer(unixPath: nil, tcp: [taken], handler: Echo())
        }
        #expect(error?.address == taken.description)
        #expect(error?.exitCode == 73)
        let long = "/tmp/" + String(repeating: "x", count: 120)
        #expect(throws: OperationsServerError.self) {
            try OperationsServer(unixPath: long, tcp: [], handler: Echo())
        }
    }

    @Test("A file that is no socket and a socket that is in use stay what they are")
    func occupiedPath() throws {
        let path = temporaryPath()
        let precious: [UInt8] = [1, 2, 3]
        try precious.withUnsafeBytes { try FileSystem.replace(path, with: $0) }
        defer { try? FileSystem.remove(path) }
        #expect(throws: OperationsServerError.self) {
            try OperationsServer(unixPath: path, tcp: [], handler: Echo())
        }
        #expect(try FileSystem.read(path, limit: 10) == precious)
        try FileSystem.remove(path)
        let server = try OperationsServer(unixPath: path, tcp: [], handler: Echo())
        try server.start()
        defer { server.stop() }
        let error = #expect(throws: OperationsServerError.self) {
            try OperationsServer(unixPath: path, tcp: [], handler: Echo())
        }
        #expect(error?.exitCode == 73)
        #expect(
            try Client(unix: path).exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .hasPrefix("HTTP/1.1 200 OK\r\n"))
    }

    @Test("The connection past the limit is answered 503, those within it are served")
    func connectionLimit() throws {
        let path = temporaryPath()
        let server = try OperationsServer(unixPath: path, tcp: [], handler: Echo())
        try server.start()
        defer { server.stop() }
        // Connections are accepted in order, so these hold every place before the next comes.
        var held = try (0..<OperationsServer.Limits.connections).map { _ in
            try Client(unix: path)
        }
        #expect(try Client(unix: path).readAll().hasPrefix("HTTP/1.1 503 "))
        let first = held.removeFirst()
        #expect(first.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("200 OK"))
        held.removeAll()
    }
}
