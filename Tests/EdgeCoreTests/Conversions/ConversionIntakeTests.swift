// Whole requests: arrays, bodies, content types, the pixel, the intake log, the memory of messages;
// and random bytes through every parser.
import TLS
import Testing
import Tracking

@testable import EdgeCore

@Suite("What a request is answered")
struct ConversionIntakeTests {
    typealias Fixture = ConversionFixture
    private let fixture = Fixture()

    private func array(_ elements: [String]) -> Fixture.Message {
        fixture.signed("[\(elements.joined(separator: ","))]")
    }

    @Test("An array is answered in order, each element for itself")
    func arrays() throws {
        let verdict = fixture.verdict(
            array([
                Fixture.sale(), Fixture.sale("\"event\":\"gift\""),
                Fixture.sale().replacingFirst("A-1", with: "A-2"),
            ]))
        let ids = verdict.records.map(\.conversionID.description)
        #expect(verdict.status == 200 && ids.count == 2 && verdict.refusals.count == 1)
        #expect(
            verdict.text == "{\"results\":["
                + "{\"status\":\"accepted\",\"conversion_id\":\"\(ids[0])\"},"
                + "{\"status\":\"rejected\",\"errors\":[{\"field\":\"event\",\"reason\":\"unknown_word\"}]},"
                + "{\"status\":\"accepted\",\"conversion_id\":\"\(ids[1])\"}]}")
        #expect(verdict.refusals[0].httpStatus == 400)
        #expect(Set(verdict.records.map(\.messageID)).count == 1 && verdict.message != nil)
    }

    @Test("A hundred results fit into one answer, however much is wrong with each")
    func manyFaults() {
        let fields = ConversionField.allCases.filter { $0 != .merchantID && $0 != .token }
            .map { "\"\($0.name)\":\"\\u0001\"" }
        let bad = "{\"merchant_id\":\"\(Fixture.merchantID)\",\(fields.joined(separator: ","))}"
        let verdict = fixture.verdict(array(Array(repeating: bad, count: 99) + [Fixture.sale()]))
        #expect(verdict.status == 200 && verdict.records.count == 1)
        #expect(verdict.refusals.count == 99)
        #expect(verdict.body.count <= 48 << 10)
        // One conversion alone is told everything.
        let single = fixture.verdict(fixture.signed(bad))
        #expect(single.status == 400)
        let told = single.text.split(separator: "reason").count - 1
        #expect(told > ConversionLimits.maxErrorsPerResult)
    }

    @Test("An array is of one merchant, of 1 to 100 objects, and all of it has the proof")
    func badArrays() {
        let other = Fixture.sale().replacingFirst(
            "\(Fixture.merchantID)", with: "\(Fixture.otherID)")
        #expect(
            fixture.verdict(array([Fixture.sale(), other])).fault == "merchant_id several_merchants"
        )
        #expect(fixture.verdict(array([])).fault == "body empty")
        #expect(fixture.verdict(array(["1"])).fault == "body not_an_object")
        #expect(fixture.verdict(array(["[]"])).fault == "body not_an_object")
        let many = Array(repeating: Fixture.sale(), count: 100)
        #expect(fixture.verdict(array(many)).records.count == 100)
        #expect(fixture.verdict(array(many + [Fixture.sale()])).fault == "body too_many")
        let half = "[\(Fixture.sale("\"token\":\"\(Fixture.token)\"")),\(Fixture.sale())]"
        let message = Fixture.Message(endpoint: .conversions, isPost: true, body: Array(half.utf8))
        #expect(fixture.verdict(message).status == 401)
    }

    @Test(
        "Bodies that are no JSON are 400",
        arguments: [
            "", " ", "{", "{}x", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "{a:1}", "[1,]", "nul", "01",
            "1.", "+1",
            ".5", "1e", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\u0000\"", "\"\t\"", "{\"a\":1}\u{0}", "'a'", "{\"a\" 1}", "{1:2}", "//",
            "\u{FEFF}{}",
        ])
    func malformedJSON(body: String) {
        let verdict = fixture.verdict(fixture.signed(body))
        #expect(verdict.status == 400 && verdict.fault == "body malformed_json")
    }

    @Test("JSON has limits: depth, members, keys once, valid UTF-8")
    func limits() {
        let deep = String(repeating: "[", count: 12) + String(repeating: "]", count: 12)
        #expect(fixture.verdict(fixture.signed("{\"a\":\(deep)}")).fault == "body json_too_deep")
        let wide = (0...100).map { "\"k\($0)\":1" }.joined(separator: ",")
        #expect(fixture.verdict(fixture.signed("{\(wide)}")).fault == "body json_too_large")
        let long = Array(repeating: "1", count: 20_001).joined(separator: ",")
        #expect(fixture.verdict(fixture.signed("{\"a\":[\(long)]}")).fault == "body json_too_large")
        #expect(
            fixture.verdict(fixture.signed("{\"a\":1,\"\\u0061\":2}")).fault == "body duplicate_key"
        )
        let sale = Fixture.sale("\"order_id\":\"2\"")
        #expect(fixture.verdict(fixture.signed(sale)).fault == "body duplicate_key")
        #expect(
            fixture.verdict(fixture.signed(Fixture.sale("\"tid\":\"2\""))).fault
                == "order_id duplicate")
        var message = fixture.signed(Fixture.sale())
        message.body += [0xFF]
        #expect(fixture.verdict(message).fault == "body malformed_json")
        message.body = [UInt8](repeating: 0x20, count: ConversionLimits.maxBodyBytes + 1)
        #expect(fixture.verdict(message).status == 413)
    }

    @Test("JSON text is decoded: escapes, pairs, numbers as orders")
    func decoding() throws {
        let body = Fixture.sale(
            #""customer_id":"\u00e9\ud83d\ude00\/","adv1":42,"coupon_code":null"#)
        let record = try #require(fixture.verdict(fixture.signed(body)).records.first)
        #expect(record.customerID == Array("é😀/".utf8))
        #expect(record.advertiserFields[0] == Array("42".utf8) && record.couponCode == nil)
    }

    @Test("Content types: JSON and forms, nothing else")
    func contentTypes() {
        var message = fixture.signed(Fixture.sale())
        for (type, status) in [
            ("application/json; charset=utf-8", 200), ("APPLICATION/JSON", 200), ("", 200),
            ("text/plain", 400), ("application/x-www-form-urlencoded", 400),
        ] {
            message.contentType = type
            #expect(fixture.verdict(message).status == status, "\(type)")
        }
        message.contentType = nil
        #expect(fixture.verdict(message).status == 200)
        let postback = fixture.signed(Fixture.sale(), endpoint: .postback)
        #expect(fixture.verdict(postback).records.first?.channel == .postback)
        var form = fixture.signed(
            Fixture.saleQuery(), endpoint: .postback, contentType: "multipart/form-data")
        #expect(fixture.verdict(form).fault == "content-type unsupported")
        form.contentType = nil
        #expect(fixture.verdict(form).status == 200)
    }

    @Test("The query of a JSON message names no field")
    func queryOfJSON() {
        var message = fixture.signed(Fixture.sale())
        for query in ["order_id=1", "tid=1", "token=x", "cur="] {
            message.query = query
            #expect(fixture.verdict(message).status == 400, "\(query)")
        }
        message.query = "trace=1"
        #expect(fixture.verdict(message).status == 200)
    }

    @Test("A field in query and form is twice")
    func queryAndForm() {
        let message = Fixture.Message(
            isPost: true, query: "tid=1&token=\(Fixture.token)",
            body: Array(Fixture.saleQuery().utf8),
            contentType: "application/x-www-form-urlencoded")
        #expect(fixture.verdict(message).fault == "order_id duplicate")
    }

    @Test("The pixel is always the same 43 bytes, whatever became of it")
    func pixel() {
        #expect(ConversionResponses.pixel.count == 43)
        for query in ["", "%", "merchant_id=x", Fixture.saleQuery(), Fixture.saleQuery("cid=x")] {
            var fixture = fixture
            for age in [Int64(0), .max] {
                fixture.dataAge = age
                let verdict = fixture.verdict(.init(endpoint: .pixel, query: query))
                #expect(verdict.status == 200 && verdict.content == .gif)
                #expect(
                    verdict.body == ConversionResponses.pixel && verdict.retryAfterSeconds == nil)
                #expect(verdict.records.count + verdict.refusals.count == 1)
            }
        }
    }

    @Test("What is refused is written down with what it named")
    func refusals() throws {
        let verdict = fixture.verdict(fixture.tokenQuery(Fixture.saleQuery("cid=x")))
        let refusal = try #require(verdict.refusals.first)
        #expect(refusal.receivedAt == Fixture.now && refusal.merchantID == Fixture.merchantID)
        #expect(refusal.channel == .postback && refusal.httpStatus == 422)
        #expect(
            refusal.field == Array("click_id".utf8) && refusal.reason == Array("forged_token".utf8))
        #expect(refusal.orderID == Array("A-1".utf8))
        let nothing = try #require(fixture.verdict(.init(query: "x")).refusals.first)
        #expect(nothing.merchantID == .zero && nothing.orderID == nil)
    }

    @Test("No answer and no refusal holds a secret, or a byte of what was sent")
    func secrecy() {
        var messages = [fixture.tokenQuery(Fixture.saleQuery("event=%22%3Cscript%3E"))]
        messages.append(.init(query: Fixture.saleQuery("token=<script>\"")))
        messages.append(fixture.signed(Fixture.sale("\"currency\":\"<script>\"")))
        for message in messages {
            let verdict = fixture.verdict(message)
            let texts = [verdict.body] + verdict.refusals.flatMap { [$0.field, $0.reason] }
            for text in texts.map({ String(decoding: $0, as: UTF8.self) }) {
                #expect(!text.contains("script") && !text.contains(Fixture.token))
                #expect(!text.contains("whsec"))
            }
        }
    }

    @Test("The snippet is small ES5 that keeps the click and loads the pixel")
    func snippet() {
        let script = String(decoding: MerchantSnippet.script, as: UTF8.self)
        #expect(script.utf8.count < 2048)
        for part in ["click_id", "click_path", "/pixel.gif?", "slice(-20)", "samesite=lax"] {
            #expect(script.contains(part), "\(part)")
        }
        for part in ["=>", "let ", "const ", "`", "fetch("] { #expect(!script.contains(part)) }
    }

    @Test("Random bytes and broken messages get an answer, never a crash")
    func fuzz() {
        var random = SystemRandomNumberGenerator()
        let seeds = [
            Array(Fixture.sale("\"items\":[{\"price\":1.5}],\"click_path\":[]").utf8),
            Array(Fixture.saleQuery("cid=%20&items=%5B%5D&ts=1&sig=00").utf8),
        ]
        for round in 0..<4000 {
            var bytes = seeds[round % 2]
            for _ in 0..<Int.random(in: 0...6, using: &random) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0...2, using: &random) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: index)
                default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
                }
            }
            if round % 10 == 0 {
                bytes = bytes.map { _ in UInt8.random(in: 0...255, using: &random) }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            _ = bytes.withUnsafeBytes { try? JSONReader.parse($0) }
            var parameters: [ConversionParameter] = []
            _ = bytes.withUnsafeBytes { try? ParameterParser.parse($0, into: &parameters) }
            for endpoint in [ConversionEndpoint.pixel, .postback, .conversions] {
                var message = fixture.signed(text, endpoint: endpoint)
                message.body = bytes
                message.query = round % 3 == 0 ? text : ""
                message.isPost = endpoint != .pixel && round % 5 != 0
                if round % 7 == 0 { message.webhookSignature = nil }
                let verdict = fixture.verdict(message)
                #expect([200, 400, 401, 404, 422].contains(verdict.status))
                #expect(!verdict.body.isEmpty)
            }
        }
    }
}

