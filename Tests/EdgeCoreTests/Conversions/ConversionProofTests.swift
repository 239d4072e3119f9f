// The trust ladder: each way in, each way it is closed, each forged proof.
import EdgeCore
import TLS
import Testing
import Tracking

@Suite("What a conversion proves")
struct ConversionProofTests {
    typealias Fixture = ConversionFixture
    private let fixture = Fixture()

    @Test("The published vector of Standard Webhooks is signed alike")
    func standardWebhooks() throws {
        let signer = try #require(
            ConversionSigner(
                digests: OpenSSLDigests(),
                secret: Array("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".utf8)))
        let signature = signer.webhookSignature(
            id: Array("msg_p5jXN8AQM9LWM0D4loKWxJek".utf8), timestamp: Array("1614265330".utf8),
            body: Array("{\"test\": 2432232314}".utf8))
        #expect(signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    }

    @Test("The canonical form encodes again, sorts by encoded name and leaves sig out")
    func canonicalForm() throws {
        var parameters: [ConversionParameter] = []
        let query = "z=%7e+x&sig=00&a%5B%5D=%c3%a9&B=1&empty&a=%2f"
        try Array(query.utf8).withUnsafeBytes { try ParameterParser.parse($0, into: &parameters) }
        let form = String(decoding: ParameterParser.canonical(parameters), as: UTF8.self)
        #expect(form == "B=1&a=%2F&a%5B%5D=%C3%A9&empty=&z=~%20x")
    }

