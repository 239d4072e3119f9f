// The little of HTTP/1.1 that the operations endpoint speaks: one request a connection, a bounded
// head, no body worth reading. Pure: bytes in, a request or a refusal out.

/// A request to the operations endpoint.
public struct OperationsRequest: Sendable, Equatable {
    /// The methods that are known.
    public enum Method: String, Sendable {
        /// `GET`.
        case get = "GET"
        /// `HEAD`; answered like GET, without the body.
        case head = "HEAD"
        /// `POST`; on the Unix socket only.
        case post = "POST"
    }

    /// A parameter of the query.
    public struct Parameter: Sendable, Equatable {
        /// Its name, decoded.
        public var name: String
        /// Its value, decoded.
        public var value: String

        /// A parameter by its parts.
        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The method.
    public var method: Method
    /// The path, decoded, beginning with a slash.
    public var path: String
    /// The query's parameters in order.
    public var query: [Parameter]
    /// Whether it came over the Unix socket, whose permissions vouch for the sender.
    public var overUnixSocket: Bool

    /// A request by its parts.
    public init(
        method: Method, path: String, query: [Parameter] = [], overUnixSocket: Bool = false
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.overUnixSocket = overUnixSocket
    }

    /// The first parameter of that name.
    public func parameter(_ name: String) -> String? { query.first { $0.name == name }?.value }
}

/// What the operations endpoint answers.
public struct OperationsResponse: Sendable, Equatable {
    /// The status code.
    public var status: Int
    /// The body's media type.
    public var contentType: String
    /// The body.
    public var body: [UInt8]
    /// The methods that a 405 names.
    public var allow = "GET, HEAD"

    /// An answer by its parts.
    public init(status: Int = 200, contentType: String, body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    /// A JSON answer, ending in a line feed.
    public static func json(_ json: JSONText, status: Int = 200) -> OperationsResponse {
        OperationsResponse(
            status: status, contentType: "application/json",
            body: json.bytes + [UInt8(ascii: "\n")])
    }

    /// A line of plain text.
    public static func text(_ text: String, status: Int = 200) -> OperationsResponse {
        OperationsResponse(
            status: status, contentType: "text/plain; charset=utf-8", body: Array("\(text)\n".utf8))
    }

    /// Metrics.
    public static func metrics(_ metrics: PrometheusText) -> OperationsResponse {
        OperationsResponse(contentType: PrometheusText.contentType, body: metrics.bytes)
    }

    /// The answer to a path that nothing answers to.
    public static let notFound = OperationsResponse.text("not found", status: 404)

    /// The answer to a known path asked with another method; `allow` are those it knows.
    public static func methodNotAllowed(allow: String = "GET, HEAD") -> OperationsResponse {
        var response = OperationsResponse.text("method not allowed", status: 405)
        response.allow = allow
        return response
    }
}

/// Parsing requests and writing responses.
enum OperationsHTTP {
    enum Limits {
        /// Longest request head.
        static let headBytes = 8192
        /// Longest body, which is read and thrown away.
        static let bodyBytes = 4096
        /// Header lines in a request.
        static let headers = 64
        /// Parameters in a query.
        static let parameters = 32
    }

    /// What the bytes so far amount to.
    enum Parsed: Equatable {
        /// The head has not ended yet.
        case needMore
        /// A whole head, and where the request ends behind it.
        case request(OperationsRequest, totalBytes: Int)
        /// No request that is answered: the status that says why.
        case refused(status: Int)
    }

    static func parse(_ bytes: [UInt8], overUnixSocket: Bool) -> Parsed {
        guard let headBytes = endOfHead(bytes) else {
            return bytes.count >= Limits.headBytes ? .refused(status: 431) : .needMore
        }
        guard headBytes <= Limits.headBytes else { return .refused(status: 431) }
        let lines = bytes[..<(headBytes - 4)].split(
            separator: 0x0A, maxSplits: Limits.headers + 2, omittingEmptySubsequences: false)
        guard lines.count <= Limits.headers + 1 else { return .refused(status: 431) }
        var fields: [ArraySlice<UInt8>] = []
        for (index, line) in lines.enumerated() {
            // Each line but the last (its end is cut off above) ends in CR LF and has no other CR.
            var line = line
            if index < lines.count - 1 {
                guard line.last == 0x0D else { return .refused(status: 400) }
                line = line.dropLast()
            }
            guard !line.contains(where: { $0 == 0x0D || $0 == 0 }) else {
                return .refused(status: 400)
            }
            fields.append(line)
        }
        return parse(fields, headBytes: headBytes, overUnixSocket: overUnixSocket)
    }