@Suite("The memory of signed messages")
struct MessageMemoryTests {
    private func message(_ id: String, _ body: UInt8 = 0) -> SignedMessage {
        SignedMessage(
            merchantID: ConversionFixture.merchantID, messageID: Array(id.utf8),
            digest: [UInt8](repeating: body, count: 32), digests: OpenSSLDigests())
    }

    private func time(_ seconds: Int64) -> Timestamp {
        ConversionFixture.now.advanced(byMicroseconds: seconds * 1_000_000)
    }

    @Test("An id keeps its body for ten minutes from the last time it was seen")
    func span() {
        var memory = MessageMemory()
        #expect(memory.admit(message("a"), at: time(0)) == .new)
        #expect(memory.admit(message("a"), at: time(1)) == .same)
        #expect(memory.admit(message("a", 1), at: time(2)) == .different)
        #expect(memory.admit(message("b", 1), at: time(2)) == .new)
        #expect(memory.admit(message("a"), at: time(599)) == .same)
        #expect(memory.admit(message("a", 1), at: time(1199)) == .different)
        #expect(memory.admit(message("a", 1), at: time(1200)) == .new)
        #expect(memory.admit(message("a"), at: time(1201)) == .different)
    }

    @Test("Merchants do not share ids")
    func merchants() {
        var memory = MessageMemory()
        let other = SignedMessage(
            merchantID: ConversionFixture.otherID, messageID: Array("a".utf8),
            digest: [UInt8](repeating: 1, count: 32), digests: OpenSSLDigests())
        #expect(memory.admit(message("a"), at: time(0)) == .new)
        #expect(memory.admit(other, at: time(0)) == .new)
    }

    @Test("It holds at most two generations, the youngest always")
    func bound() {
        var memory = MessageMemory(capacity: 10)
        for number in 0..<1000 {
            #expect(memory.admit(message("\(number)"), at: time(0)) == .new)
            #expect(memory.count <= 20)
        }
        #expect(memory.admit(message("999", 1), at: time(1)) == .different)
        #expect(memory.admit(message("0", 1), at: time(1)) == .new)
    }

    @Test("A conflict is answered 409, records nothing and is written down")
    func conflict() throws {
        let fixture = ConversionFixture()
        let request = ConversionRequest(
            endpoint: .conversions, isPost: true, receivedAt: ConversionFixture.now)
        let verdict = fixture.verdict(fixture.signed(ConversionFixture.sale()))
        let conflict = verdict.conflict(request)
        #expect(conflict.status == 409 && conflict.records.isEmpty && conflict.message == nil)
        #expect(conflict.fault == "webhook-id message_id_reuse")
        #expect(conflict.refusals.first?.httpStatus == 409)
        #expect(conflict.refusals.first?.orderID == Array("A-1".utf8))
    }
}
