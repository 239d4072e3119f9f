// The HTTP/1.1 request head, strict by RFC 9112: one pass over bytes, no allocation. The same bytes give
// the same result however they were split: a call starts at the first of them, or goes on where the
// last one ended (HeadProgress), which is only a way to look at no byte twice.
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
        return .refused(status: scan.state.isPastRequestLine ? 431 : 414)
    }

    /// Parses on from where the last attempt at the same head ended.
    ///
    /// - Parameters:
    ///   - bytes: The bytes of the last attempt, and more behind them.
    ///   - limit: As in ``parse(_:limit:into:)``, the same for all attempts.
    ///   - head: Filled when the result is complete, undefined otherwise.
    ///   - progress: A new one for a head's first attempt, then what the last attempt left.
    /// - Returns: What ``parse(_:limit:into:)`` gives for the same bytes.
    /// - Complexity: O(bytes that have come since), so that a head that comes byte by byte costs no
    ///   more than twice what it costs in one piece; no allocation.
    public static func parse(
        _ bytes: UnsafeRawBufferPointer, limit: Int, into head: inout RequestHead,
        resuming progress: inout HeadProgress
    ) -> RequestParse {
        guard let base = bytes.baseAddress else { return .needMore }
        let limit = min(limit, WireLimits.headBytes)
        var scan = HeadScan(
            bytes: base.assumingMemoryBound(to: UInt8.self), end: min(bytes.count, limit))
        scan.state = progress.state
        head = progress.head
        let result = scan.head(into: &head)
        guard case .needMore = result else { return result }
        if bytes.count >= limit {
            return .refused(status: scan.state.isPastRequestLine ? 431 : 414)
        }
        progress.state = scan.state
        progress.head = head
        return result
    }
}

/// How far an unfinished head has been parsed.
///
/// Trivial: it may lie in any memory.
public struct HeadProgress: BitwiseCopyable, Sendable {
    var state = HeadState()
    var head = RequestHead()

    /// Nothing parsed yet.
    public init() {}
}

/// Where a scan is, and what it has counted on the way.
struct HeadState: BitwiseCopyable, Sendable {
    /// The start of the first line that is not done; within a line that is being parsed, a position.
    var index = 0
    /// Bytes before it are known to end neither target, name nor value of the unfinished line.
    var mark = 0
    /// The unfinished line's `?` or `:`; one before ``index`` is of an earlier line.
    var divider = 0
    var isPastRequestLine = false
    var schemeIsHTTPS = false
    var saysClose = false
    var saysKeepAlive = false
    var authority = ByteRange.absent
    var lines = 0
    var hosts = 0
    var contentLengths = 0
    var transferEncodings = 0
}

/// One attempt to parse a head.
struct HeadScan {
    let bytes: Bytes
    let end: Int
    var state = HeadState()

    @inline(__always) init(bytes: Bytes, end: Int) {
        self.bytes = bytes
        self.end = end
    }

    /// "GET " in the low four bytes, the first lowest.
    private static let get: UInt64 = 0x2054_4547
    /// "HTTP/1." in the low seven.
    private static let http1: UInt64 = 0x002E_312F_5054_5448

    private static let malformed = RequestParse.refused(status: 400)
    private static let carriageReturn: UInt8 = 0x0D
    private static let lineFeed: UInt8 = 0x0A

    /// Parses everything up to the blank line.
    @inline(__always) mutating func head(into head: inout RequestHead) -> RequestParse {
        guard end > 0 else { return .needMore }
        if !state.isPastRequestLine {
            let line = firstLine(into: &head)
            guard case .complete = line else { return line }
            state.isPastRequestLine = true
        }
        while true {
            let index = state.index
            guard index < end else { return .needMore }
            if bytes[index] == HeadScan.carriageReturn {
                guard index &+ 1 < end else { return .needMore }
                guard bytes[index &+ 1] == HeadScan.lineFeed else { return HeadScan.malformed }
                state.index = index &+ 2
                break
            }
            guard state.lines < WireLimits.headerLines else { return .refused(status: 431) }
            let result = headerLine(into: &head)
            guard case .complete = result else { return result }
            state.lines &+= 1
        }
        return finish(&head)
    }

