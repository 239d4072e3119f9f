// Every limit of the conversion intake, in one place.
internal import Tracking

/// What the intake takes at most; one more is refused.
public enum ConversionLimits {
    /// Bytes of a body that are looked at; `limits.body_bytes` may be less.
    public static let maxBodyBytes = 1 << 20
    /// Parameters in query and form together.
    public static let maxParameters = 100
    /// Conversions in one message.
    public static let maxConversionsPerMessage = 100
    /// Errors told of one conversion among several: a hundred results must fit into one answer.
    public static let maxErrorsPerResult = 6
    /// Bytes of `order_id` and `refund_id`.
    public static let maxOrderBytes = 128
    /// Bytes of any other text.
    public static let maxTextBytes = 255
    /// Tokens in `click_path`.
    public static let maxPathTokens = ConversionRecord.maximumPath
    /// Elements of `items`.
    public static let maxItems = 100
    /// Bytes of `items`.
    public static let maxItemsBytes = 65_536
    /// The largest `quantity` of an item.
    public static let maxQuantity = 1_000_000
    /// Digits and point of a number.
    public static let maxNumberBytes = 40
    /// Digits of a number's exponent in `items`, as a double may have them.
    public static let maxExponentDigits = 3
    /// Nesting of JSON.
    public static let maxJSONDepth = 8
    /// Members of a JSON object.
    public static let maxJSONMembers = 100
    /// Values in a JSON text.
    public static let maxJSONValues = 20_000
    /// Signatures in one `webhook-signature`.
    public static let maxSignatures = 16
    /// Bytes of a secret or token below which its way in is closed.
    public static let minSecretBytes = 16
    /// Seconds that a proof's time may lie before or after the receipt.
    public static let proofToleranceSeconds: Int64 = 300
    /// The age from which merchant data no longer supports a refusal.
    public static let maxMerchantDataAgeMicroseconds: Int64 = 60_000_000
    /// How far `event_time` may lie back.
    public static let maxEventAgeMicroseconds: Int64 = 30 * 86_400_000_000
    /// How far `event_time` may lie ahead.
    public static let maxEventLeadMicroseconds: Int64 = 300_000_000
}
