// A real edge in this process, on a port of the kernel's choice, and a client that speaks bytes.
import EdgeCore
import LinuxIO
import RingLog
import TLS
import Telemetry
import Tracking

@testable import EdgeServer

/// A fixture's failure, in words.
struct FixtureError: Error, CustomStringConvertible {
    let description: String
}

/// Keys and identities that the tests know.
enum Known {
    static let key = SipHashKey(first: 1, second: 2)
    static let merchant = EntityID(high: 0x1111, low: 0x2222)
    static let influencer = EntityID(high: 0x3333, low: 0x4444)
    static let link = EntityID(high: 0x5555, low: 0x6666)
    static let postbackToken = "a-token-of-enough-bytes"
    static let signingKey = Array("a signing key of enough bytes".utf8)
}

/// What clients of the fixture speak.
enum Transport {
    case plain
    case tls
    /// What the running test speaks; suites set it around the tests that they borrow.
    @TaskLocal static var current = Transport.plain
}

/// An edge over a ring and a spool of its own.
final class EdgeFixture {
    let path: String
    private let isOwner: Bool
    let store: RingLogStore
    let server: EdgeServer
    let counters: EdgeCounters
    let directory: EdgeDirectory
    let tickets = TLSTicketKeys()

    init(
        limits: EdgeLimits = EdgeLimits(), workers: Int = 1, publishing: Bool = true,
        claiming: Bool = true, ringBytes: Int = 4 << 20, syncMicroseconds: Int64 = 100_000,
        at given: String? = nil, port: UInt16 = 0, inherited: InheritedSockets = .none,
        adopted: [InheritedConnection] = [],
        configure: (inout EdgeServerOptions) -> Void = { _ in }
    ) throws {
        let random = Randomness.bytes(8).reduce(into: "") { $0 += String($1, radix: 16) }
        path = given ?? "/dev/shm/clickd-edge-test-\(random)"
        isOwner = given == nil
        store = try RingLogStore(
            node: 1, workers: workers,
            ring: RingOptions(directory: "\(path)/ring", bytes: ringBytes),
            spool: SpoolOptions(
                directory: "\(path)/spool", segmentBytes: 4 << 20, quotaBytes: 256 << 20,
                syncMicroseconds: syncMicroseconds, retainMicroseconds: 60_000_000))
        if claiming { try store.markClaimed() }
        counters = EdgeCounters(loops: workers)
        directory = EdgeDirectory(loops: workers)
        if publishing { directory.publish(try EdgeFixture.tables()) }
        guard let anyPort = SocketAddress("127.0.0.1:\(port)") else {
            throw FixtureError(description: "no address")
        }
        var options = EdgeServerOptions(
            listen: [anyPort], workers: workers, clickKey: Known.key, verifyKeys: [Known.key],
            limits: limits)
        options.inherited = inherited
        options.adopted = adopted
        if Transport.current == .tls { options.listenTLS = [anyPort] }
        configure(&options)
        server = try EdgeServer(
            options: options, store: store, directory: directory, counters: counters)
        if Transport.current == .tls {
            server.replaceTLS(
                try TLSContext(Certificates.twins(), tickets: tickets, loops: workers))
        }
    }

    deinit { if isOwner { try? FileSystem.removeTree(path) } }

    /// Starts spooler and loops.
    func start() throws {
        try store.startSpooler()
        try server.start()
    }

    /// Drains loops and spooler.
    func stop() {
        server.drain()
        store.stopSpooler()
    }

    /// Starts, runs `body`, and stops whatever happens.
    func run(_ body: (EdgeFixture) throws -> Void) throws {
        try start()
        defer { stop() }
        try body(self)
    }

    static func tables() throws -> EdgeTables {
        guard let euro = Currency("EUR") else { throw FixtureError(description: "no euro") }
        var merchant = MerchantDefinition(id: Known.merchant, currency: euro)
        merchant.postbackToken = Array(Known.postbackToken.utf8)
        merchant.signingSecret = Array("whsec_\(Base64.encode(Known.signingKey))".utf8)
        var link = LinkDefinition(
            id: Known.link, merchantID: Known.merchant, influencerID: Known.influencer,
            slug: Array("shoes".utf8), destination: Array("https://shop.example/shoes".utf8))
        link.forwardsQuery = true
        let (links, _) = LinkTable.build(
            links: [link], merchants: [merchant], domains: [],
            seed: SipHashKey(first: 3, second: 4))
        return EdgeTables(
            links: links, overlay: nil, merchants: MerchantDirectory([merchant]),
            visitorKeys: VisitorKeys(),
            merchantsAsOf: Timestamp(microseconds: SystemClock.wallMicroseconds()))
    }

    func client(from source: String? = nil) throws -> RawClient {
        switch Transport.current {
        case .plain: try RawClient(port: server.ports[0], from: source)
        case .tls: try RawClient(port: server.ports[1], context: Certificates.client())
        }
    }
}

