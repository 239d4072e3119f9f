// What the intake is asked and what it answers: values in, values out.
public import Tracking

/// The addresses that take conversions.
public enum ConversionEndpoint: Sendable {
    /// `GET /pixel.gif`.
    case pixel
    /// `GET|POST /postback`.
    case postback
    /// `POST /v1/conversions`.
    case conversions

    /// How a conversion that came in here is stored.
    public var channel: ConversionChannel {
        switch self {
        case .pixel: .pixel
        case .postback: .postback
        case .conversions: .api
        }
    }
}

/// One HTTP request for the intake, as views into the request's bytes.
///
/// A nil header was not sent.
public struct ConversionRequest {
    /// Where it came in.
    public var endpoint: ConversionEndpoint
    /// Whether the method is POST; any other is read as GET.
    public var isPost: Bool
    /// The query without its question mark; empty for none.
    public var query = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The body, transfer coding removed.
    public var body = UnsafeRawBufferPointer(start: nil, count: 0)
    /// `Content-Type`.
    public var contentType: UnsafeRawBufferPointer?
    /// `webhook-id`.
    public var webhookID: UnsafeRawBufferPointer?
    /// `webhook-timestamp`.
    public var webhookTimestamp: UnsafeRawBufferPointer?
    /// `webhook-signature`.
    public var webhookSignature: UnsafeRawBufferPointer?
    /// When it was received.
    public var receivedAt: Timestamp

    /// A request without query, body and headers.
    public init(endpoint: ConversionEndpoint, isPost: Bool, receivedAt: Timestamp) {
        self.endpoint = endpoint
        self.isPost = isPost
        self.receivedAt = receivedAt
    }
}

/// One thing that is wrong with a message.
///
/// Neither part ever holds a byte that a client sent.
public struct ConversionFault: Error, Equatable, Sendable {
    /// The status that it leads to.
    public let status: UInt16
    /// The field at fault, by its contract name; `body`, `query` or a header's name for the rest.
    public let field: String
    /// What is wrong, in one lower-case word.
    public let reason: String

    init(_ status: UInt16, _ field: String, _ reason: String) {
        self.status = status
        self.field = field
        self.reason = reason
    }
}

/// What is to be done with a request.
///
/// With ``records`` the answer may leave only when they are durable; ``refusals`` are for the intake
/// log and hold nothing up.
public struct ConversionVerdict: Sendable {
    /// The content of an answer.
    public enum Content: Sendable {
        /// `application/json`.
        case json
        /// `image/gif`, with `Cache-Control: no-store`.
        case gif
    }

    /// The status to answer once the records are durable.
    public var status: UInt16
    /// The body to answer.
    public var body: [UInt8]
    /// What the body is.
    public var content: Content
    /// What to record, in order.
    public var records: [ConversionRecord] = []
    /// What to write to the intake log.
    public var refusals: [RefusalRecord] = []
    /// The signed message to ask ``MessageMemory`` about before anything is recorded; on
    /// ``MessageMemory/Answer/different`` use ``ConversionVerdict/conflict(_:)`` instead.
    public var message: SignedMessage?
    /// `Retry-After` in seconds, for 503.
    public var retryAfterSeconds: Int?
    /// Whether a proof held: a signature or the merchant's token.
    public var isProven = false

    /// The verdict on a request that names a known message with another body: 409.
    public func conflict(_ request: ConversionRequest) -> ConversionVerdict {
        let fault = ConversionFault(409, "webhook-id", "message_id_reuse")
        var verdict = ConversionVerdict(
            status: 409, body: ConversionResponses.rejected([fault]), content: .json)
        verdict.refusals = records.prefix(1).map { record in
            RefusalRecord(
                receivedAt: request.receivedAt, merchantID: record.merchantID,
                channel: record.channel, httpStatus: 409, field: Array(fault.field.utf8),
                reason: Array(fault.reason.utf8), orderID: record.orderID)
        }
        verdict.isProven = isProven
        return verdict
    }
}
