// The HTTP/1.1 request head, strict by RFC 9112: one pass over bytes, no state, no allocation. The
// same bytes give the same result however they were split, because each call starts at the first of
// them.
internal import Tracking

/// Parses request heads.
///
/// Everything that two parsers could read differently is refused (contract, 7.6): bare CR, LF and
/// NUL, folded lines, a space before a colon, no or several Host, Content-Length with
/// Transfer-Encoding, and so on. After a refusal no later byte of the connection may be parsed.
/// - SeeAlso: RFC 9112, 2.2, 3, 5, 6, 11.2.
public enum RequestParser {
    /// Parses the head at the start of `bytes`.
    ///
    /// - Parameters:
    ///   - bytes: All that has come of the request so far, and maybe of the next ones.
    ///   - limit: `limits.header_bytes`: a head of more bytes is 431, or 414 when its first line
    ///     alone is longer; at most ``WireLimits/headBytes``.
    ///   - head: Filled when the result is complete, undefined otherwise.
    /// - Complexity: O(n); no allocation.
    public static func parse(
        _ bytes: UnsafeRawBufferPointer, limit: Int, into head: inout RequestHead
    ) -> RequestParse {
        guard let base = bytes.baseAddress else { return .needMore }
        let limit = min(limit, WireLimits.headBytes)
        var scan = HeadScan(
            bytes: base.assumingMemoryBound(to: UInt8.self), end: min(bytes.count, limit))
        head = RequestHead()
        let result = scan.head(into: &head)
        guard case .needMore = result, bytes.count >= limit else { return result }
        return .refused(status: scan.isPastRequestLine ? 431 : 414)
    }
}

/// One attempt to parse a head.
struct HeadScan {
    let bytes: Bytes
    let end: Int
    var index = 0
    var isPastRequestLine = false
    var authority = ByteRange.absent
    var schemeIsHTTPS = false
    var hosts = 0
    var contentLengths = 0
    var transferEncodings = 0
    var saysClose = false
    var saysKeepAlive = false
    var expects = false

    @inline(__always) init(bytes: Bytes, end: Int) {
        self.bytes = bytes
        self.end = end
    }

    private static let malformed = RequestParse.refused(status: 400)
    private static let carriageReturn: UInt8 = 0x0D
    private static let lineFeed: UInt8 = 0x0A

    /// Parses everything up to the blank line.
    @inline(__always) mutating func head(into head: inout RequestHead) -> RequestParse {
        guard end > 0 else { return .needMore }
        // RFC 9112, 2.2: one empty line before the request line is overlooked.
        if bytes[0] == HeadScan.carriageReturn {
            guard end > 1 else { return .needMore }
            guard bytes[1] == HeadScan.lineFeed else { return HeadScan.malformed }
            index = 2
        }
        let line = requestLine(into: &head)
        guard case .complete = line else { return line }
        isPastRequestLine = true
        var lines = 0
        while true {
            guard index < end else { return .needMore }
            let first = bytes[index]
            if first == HeadScan.carriageReturn {
                guard index &+ 1 < end else { return .needMore }
                guard bytes[index &+ 1] == HeadScan.lineFeed else { return HeadScan.malformed }
                index &+= 2
                break
            }
            lines &+= 1
            guard lines <= WireLimits.headerLines else { return .refused(status: 431) }
            let result = headerLine(into: &head)
            guard case .complete = result else { return result }
        }
        return finish(&head)
    }

    /// Parses `method SP target SP version CRLF`.
    @inline(__always)
    private mutating func requestLine(into head: inout RequestHead) -> RequestParse {
        let start = index
        while index < end, ByteScan.isToken(bytes[index]) { index &+= 1 }
        let length = index &- start
        guard length <= WireLimits.methodBytes else { return HeadScan.malformed }
        guard index < end else { return .needMore }
        guard bytes[index] == 0x20, length > 0 else { return HeadScan.malformed }
        head.method = HeadScan.method(bytes + start, length)
        if head.method == .other, HeadScan.isConnect(bytes + start, length) {
            return .refused(status: 405)
        }
        index &+= 1
        let target = target(into: &head)
        guard case .complete = target else { return target }
        return version(into: &head)
    }

    /// The method of a token; methods are case-sensitive.
    @inline(__always) static func method(_ bytes: Bytes, _ length: Int) -> RequestMethod {
        let text = UnsafeRawBufferPointer(start: bytes, count: length)
        switch length {
        case 3: return ByteScan.isExactly(text, "GET") ? .get : .other
        case 4:
            if ByteScan.isExactly(text, "HEAD") { return .head }
            return ByteScan.isExactly(text, "POST") ? .post : .other
        case 7: return ByteScan.isExactly(text, "OPTIONS") ? .options : .other
        default: return .other
        }
    }

    private static func isConnect(_ bytes: Bytes, _ length: Int) -> Bool {
        ByteScan.isExactly(UnsafeRawBufferPointer(start: bytes, count: length), "CONNECT")
    }

