// The terms at which a commission was earned: kept with it, used for every later refund.
public import Tracking

/// Terms by which any remaining amount of a sale gives its commission, exactly.
public struct FrozenTerms: Equatable, Sendable {
    /// One rule's part in them.
    public struct Line: Equatable, Sendable {
        /// The rule.
        public var ruleID: EntityID
        /// How it pays.
        public var kind: CommissionRule.Kind
        /// Its part of the amount, as `weight` of the terms' `weightTotal`.
        public var weight: Int64
        /// How often its fixed sum is paid.
        public var times: Int64
    }

    /// The sale's amount in minor units.
    public let amountMinor: Int64
    /// The commission's currency.
    public let currency: Currency
    /// Σ rate × weight over the lines that pay a percentage.
    public let percentNumerator: Int128
    /// 1,000,000 × the total weight.
    public let percentDenominator: Int128
    /// The fixed sums together.
    public let flatMinor: Int64
    /// The platform's fee, in parts per million of the commission.
    public let feePPM: Int32
    /// The lines, for the explanation; empty when read back from the database.
    public let lines: [Line]

    /// Terms by their numbers, as they are stored; nil when the numbers cannot be terms.
    public init?(
        amountMinor: Int64, currency: Currency, percentNumerator: Int128,
        percentDenominator: Int128,
        flatMinor: Int64, feePPM: Int32, lines: [Line] = []
    ) {
        guard (0...Money.maximumMinorUnits).contains(amountMinor),
            (0...Money.maximumMinorUnits).contains(flatMinor),
            (0...Limits.partsPerMillion).contains(feePPM), percentDenominator > 0,
            percentDenominator <= FrozenTerms.maximumDenominator, percentNumerator >= 0,
            percentNumerator <= percentDenominator
        else { return nil }
        self.amountMinor = amountMinor
        self.currency = currency
        self.percentNumerator = percentNumerator
        self.percentDenominator = percentDenominator
        self.flatMinor = flatMinor
        self.feePPM = feePPM
        self.lines = lines
    }

    /// The largest denominator: with the largest amount, a product still fits into 128 bits
    /// (10^15 × 10^6 × 10^15 < 2^127).
    static let maximumDenominator =
        Int128(Money.maximumMinorUnits) * Int128(Limits.partsPerMillion)

    /// The commission on what remains of the sale: one rounding, half to even, on the percentage;
    /// the fixed sums whole as long as the sale stands.
    ///
    /// - Parameter remaining: Minor units that are left; nil when the sale stands no more.
    public func commission(onRemaining remaining: Int64?) -> Int64? {
        guard let remaining else { return 0 }
        guard remaining >= 0, remaining <= amountMinor,
            let percentage = ExactArithmetic.halfEven(
                Int128(remaining) * percentNumerator, dividedBy: percentDenominator)
        else { return nil }
        return percentage + flatMinor  // Each at most 10^15.
    }

    /// The platform's fee on a commission, rounded once, half to even.
    public func fee(onCommission commission: Int64) -> Int64? {
        ExactArithmetic.share(commission, partsPerMillion: feePPM)
    }

    /// What is stored in `commissions.terms`.
    public var json: JSONValue {
        // The lines' parts of the commission, for people; they add up to it.
        let whole = commission(onRemaining: amountMinor).map { $0 - flatMinor } ?? 0
        let shares = ExactArithmetic.split(whole, by: lines.map(\.percentWeight))
        return .object([
            ("version", .integer(1)),
            ("amount_minor", .integer(Int128(amountMinor))),
            ("currency", .text(currency.letters)),
            ("percent_numerator", .integer(percentNumerator)),
            ("percent_denominator", .integer(percentDenominator)),
            ("flat_minor", .integer(Int128(flatMinor))),
            ("fee_ppm", .integer(Int128(feePPM))),
            ("rounding", .text("half_even")),
            (
                "lines",
                .array(lines.enumerated().map { $1.json(percentPart: shares?[$0] ?? 0) })
            ),
        ])
    }
}

extension FrozenTerms.Line {
    /// The weight of its percentage: rate × weight, scaled down so that it fits.
    var percentWeight: Int64 {
        guard case .percent(let parts) = kind else { return 0 }
        return Int64(clamping: Int128(parts) * Int128(weight) / 1_000)
    }

    func json(percentPart: Int64) -> JSONValue {
        switch kind {
        case .percent(let parts):
            .object([
                ("rule_id", .text("\(ruleID)")), ("kind", .text("percent")),
                ("rate_ppm", .integer(Int128(parts))), ("weight", .integer(Int128(weight))),
                ("part_minor", .integer(Int128(percentPart))),
            ])
        case .flat(let units, _):
            .object([
                ("rule_id", .text("\(ruleID)")), ("kind", .text("flat")),
                ("amount_minor", .integer(Int128(units))), ("times", .integer(Int128(times))),
                ("part_minor", .integer(Int128(units) * Int128(times))),
            ])
        }
    }
}

