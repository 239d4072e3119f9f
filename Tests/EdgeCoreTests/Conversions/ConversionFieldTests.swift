// Fields, limits, names and answers of conversions; what is refused, with which word.
import EdgeCore
import TLS
import Testing
import Tracking

@Suite("What a conversion says")
struct ConversionFieldTests {
    typealias Fixture = ConversionFixture
    private let fixture = Fixture()

    private func json(_ more: String) -> ConversionVerdict {
        fixture.verdict(fixture.signed(Fixture.sale(more)))
    }

    @Test("All fields of a query arrive as they were meant")
    func allFields() throws {
        let query = Fixture.saleQuery(
            "refund_id=&event=subscription&currency=JPY&status=pending&click_id=\(Fixture.clickToken())"
                + "&click_path=\(Fixture.clickToken(1)),\(Fixture.clickToken(2, key: Fixture.oldClickKey))"
                + "&coupon_code=SUMMER+10%25&customer_id=c%C3%A9&adv1=one&adv5=five&unknown=x"
                + "&event_time=\(Fixture.now.seconds - 60)"
                + "&items=%5B%7B%22sku%22%3A%22s%22%2C%22quantity%22%3A2%2C%22price%22%3A%22700%22%7D%5D"
        ).replacingFirst("12.50", with: "1400")
        let record = try #require(fixture.verdict(fixture.signedQuery(query)).records.first)
        #expect(record.event == .subscription && record.status == .pending)
        #expect(record.amountMinor == 1400 && record.currency.letters == "JPY")
        #expect(record.flags.contains([.verified, .hasAmount, .hasCurrency, .hasEventTime]))
        #expect(record.clickID == Fixture.click())
        #expect(record.clickPath == [Fixture.click(1), Fixture.click(2)])
        #expect(record.couponCode == Array("SUMMER 10%".utf8))
        #expect(record.customerID == Array("cé".utf8))
        #expect(record.advertiserFields == [Array("one".utf8), nil, nil, nil, Array("five".utf8)])
        #expect(record.eventTime == Fixture.now.advanced(byMicroseconds: -60_000_000))
        #expect(record.items == Array(#"[{"sku":"s","quantity":2,"price":"700"}]"#.utf8))
        #expect(record.orderID == Array("A-1".utf8) && record.refundID.isEmpty)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: ConversionRecord.maximumBytes, alignment: 8)
        defer { buffer.deallocate() }
        let count = record.write(to: buffer)
        #expect(
            ConversionRecord(payload: UnsafeRawBufferPointer(rebasing: buffer[..<count])) == record)
    }

    @Test("What is left out has its default")
    func defaults() throws {
        let record = try #require(
            fixture.verdict(fixture.tokenQuery(Fixture.saleQuery())).records.first)
        #expect(record.event == .sale && record.status == .completed)
        #expect(record.amountMinor == 1250 && record.currency.letters == "EUR")
        #expect(!record.flags.contains(.hasCurrency) && !record.flags.contains(.hasEventTime))
        #expect(record.eventTime == record.receivedAt && record.receivedAt == Fixture.now)
        #expect(record.clickID == nil && record.clickPath.isEmpty && record.items.isEmpty)
    }

    @Test(
        "Aliases stand for their fields",
        arguments: ["clickid", "cid", "subid", "transaction_id", "cnv_id", "click_id"])
    func clickAliases(alias: String) throws {
        let query = Fixture.saleQuery("\(alias)=\(Fixture.clickToken())")
        let record = try #require(fixture.verdict(fixture.tokenQuery(query)).records.first)
        #expect(record.clickID == Fixture.click())
    }

    @Test("Aliases of order, amount and currency")
    func otherAliases() throws {
        for order in ["txid", "tid", "transactionid", "external_id"] {
            for amount in ["sum", "revenue"] {
                let query = "merchant_id=\(Fixture.merchantID)&\(order)=B&\(amount)=3&cur=USD"
                let record = try #require(fixture.verdict(fixture.tokenQuery(query)).records.first)
                #expect(record.orderID == [0x42] && record.amountMinor == 300)
                #expect(record.currency.letters == "USD")
            }
        }
    }

    @Test(
        "Malformed parameters are 400",
        arguments: [
            ("order_id=A-2", "query duplicate_parameter"), ("tid=A-2", "order_id duplicate"),
            ("cid=&clickid=", "click_id duplicate"), ("x=1&x=2", "query duplicate_parameter"),
            ("x=%", "query broken_escape"), ("x=%4", "query broken_escape"),
            ("x=%GG", "query broken_escape"), ("%zz=1", "query broken_escape"),
            ("x=%00", "query not_text"), ("x=%FF", "query not_text"),
            ("x=%C0%80", "query not_text"), ("x=%ED%A0%80", "query not_text"),
            ("customer_id=a%0Ab", "customer_id control_character"),
            ("coupon_code=%C2%85", "coupon_code control_character"),
            ("adv3=\(String(repeating: "a", count: 256))", "adv3 too_long"),
            ("event=Sale", "event unknown_word"), ("status=refunded", "status unknown_word"),
            ("items=%5B", "items malformed_json"), ("items=%7B%7D", "items wrong_type"),
            ("items=1", "items wrong_type"),
            (String(repeating: "&a", count: 1), ""),
            ((0...100).map { "p\($0)=" }.joined(separator: "&"), "query too_many_parameters"),
        ])
    func malformed(more: String, fault: String) {
        let verdict = fixture.verdict(fixture.tokenQuery(Fixture.saleQuery(more)))
        #expect(verdict.status == (fault.isEmpty ? 200 : 400))
        #expect(verdict.fault == fault)
        #expect(
            verdict.records.isEmpty != fault.isEmpty
                && verdict.refusals.count == (fault.isEmpty ? 0 : 1))
    }

    @Test("Broken escapes are refused wherever they stand, plus signs are spaces")
    func order() throws {
        let id = "merchant_id=\(Fixture.merchantID)"
        for (order, wanted) in [("a+b", "a b"), ("a%2Bb", "a+b"), ("%2541", "%41"), ("a=b", "a=b")]
        {
            let verdict = fixture.verdict(fixture.tokenQuery("\(id)&order_id=\(order)&amount=1"))
            #expect(verdict.records.first?.orderID == Array(wanted.utf8))
        }
        let long = String(repeating: "o", count: 128)
        #expect(fixture.verdict(fixture.tokenQuery("\(id)&tid=\(long)&sum=1")).status == 200)
        let longer = fixture.verdict(fixture.tokenQuery("\(id)&tid=\(long)o&sum=1"))
        #expect(longer.fault == "order_id too_long" && longer.refusals.first?.orderID == nil)
        for query in ["\(id)&amount=1", "\(id)&order_id=&amount=1"] {
            #expect(fixture.verdict(fixture.tokenQuery(query)).fault == "order_id required")
        }
        #expect(fixture.verdict(fixture.tokenQuery("order_id=1")).fault == "merchant_id required")
        #expect(
            fixture.verdict(fixture.tokenQuery("merchant_id=1&order_id=1")).fault
                == "merchant_id malformed")
    }

    @Test(
        "Amounts are exact, plain and within the currency",
        arguments: [
            ("\"0\"", 0, ""), ("\"0.01\"", 1, ""), ("12.5", 1250, ""), ("0.10", 10, ""),
            ("\"10000000000000.00\"", 1_000_000_000_000_000, ""),
            ("\"10000000000000.01\"", nil, "422 too_large"),
            ("\"123456789012345678901234567890123456789012\"", nil, "422 too_large"),
            ("1e3", nil, "422 exponent"), ("\"1e3\"", nil, "422 exponent"),
            ("1E-2", nil, "422 exponent"),
            ("-1", nil, "422 sign"), ("\"-1\"", nil, "422 sign"), ("\"+1\"", nil, "422 sign"),
            ("-0", nil, "422 sign"), ("1.001", nil, "422 too_many_decimals"),
            ("\"1.100\"", nil, "422 too_many_decimals"), ("\"1,5\"", nil, "400 malformed"),
            ("\"1.\"", nil, "400 malformed"), ("\".5\"", nil, "400 malformed"),
            ("\" 1\"", nil, "400 malformed"), ("\"NaN\"", nil, "400 malformed"),
            ("\"0x10\"", nil, "400 malformed"), ("true", nil, "400 wrong_type"),
            ("[1]", nil, "400 wrong_type"), ("null", nil, "400 required"),
            ("\"\"", nil, "400 required"),
        ] as [(String, Int64?, String)])
    func amounts(text: String, minor: Int64?, fault: String) {
        let body = Fixture.sale().replacingFirst("\"12.50\"", with: text)
        let verdict = fixture.verdict(fixture.signed(body))
        #expect(verdict.records.first?.amountMinor == minor)
        if !fault.isEmpty {
            #expect(
                "\(verdict.status) \(verdict.fault)" == fault.replacingFirst(" ", with: " amount "))
        }
    }

    @Test("Each currency has its own decimals, and an unknown one is 422")
    func currencies() {
        #expect(json("\"currency\":\"JPY\"").fault == "amount too_many_decimals")
        #expect(json("\"currency\":\"KWD\"").records.first?.amountMinor == 12_500)
        for unknown in ["XXX", "eur", "EURO", "E", "ZZZ"] {
            let verdict = json("\"currency\":\"\(unknown)\"")
            #expect(verdict.status == 422 && verdict.fault == "currency unknown_currency")
        }
    }

    @Test("Only leads, bookings and refunds do without an amount")
    func amountlessEvents() {
        for event in ConversionEvent.allCases {
            let body = Fixture.sale("\"event\":\"\(event.name)\"").replacingFirst(
                "\"amount\":\"12.50\",", with: "")
            let verdict = fixture.verdict(fixture.signed(body))
            #expect(verdict.status == (event.amountIsOptional ? 200 : 400), "\(event)")
            #expect(verdict.records.first?.flags.contains(.hasAmount) != true)
        }
    }

    @Test("Refunds are positive parts, named, proven; other events have no refund_id")
    func refunds() throws {
        let refund = json("\"event\":\"refund\",\"refund_id\":\"R1\"")
        #expect(refund.records.first?.refundID == Array("R1".utf8))
        let zero = Fixture.sale("\"event\":\"refund\"").replacingFirst("12.50", with: "0.00")
        #expect(fixture.verdict(fixture.signed(zero)).fault == "amount not_positive")
        #expect(json("\"refund_id\":\"R1\"").fault == "refund_id only_for_refunds")
        let pixel = fixture.verdict(
            .init(endpoint: .pixel, query: Fixture.saleQuery("event=refund")))
        #expect(pixel.records.isEmpty && pixel.refusals.first?.reason == Array("needs_proof".utf8))
    }

    @Test(
        "Times are for signed messages, thirty days back and five minutes ahead",
        arguments: [
            (-2_592_000, ""), (-2_592_001, "422 out_of_range"), (300, ""),
            (301, "422 out_of_range"),
        ])
    func eventTimes(offset: Int64, fault: String) {
        let seconds = Fixture.now.seconds + offset
        for time in [
            "\(seconds)", "\"\(seconds)\"", "\"\(Timestamp(unixSeconds: seconds) ?? Fixture.now)\"",
        ] {
            let verdict = json("\"event_time\":\(time)")
            #expect(
                fault.isEmpty ? verdict.status == 200 : verdict.fault == "event_time out_of_range")
            if fault.isEmpty {
                #expect(verdict.records.first?.eventTime.seconds == seconds)
            }
        }
    }

    @Test("A time that is none is 400, one out of all range or unsigned is 422")
    func badTimes() {
        for text in [
            "\"yesterday\"", "\"2026-09-21\"", "-1", "1.5", "\"2026-09-21T10:00:00\"", "{}",
        ] {
            #expect(json("\"event_time\":\(text)").status == 400, "\(text)")
        }
        for text in ["99999999999999999999999999", "0", "1790000000000"] {
            #expect(json("\"event_time\":\(text)").status == 422, "\(text)")
        }
        let query = Fixture.saleQuery("event_time=\(Fixture.now.seconds)")
        #expect(
            fixture.verdict(fixture.tokenQuery(query)).fault == "event_time signed_messages_only")
    }

    @Test("A forged, foreign or broken click token is 422, in the path too")
    func tokens() {
        var forged = Fixture.clickToken()
        forged = (forged.first == "A" ? "B" : "A") + forged.dropFirst()
        let foreign = Fixture.clickToken(merchant: Fixture.otherID)
        for token in [forged, foreign, "x", String(Fixture.clickToken().dropLast()), forged + "A"] {
            #expect(json("\"click_id\":\"\(token)\"").status == 422, "\(token)")
            #expect(json("\"click_id\":\"\(token)\"").fault == "click_id forged_token")
            let path = json("\"click_path\":[\"\(Fixture.clickToken())\",\"\(token)\"]")
            #expect(path.status == 422 && path.fault == "click_path forged_token")
        }
        let full = (0..<20).map { "\"\(Fixture.clickToken(UInt16($0)))\"" }
        #expect(
            json("\"click_path\":[\(full.joined(separator: ","))]").records.first?.clickPath.count
                == 20)
        let more = full + ["\"\(Fixture.clickToken())\""]
        #expect(
            json("\"click_path\":[\(more.joined(separator: ","))]").fault == "click_path too_many")
        #expect(json("\"click_path\":[1]").fault == "click_path wrong_type")
        #expect(json("\"click_path\":{}").fault == "click_path wrong_type")
    }

    @Test(
        "Items are a list of objects with exact numbers",
        arguments: [
            ("[]", ""),
            ("[{\"sku\":\"a\",\"category\":null,\"quantity\":\"3\",\"price\":1.25}]", ""),
            ("[{\"colour\":{\"a\":[1,true]}}]", ""), ("{}", "items wrong_type"),
            ("[1]", "items wrong_type"), ("[{\"quantity\":0}]", "items.quantity out_of_range"),
            ("[{\"quantity\":1.5}]", "items.quantity out_of_range"),
            ("[{\"price\":1e2}]", "items.price exponent"),
            ("[{\"price\":1.234}]", "items.price too_many_decimals"),
            ("[{\"price\":[]}]", "items.price wrong_type"),
            ("[{\"sku\":7}]", "items.text wrong_type"),
            ("[{\"note\":\"a\\u0001\"}]", "items control_character"),
            ("[{\"n\":\(String(repeating: "9", count: 41))}]", "items too_long"),
            ("[{\"n\":-1.5e+308,\"m\":0e000}]", ""), ("[{\"n\":1e9999}]", "items out_of_range"),
            ("[{\"n\":{\"m\":[2E-99999]}}]", "items out_of_range"),
            ("[\(Array(repeating: "{}", count: 101).joined(separator: ","))]", "items too_many"),
        ])
    func items(text: String, fault: String) {
        let verdict = json("\"items\":\(text)")
        #expect(verdict.fault == fault)
        #expect(verdict.records.first?.items == (fault.isEmpty ? Array(text.utf8) : nil))
    }

    @Test("All faults are told at once, 400 before 422")
    func severalFaults() {
        let verdict = json("\"currency\":\"XXX\",\"event\":\"gift\",\"click_id\":\"x\"")
        #expect(verdict.status == 400)
        #expect(
            verdict.text == "{\"status\":\"rejected\",\"errors\":["
                + "{\"field\":\"event\",\"reason\":\"unknown_word\"},"
                + "{\"field\":\"currency\",\"reason\":\"unknown_currency\"},"
                + "{\"field\":\"click_id\",\"reason\":\"forged_token\"}]}")
        #expect(verdict.refusals.first?.merchantID == Fixture.merchantID)
        #expect(verdict.refusals.first?.orderID == Array("A-1".utf8))
    }

    @Test(
        "A conversion's name is the UUIDv5 of event, order and refund, a claim's of its click too")
    func names() {
        // uuid.uuid5(UUID('11112222-3333-4444-8888-9999aaaabbbb'), …) of Python's standard library.
        func id(_ name: ConversionName) -> String {
            name.id(of: Fixture.merchantID, digests: OpenSSLDigests()).description
        }
        let order = Array("A-1".utf8)
        #expect(id(.init(event: .sale, orderID: order)) == NameVectors.sale)
        #expect(
            id(.init(event: .refund, orderID: order, refundID: Array("R1".utf8)))
                == NameVectors.refund)
        #expect(
            id(.init(event: .sale, orderID: order, claimedToken: Array("tok".utf8)))
                == NameVectors.claim)
        #expect(id(.init(event: .sale, orderID: order, claimedToken: [])) == NameVectors.bareClaim)
        let answer = fixture.verdict(fixture.signed(Fixture.sale()))
        #expect(
            answer.text == "{\"status\":\"accepted\",\"conversion_id\":\"\(NameVectors.sale)\"}")
    }

    @Test("A claim never has the name of a verified sale, and the same message always has its own")
    func claimNames() {
        let sale = fixture.verdict(fixture.signedQuery(Fixture.saleQuery())).records.first
        let again = fixture.verdict(fixture.signedQuery(Fixture.saleQuery(), age: 20)).records.first
        let claim = fixture.verdict(.init(endpoint: .pixel, query: Fixture.saleQuery())).records
            .first
        let other = fixture.verdict(
            .init(endpoint: .pixel, query: Fixture.saleQuery("cid=\(Fixture.clickToken())"))
        ).records.first
        #expect(sale != nil && sale?.conversionID == again?.conversionID)
        #expect(claim != nil && claim?.conversionID != sale?.conversionID)
        #expect(other != nil && other?.conversionID != claim?.conversionID)
    }
}

/// What Python's `uuid.uuid5` gives for the merchant of the fixture.
private enum NameVectors {
    static let sale = "9736cb79-5241-59c5-bb6e-048dde140f21"
    static let refund = "d5c31713-839d-5893-9809-34bcc822d61f"
    static let claim = "2a660d1a-1f93-5bc1-9ef8-d58f4799f17c"
    static let bareClaim = "b1aaabf3-0bd9-5711-967a-96addf59d5fb"
}