    @Test("A signed POST is verified and carries its message's id and digest")
    func signedPost() throws {
        let verdict = fixture.verdict(fixture.signed(Fixture.sale()))
        let record = try #require(verdict.records.first)
        #expect(verdict.status == 200 && verdict.refusals.isEmpty && verdict.isProven)
        #expect(record.flags.contains(.verified) && !record.flags.contains(.legacyToken))
        #expect(record.messageID == Array("msg_1".utf8))
        #expect(record.messageDigest == OpenSSLDigests().sha256(Array(Fixture.sale().utf8)))
        #expect(record.channel == .api)
        #expect(
            verdict.message == SignedMessage(record, digests: OpenSSLDigests()),
            "what the memory is asked is what a restart restores")
    }

    @Test("A form is signed as its bytes, and only the body's fields count")
    func signedForm() throws {
        let form = "application/x-www-form-urlencoded; charset=utf-8"
        var message = fixture.signed(Fixture.saleQuery(), endpoint: .postback, contentType: form)
        message.query = "note=1"
        let record = try #require(fixture.verdict(message).records.first)
        #expect(record.channel == .postback && record.flags.contains(.verified))
        message.query = "cid=x"
        let refused = fixture.verdict(message)
        #expect(refused.status == 400 && refused.fault == "click_id not_in_query")
    }

    @Test("One right signature among several is enough; other versions are passed over")
    func severalSignatures() {
        var message = fixture.signed(Fixture.sale())
        let right = message.webhookSignature ?? ""
        message.webhookSignature = "v1a,AAAA v1,\(String(repeating: "A", count: 43))= \(right)"
        #expect(fixture.verdict(message).status == 200)
        message.webhookSignature = "v2" + right.dropFirst(2)
        #expect(fixture.verdict(message).fault == "webhook-signature wrong")
        message.webhookSignature = String(repeating: right + " ", count: 17)
        #expect(fixture.verdict(message).fault == "webhook-signature too_many")
    }

    @Test("A signature that is present and wrong is 401, whatever else is right")
    func wrongSignature() {
        var message = fixture.signed(Fixture.sale("\"token\":\"\(Fixture.token)\""))
        message.webhookSignature = "v1,\(String(repeating: "A", count: 43))="
        #expect(fixture.verdict(message).status == 401)
        message.webhookSignature = ""
        #expect(fixture.verdict(message).status == 401)
        var query = fixture.tokenQuery(Fixture.saleQuery("sig=00&ts=\(Fixture.now.seconds)"))
        #expect(fixture.verdict(query).fault == "sig wrong")
        query = fixture.tokenQuery(Fixture.saleQuery("sig=zz"))
        #expect(fixture.verdict(query).fault == "ts missing")
        var get = fixture.tokenQuery(Fixture.saleQuery())
        get.webhookSignature = "v1,AAAA"
        #expect(fixture.verdict(get).status == 401)
    }

    @Test("Each part of what is signed is covered")
    func coverage() {
        let good = fixture.signed(Fixture.sale())
        #expect(fixture.verdict(good).status == 200)
        var message = good
        message.webhookID = "msg_2"
        #expect(fixture.verdict(message).status == 401)
        message = good
        message.webhookTimestamp = String(Fixture.now.seconds - 1)
        #expect(fixture.verdict(message).status == 401)
        message = good
        message.body = Array(Fixture.sale().utf8) + [0x20]
        #expect(fixture.verdict(message).status == 401)
        let query = fixture.signedQuery(Fixture.saleQuery("extra=1"))
        #expect(fixture.verdict(query).status == 200)
        var changed = query
        changed.query = query.query.replacingFirst("extra=1", with: "extra=2")
        #expect(fixture.verdict(changed).status == 401)
        changed.query = query.query + "&more=1"
        #expect(fixture.verdict(changed).status == 401)
    }

    @Test(
        "Proofs are good for five minutes either way", arguments: [300, 301, -300, -301] as [Int64])
    func age(seconds: Int64) {
        let isFresh = seconds.magnitude <= 300
        let post = fixture.verdict(fixture.signed(Fixture.sale(), age: seconds))
        let query = fixture.verdict(fixture.signedQuery(Fixture.saleQuery(), age: seconds))
        #expect(post.status == (isFresh ? 200 : 401))
        #expect(query.status == (isFresh ? 200 : 401))
        #expect(isFresh || post.fault == "webhook-timestamp stale" && query.fault == "ts stale")
    }

    @Test("A header of the three that is missing or odd is 401")
    func headers() {
        let good = fixture.signed(Fixture.sale())
        for (path, value) in [
            (\Fixture.Message.webhookID, nil), (\.webhookID, ""), (\.webhookID, "a\u{7}b"),
            (\.webhookID, String(repeating: "m", count: 256)), (\.webhookTimestamp, nil),
            (\.webhookTimestamp, "now"), (\.webhookTimestamp, "-1"),
            (\.webhookTimestamp, String(repeating: "9", count: 30)), (\.webhookSignature, nil),
        ] as [(WritableKeyPath<Fixture.Message, String?>, String?)] {
            var message = good
            message[keyPath: path] = value
            #expect(fixture.verdict(message).status == 401, "\(value ?? "absent")")
        }
    }

    @Test("The previous secret holds until its expiry and without one not at all")
    func previousSecret() {
        var fixture = Fixture()
        let message = fixture.signed(Fixture.sale(), secret: Fixture.previousSecret)
        #expect(fixture.verdict(message).status == 401)
        fixture.merchant.previousSigningSecret = Fixture.previousSecret
        #expect(fixture.verdict(message).status == 401)
        fixture.merchant.previousSecretExpiresAt = Fixture.now.advanced(byMicroseconds: 1)
        #expect(fixture.verdict(message).status == 200)
        fixture.merchant.previousSecretExpiresAt = Fixture.now
        #expect(fixture.verdict(message).status == 401)
    }

    @Test(
        "A null, empty, short or odd secret closes the signed ways in, even to its own signature",
        arguments: [
            nil, "", "whsec_", "whsec_AAAA", "whsec_\(Base64.encode([UInt8](1...15)))",
            Base64.encode([UInt8](1...32)), "whsec_not base64 but long enough for a key",
        ])
    func closedSecrets(secret: String?) {
        var fixture = Fixture()
        fixture.merchant.signingSecret = secret.map { Array($0.utf8) }
        #expect(fixture.verdict(fixture.signed(Fixture.sale())).status == 401)
        var message = fixture.signed(Fixture.sale())
        let tag = OpenSSLDigests().hmacSHA256(
            key: Array("".utf8),
            message: Array("msg_1.\(Fixture.now.seconds).\(Fixture.sale())".utf8))
        message.webhookSignature = "v1,\(Base64.encode(tag))"
        #expect(fixture.verdict(message).status == 401, "signed with the empty key")
    }

    @Test("The token is believed in query, form and JSON, and marked legacy")
    func legacyToken() throws {
        let form = Fixture.Message(
            isPost: true, query: "token=\(Fixture.token)", body: Array(Fixture.saleQuery().utf8),
            contentType: "application/x-www-form-urlencoded")
        let json = Fixture.Message(
            endpoint: .conversions, isPost: true,
            body: Array(Fixture.sale("\"token\":\"\(Fixture.token)\"").utf8))
        for message in [fixture.tokenQuery(Fixture.saleQuery()), form, json] {
            let verdict = fixture.verdict(message)
            let record = try #require(verdict.records.first)
            #expect(record.flags.contains([.verified, .legacyToken]))
            #expect(record.messageID == nil && record.messageDigest.isEmpty)
            #expect(verdict.message == nil)
        }
    }

    @Test(
        "A null, empty or short token closes the legacy way in",
        arguments: [nil, "", "short", "fifteen-bytes-x"])
    func closedTokens(token: String?) {
        var fixture = Fixture()
        fixture.merchant.postbackToken = token.map { Array($0.utf8) }
        for given in [token ?? "", "", Fixture.token] {
            let message = Fixture.Message(query: Fixture.saleQuery("token=\(given)"))
            #expect(fixture.verdict(message).status == 401)
        }
    }

    @Test("Without a proof a postback is 401")
    func noProof() {
        #expect(fixture.verdict(.init(query: Fixture.saleQuery())).fault == "signature missing")
        #expect(
            fixture.verdict(.init(query: Fixture.saleQuery("ts=1"))).fault == "signature missing")
        #expect(fixture.verdict(.init(query: Fixture.saleQuery("token=x"))).fault == "token wrong")
        let post = Fixture.Message(
            endpoint: .conversions, isPost: true, body: Array(Fixture.sale().utf8))
        #expect(fixture.verdict(post).status == 401)
    }

    @Test("A pixel is a claim, with a right token or signature too; a wrong signature is refused")
    func pixel() throws {
        for message in [
            Fixture.Message(endpoint: .pixel, query: Fixture.saleQuery()),
            .init(endpoint: .pixel, query: Fixture.saleQuery("token=\(Fixture.token)")),
            fixture.signedQuery(Fixture.saleQuery(), endpoint: .pixel),
        ] {
            let verdict = fixture.verdict(message)
            let record = try #require(verdict.records.first)
            #expect(!record.flags.contains(.verified) && !verdict.isProven)
            #expect(record.messageDigest.isEmpty)
            #expect(record.channel == .pixel)
        }
        let forged = fixture.verdict(
            .init(endpoint: .pixel, query: Fixture.saleQuery("ts=1790000000&sig=00")))
        #expect(forged.records.isEmpty && forged.status == 200)
        #expect(forged.refusals.first?.httpStatus == 401)
    }

    @Test("Merchants: unknown 404, suspended 403, and 503 for all three while the data is old")
    func merchants() {
        var fixture = Fixture()
        let unknown = fixture.tokenQuery(
            "merchant_id=00000000-0000-0000-0000-000000000001&order_id=1&amount=1")
        let good = fixture.tokenQuery(Fixture.saleQuery())
        let bad = Fixture.Message(query: Fixture.saleQuery())
        #expect(fixture.verdict(unknown).status == 404)
        #expect(fixture.verdict(bad).status == 401)
        fixture.merchant.isSuspended = true
        #expect(fixture.verdict(good).status == 403)
        #expect(fixture.verdict(bad).status == 401, "a stranger is not told of the suspension")
        fixture.dataAge = 60_000_000
        for message in [unknown, good, bad] {
            let verdict = fixture.verdict(message)
            #expect(verdict.status == 503 && verdict.retryAfterSeconds != nil)
            #expect(verdict.records.isEmpty && verdict.refusals.isEmpty)
        }
        fixture.dataAge = 59_999_999
        #expect(fixture.verdict(unknown).status == 404)
        fixture.merchant.isSuspended = false
        fixture.dataAge = .max
        #expect(fixture.verdict(good).status == 200, "what old data proves is proved")
        let malformed = Fixture.Message(query: "merchant_id=x")
        #expect(fixture.verdict(malformed).status == 400, "malformed is malformed at any age")
    }

    @Test("One merchant's proof is not another's")
    func foreignProof() {
        let body = Fixture.sale().replacingFirst(
            "\(Fixture.merchantID)", with: "\(Fixture.otherID)")
        #expect(fixture.verdict(fixture.signed(body)).status == 401)
        #expect(fixture.verdict(fixture.signed(body, secret: Fixture.previousSecret)).status == 200)
    }
}

extension String {
    /// This text with the first occurrence of a part replaced.
    func replacingFirst(_ part: String, with other: String) -> String {
        var index = startIndex
        while index < endIndex, !self[index...].hasPrefix(part) { index = self.index(after: index) }
        guard index < endIndex else { return self }
        return self[..<index] + other + self[self.index(index, offsetBy: part.count)...]
    }
}
