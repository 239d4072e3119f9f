// A small blocking HTTP/1.1 client: what the workbench and the tests ask the daemons with. It reads
// exactly one response a request and believes nothing that is not framed.
public import LinuxIO
public import TLS

/// What went wrong with a request.
public enum ProbeError: Error, Equatable, Sendable {
    /// The kernel refused a call.
    case system(Errno)
    /// The peer closed before the first byte of a response.
    case closed
    /// The peer closed within a response.
    case truncated
    /// A TLS connection ended without close_notify, or its handshake failed.
    case cut
    /// What came is no HTTP/1.1 response.
    case malformed
}

extension ProbeError {
    /// What a TLS client met: the kernel's refusal, or an end that is none in TLS.
    init(_ error: TLSClientError) {
        self = error.cause.map { .system($0) } ?? .cut
    }
}

/// One response.
public struct ProbeResponse: Sendable {
    /// The status code.
    public let status: Int
    /// Header fields in order, names lower-cased.
    public let headers: [(name: String, value: String)]
    /// The body.
    public let body: [UInt8]

    /// The first value of a header field, by its lower-case name.
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
    /// The body as text.
    public var text: String { String(decoding: body, as: UTF8.self) }
}

/// A connection that asks and waits for the answer.
public struct HTTPProbe: ~Copyable {
    /// Nil where ``tls`` has its own.
    private let plain: FileDescriptor?
    private let tls: TLSClient?
    /// Of either.
    private let descriptor: CInt
    private var buffered: [UInt8] = []

    /// Connects over TCP, from a given address if there is one.
    public init(
        _ address: SocketAddress, timeoutSeconds: Int = 10, from source: SocketAddress? = nil
    ) throws(ProbeError) {
        do throws(Errno) {
            let connected = try Socket.connect(
                address, timeoutSeconds: timeoutSeconds, from: source)
            descriptor = connected.rawValue
            plain = consume connected
            tls = nil
        } catch { throw .system(error) }
    }

    /// Connects over TLS.
    public init(
        secured address: SocketAddress, timeoutSeconds: Int = 10, context: TLSClientContext,
        name: String
    ) throws(ProbeError) {
        tls = try HTTPProbe.shakeHands(address, timeoutSeconds, context, name)
        descriptor = tls?.descriptor ?? -1
        plain = nil
    }

    private static func shakeHands(
        _ address: SocketAddress, _ timeoutSeconds: Int, _ context: TLSClientContext, _ name: String
    ) throws(ProbeError) -> TLSClient {
        let connected: FileDescriptor
        do throws(Errno) {
            connected = try Socket.connect(address, timeoutSeconds: timeoutSeconds)
        } catch { throw .system(error) }
        do throws(TLSClientError) {
            return try TLSClient(connected, context: context, name: name)
        } catch { throw ProbeError(error) }
    }

    /// Connects to a Unix socket.
    public init(unix path: String, timeoutSeconds: Int = 30) throws(ProbeError) {
        do throws(Errno) {
            let connected = try Socket.connect(unix: path, timeoutSeconds: timeoutSeconds)
            descriptor = connected.rawValue
            plain = consume connected
            tls = nil
        } catch { throw .system(error) }
    }

    /// Sends bytes as they are.
    public func send(_ text: String) throws(ProbeError) {
        if let tls {
            do throws(TLSClientError) {
                return try tls.write(Array(text.utf8))
            } catch { throw ProbeError(error) }
        }
        do throws(Errno) {
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { Socket.send(descriptor, $0) }
                if count < 0 { throw Errno(rawValue: Int32(-count)) }
                rest = rest.dropFirst(count)
            }
        } catch { throw .system(error) }
    }

    /// Asks and waits.
    ///
    /// - Parameters:
    ///   - method: The method.
    ///   - target: Path and query.
    ///   - headers: Further header lines, without CRLF; Host is added where it is missing.
    ///   - body: A body, sent with its length.
    public mutating func request(
        _ method: String, _ target: String, headers: [String] = [], body: String? = nil
    ) throws(ProbeError) -> ProbeResponse {
        var text = "\(method) \(target) HTTP/1.1\r\n"
        if !headers.contains(where: { $0.lowercased().hasPrefix("host:") }) {
            text += "Host: localhost\r\n"
        }
        for line in headers { text += line + "\r\n" }
        if let body { text += "Content-Length: \(body.utf8.count)\r\n" }
        try send(text + "\r\n" + (body ?? ""))
        return try response(hasBody: method != "HEAD")
    }

    /// Reads one response that was asked for by hand.
    public mutating func response(hasBody: Bool = true) throws(ProbeError) -> ProbeResponse {
        var end = endOfHead()
        while end == nil {
            guard try fill() else { throw buffered.isEmpty ? .closed : .truncated }
            end = endOfHead()
        }
        guard let end else { throw .malformed }
        let lines = String(decoding: buffered[..<end], as: UTF8.self)
            .replacing("\r\n", with: "\n").split(separator: "\n")
        guard let first = lines.first, first.hasPrefix("HTTP/1.1 "),
            let status = Int(first.dropFirst(9).prefix(3))
        else { throw .malformed }
        var headers: [(name: String, value: String)] = []
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { throw .malformed }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers.append((line[..<colon].lowercased(), String(value)))
        }
        buffered.removeFirst(end + 4)
        guard hasBody, status != 204, status != 304, status >= 200 else {
            return ProbeResponse(status: status, headers: headers, body: [])
        }
        let length = headers.first { $0.name == "content-length" }.flatMap { Int($0.value) }
        while buffered.count < length ?? .max { if try !fill() { break } }
        if let length, buffered.count < length { throw .truncated }
        let body = Array(buffered.prefix(length ?? .max))
        buffered.removeFirst(body.count)
        return ProbeResponse(status: status, headers: headers, body: body)
    }

    /// Whether the peer has ended an idle connection, without waiting.
    public var hasEnded: Bool { Socket.waitReadable(descriptor, milliseconds: 0) }

    /// Whether the peer has closed: waits for a byte or the end.
    public mutating func isAtEnd() throws(ProbeError) -> Bool {
        buffered.isEmpty ? try !fill() : false
    }

    private func endOfHead() -> Int? {
        guard buffered.count >= 4 else { return nil }
        for index in 0...(buffered.count - 4)
        where buffered[index] == 13 && buffered[index + 1] == 10 && buffered[index + 2] == 13
            && buffered[index + 3] == 10
        {
            return index
        }
        return nil
    }

    private mutating func fill() throws(ProbeError) -> Bool {
        if let tls {
            do throws(TLSClientError) {
                let bytes = try tls.read()
                buffered += bytes
                return !bytes.isEmpty
            } catch { throw ProbeError(error) }
        }
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { chunk.deallocate() }
        let count = Socket.receive(descriptor, chunk)
        if count < 0 { throw .system(Errno(rawValue: Int32(-count))) }
        buffered.append(contentsOf: chunk[..<count])
        return count > 0
    }
}