    /// Parses the request line and the empty line that may come before it (RFC 9112, 2.2: one).
    @inline(__always)
    private mutating func firstLine(into head: inout RequestHead) -> RequestParse {
        var start = 0
        if bytes[0] == HeadScan.carriageReturn {
            guard end > 1 else { return .needMore }
            guard bytes[1] == HeadScan.lineFeed else { return HeadScan.malformed }
            start = 2
        }
        state.index = start
        return requestLine(into: &head)
    }

    /// Parses `method SP target SP version CRLF`.
    @inline(__always)
    private mutating func requestLine(into head: inout RequestHead) -> RequestParse {
        let start = state.index
        if end &- start >= 8, ByteScan.word(bytes, start) & 0xFFFF_FFFF == HeadScan.get {
            head.method = .get
            state.index = start &+ 4
        } else {
            let method = method(into: &head)
            guard case .complete = method else { return method }
        }
        let target = target(into: &head)
        guard case .complete = target else { return target }
        return version(into: &head)
    }

    /// Parses any method and the space behind it.
    private mutating func method(into head: inout RequestHead) -> RequestParse {
        let start = state.index
        var index = start
        while index < end, ByteScan.isToken(bytes[index]) { index &+= 1 }
        let length = index &- start
        guard length <= WireLimits.methodBytes else { return HeadScan.malformed }
        guard index < end else { return .needMore }
        guard bytes[index] == 0x20, length > 0 else { return HeadScan.malformed }
        head.method = HeadScan.method(bytes + start, length)
        if head.method == .other, HeadScan.isConnect(bytes + start, length) {
            return .refused(status: 405)
        }
        state.index = index &+ 1
        return .complete
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
        let index = state.index
        guard index < end else { return .needMore }
        let first = bytes[index]
        if first == 0x2A {
            guard index &+ 1 < end else { return .needMore }
            guard bytes[index &+ 1] == 0x20, head.method == .options else {
                return HeadScan.malformed
            }
            head.isAsterisk = true
            state.index = index &+ 2
            return .complete
        }
        if first != 0x2F {
            let result = absoluteStart()
            guard case .complete = result else { return result }
        }
        let pathStart = state.index
        var at = state.divider
        if at == 0 { at = ByteScan.endOfTarget(bytes, from: max(pathStart, state.mark), to: end) }
        head.path = ByteRange(pathStart, at)
        if at < end, bytes[at] == 0x3F {
            state.divider = at
            head.hasQuery = true
            let queryStart = at &+ 1
            at = ByteScan.endOfTarget(bytes, from: max(queryStart, state.mark), to: end)
            while at < end, bytes[at] == 0x3F {
                at = ByteScan.endOfTarget(bytes, from: at &+ 1, to: end)
            }
            head.query = ByteRange(queryStart, at)
        }
        guard at < end else {
            state.mark = at
            return .needMore
        }
        guard bytes[at] == 0x20 else { return HeadScan.malformed }
        state.index = at &+ 1
        return .complete
    }

    /// Parses the scheme and authority of an absolute target; leaves the index at the path.
    private mutating func absoluteStart() -> RequestParse {
        let scheme: StaticString = "http"
        var at = state.index
        for offset in 0..<4 {
            guard at < end else { return .needMore }
            guard ByteScan.lowercase(bytes[at]) == scheme.utf8Start[offset] else {
                return HeadScan.malformed
            }
            at &+= 1
        }
        guard at < end else { return .needMore }
        if ByteScan.lowercase(bytes[at]) == 0x73 {
            state.schemeIsHTTPS = true
            at &+= 1
        }
        let slashes: StaticString = "://"
        for offset in 0..<3 {
            guard at < end else { return .needMore }
            guard bytes[at] == slashes.utf8Start[offset] else { return HeadScan.malformed }
            at &+= 1
        }
        let start = at
        while at < end, bytes[at] != 0x2F, bytes[at] != 0x3F, bytes[at] > 0x20 {
            at &+= 1
            guard at &- start <= WireLimits.hostBytes else { return HeadScan.malformed }
        }
        guard at < end else { return .needMore }
        guard at > start, HostName.isValid(bytes + start, at &- start) else {
            return HeadScan.malformed
        }
        state.authority = ByteRange(start, at)
        state.index = at
        return .complete
    }

