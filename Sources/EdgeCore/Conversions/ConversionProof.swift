// The trust ladder: which proof a message brings, and whether it holds (contract, 4).
public import Tracking

/// What a message proved.
enum ConversionProof {
    /// A signature holds. The digest is of what was signed; the id is that of a signed POST.
    case signed(messageID: [UInt8]?, digest: [UInt8])
    /// The merchant's token holds.
    case legacyToken
    /// Nothing was proved: a pixel.
    case claim

    var isSigned: Bool { if case .signed = self { true } else { false } }
    var isVerified: Bool { if case .claim = self { false } else { true } }
}

/// Making the proofs that the intake checks; for tools and tests.
public struct ConversionSigner<D: Digests>: Sendable {
    private let digests: D
    private let key: [UInt8]

    /// A signer with a merchant's `signing_secret` as stored (`whsec_…`); nil for a secret that
    /// closes the signed ways in.
    public init?(digests: D, secret: [UInt8]) {
        guard let key = SigningSecret.key(of: secret) else { return nil }
        self.digests = digests
        self.key = key
    }

    /// The `webhook-signature` of a POST (Standard Webhooks 1.0): `v1,` and base64.
    public func webhookSignature(id: [UInt8], timestamp: [UInt8], body: [UInt8]) -> String {
        let dot = [UInt8(ascii: ".")]
        let tag = digests.hmacSHA256(key: key, message: id + dot + timestamp + dot + body)
        return "v1,\(Base64.encode(tag))"
    }

    /// The `sig` of a GET with these parameters, `ts` among them: lower-case hexadecimal.
    public func querySignature(_ parameters: [ConversionParameter]) -> String {
        hexadecimalText(
            digests.hmacSHA256(key: key, message: ParameterParser.canonical(parameters)))
    }
}

/// A merchant's signing secret.
public enum SigningSecret {
    /// The key bytes of a secret as stored: the base64 after `whsec_`; nil when it is not that or
    /// shorter than ``ConversionLimits/minSecretBytes``, which closes the way in.
    public static func key(of stored: [UInt8]) -> [UInt8]? {
        let prefix = Array("whsec_".utf8)
        guard stored.starts(with: prefix), let key = Base64.decode(stored.dropFirst(prefix.count)),
            key.count >= ConversionLimits.minSecretBytes
        else { return nil }
        return key
    }
}

/// Checks the proofs of one request against one merchant.
struct ProofChecker<D: Digests> {
    let digests: D
    let request: ConversionRequest
    let merchant: MerchantDefinition

    /// The keys that hold now: the present secret's, and the previous one's until its expiry.
    private var keys: [[UInt8]] {
        var keys: [[UInt8]] = []
        if let key = merchant.signingSecret.flatMap(SigningSecret.key(of:)) { keys.append(key) }
        if let expiry = merchant.previousSecretExpiresAt, request.receivedAt < expiry,
            let key = merchant.previousSigningSecret.flatMap(SigningSecret.key(of:))
        {
            keys.append(key)
        }
        return keys
    }

    /// What the request proves.
    ///
    /// `messages` are its conversions' fields, `parameters` those of its
    /// query and form.
    func check(
        _ messages: [RawFields], _ parameters: [ConversionParameter]
    ) throws(ConversionFault) -> ConversionProof {
        if let signature = request.webhookSignature {
            return try checkWebhook(signature: Array(signature))
        }
        if let signature = parameters.first(where: { $0.name == Array("sig".utf8) }) {
            let proof = try checkQuery(signature: signature.value, parameters)
            // A pixel's address is seen by the visitor: what it proves is that of a claim.
            return request.endpoint == .pixel ? .claim : proof
        }
        guard request.endpoint != .pixel else { return .claim }
        if request.webhookID != nil || request.webhookTimestamp != nil {
            throw ConversionFault(401, "webhook-signature", "missing")
        }
        for fields in messages { try checkToken(fields[.token]) }
        return .legacyToken
    }

    private func checkTime(_ text: [UInt8], field: String) throws(ConversionFault) {
        guard let seconds = TextChecks.unixSeconds(text) else {
            throw ConversionFault(401, field, "malformed")
        }
        let age = request.receivedAt.seconds - seconds
        guard age.magnitude <= ConversionLimits.proofToleranceSeconds else {
            throw ConversionFault(401, field, "stale")
        }
    }

    private func checkWebhook(signature header: [UInt8]) throws(ConversionFault) -> ConversionProof
    {
        // The header covers a body; what a GET says is in its query.
        guard request.isPost else { throw ConversionFault(401, "webhook-signature", "not_for_get") }
        guard let id = request.webhookID.map(Array.init), !id.isEmpty else {
            throw ConversionFault(401, "webhook-id", "missing")
        }
        guard id.count <= ConversionLimits.maxTextBytes, TextChecks.isUTF8(id),
            !TextChecks.hasControl(id)
        else { throw ConversionFault(401, "webhook-id", "malformed") }
        guard let timestamp = request.webhookTimestamp.map(Array.init), !timestamp.isEmpty else {
            throw ConversionFault(401, "webhook-timestamp", "missing")
        }
        try checkTime(timestamp, field: "webhook-timestamp")
        let signatures = header.split(separator: UInt8(ascii: " "))
        guard signatures.count <= ConversionLimits.maxSignatures else {
            throw ConversionFault(401, "webhook-signature", "too_many")
        }
        let dot = [UInt8(ascii: ".")]
        let body = Array(request.body)
        var holds = false
        for key in keys {
            let tag = digests.hmacSHA256(key: key, message: id + dot + timestamp + dot + body)
            let wanted = Array("v1,\(Base64.encode(tag))".utf8)
            for given in signatures where digests.areEqual(Array(given), wanted) { holds = true }
        }
        guard holds else { throw ConversionFault(401, "webhook-signature", "wrong") }
        return .signed(messageID: id, digest: digests.sha256(body))
    }

    private func checkQuery(
        signature: [UInt8], _ parameters: [ConversionParameter]
    ) throws(ConversionFault) -> ConversionProof {
        guard !request.isPost else { throw ConversionFault(401, "sig", "only_for_get") }
        guard let time = parameters.first(where: { $0.name == Array("ts".utf8) }) else {
            throw ConversionFault(401, "ts", "missing")
        }
        try checkTime(time.value, field: "ts")
        guard let given = signature.withUnsafeBytes({ hexadecimalBytes($0) }) else {
            throw ConversionFault(401, "sig", "wrong")
        }
        let form = ParameterParser.canonical(parameters)
        var holds = false
        for key in keys
        where digests.areEqual(given, digests.hmacSHA256(key: key, message: form)) {
            holds = true
        }
        guard holds else { throw ConversionFault(401, "sig", "wrong") }
        return .signed(messageID: nil, digest: digests.sha256(form))
    }

    private func checkToken(_ value: RawValue?) throws(ConversionFault) {
        guard let value else { throw ConversionFault(401, "signature", "missing") }
        guard case .text(let given) = value, let token = merchant.postbackToken,
            token.count >= ConversionLimits.minSecretBytes, digests.areEqual(given, token)
        else { throw ConversionFault(401, "token", "wrong") }
    }
}
