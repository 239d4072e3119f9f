// Which rule is chosen, and what its terms pay.
import Attribution
import Testing
import Tracking
import Workbench

@Suite("Commission rules")
struct CommissionRuleTests {
    private func query(link: EntityID? = Fixture.link, event: ConversionEvent = .sale) -> RuleQuery
    {
        RuleQuery(
            influencerID: Fixture.influencer, linkID: link, event: event, at: Fixture.noon)
    }

    private func ladder() -> [CommissionRule] {
        var rules = (1...5).map { Fixture.rule(UInt64($0)) }
        rules[1].category = "shoes"
        rules[2].sku = "A1"
        rules[3].influencerID = Fixture.influencer
        rules[4].influencerID = Fixture.influencer
        rules[4].linkID = Fixture.link
        return rules
    }

    @Test(
        "The most specific rule wins: merchant, category, article, influencer, influencer and link")
    func specificity() throws {
        for count in 1...5 {
            let rules = Array(ladder().prefix(count))
            var query = query()
            query.sku = "A1"
            query.category = "shoes"
            for order in [rules, rules.reversed()] {
                #expect(RuleBook(order).rule(for: query)?.id.low == UInt64(count))
            }
        }
    }

    @Test("Of equal rules the later one wins, then the smaller identity")
    func precedence() {
        let early = Fixture.rule(1, from: Timestamp(microseconds: 5))
        let late = Fixture.rule(3, from: Timestamp(microseconds: 6))
        let twin = Fixture.rule(2, from: Timestamp(microseconds: 6))
        #expect(RuleBook([early, late]).rule(for: query())?.id == late.id)
        #expect(RuleBook([late, early, twin]).rule(for: query())?.id == twin.id)
    }

    @Test("A rule that names something else does not apply")
    func mismatches() {
        let changes: [(inout CommissionRule) -> Void] = [
            { $0.influencerID = EntityID(high: 2, low: 99) },
            { $0.linkID = EntityID(high: 3, low: 99) },
            { $0.event = .lead }, { $0.sku = "A1" }, { $0.category = "shoes" },
            { $0.validFrom = Fixture.noon.advanced(byMicroseconds: 1) },
            { $0.validTo = Fixture.noon },
            { $0.kind = .percent(partsPerMillion: 1_000_001) },
            { $0.kind = .percent(partsPerMillion: -1) },
            { $0.kind = .flat(minorUnits: -1, currency: nil) },
        ]
        for change in changes {
            var rule = Fixture.rule(1)
            #expect(RuleBook([rule]).rule(for: query()) != nil)
            change(&rule)
            #expect(RuleBook([rule]).rule(for: query()) == nil)
        }
    }

    @Test("A rule holds from its first instant to just before its last")
    func validity() {
        var rule = Fixture.rule(1, from: Fixture.noon)
        rule.validTo = Fixture.noon.advanced(byMicroseconds: 1)
        #expect(RuleBook([rule]).rule(for: query()) != nil)
    }

    @Test("Renewals are paid for as many months as the rule says, by the calendar")
    func recurring() throws {
        var rule = Fixture.rule(1)
        rule.recurringMonths = 1
        let january = try #require(Day(year: 2026, month: 1, day: 31)).start
        let february = try #require(Day(year: 2026, month: 2, day: 28)).start
        var query = RuleQuery(
            influencerID: Fixture.influencer, linkID: nil, event: .renewal,
            at: february.advanced(byMicroseconds: -1))
        query.recurringSince = january
        #expect(RuleBook([rule]).rule(for: query) != nil)
        query.at = february
        #expect(RuleBook([rule]).rule(for: query) == nil)
        rule.recurringMonths = nil
        #expect(RuleBook([rule]).rule(for: query) != nil)
    }

