// Sales, clicks and rules for the tests, all of one merchant.
import Attribution
import Testing
import Tracking

enum Fixture {
    static let euro = Currency("EUR")
    static let merchant = EntityID(high: 1, low: 1)
    static let influencer = EntityID(high: 2, low: 1)
    static let link = EntityID(high: 3, low: 1)
    /// 2026-03-01T12:00:00Z.
    static let noon = Timestamp(microseconds: 1_772_366_400_000_000)

    static func money(_ minor: Int64) throws -> Money {
        Money(minorUnits: minor, currency: try #require(euro))
    }

    static func sale(
        _ minor: Int64 = 10_000, id: UInt64 = 1, event: ConversionEvent = .sale,
        verified: Bool = true, reported: ConversionStatus = .completed, hasAmount: Bool = true,
        at eventTime: Timestamp = noon
    ) throws -> Sale {
        Sale(
            id: EntityID(high: 9, low: id), merchantID: merchant, event: event, reported: reported,
            isVerified: verified, orderID: "order-\(id)", amount: try money(minor),
            hasAmount: hasAmount, eventTime: eventTime,
            receivedAt: eventTime.advanced(byMicroseconds: 1_000_000))
    }

    static func click(secondsBefore seconds: Int64 = 3_600, sequence: UInt16 = 0) -> CandidateClick
    {
        let milliseconds = noon.milliseconds - seconds * 1_000 - ClickID.epochMilliseconds
        return CandidateClick(
            id: ClickID(
                millisecondsSinceEpoch: UInt64(milliseconds), ring: 33, sequence: sequence),
            linkID: link, influencerID: influencer, merchantID: merchant)
    }

    static let settings = MerchantSettings(
        model: "last_click", lookbackDays: 30, holdDays: 14, platformFeePPM: 200_000)

    static func rule(
        _ id: UInt64, _ kind: CommissionRule.Kind = .percent(partsPerMillion: 100_000),
        from validFrom: Timestamp = Timestamp(microseconds: 0)
    ) -> CommissionRule {
        CommissionRule(id: EntityID(high: 7, low: id), kind: kind, validFrom: validFrom)
    }

    static func completion(_ verdict: Verdict) -> Completion? {
        guard case .complete(let completion) = verdict else { return nil }
        return completion
    }
}
