// The ladder, the verdicts and the ledger rows of a sale.
import Attribution
import Testing
import Tracking

@Suite("Decisions")
struct DecisionTests {
    private let book = RuleBook([Fixture.rule(1)])

    private func evidence(_ click: ClickEvidence = .landed(Fixture.click())) -> Evidence {
        Evidence(settings: Fixture.settings, click: click)
    }

    @Test("A good click earns the rule's commission, and the fee comes on top")
    func happyPath() throws {
        let verdict = Attribution.decide(try Fixture.sale(), evidence(), book)
        let done = try #require(Fixture.completion(verdict))
        #expect(done.attribution.kind == .click)
        #expect(done.attribution.influencerID == Fixture.influencer)
        #expect(done.attribution.linkID == Fixture.link)
        #expect(done.commission?.amountMinor == 1_000)
        #expect(done.feeMinor == 200)
        #expect(done.entries.map(\.amountMinor) == [1_000, 200])
        #expect(done.entries.map(\.kind) == ["commission", "fee"])
        #expect(
            done.entries.map(\.debit) == Array(repeating: .merchant(Fixture.merchant), count: 2))
        #expect(done.entries.map(\.credit) == [.held(Fixture.influencer), .platformFees])
        let hold = Fixture.noon.advanced(byMicroseconds: 14 * Day.microseconds)
        #expect(done.commission?.holdUntil == hold)
    }

    @Test("The lookback is judged at the event, to the microsecond")
    func lookback() throws {
        let window: Int64 = 30 * 86_400
        let inside = Attribution.decide(
            try Fixture.sale(), evidence(.landed(Fixture.click(secondsBefore: window))), book)
        #expect(Fixture.completion(inside)?.attribution.kind == .click)
        let late = try Fixture.sale(at: Fixture.noon.advanced(byMicroseconds: 1))
        let outside = Attribution.decide(
            late, evidence(.landed(Fixture.click(secondsBefore: window))), book)
        #expect(Fixture.completion(outside)?.unpaidReason == "lookback_expired")
        #expect(Fixture.completion(outside)?.attribution.kind == AttributionKind.none)
    }

    @Test("A click may follow its event by a clock's error, not more")
    func clickAfterEvent() throws {
        let near = Attribution.decide(
            try Fixture.sale(), evidence(.landed(Fixture.click(secondsBefore: -300))), book)
        #expect(Fixture.completion(near)?.commission != nil)
        let far = Attribution.decide(
            try Fixture.sale(), evidence(.landed(Fixture.click(secondsBefore: -301))), book)
        #expect(Fixture.completion(far)?.unpaidReason == "click_after_event")
    }

    @Test(
        "Clicks that do not count are not paid, with the reason", arguments: InvalidReason.allCases)
    func invalidClicks(reason: InvalidReason) throws {
        var click = Fixture.click()
        click.invalidReason = reason
        let done = try #require(
            Fixture.completion(
                Attribution.decide(try Fixture.sale(), evidence(.landed(click)), book)))
        switch reason {
        case .prefetch:
            #expect(done.commission != nil && done.attribution.doubt == nil)
        case .datacenter, .velocity:
            #expect(done.commission?.doubt == "click_\(reason.name)")
        case .bot, .preview, .nonNavigational, .overCap, .noTrack, .paused, .notStarted, .expired,
            .archived:
            #expect(done.commission == nil && done.entries.isEmpty)
            #expect(done.unpaidReason == "click_\(reason.name)")
        }
    }

    @Test("A known bot's click and another merchant's click are not paid")
    func botsAndStrangers() throws {
        var bot = Fixture.click()
        bot.isBot = true
        let first = Attribution.decide(try Fixture.sale(), evidence(.landed(bot)), book)
        #expect(Fixture.completion(first)?.unpaidReason == "click_bot")
        var stranger = Fixture.click()
        stranger.merchantID = EntityID(high: 1, low: 2)
        let second = Attribution.decide(try Fixture.sale(), evidence(.landed(stranger)), book)
        #expect(Fixture.completion(second)?.unpaidReason == "other_merchant")
    }

    @Test(
        "A click that has not landed is waited for, one that its ring has passed is a hold",
        arguments: [
            (ClickEvidence.missing(.unknown), Verdict.wait(reason: "click_not_landed")),
            (.missing(.behind), .wait(reason: "click_not_landed")),
            (.missing(.passed), .hold(reason: "click_lost")),
            (.ambiguous, .hold(reason: "click_ambiguous")),
        ])
    func missingClicks(click: ClickEvidence, expected: Verdict) throws {
        #expect(Attribution.decide(try Fixture.sale(), evidence(click), book) == expected)
    }

    @Test("A ring has passed a click when every life of it reached the end of its millisecond")
    func ringProgress() {
        let at = Timestamp(milliseconds: 1_000)
        let short = RingCursor(watermark: Timestamp(microseconds: 1_000_999), isRetired: false)
        let enough = RingCursor(watermark: Timestamp(microseconds: 1_001_000), isRetired: false)
        let retired = RingCursor(watermark: nil, isRetired: true)
        #expect(RingProgress.judge([], clickedAt: at) == .unknown)
        #expect(RingProgress.judge([short], clickedAt: at) == .behind)
        #expect(RingProgress.judge([enough], clickedAt: at) == .passed)
        #expect(RingProgress.judge([enough, short], clickedAt: at) == .behind)
        #expect(RingProgress.judge([enough, retired], clickedAt: at) == .passed)
        #expect(
            RingProgress.judge([RingCursor(watermark: nil, isRetired: false)], clickedAt: at)
                == .behind)
    }

    @Test("Click, then coupon, then the customer's first partner, then nobody")
    func ladder() throws {
        let owner = EntityID(high: 2, low: 5)
        var sale = try Fixture.sale(event: .renewal)
        sale.couponCode = "ANNA10"
        sale.customerID = "c-1"
        var seen = evidence()
        seen.coupon = CouponOwner(influencerID: owner, linkID: nil)
        seen.customer = .first(
            influencerID: EntityID(high: 2, low: 6), linkID: nil,
            at: Fixture.noon.advanced(byMicroseconds: -Day.microseconds))
        func kind() -> AttributionKind? {
            Fixture.completion(Attribution.decide(sale, seen, book))?.attribution.kind
        }
        #expect(kind() == .click)
        seen.click = .notNamed
        #expect(kind() == .coupon)
        seen.coupon = nil
        #expect(kind() == .customer)
        seen.customer = .unknown
        #expect(kind() == AttributionKind.none)
        seen.customer = .undecided
        #expect(Attribution.decide(sale, seen, book) == .wait(reason: "customer_not_decided"))
        sale.event = .sale
        #expect(kind() == AttributionKind.none)
    }

    @Test("A click that does not count leaves the coupon its right")
    func couponAfterBot() throws {
        var click = Fixture.click()
        click.invalidReason = .bot
        var seen = evidence(.landed(click))
        seen.coupon = CouponOwner(influencerID: Fixture.influencer, linkID: nil)
        let done = try #require(
            Fixture.completion(Attribution.decide(try Fixture.sale(), seen, book)))
        #expect(done.attribution.kind == .coupon && done.commission != nil)
        #expect(done.attribution.rungs.map(\.result) == ["click_bot", "taken"])
    }

    @Test("What is not proved, not final or not wanted is not decided")
    func undecided() throws {
        let seen = evidence()
        let claim = try Fixture.sale(verified: false)
        #expect(Attribution.decide(claim, seen, book) == .park(reason: "unverified"))
        var superseded = seen
        superseded.isSuperseded = true
        #expect(Attribution.decide(claim, superseded, book) == .reject(reason: "superseded"))
        #expect(
            Attribution.decide(try Fixture.sale(reported: .pending), seen, book)
                == .park(reason: "merchant_pending"))
        #expect(
            Attribution.decide(try Fixture.sale(reported: .rejected), seen, book)
                == .reject(reason: "merchant_rejected"))
        #expect(
            Attribution.decide(try Fixture.sale(), Evidence(settings: nil), book)
                == .hold(reason: "merchant_unknown"))
        #expect(
            Attribution.decide(try Fixture.sale(-1), seen, book)
                == .reject(reason: "amount_unusable"))
    }

    @Test("A sale without a rule, or whose commission rounds to nothing, owes nothing")
    func unpaid() throws {
        let none = Attribution.decide(try Fixture.sale(), evidence(), RuleBook([]))
        #expect(Fixture.completion(none)?.unpaidReason == "no_rule")
        let cent = Attribution.decide(try Fixture.sale(1), evidence(), book)
        #expect(Fixture.completion(cent)?.unpaidReason == "nothing_owed")
        #expect(Fixture.completion(cent)?.entries.isEmpty == true)
    }

    @Test("Only a proved sale of a verified, active influencer is payable after its hold")
    func gate() {
        let end = Fixture.noon
        let good = InfluencerStanding(isActive: true, kyc: "verified")
        func obstacle(
            verified: Bool = true, doubt: String? = nil, standing: InfluencerStanding?,
            now: Timestamp = Fixture.noon
        ) -> String? {
            PayableGate.obstacle(
                isVerified: verified, doubt: doubt, standing: standing, holdUntil: end, now: now)
        }
        #expect(obstacle(standing: good) == nil)
        #expect(
            obstacle(standing: good, now: end.advanced(byMicroseconds: -1)) == "hold_period")
        #expect(obstacle(verified: false, standing: good) == "unverified")
        #expect(obstacle(doubt: "click_velocity", standing: good) == "click_velocity")
        #expect(obstacle(standing: nil) == "influencer_unknown")
        #expect(
            obstacle(standing: InfluencerStanding(isActive: false, kyc: "verified"))
                == "influencer_inactive")
        for kyc in ["unverified", "pending"] {
            #expect(
                obstacle(standing: InfluencerStanding(isActive: true, kyc: kyc)) == "kyc_\(kyc)")
        }
    }

    @Test("A waiting sale is looked at again after a part of its age, within limits")
    func retry() {
        let at = Fixture.noon
        func wait(_ seconds: Int64) -> Int64 {
            Attribution.retryMicroseconds(
                receivedAt: at, now: at.advanced(byMicroseconds: seconds * 1_000_000))
        }
        #expect(wait(-5) == Limits.shortestRetryMicroseconds)
        #expect(wait(0) == Limits.shortestRetryMicroseconds)
        #expect(wait(80) == 10_000_000)
        #expect(wait(1_000_000) == Limits.longestRetryMicroseconds)
    }

    @Test("The stored explanation is the same for the same inputs and names them")
    func explanation() throws {
        var sale = try Fixture.sale()
        sale.clickID = Fixture.click().id
        let verdict = Attribution.decide(sale, evidence(), book)
        let text = Attribution.explanation(of: verdict, sale, evidence())
        #expect(text == Attribution.explanation(of: verdict, sale, evidence()))
        for part in [
            #""outcome":"complete""#, #""rung":"click""#, #""commission_minor":1000"#,
            #""lookback_days":30"#, #""invalid_reason":null"#,
        ] {
            #expect(text.contains(part))
        }
    }
}