    @Test("An index over partners finds what asking every rule finds", arguments: 1...10)
    func indexAgreesWithScan(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var rules: [CommissionRule] = []
        for id in 0..<60 {
            var rule = Fixture.rule(
                UInt64(id), from: Timestamp(microseconds: .random(in: 0...3, using: &random)))
            if Bool.random(using: &random) {
                rule.influencerID = EntityID(high: 2, low: .random(in: 1...3, using: &random))
            }
            if Int.random(in: 0...3, using: &random) == 0 {
                rule.linkID = EntityID(high: 3, low: .random(in: 1...3, using: &random))
            }
            if Int.random(in: 0...3, using: &random) == 0 { rule.sku = "A1" }
            if Int.random(in: 0...3, using: &random) == 0 { rule.event = .lead }
            rules.append(rule)
        }
        let book = RuleBook(rules)
        for influencer in 1...4 {
            for link in 1...4 {
                var query = RuleQuery(
                    influencerID: EntityID(high: 2, low: UInt64(influencer)),
                    linkID: EntityID(high: 3, low: UInt64(link)), event: .sale, at: Fixture.noon)
                query.sku = Bool.random(using: &random) ? "A1" : nil
                let matching = rules.filter { RuleBook([$0]).rule(for: query) != nil }
                let best = matching.min { first, second in
                    RuleBook([second, first]).rule(for: query) == first && first != second
                }
                #expect(book.rule(for: query) == best)
            }
        }
    }
}

@Suite("Frozen terms")
struct FrozenTermsTests {
    private func freeze(
        _ sale: Sale, _ rules: [CommissionRule], fee: Int32 = 0
    ) -> TermsOutcome {
        RuleBook(rules).freeze(
            sale,
            for: RuleQuery(
                influencerID: Fixture.influencer, linkID: Fixture.link, event: sale.event,
                at: sale.eventTime), feePPM: fee)
    }

    private func terms(_ outcome: TermsOutcome) -> FrozenTerms? {
        guard case .terms(let terms, _) = outcome else { return nil }
        return terms
    }

    @Test(
        "A percentage is rounded once, half to even",
        arguments: [
            (10_000, 100_000, 1_000), (125, 100_000, 12), (135, 100_000, 14), (5, 100_000, 0),
            (15, 100_000, 2), (1, 1_000_000, 1), (999, 0, 0), (0, 500_000, 0),
            (1_000_000_000_000_000, 1_000_000, 1_000_000_000_000_000),
        ] as [(Int64, Int32, Int64)])
    func percent(amount: Int64, parts: Int32, expected: Int64) throws {
        let outcome = freeze(
            try Fixture.sale(amount), [Fixture.rule(1, .percent(partsPerMillion: parts))])
        #expect(terms(outcome)?.commission(onRemaining: amount) == expected)
    }

    @Test("A fixed sum is paid whole while the sale stands, and not at all after")
    func flat() throws {
        let outcome = freeze(
            try Fixture.sale(3_000), [Fixture.rule(1, .flat(minorUnits: 500, currency: nil))])
        let terms = try #require(self.terms(outcome))
        #expect(terms.commission(onRemaining: 3_000) == 500)
        #expect(terms.commission(onRemaining: 1) == 500)
        #expect(terms.commission(onRemaining: nil) == 0)
        #expect(terms.commission(onRemaining: 3_001) == nil)
        #expect(terms.commission(onRemaining: -1) == nil)
    }