/// An HTTP answer as it came.
struct RawResponse {
    var status: Int
    var head: String
    var body: String

    func header(_ name: String) -> String? {
        for line in head.split(separator: "\r\n") where line.lowercased().hasPrefix(name + ": ") {
            return String(line.dropFirst(name.count + 2))
        }
        return nil
    }
}

/// A blocking connection that sends what it is told and splits what it hears into answers.
final class RawClient {
    /// Of nothing, where ``tls`` has its own.
    private let socket: FileDescriptor
    private let tls: TLSClient?
    private var heard: [UInt8] = []

    init(port: UInt16, from source: String? = nil) throws {
        guard let address = SocketAddress("127.0.0.1:\(port)") else {
            throw FixtureError(description: "no address")
        }
        socket = try Socket.connect(
            address, timeoutSeconds: 20, from: source.flatMap { SocketAddress("\($0):0") })
        tls = nil
    }

    init(
        port: UInt16, context: TLSClientContext, name: String? = nil,
        session: TLSClientSession? = nil, preamble: [UInt8] = []
    ) throws {
        guard let address = SocketAddress("127.0.0.1:\(port)") else {
            throw FixtureError(description: "no address")
        }
        socket = try FileDescriptor.open("/dev/null", .read)
        let connected = try Socket.connect(address, timeoutSeconds: 20)
        try preamble.withUnsafeBytes { try connected.writeAll($0) }
        tls = try TLSClient(connected, context: context, name: name, session: session)
    }

    /// The TLS connection.
    func secured() throws -> TLSClient {
        guard let tls else { throw FixtureError(description: "not TLS") }
        return tls
    }

    /// Offers the server a window of so many bytes, as small a one as the kernel lets it if not told.
    func shrinkWindow(bytes: Int = 1) { Socket.setReceiveBuffer(socket.rawValue, bytes: bytes) }

    /// Ends the connection with a reset.
    func resetAtClose() { Socket.resetAtClose(socket.rawValue) }

    /// At most so many bytes, thrown away; how many there were.
    func skip(_ count: Int) throws -> Int {
        var chunk = [UInt8](repeating: 0, count: count)
        return try chunk.withUnsafeMutableBytes { try socket.read(into: $0) }
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        if let tls { return try tls.write(bytes) }
        try bytes.withUnsafeBytes { try socket.writeAll($0) }
    }

    /// Ends the writing half; over TLS this is close_notify.
    func finishSending() {
        if let tls { return tls.finishSending() }
        Socket.shutdownWriting(socket.rawValue)
    }

    /// More bytes; false at the end.
    private func hear() throws -> Bool {
        if let tls {
            let bytes = try tls.read()
            heard += bytes
            return !bytes.isEmpty
        }
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = try chunk.withUnsafeMutableBytes { try socket.read(into: $0) }
        heard += chunk[..<count]
        return count > 0
    }

    /// Whether the server has closed, with nothing more said.
    func isClosed() throws -> Bool {
        guard heard.isEmpty else { return false }
        do { return try !hear() } catch { return true }
    }

    /// Whether the server has ended its half in order: a reset is an error here.
    func isEndOfFile() throws -> Bool {
        guard heard.isEmpty else { return false }
        return try !hear()
    }

    /// The next answer; `withoutBody` for HEAD.
    func response(withoutBody: Bool = false) throws -> RawResponse {
        var end: Int?
        while end == nil {
            end = heard.indices.dropLast(3).first {
                heard[$0] == 13 && heard[$0 + 1] == 10 && heard[$0 + 2] == 13 && heard[$0 + 3] == 10
            }
            if end == nil, try !hear() { throw FixtureError(description: "closed early") }
        }
        let headEnd = (end ?? 0) + 4
        let head = String(decoding: heard[..<headEnd], as: UTF8.self)
        let words = head.split(separator: " ", maxSplits: 2)
        guard words.count > 1, let status = Int(words[1]) else {
            throw FixtureError(description: "no status in \(head)")
        }
        var response = RawResponse(status: status, head: head, body: "")
        let length = withoutBody ? 0 : response.header("content-length").flatMap { Int($0) } ?? 0
        while heard.count < headEnd + length {
            if try !hear() { throw FixtureError(description: "closed within a body") }
        }
        response.body = String(decoding: heard[headEnd..<headEnd + length], as: UTF8.self)
        heard.removeFirst(headEnd + length)
        return response
    }

    func ask(_ request: String) throws -> RawResponse {
        try send(request)
        return try response()
    }
}

/// A GET without anything but Host.
func get(_ target: String, method: String = "GET", headers: String = "") -> String {
    "\(method) \(target) HTTP/1.1\r\nHost: go.example\r\n\(headers)\r\n"
}
