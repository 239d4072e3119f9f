// What the parser gives for each request of the llhttp corpus, and why where llhttp gives another
// verdict in the same mode (docs/http.md).

/// The expectations, by the corpus file's name and the request's title.
enum LlhttpExpectations {
    /// One request's verdict, in ``WireDriver``'s words.
    struct Row {
        /// As it stands: most samples have no Host, so most are 400.
        var verdict: String
        /// With a Host where HTTP/1.1 wants one.
        var withHost: String
        /// Why ``withHost`` is not llhttp's verdict; empty where it is.
        var reason: String

        init(_ verdict: String, _ withHost: String, _ reason: String = "") {
            self.verdict = verdict
            self.withHost = withHost
            self.reason = reason
        }
    }

    private static let closed =
        "a request that ends its connection is its last: what follows is thrown away unparsed"
    private static let emptyLine = "one empty line may precede a request, no more (RFC 9112, 2.2)"
    private static let folded = "a folded line (RFC 9112, 5.2: reject)"
    private static let upgrade =
        "no upgrade is offered: what follows is parsed as the next request, and is none"
    private static let connect = "no tunnel is offered: CONNECT is 405 and closes"

    static let rows: [String: Row] = [
        "connection: Setting flag": Row("refuse 400", "accept"),
        "connection: Restarting when keep-alive is explicitly": Row("refuse 400", "accept"),
        "connection: No restart when keep-alive is off (1.0)": Row("accept", "accept", closed),
        "connection: Resetting flags when keep-alive is off (1.0, lenient)": Row(
            "accept", "accept", closed),
        "connection: CRLF between requests, implicit `keep-alive`": Row(
            "refuse 400", "refuse 400", emptyLine),
        #"connection: Not treating `\r` as `-`"#: Row("refuse 400", "refuse 400"),
        "connection: Setting flag on `close`": Row("refuse 400", "accept"),
        "connection: Setting flag on `close` followed by tab": Row("refuse 400", "accept"),
        "connection: CRLF between requests, explicit `close`": Row("accept", "accept", closed),
        "connection: CRLF between requests, explicit `close` followed by tab": Row(
            "accept", "accept", closed),
        "connection: CRLF between requests, explicit `close` (lenient)": Row(
            "accept", "accept", closed),
        "connection: Sample": Row("refuse 400", "accept"),
        "connection: Multiple tokens with folding": Row("refuse 400", "refuse 400", folded),
        "connection: Multiple tokens with folding and LWS": Row(
            "refuse 400", "refuse 400", upgrade),
        "connection: Multiple tokens with folding, LWS, and CRLF": Row(
            "refuse 400", "refuse 400", folded),
        "connection: Invalid whitespace token with `Connection` header field": Row(
            "refuse 400", "refuse 400"),
        "connection: Invalid whitespace token with `Connection` header field (lenient)": Row(
            "refuse 400", "refuse 400",
            "a space before a colon (RFC 9112, 5.1: reject); llhttp takes it when lenient"),
        "connection: Setting a flag and pausing": Row("refuse 400", "accept"),
        "connection: Emitting part of body and pausing": Row(
            "refuse 400", "wait", "no upgrade is offered: what follows may begin the next request"),
        "connection: Upgrade GET request": Row("refuse 400", "refuse 400", upgrade),
        "connection: Upgrade POST request": Row("refuse 400", "refuse 400", upgrade),
        "finish: It should be safe to finish after GET request": Row("refuse 400", "accept"),
        "finish: It should be unsafe to finish after incomplete PUT request": Row("wait", "wait"),
        "finish: It should be unsafe to finish inside of the header": Row("wait", "wait"),
        "method: REPORT request": Row("refuse 400", "accept"),
        "method: CONNECT request": Row("refuse 405", "refuse 405", connect),
        "method: CONNECT request with CAPS": Row("refuse 405", "refuse 405", connect),
        "method: CONNECT with body": Row("refuse 405", "refuse 405", connect),
        "method: M-SEARCH request": Row(
            "refuse 400", "refuse 400", "the target * belongs to OPTIONS alone (RFC 9112, 3.2.4)"),
        "method: PATCH request": Row("accept", "accept"),
        "method: PURGE request": Row("accept", "accept"),
        "method: SEARCH request": Row("accept", "accept"),
        "method: LINK request": Row("accept", "accept"),
        "method: LINK request (2)": Row("accept", "accept"),
        "method: SOURCE request": Row("accept", "accept"),
        "method: SOURCE request with ICE": Row("refuse 400", "refuse 400", "another protocol"),
        "method: OPTIONS request with RTSP": Row("refuse 400", "refuse 400", "another protocol"),
        "method: ANNOUNCE request with RTSP": Row("refuse 400", "refuse 400", "another protocol"),
        "method: PRI request HTTP2": Row(
            "refuse 400", "refuse 400", "the preface of HTTP/2, which is not spoken"),
        "method: QUERY request": Row("accept", "accept"),
        "pipelining: Should parse multiple events": Row("refuse 400", "wait"),
        "sample: Simple request": Row("refuse 400", "accept"),
        "sample: Request with method starting with `H`": Row("refuse 400", "accept"),
        "sample: curl GET": Row("accept", "accept"),
        "sample: Firefox GET": Row("accept", "accept"),
        "sample: DUMBPACK": Row("refuse 400", "accept"),
        "sample: No headers and no body": Row("refuse 400", "accept"),
        "sample: One header and no body": Row("refuse 400", "accept"),
        "sample: Apache bench GET": Row("accept", "accept"),
        "sample: Prefix newline": Row("refuse 400", "accept"),
        "sample: No HTTP version": Row("refuse 400", "refuse 400", "HTTP/0.9"),
        "sample: Line folding in header value with CRLF": Row("refuse 400", "refuse 400", folded),
        "sample: Line folding in header value with LF": Row("refuse 400", "refuse 400"),
        "sample: No LF after CR": Row("refuse 400", "refuse 400"),
        "sample: No LF after CR (lenient)": Row(
            "refuse 400", "refuse 400", "a bare CR; llhttp takes it when lenient"),
        "sample: Request starting with CRLF": Row("refuse 400", "accept"),
        "sample: Extended Characters": Row("refuse 400", "accept"),
        "sample: 255 ASCII in header value": Row("refuse 400", "accept"),
        "sample: X-SSL-Nonsense": Row("refuse 400", "refuse 400", folded),
        "uri: Quotes in URI": Row("refuse 400", "accept"),
        "uri: Query URL with question mark": Row("refuse 400", "accept"),
        "uri: Host terminated by a query string": Row(
            "refuse 400", "wait", "one CRLF more behind the request: it may begin the next one"),
        "uri: `host:port` terminated by a query string": Row("refuse 400", "accept"),
        "uri: Query URL with vertical bar character": Row("refuse 400", "accept"),
        "uri: `host:port` terminated by a space": Row("refuse 400", "accept"),
        "uri: Disallow UTF-8 in URI path in strict mode": Row("refuse 400", "refuse 400"),
        "uri: Fragment in URI": Row(
            "refuse 400", "refuse 400", "a fragment is no part of a request target (RFC 9112, 3.2)"),
        "uri: Underscore in hostname": Row("refuse 405", "refuse 405", connect),
        "uri: `host:port` and basic auth": Row(
            "refuse 400", "refuse 400", "user information in a target (RFC 9110, 4.2.4: an error)"),
        "uri: Space in URI": Row("refuse 400", "refuse 400"),
    ]
}