    @Test("A fixed sum in another currency, or beyond the largest amount, is not paid")
    func flatRefusals() throws {
        let dollars = try #require(Currency("USD"))
        #expect(
            freeze(
                try Fixture.sale(), [Fixture.rule(1, .flat(minorUnits: 5, currency: dollars))])
                == .unusable("rule_currency"))
        var rule = Fixture.rule(1, .flat(minorUnits: Money.maximumMinorUnits, currency: nil))
        rule.sku = "A1"
        var sale = try Fixture.sale()
        sale.items = [SaleItem(sku: "A1", category: nil, quantity: 2, priceMinor: 10)]
        #expect(freeze(sale, [rule]) == .unusable("commission_too_large"))
        #expect(freeze(try Fixture.sale(), []) == .noRule)
    }

    @Test("Each basket line takes its rule; what the basket leaves over takes the general one")
    func basket() throws {
        var shoes = Fixture.rule(2, .percent(partsPerMillion: 200_000))
        shoes.category = "shoes"
        var sale = try Fixture.sale(10_000)
        sale.items = [
            SaleItem(sku: nil, category: "shoes", quantity: 2, priceMinor: 2_000),
            SaleItem(sku: nil, category: "hats", quantity: 1, priceMinor: 1_000),
        ]
        let both = freeze(sale, [Fixture.rule(1), shoes])
        // 20 % of 4,000 and 10 % of 1,000 + 5,000.
        #expect(terms(both)?.commission(onRemaining: 10_000) == 1_400)
        // Without a general rule only the shoes are paid.
        #expect(terms(freeze(sale, [shoes]))?.commission(onRemaining: 10_000) == 800)
    }

    @Test("A basket that is worth more than the amount is scaled down to it")
    func discount() throws {
        var shoes = Fixture.rule(2, .percent(partsPerMillion: 200_000))
        shoes.category = "shoes"
        var sale = try Fixture.sale(5_000)
        sale.items = [
            SaleItem(sku: nil, category: "shoes", quantity: 1, priceMinor: 4_000),
            SaleItem(sku: nil, category: "hats", quantity: 1, priceMinor: 6_000),
        ]
        // Two fifths of 5,000 at 20 %, three fifths at 10 %.
        #expect(
            terms(freeze(sale, [Fixture.rule(1), shoes]))?.commission(onRemaining: 5_000) == 700)
    }

    @Test("A basket whose numbers cannot be used is left aside")
    func brokenBasket() throws {
        var shoes = Fixture.rule(2, .percent(partsPerMillion: 200_000))
        shoes.category = "shoes"
        var sale = try Fixture.sale(5_000)
        for item in [
            SaleItem(sku: nil, category: "shoes", quantity: 0, priceMinor: 1),
            SaleItem(sku: nil, category: "shoes", quantity: 1, priceMinor: -1),
            SaleItem(sku: nil, category: "shoes", quantity: 1_000_000, priceMinor: .max),
        ] {
            sale.items = [item]
            #expect(
                terms(freeze(sale, [Fixture.rule(1), shoes]))?.commission(onRemaining: 5_000) == 500
            )
        }
    }

    @Test("Terms that no sale can have are refused when they are read back")
    func refusals() throws {
        let euro = try #require(Fixture.euro)
        func make(_ amount: Int64, _ numerator: Int128, _ denominator: Int128, _ fee: Int32 = 0)
            -> FrozenTerms?
        {
            FrozenTerms(
                amountMinor: amount, currency: euro, percentNumerator: numerator,
                percentDenominator: denominator, flatMinor: 0, feePPM: fee)
        }
        #expect(make(100, 1, 10) != nil)
        #expect(make(-1, 1, 10) == nil)
        #expect(make(100, -1, 10) == nil)
        #expect(make(100, 11, 10) == nil)
        #expect(make(100, 0, 0) == nil)
        #expect(make(100, 0, Int128.max) == nil)
        #expect(make(100, 0, 10, 1_000_001) == nil)
    }

    @Test(
        "Commission agrees with slow arithmetic and never rises as less remains", arguments: 1...20)
    func oracle(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        for _ in 0..<50 {
            let amount = Int64.random(in: 1...Money.maximumMinorUnits, using: &random)
            let parts = Int32.random(in: 0...1_000_000, using: &random)
            let frozen = freeze(
                try Fixture.sale(amount), [Fixture.rule(1, .percent(partsPerMillion: parts))])
            let terms = try #require(self.terms(frozen))
            let less = Int64.random(in: 0...amount, using: &random)
            let slow = (SlowNumber(less) * SlowNumber(parts)).halfEven(by: SlowNumber(1_000_000))
            let onLess = try #require(terms.commission(onRemaining: less))
            #expect(String(onLess) == slow.text)
            #expect(onLess <= (try #require(terms.commission(onRemaining: amount))))
        }
    }
}
