// Answers whose text is known beforehand: status line, headers, small body.
internal import Tracking

/// What a fixed answer says beside its status.
public struct ResponseOptions: Sendable {
    /// Content-Type; empty for an answer without a body.
    public var contentType: StaticString
    /// Cache-Control; empty for none.
    public var cacheControl: StaticString
    /// Allow; empty for none.
    public var allow: StaticString
    /// Seconds of Retry-After; 0 for none.
    public var retryAfterSeconds: UInt16
    /// Further header lines, each with its CRLF.
    public var extraLines: StaticString
    /// Whether the request was HTTP/1.0, so that a connection that stays open is said to.
    public var isOldRequest = false

    /// Options; those left out are absent.
    public init(
        contentType: StaticString = "", cacheControl: StaticString = "", allow: StaticString = "",
        retryAfterSeconds: UInt16 = 0, extraLines: StaticString = ""
    ) {
        self.contentType = contentType
        self.cacheControl = cacheControl
        self.allow = allow
        self.retryAfterSeconds = retryAfterSeconds
        self.extraLines = extraLines
    }
}

/// Writes whole answers.
public enum FixedResponse {
    /// Bytes that the head of a fixed answer needs at most; a body comes on top.
    public static let headBytes = 1024

    /// Writes an answer.
    ///
    /// - Parameters:
    ///   - status: The status code.
    ///   - body: The body; its length is sent, the bytes only unless `omittingBody`.
    ///   - options: Further headers.
    ///   - closing: Whether to send `Connection: close`.
    ///   - omittingBody: Whether the request was HEAD.
    ///   - clock: For the Date.
    ///   - buffer: Where to write; ``headBytes`` plus the body are always enough.
    /// - Returns: Bytes written; 0 when the buffer is too small.
    /// - Complexity: O(n); no allocation.
    public static func write(
        status: UInt16, body: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        options: ResponseOptions = ResponseOptions(), closing: Bool, omittingBody: Bool = false,
        clock: borrowing LoopClock, to buffer: UnsafeMutableRawBufferPointer
    ) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var writer = ByteWriter(base, capacity: buffer.count)
        writer.append("HTTP/1.1 ")
        writer.append(decimal: UInt64(status))
        writer.append(" ")
        writer.append(reason(status))
        writer.append("\r\n")
        writer.append(date: clock)
        header("Content-Type: ", options.contentType, &writer)
        header("Cache-Control: ", options.cacheControl, &writer)
        header("Allow: ", options.allow, &writer)
        if options.retryAfterSeconds > 0 {
            writer.append("Retry-After: ")
            writer.append(decimal: UInt64(options.retryAfterSeconds))
            writer.append("\r\n")
        }
        writer.append(options.extraLines)
        if closing {
            writer.append("Connection: close\r\n")
        } else if options.isOldRequest {
            writer.append("Connection: keep-alive\r\n")
        }
        // RFC 9110, 8.6: neither 1xx nor 204 has a Content-Length.
        if status != 204, status >= 200 {
            writer.append("Content-Length: ")
            writer.append(decimal: UInt64(body.count))
            writer.append("\r\n")
        }
        writer.append("\r\n")
        if !omittingBody { writer.append(body) }
        return writer.isFull ? 0 : writer.count
    }

    /// Writes an answer whose body is a constant.
    public static func write(
        status: UInt16, text: StaticString, options: ResponseOptions, closing: Bool,
        omittingBody: Bool = false, clock: borrowing LoopClock,
        to buffer: UnsafeMutableRawBufferPointer
    ) -> Int {
        let body = UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        return write(
            status: status, body: body, options: options, closing: closing,
            omittingBody: omittingBody, clock: clock, to: buffer)
    }

    /// Writes `100 Continue`, which is an interim answer.
    public static func writeContinue(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var writer = ByteWriter(base, capacity: buffer.count)
        writer.append("HTTP/1.1 100 Continue\r\n\r\n")
        return writer.isFull ? 0 : writer.count
    }

    @inline(__always)
    private static func header(
        _ name: StaticString, _ value: StaticString, _ writer: inout ByteWriter
    ) {
        guard value.utf8CodeUnitCount > 0 else { return }
        writer.append(name)
        writer.append(value)
        writer.append("\r\n")
    }

    /// The reason phrase of a status (RFC 9110, 15; RFC 6585).
    static func reason(_ status: UInt16) -> StaticString {
        switch status {
        case 200: "OK"
        case 204: "No Content"
        case 301: "Moved Permanently"
        case 302: "Found"
        case 307: "Temporary Redirect"
        case 308: "Permanent Redirect"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 410: "Gone"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 503: "Service Unavailable"
        case 505: "HTTP Version Not Supported"
        default: "Status"
        }
    }
}