    private static func parse(
        _ lines: [ArraySlice<UInt8>], headBytes: Int, overUnixSocket: Bool
    ) -> Parsed {
        let words = (lines.first ?? []).split(
            separator: 0x20, maxSplits: 3, omittingEmptySubsequences: false)
        guard words.count == 3 else { return .refused(status: 400) }
        let version = String(decoding: words[2], as: UTF8.self)
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else {
            return .refused(status: version.hasPrefix("HTTP/") ? 505 : 400)
        }
        var hosts = 0
        var length: Int?
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else {
                return .refused(status: 400)
            }
            let name = line[..<colon]
            guard !name.isEmpty, name.allSatisfy(isNameByte) else { return .refused(status: 400) }
            switch String(decoding: name, as: UTF8.self).lowercased() {
            case "host": hosts += 1
            case "transfer-encoding": return .refused(status: 501)
            case "content-length":
                guard length == nil, let value = decimal(line[line.index(after: colon)...]) else {
                    return .refused(status: 400)
                }
                length = value
            default: break
            }
        }
        guard hosts == 1 || (hosts == 0 && version == "HTTP/1.0") else {
            return .refused(status: 400)
        }
        guard length ?? 0 <= Limits.bodyBytes else { return .refused(status: 413) }
        guard
            let method = OperationsRequest.Method(
                rawValue: String(decoding: words[0], as: UTF8.self))
        else { return .refused(status: 501) }
        guard let (path, query) = target(words[1]) else { return .refused(status: 400) }
        let request = OperationsRequest(
            method: method, path: path, query: query, overUnixSocket: overUnixSocket)
        return .request(request, totalBytes: headBytes + (length ?? 0))
    }

    /// Where the blank line behind the head ends.
    private static func endOfHead(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for end in 4...bytes.count
        where bytes[end - 1] == 0x0A && bytes[end - 2] == 0x0D && bytes[end - 3] == 0x0A
            && bytes[end - 4] == 0x0D
        {
            return end
        }
        return nil
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// One to nine digits with spaces around them.
    private static func decimal(_ text: ArraySlice<UInt8>) -> Int? {
        let digits = text.split(whereSeparator: { $0 == 0x20 || $0 == 0x09 })
        guard digits.count == 1, let only = digits.first, only.count <= 9,
            only.allSatisfy({ $0 >= 48 && $0 <= 57 })
        else { return nil }
        return only.reduce(0) { $0 * 10 + Int($1 - 48) }
    }

    /// An origin-form target: path and query, each decoded once; nil for anything else.
    private static func target(
        _ bytes: ArraySlice<UInt8>
    ) -> (path: String, query: [OperationsRequest.Parameter])? {
        guard bytes.first == UInt8(ascii: "/"), bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            return nil
        }
        let parts = bytes.split(
            separator: UInt8(ascii: "?"), maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let path = decoded(first, plusIsSpace: false) else {
            return nil
        }
        guard parts.count == 2 else { return (path, []) }
        var query: [OperationsRequest.Parameter] = []
        for pair in parts[1].split(separator: UInt8(ascii: "&")) {
            guard query.count < Limits.parameters else { return nil }
            let sides = pair.split(
                separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decoded(sides[0], plusIsSpace: true),
                let value = decoded(sides.count == 2 ? sides[1] : [], plusIsSpace: true)
            else { return nil }
            query.append(OperationsRequest.Parameter(name: name, value: value))
        }
        return (path, query)
    }

    /// Percent-decoded UTF-8; nil for a broken escape or broken UTF-8.
    private static func decoded(_ text: ArraySlice<UInt8>, plusIsSpace: Bool) -> String? {
        var result: [UInt8] = []
        var rest = text
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let high = rest.popFirst().flatMap(digit),
                    let low = rest.popFirst().flatMap(digit)
                else { return nil }
                result.append(high << 4 | low)
            } else {
                result.append(plusIsSpace && byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(validating: result, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }

    /// The bytes of a response; the connection ends with it.
    static func write(_ response: OperationsResponse, withBody: Bool = true) -> [UInt8] {
        var head = "HTTP/1.1 \(response.status) \(reason(response.status))\r\n"
        head += "Content-Type: \(response.contentType)\r\n"
        head += "Content-Length: \(response.body.count)\r\n"
        head += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        if response.status == 405 { head += "Allow: \(response.allow)\r\n" }
        if response.status == 503 { head += "Retry-After: 1\r\n" }
        head += "Connection: close\r\n\r\n"
        return Array(head.utf8) + (withBody ? response.body : [])
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 202: "Accepted"
        case 400: "Bad Request"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 413: "Content Too Large"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 505: "HTTP Version Not Supported"
        default: "Status"
        }
    }
}