    /// Parses the target and the space behind it: origin-form, absolute-form or `*`.
    @inline(__always) private mutating func target(into head: inout RequestHead) -> RequestParse {
        guard index < end else { return .needMore }
        let first = bytes[index]
        if first == 0x2A {
            guard index &+ 1 < end else { return .needMore }
            guard bytes[index &+ 1] == 0x20, head.method == .options else {
                return HeadScan.malformed
            }
            head.isAsterisk = true
            index &+= 2
            return .complete
        }
        if first != 0x2F {
            let result = absoluteStart()
            guard case .complete = result else { return result }
        }
        let pathStart = index
        var at = ByteScan.endOfTarget(bytes, from: index, to: end)
        head.path = ByteRange(pathStart, at)
        if at < end, bytes[at] == 0x3F {
            let queryStart = at &+ 1
            head.hasQuery = true
            at = ByteScan.endOfTarget(bytes, from: queryStart, to: end)
            while at < end, bytes[at] == 0x3F {
                at = ByteScan.endOfTarget(bytes, from: at &+ 1, to: end)
            }
            head.query = ByteRange(queryStart, at)
        }
        guard at < end else { return .needMore }
        guard bytes[at] == 0x20 else { return HeadScan.malformed }
        index = at &+ 1
        return .complete
    }

    /// Parses the scheme and authority of an absolute target; leaves the index at the path.
    private mutating func absoluteStart() -> RequestParse {
        let scheme: StaticString = "http"
        var at = index
        for offset in 0..<4 {
            guard at < end else { return .needMore }
            guard ByteScan.lowercase(bytes[at]) == scheme.utf8Start[offset] else {
                return HeadScan.malformed
            }
            at &+= 1
        }
        guard at < end else { return .needMore }
        if ByteScan.lowercase(bytes[at]) == 0x73 {
            schemeIsHTTPS = true
            at &+= 1
        }
        let slashes: StaticString = "://"
        for offset in 0..<3 {
            guard at < end else { return .needMore }
            guard bytes[at] == slashes.utf8Start[offset] else { return HeadScan.malformed }
            at &+= 1
        }
        let start = at
        while at < end, bytes[at] != 0x2F, bytes[at] != 0x3F, bytes[at] > 0x20 { at &+= 1 }
        guard at < end else { return .needMore }
        guard at > start, HostName.isValid(bytes + start, at &- start) else {
            return HeadScan.malformed
        }
        authority = ByteRange(start, at)
        index = at
        return .complete
    }

    /// Parses `HTTP/1.x CRLF`.
    @inline(__always) private mutating func version(into head: inout RequestHead) -> RequestParse {
        let available = min(end &- index, 8)
        let wanted: StaticString = "HTTP/"
        var offset = 0
        while offset < available {
            let byte = bytes[index &+ offset]
            switch offset {
            case 0..<5:
                guard byte == wanted.utf8Start[offset] else { return HeadScan.malformed }
            case 6: guard byte == 0x2E else { return HeadScan.malformed }
            default: guard byte &- 0x30 < 10 else { return HeadScan.malformed }
            }
            offset &+= 1
        }
        guard end &- index >= 10 else {
            return available == 8 && end &- index == 9
                && bytes[index &+ 8] != HeadScan.carriageReturn
                ? HeadScan.malformed : .needMore
        }
        guard bytes[index &+ 8] == HeadScan.carriageReturn, bytes[index &+ 9] == HeadScan.lineFeed
        else { return HeadScan.malformed }
        let minor = bytes[index &+ 7] &- 0x30
        guard bytes[index &+ 5] == 0x31, minor <= 1 else { return .refused(status: 505) }
        head.minorVersion = minor
        index &+= 10
        return .complete
    }

    /// Parses `name: value CRLF`.
    @inline(__always)
    private mutating func headerLine(into head: inout RequestHead) -> RequestParse {
        let nameStart = index
        var at = ByteScan.endOfName(bytes, from: index, to: end)
        guard at < end else { return .needMore }
        // An empty name, a folded line and a space before the colon all end here.
        guard bytes[at] == 0x3A, at > nameStart,
            ByteScan.isToken(bytes + nameStart, at &- nameStart)
        else { return HeadScan.malformed }
        let nameLength = at &- nameStart
        at &+= 1
        while at < end, bytes[at] == 0x20 || bytes[at] == 0x09 { at &+= 1 }
        let valueStart = at
        at = ByteScan.endOfValue(bytes, from: at, to: end)
        guard at < end else { return .needMore }
        guard bytes[at] == HeadScan.carriageReturn else { return HeadScan.malformed }
        guard at &+ 1 < end else { return .needMore }
        guard bytes[at &+ 1] == HeadScan.lineFeed else { return HeadScan.malformed }
        var valueEnd = at
        while valueEnd > valueStart,
            bytes[valueEnd &- 1] == 0x20 || bytes[valueEnd &- 1] == 0x09
        {
            valueEnd &-= 1
        }
        index = at &+ 2
        return field(
            bytes + nameStart, nameLength, ByteRange(valueStart, valueEnd), into: &head)
    }

    /// What can only be judged when all lines are known.
    @inline(__always) private func finish(_ head: inout RequestHead) -> RequestParse {
        head.headBytes = index
        if head.minorVersion == 1 {
            guard hosts == 1 else { return HeadScan.malformed }
            head.keepAlive = !saysClose
        } else {
            guard hosts <= 1, transferEncodings == 0 else { return HeadScan.malformed }
            head.keepAlive = saysKeepAlive && !saysClose
            head.expectsContinue = false  // RFC 9110, 10.1.1: not from HTTP/1.0.
        }
        guard contentLengths == 0 || transferEncodings == 0 else { return HeadScan.malformed }
        if authority.isPresent, head.host.isPresent {
            guard HostName.isSame(bytes, authority, head.host, isHTTPS: schemeIsHTTPS) else {
                return HeadScan.malformed
            }
        } else if authority.isPresent {
            head.host = authority
        }
        return .complete
    }
}
