// What the intake's tests share: a merchant, its click tokens, signed requests.
import EdgeCore
import TLS
import Tracking

/// One edge with two merchants, at a fixed time.
struct ConversionFixture {
    static let now = Timestamp(microseconds: 1_790_000_000_000_000)
    static let merchantID = EntityID(high: 0x1111_2222_3333_4444, low: 0x8888_9999_AAAA_BBBB)
    static let otherID = EntityID(high: 0x1111_2222_3333_4444, low: 0x8888_9999_AAAA_CCCC)
    static let secret = Array("whsec_\(Base64.encode([UInt8](1...32)))".utf8)
    static let previousSecret = Array("whsec_\(Base64.encode([UInt8](33...64)))".utf8)
    static let token = "a-postback-token-of-32-characters"
    static let clickKey = SipHashKey(first: 1, second: 2)
    static let oldClickKey = SipHashKey(first: 3, second: 4)

    var merchant: MerchantDefinition
    var other: MerchantDefinition
    var dataAge: Int64 = 0
    let intake = ConversionIntake(
        digests: OpenSSLDigests(),
        clickKeys: [ConversionFixture.clickKey, ConversionFixture.oldClickKey])

    init() {
        guard let euro = Currency("EUR") else { preconditionFailure("EUR is a currency") }
        merchant = MerchantDefinition(id: ConversionFixture.merchantID, currency: euro)
        merchant.signingSecret = ConversionFixture.secret
        merchant.postbackToken = Array(ConversionFixture.token.utf8)
        other = MerchantDefinition(id: ConversionFixture.otherID, currency: euro)
        other.signingSecret = ConversionFixture.previousSecret
    }

    static func click(_ sequence: UInt16 = 5) -> ClickID {
        ClickID(millisecondsSinceEpoch: 80_000_000_000, ring: 7, sequence: sequence)
    }

    static func clickToken(
        _ sequence: UInt16 = 5, merchant: EntityID = merchantID, key: SipHashKey = clickKey
    ) -> String {
        ClickToken.text(click(sequence), merchant: merchant, key: key)
    }

    /// What a request of the tests is made of.
    struct Message {
        var endpoint = ConversionEndpoint.postback
        var isPost = false
        var query = ""
        var body: [UInt8] = []
        var contentType: String?
        var webhookID: String?
        var webhookTimestamp: String?
        var webhookSignature: String?
        var receivedAt = ConversionFixture.now
    }

    func verdict(_ message: Message) -> ConversionVerdict {
        func withOptional<R>(
            _ text: String?, _ body: (UnsafeRawBufferPointer?) -> R
        ) -> R {
            guard let text else { return body(nil) }
            return Array(text.utf8).withUnsafeBytes { body($0) }
        }
        var request = ConversionRequest(
            endpoint: message.endpoint, isPost: message.isPost, receivedAt: message.receivedAt)
        return withOptional(message.query) { query in
            withOptional(message.contentType) { type in
                withOptional(message.webhookID) { id in
                    withOptional(message.webhookTimestamp) { timestamp in
                        withOptional(message.webhookSignature) { signature in
                            message.body.withUnsafeBytes { body in
                                request.query = query ?? request.query
                                request.body = body
                                request.contentType = type
                                request.webhookID = id
                                request.webhookTimestamp = timestamp
                                request.webhookSignature = signature
                                return intake.interpret(
                                    request, merchants: MerchantDirectory([merchant, other]),
                                    merchantDataAgeMicroseconds: dataAge)
                            }
                        }
                    }
                }
            }
        }
    }

    // MARK: Requests

    /// A POST of JSON to `/v1/conversions` with a signature.
    func signed(
        _ body: String, endpoint: ConversionEndpoint = .conversions, id: String = "msg_1",
        secret: [UInt8] = secret, contentType: String = "application/json", age: Int64 = 0
    ) -> Message {
        let timestamp = String(ConversionFixture.now.seconds - age)
        let signer = ConversionSigner(digests: OpenSSLDigests(), secret: secret)
        let signature = signer?.webhookSignature(
            id: Array(id.utf8), timestamp: Array(timestamp.utf8), body: Array(body.utf8))
        return Message(
            endpoint: endpoint, isPost: true, body: Array(body.utf8), contentType: contentType,
            webhookID: id, webhookTimestamp: timestamp, webhookSignature: signature ?? "v1,none")
    }

    /// A GET of `/postback` (or the pixel) with `ts` and `sig` added.
    func signedQuery(
        _ query: String, endpoint: ConversionEndpoint = .postback, age: Int64 = 0,
        secret: [UInt8] = secret
    ) -> Message {
        let full = query + "&ts=\(ConversionFixture.now.seconds - age)"
        var parameters: [ConversionParameter] = []
        try? Array(full.utf8).withUnsafeBytes {
            try ParameterParser.parse($0, into: &parameters)
        }
        let signature = ConversionSigner(digests: OpenSSLDigests(), secret: secret)?
            .querySignature(parameters)
        return Message(endpoint: endpoint, query: full + "&sig=\(signature ?? "")")
    }

    /// A GET of `/postback` with the merchant's token.
    func tokenQuery(_ query: String) -> Message {
        Message(query: query + "&token=\(ConversionFixture.token)")
    }

    /// The JSON of a sale with more members.
    static func sale(_ more: String = "") -> String {
        "{\"merchant_id\":\"\(merchantID)\",\"order_id\":\"A-1\",\"amount\":\"12.50\""
            + (more.isEmpty ? "" : ",") + more + "}"
    }

    /// The query of a sale with more parameters.
    static func saleQuery(_ more: String = "") -> String {
        "merchant_id=\(merchantID)&order_id=A-1&amount=12.50" + (more.isEmpty ? "" : "&") + more
    }
}

extension ConversionVerdict {
    var text: String { String(decoding: body, as: UTF8.self) }
    /// `field reason` of the first error in a rejected body.
    var fault: String {
        guard let start = text.range(of: "\"field\":\""),
            let middle = text.range(of: "\",\"reason\":\"")
        else { return "" }
        let field = text[start.upperBound..<middle.lowerBound]
        let reason = text[middle.upperBound...].prefix { $0 != "\"" }
        return "\(field) \(reason)"
    }
}

extension String {
    /// The first place of a text.
    fileprivate func range(of wanted: String) -> Range<String.Index>? {
        var index = startIndex
        while index < endIndex {
            if self[index...].hasPrefix(wanted) {
                return index..<self.index(index, offsetBy: wanted.count)
            }
            index = self.index(after: index)
        }
        return nil
    }
}