/// What the rules make of a sale.
public enum TermsOutcome: Equatable, Sendable {
    /// Terms, and the rule that weighs most in them.
    case terms(FrozenTerms, ruleID: EntityID)
    /// No rule applies.
    case noRule
    /// Rules apply that cannot be paid together or in this currency, with the reason.
    case unusable(String)
}

extension RuleBook {
    /// Freezes the terms of a sale.
    ///
    /// Without rules for articles or categories one rule decides. With them each basket line takes
    /// its own rule by its part of the amount; a basket that is worth more than the amount (a
    /// discount) is scaled down to it, what a basket leaves over takes the rule of the whole sale.
    public func freeze(_ sale: Sale, for query: RuleQuery, feePPM: Int32) -> TermsOutcome {
        var lines: [FrozenTerms.Line] = []
        var total = max(sale.amount.minorUnits, 1)
        if knowsItems, let basket = RuleBook.worth(of: sale) {
            total = max(total, basket)
            for item in sale.items {
                var itemQuery = query
                itemQuery.sku = item.sku
                itemQuery.category = item.category
                let worth = item.priceMinor * item.quantity  // Checked by `worth(of:)`.
                RuleBook.add(rule(for: itemQuery), weight: worth, times: item.quantity, to: &lines)
            }
            if total > basket {
                RuleBook.add(rule(for: query), weight: total - basket, times: 1, to: &lines)
            }
        } else {
            RuleBook.add(rule(for: query), weight: total, times: 1, to: &lines)
        }
        guard let heaviest = lines.max(by: { $0.weight < $1.weight }) else { return .noRule }
        return RuleBook.sum(
            lines, sale: sale, total: total, heaviest: heaviest.ruleID, feePPM: feePPM)
    }

    private static func sum(
        _ lines: [FrozenTerms.Line], sale: Sale, total: Int64, heaviest: EntityID, feePPM: Int32
    ) -> TermsOutcome {
        var numerator: Int128 = 0
        var flat: Int64 = 0
        for line in lines {
            switch line.kind {
            case .percent(let parts): numerator += Int128(parts) * Int128(line.weight)
            case .flat(let units, let currency):
                guard currency ?? sale.amount.currency == sale.amount.currency else {
                    return .unusable("rule_currency")
                }
                let (product, overflow) = units.multipliedReportingOverflow(by: line.times)
                guard !overflow, product <= Money.maximumMinorUnits - flat else {
                    return .unusable("commission_too_large")
                }
                flat += product
            }
        }
        guard
            let terms = FrozenTerms(
                amountMinor: sale.amount.minorUnits, currency: sale.amount.currency,
                percentNumerator: numerator,
                percentDenominator: Int128(total) * Int128(Limits.partsPerMillion), flatMinor: flat,
                feePPM: feePPM, lines: lines)
        else { return .unusable("amount_unusable") }
        return .terms(terms, ruleID: heaviest)
    }

    /// The basket's worth in minor units; nil when there is none or its numbers cannot be used.
    private static func worth(of sale: Sale) -> Int64? {
        guard !sale.items.isEmpty, sale.items.count <= Limits.maximumItems else { return nil }
        var worth: Int64 = 0
        for item in sale.items {
            guard item.quantity >= 1, item.quantity <= Limits.maximumQuantity, item.priceMinor >= 0
            else { return nil }
            let (line, overflow) = item.priceMinor.multipliedReportingOverflow(by: item.quantity)
            guard !overflow, line <= Money.maximumMinorUnits - worth else { return nil }
            worth += line
        }
        return worth > 0 ? worth : nil
    }

    /// Adds a rule's part; a rule that has a line already gets more weight, and a fixed sum for an
    /// article is paid for each piece, any other once.
    private static func add(
        _ rule: CommissionRule?, weight: Int64, times: Int64, to lines: inout [FrozenTerms.Line]
    ) {
        guard let rule else { return }
        let pieces = rule.sku == nil ? 1 : times
        if let index = lines.firstIndex(where: { $0.ruleID == rule.id }) {
            lines[index].weight += weight  // Within the checked worth.
            if rule.sku != nil { lines[index].times += pieces }
        } else {
            lines.append(
                FrozenTerms.Line(ruleID: rule.id, kind: rule.kind, weight: weight, times: pieces))
        }
    }
}
