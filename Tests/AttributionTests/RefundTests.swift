// Refunds: cumulative, exact, refused beyond what is left, the same in the end in any order.
import Attribution
import Testing
import Tracking
import Workbench

@Suite("Refunds")
struct RefundTests {
    private func target(
        _ minor: Int64 = 10_000, _ kind: CommissionRule.Kind = .percent(partsPerMillion: 100_000),
        fee: Int32 = 200_000
    ) throws -> RefundTarget {
        var settings = Fixture.settings
        settings.platformFeePPM = fee
        let done = try #require(
            Fixture.completion(
                Attribution.decide(
                    try Fixture.sale(minor),
                    Evidence(settings: settings, click: .landed(Fixture.click())),
                    RuleBook([Fixture.rule(1, kind)]))))
        let posted = done.commission.map {
            PostedCommission(
                id: $0.id, influencerID: $0.influencerID, netMinor: $0.amountMinor,
                netFeeMinor: done.feeMinor, isReleased: false, terms: $0.terms)
        }
        return RefundTarget(
            saleID: try Fixture.sale().id, standing: .completed, amount: try Fixture.money(minor),
            refundedMinor: 0, commissions: posted.map { [$0] } ?? [])
    }

    private func part(_ minor: Int64?, id: UInt64 = 100) throws -> Sale {
        try Fixture.sale(minor ?? 0, id: id, event: .refund, hasAmount: minor != nil)
    }

    private func apply(_ refund: Sale, to sale: inout RefundTarget?) -> AppliedRefund? {
        guard case .apply(let applied) = Attribution.refund(refund, of: &sale) else { return nil }
        return applied
    }

    @Test("A part takes back its part of commission and fee")
    func partial() throws {
        var sale: RefundTarget? = try target()
        let applied = try #require(apply(try part(2_500), to: &sale))
        #expect(!applied.isWhole)
        #expect(applied.reversals.map(\.amountMinor) == [250])
        #expect(applied.entries.map(\.amountMinor) == [250, 50])
        #expect(applied.entries.map(\.debit) == [.held(Fixture.influencer), .platformFees])
        #expect(
            applied.entries.map(\.credit)
                == Array(repeating: .merchant(Fixture.merchant), count: 2))
        #expect(applied.entries.allSatisfy { $0.kind == "reversal" && $0.reverses != nil })
        #expect(sale?.refundedMinor == 2_500 && sale?.standing == .completed)
    }

    @Test("A refund without an amount takes all that is left, to the last unit")
    func rest() throws {
        var sale: RefundTarget? = try target(9_999)
        let first = try #require(apply(try part(3_333, id: 100), to: &sale))
        let second = try #require(apply(try part(nil, id: 101), to: &sale))
        #expect(second.isWhole && second.amountMinor == 6_666)
        let back = (first.reversals + second.reversals).reduce(0) { $0 + $1.amountMinor }
        #expect(back == 1_000)
        #expect(sale?.commissions.map(\.netMinor) == [0])
        #expect(sale?.commissions.map(\.netFeeMinor) == [0])
        #expect(sale?.standing == .refunded)
        #expect(
            Attribution.refund(try part(1, id: 102), of: &sale) == .reject(reason: "nothing_left"))
    }

    @Test("After the release the reversal takes from what is payable")
    func afterRelease() throws {
        var sale: RefundTarget? = try target()
        sale?.commissions[0].isReleased = true
        let applied = try #require(apply(try part(nil), to: &sale))
        #expect(applied.entries.first?.debit == .payable(Fixture.influencer))
    }

    @Test("A lead without an amount can be taken back once")
    func lead() throws {
        var sale: RefundTarget? = try target(0, .flat(minorUnits: 300, currency: nil))
        let applied = try #require(apply(try part(nil), to: &sale))
        #expect(applied.isWhole && applied.reversals.map(\.amountMinor) == [300])
        #expect(
            Attribution.refund(try part(nil, id: 101), of: &sale)
                == .reject(reason: "nothing_left"))
    }

    @Test("Refunds that cannot be are refused with the reason, and change nothing")
    func refusals() throws {
        let before = try target()
        func verdict(_ refund: Sale, _ change: (inout RefundTarget) -> Void = { _ in })
            -> RefundVerdict
        {
            var changed = before
            change(&changed)
            var sale: RefundTarget? = changed
            let verdict = Attribution.refund(refund, of: &sale)
            #expect(sale == changed)
            return verdict
        }
        #expect(verdict(try part(10_001)) == .reject(reason: "exceeds_what_is_left"))
        #expect(verdict(try part(0)) == .reject(reason: "amount_not_positive"))
        #expect(verdict(try part(-5)) == .reject(reason: "amount_not_positive"))
        #expect(
            verdict(try part(1)) { $0.standing = .rejected } == .reject(reason: "sale_rejected"))
        #expect(
            verdict(try part(1)) { $0.standing = .undecided } == .wait(reason: "sale_not_decided"))
        var dollars = try part(1)
        dollars.amount = Money(minorUnits: 1, currency: try #require(Currency("USD")))
        #expect(verdict(dollars) == .reject(reason: "currency_mismatch"))
        var claim = try part(1)
        claim.isVerified = false
        #expect(verdict(claim) == .park(reason: "unverified"))
        var pending = try part(1)
        pending.reported = .pending
        #expect(verdict(pending) == .park(reason: "merchant_pending"))
        var missing: RefundTarget?
        #expect(
            Attribution.refund(try part(1), of: &missing) == .wait(reason: "sale_missing"))
    }

    @Test("Commission, fee and reversals add up after any refunds in any order", arguments: 1...40)
    func conservation(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let amount = Int64.random(in: 1...1_000_000, using: &random)
        let kind: CommissionRule.Kind =
            Bool.random(using: &random)
            ? .percent(partsPerMillion: .random(in: 1...1_000_000, using: &random))
            : .flat(minorUnits: .random(in: 1...10_000, using: &random), currency: nil)
        let start = try target(amount, kind, fee: .random(in: 0...1_000_000, using: &random))
        var left = amount
        var refunds: [Sale] = []
        for id in 0..<UInt64.random(in: 1...8, using: &random) where left > 0 {
            let minor = Int64.random(in: 1...left, using: &random)
            left -= minor
            refunds.append(try part(minor, id: 100 + id))
        }
        var ends: Set<[Int64]> = []
        for _ in 0..<5 {
            var sale: RefundTarget? = start
            var entries: [LedgerEntry] = []
            for refund in refunds.shuffled(using: &random) {
                entries += try #require(apply(refund, to: &sale)).entries
            }
            let end = try #require(sale)
            #expect(Set(entries.map(\.entryID)).count == entries.count)
            for (before, after) in zip(start.commissions, end.commissions) {
                let due = try #require(
                    after.terms.commission(onRemaining: left == 0 ? nil : left))
                #expect(after.netMinor == due)
                #expect(after.netFeeMinor == after.terms.fee(onCommission: due))
                let moved = entries.reduce(0) { $0 + $1.amountMinor }
                #expect(
                    before.netMinor + before.netFeeMinor
                        == after.netMinor + after.netFeeMinor + moved)
                ends.insert([after.netMinor, after.netFeeMinor])
            }
            #expect(end.refundedMinor == amount - left)
        }
        #expect(ends.count <= 1, "seed \(seed): the end depends on the order")
    }
}
