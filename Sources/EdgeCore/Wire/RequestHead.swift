// What the parser finds in a request's head: numbers and ranges into the request's bytes, no
// copies.
internal import Tracking

/// A range of the request's bytes.
public struct ByteRange: BitwiseCopyable, Sendable, Equatable {
    /// The first byte, from the start of the request.
    public var offset: UInt32
    /// The number of bytes.
    public var count: UInt32

    /// The range of something that is not there.
    public static let absent = ByteRange(offset: 0, count: 0)

    /// A range by its parts.
    @inline(__always) public init(offset: UInt32, count: UInt32) {
        self.offset = offset
        self.count = count
    }

    /// A range from one position to another; positions are below ``WireLimits/headBytes``'s
    /// ceiling.
    @inline(__always) init(_ start: Int, _ end: Int) {
        offset = UInt32(truncatingIfNeeded: start)
        count = UInt32(truncatingIfNeeded: end &- start)
    }

    /// Whether the field was there, be it empty: no field starts at the first byte of a request.
    @inline(__always) public var isPresent: Bool { offset != 0 }
    /// Whether there are no bytes in it.
    @inline(__always) public var isEmpty: Bool { count == 0 }

    /// The bytes themselves; empty when the range does not lie within `bytes`.
    @inline(__always)
    public func slice(of bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let start = Int(offset)
        let end = start &+ Int(count)  // Two 32-bit numbers do not overflow 64 bits.
        guard count > 0, end <= bytes.count, let base = bytes.baseAddress else {
            return UnsafeRawBufferPointer(start: nil, count: 0)
        }
        return UnsafeRawBufferPointer(start: base + start, count: Int(count))
    }
}

/// Bounds of what a client may send in a head.
public enum WireLimits {
    /// The largest `limits.header_bytes` that the parser takes.
    public static let headBytes = 1 << 20
    /// Header lines in one request.
    public static let headerLines = 100
    /// Bytes of a method.
    public static let methodBytes = 32
    /// Bytes of a Host.
    public static let hostBytes = 255
    /// Digits of a Content-Length; a longer number is 413 wherever it is used.
    public static let contentLengthDigits = 15
    /// Bytes of one chunk's size line, extensions included.
    public static let chunkLineBytes = 256
    /// Bytes of all trailers together.
    public static let trailerBytes = 4096
    /// Bytes of a chunked body that are not data: a body of 64 KiB may come in chunks of six bytes.
    public static let chunkFramingBytes = 64 << 10
    /// Bytes of a PROXY header of version 2 with all its fields.
    public static let proxyHeaderBytes = 2048
}

/// A request's method.
public enum RequestMethod: UInt8, Sendable, BitwiseCopyable {
    case get, head, post, options
    /// Any other token; answered 405.
    case other
}

/// A parsed request head.
///
/// Trivial, so that it lives on the stack of the loop.
public struct RequestHead: BitwiseCopyable, Sendable, Equatable {
    /// The method.
    public var method = RequestMethod.other
    /// The minor version of HTTP/1, 0 or 1.
    public var minorVersion: UInt8 = 1
    /// Whether the client lets the connection stay open after the answer.
    public var keepAlive = true
    /// Whether the body comes chunked.
    public var isChunked = false
    /// Whether the client waits for `100 Continue` before its body.
    public var expectsContinue = false
    /// Whether the target has a query, be it empty.
    public var hasQuery = false
    /// Whether X-Forwarded-For or Forwarded came on more than one line; the last line is kept here,
    /// ``ForwardedChain`` finds the others.
    public var forwardingIsRepeated = false
    /// Whether the target is `*`.
    public var isAsterisk = false
    /// Bytes of the head with its blank line.
    public var headBytes = 0
    /// The Content-Length; -1 when there was none.
    public var contentLength = -1
    /// The target's path; empty for `*` and for an absolute target without one.
    public var path = ByteRange.absent
    /// The target's query without `?`.
    public var query = ByteRange.absent
    /// The Host header, port included.
    public var host = ByteRange.absent
    /// User-Agent.
    public var userAgent = ByteRange.absent
    /// Referer.
    public var referer = ByteRange.absent
    /// Accept-Language.
    public var acceptLanguage = ByteRange.absent
    /// Content-Type.
    public var contentType = ByteRange.absent
    /// Cookie.
    public var cookie = ByteRange.absent
    /// X-Forwarded-For, its last line.
    public var xForwardedFor = ByteRange.absent
    /// Forwarded, its last line.
    public var forwarded = ByteRange.absent
    /// Sec-Purpose.
    public var secPurpose = ByteRange.absent
    /// Purpose.
    public var purpose = ByteRange.absent
    /// X-Moz.
    public var xMoz = ByteRange.absent
    /// Sec-GPC.
    public var secGPC = ByteRange.absent
    /// Sec-Fetch-Mode.
    public var secFetchMode = ByteRange.absent
    /// Sec-Fetch-Dest.
    public var secFetchDest = ByteRange.absent
    /// webhook-id.
    public var webhookID = ByteRange.absent
    /// webhook-timestamp.
    public var webhookTimestamp = ByteRange.absent
    /// webhook-signature.
    public var webhookSignature = ByteRange.absent

    /// An empty head, to be filled by ``RequestParser/parse(_:limit:into:)``.
    @inline(__always) public init() {}

    /// Whether bytes of a body follow the head.
    @inline(__always) public var hasBody: Bool { isChunked || contentLength > 0 }
}

/// What became of an attempt to parse.
public enum RequestParse: Equatable, Sendable {
    /// The head is not complete; call again with more bytes.
    case needMore
    /// The head is in the output, ``RequestHead/headBytes`` long.
    case complete
    /// The request is refused: answer with this status and close, parse no later byte.
    case refused(status: UInt16)
}