    /// Parses `HTTP/1.x CRLF`.
    @inline(__always) private mutating func version(into head: inout RequestHead) -> RequestParse {
        let index = state.index
        if end &- index >= 10, bytes[index &+ 8] == HeadScan.carriageReturn,
            bytes[index &+ 9] == HeadScan.lineFeed
        {
            let word = ByteScan.word(bytes, index)
            let minor = word >> 56 &- 0x30  // A byte below "0" wraps to a large number.
            if word & 0x00FF_FFFF_FFFF_FFFF == HeadScan.http1, minor <= 1 {
                head.minorVersion = UInt8(truncatingIfNeeded: minor)
                state.index = index &+ 10
                return .complete
            }
        }
        return otherVersion(into: &head)
    }

    /// A version that is not whole, not ours, or none.
    private mutating func otherVersion(into head: inout RequestHead) -> RequestParse {
        let index = state.index
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
        state.index = index &+ 10
        return .complete
    }

    /// Parses `name: value CRLF`.
    @inline(__always)
    private mutating func headerLine(into head: inout RequestHead) -> RequestParse {
        let nameStart = state.index
        var colon = state.divider
        if colon < nameStart {
            colon = ByteScan.endOfName(bytes, from: max(nameStart, state.mark), to: end)
            guard colon < end else {
                state.mark = colon
                return .needMore
            }
            // An empty name, a folded line and a space before the colon all end here.
            guard bytes[colon] == 0x3A, colon > nameStart,
                ByteScan.isToken(bytes + nameStart, colon &- nameStart, readable: end &- nameStart)
            else { return HeadScan.malformed }
        }
        let at = ByteScan.endOfValue(bytes, from: max(colon &+ 1, state.mark), to: end)
        if at &+ 1 >= end {
            if at < end, bytes[at] != HeadScan.carriageReturn { return HeadScan.malformed }
            state.divider = colon
            state.mark = at
            return .needMore
        }
        guard bytes[at] == HeadScan.carriageReturn, bytes[at &+ 1] == HeadScan.lineFeed else {
            return HeadScan.malformed
        }
        var valueStart = colon &+ 1
        while valueStart < at, bytes[valueStart] == 0x20 || bytes[valueStart] == 0x09 {
            valueStart &+= 1
        }
        var valueEnd = at
        while valueEnd > valueStart,
            bytes[valueEnd &- 1] == 0x20 || bytes[valueEnd &- 1] == 0x09
        {
            valueEnd &-= 1
        }
        state.index = at &+ 2
        return field(
            bytes + nameStart, colon &- nameStart, ByteRange(valueStart, valueEnd), into: &head)
    }

    /// What can only be judged when all lines are known.
    @inline(__always) private func finish(_ head: inout RequestHead) -> RequestParse {
        head.headBytes = state.index
        if head.minorVersion == 1 {
            guard state.hosts == 1 else { return HeadScan.malformed }
            head.keepAlive = !state.saysClose
        } else {
            guard state.hosts <= 1, state.transferEncodings == 0 else { return HeadScan.malformed }
            head.keepAlive = state.saysKeepAlive && !state.saysClose
            head.expectsContinue = false  // RFC 9110, 10.1.1: not from HTTP/1.0.
        }
        guard state.contentLengths == 0 || state.transferEncodings == 0 else {
            return HeadScan.malformed
        }
        if state.authority.isPresent, head.host.isPresent {
            guard HostName.isSame(bytes, state.authority, head.host, isHTTPS: state.schemeIsHTTPS)
            else {
                return HeadScan.malformed
            }
        } else if state.authority.isPresent {
            head.host = state.authority
        }
        return .complete
    }
}
