// Which of the few things on the public port a request asks for.
internal import Tracking

/// What a request asks for.
public enum Route: Equatable, Sendable {
    /// A link: `GET` or `HEAD` of anything that is not below. The range is the path without its
    /// slash, still percent-encoded and maybe no slug at all.
    case redirect(slug: ByteRange)
    /// `GET /pixel.gif`.
    case pixel
    /// `GET` or `POST /postback`.
    case postback
    /// `POST /v1/conversions`.
    case conversions
    /// `GET /t.js`.
    case snippet
    /// `/robots.txt`.
    case robots
    /// `/favicon.ico`.
    case favicon
    /// `/healthz`.
    case health
    /// `/.well-known/…`.
    case wellKnown
    /// `OPTIONS`: answered 204 with the `Allow` of the path (see ``Router/allow(_:)``).
    case options(allow: AllowedMethods)
    /// Another path below `/v1/`.
    case notFound
    /// A method that the path does not have.
    case methodNotAllowed(allow: AllowedMethods)
}

/// The methods of a path.
public enum AllowedMethods: UInt8, Sendable {
    /// GET, HEAD and OPTIONS.
    case read
    /// GET, POST and OPTIONS.
    case readWrite
    /// What any path has: the answer to `OPTIONS *`.
    case any
    /// POST and OPTIONS.
    case write

    /// The value of an Allow header.
    public var header: StaticString {
        switch self {
        case .read: "GET, HEAD, OPTIONS"
        case .readWrite: "GET, POST, OPTIONS"
        case .any: "GET, HEAD, POST, OPTIONS"
        case .write: "POST, OPTIONS"
        }
    }
}

/// Finds a request's route.
public enum Router {
    /// The route of a parsed request.
    /// - Complexity: O(1); no allocation.
    @inline(__always)
    public static func route(
        _ head: UnsafePointer<RequestHead>, _ bytes: UnsafeRawBufferPointer
    ) -> Route {
        let path = head.pointee.path.slice(of: bytes)
        let (route, allow) = resource(path, head.pointee.path)
        switch head.pointee.method {
        case .get, .head:
            if allow == .write { return .methodNotAllowed(allow: allow) }
            if head.pointee.method == .head, case .postback = route {
                return .methodNotAllowed(allow: .readWrite)
            }
            return route
        case .post:
            return allow == .read ? .methodNotAllowed(allow: allow) : route
        case .options:
            return .options(allow: head.pointee.isAsterisk ? .any : allow)
        case .other:
            return .methodNotAllowed(allow: allow)
        }
    }

    /// The reserved names (contract, 3) are told by their first bytes before anything else is
    /// compared.
    @inline(__always)
    private static func resource(
        _ path: UnsafeRawBufferPointer, _ range: ByteRange
    ) -> (Route, AllowedMethods) {
        guard path.count > 1 else { return (.redirect(slug: .absent), .read) }
        let slug = ByteRange(offset: range.offset &+ 1, count: range.count &- 1)
        switch path[1] {
        case 0x70:
            if ByteScan.isExactly(path, "/pixel.gif") { return (.pixel, .read) }
            if ByteScan.isExactly(path, "/postback") { return (.postback, .readWrite) }
        case 0x76:
            if ByteScan.isExactly(path, "/v1/conversions") { return (.conversions, .write) }
            if ByteScan.isExactly(path, "/v1") || ByteScan.hasCaselessPrefix(path, "/v1/") {
                return (.notFound, .read)
            }
        case 0x74:
            if ByteScan.isExactly(path, "/t.js") { return (.snippet, .read) }
        case 0x72:
            if ByteScan.isExactly(path, "/robots.txt") { return (.robots, .read) }
        case 0x66:
            if ByteScan.isExactly(path, "/favicon.ico") { return (.favicon, .read) }
        case 0x68:
            if ByteScan.isExactly(path, "/healthz") { return (.health, .read) }
        case 0x2E:
            if ByteScan.isExactly(path, "/.well-known")
                || ByteScan.hasCaselessPrefix(path, "/.well-known/")
            {
                return (.wellKnown, .read)
            }
        default: break
        }
        return (.redirect(slug: slug), .read)
    }
}

extension Router {
    /// Whether a slug names something that is never looked up as a link (contract, 3).
    static func isReserved(slug: [UInt8]) -> Bool {
        [
            "pixel.gif", "postback", "v1", "t.js", "robots.txt", "favicon.ico", "healthz",
            ".well-known",
        ].contains(String(decoding: slug, as: UTF8.self))
    }
}
