// Which rule decides: the most specific, then the latest, then the identity.
public import Tracking

/// A row of `commission_rules`.
public struct CommissionRule: Equatable, Sendable {
    /// How it pays.
    public enum Kind: Equatable, Sendable {
        /// Parts per million of the amount.
        case percent(partsPerMillion: Int32)
        /// A fixed sum; the sale's currency when the rule names none.
        case flat(minorUnits: Int64, currency: Currency?)
    }

    /// Its identity.
    public var id: EntityID
    /// Only this influencer's sales.
    public var influencerID: EntityID?
    /// Only this link's sales.
    public var linkID: EntityID?
    /// Only this event.
    public var event: ConversionEvent?
    /// Only this article.
    public var sku: String?
    /// Only this category.
    public var category: String?
    /// How it pays.
    public var kind: Kind
    /// For how many months after the customer's first conversion renewals are paid; nil for ever.
    public var recurringMonths: Int32?
    /// In force from here on.
    public var validFrom: Timestamp
    /// In force until before this.
    public var validTo: Timestamp?

    /// A rule for everything of a merchant; narrow it by its fields.
    public init(id: EntityID, kind: Kind, validFrom: Timestamp) {
        self.id = id
        self.kind = kind
        self.validFrom = validFrom
    }

    /// Whether its numbers can be used: 0...100 %, a sum from 0 to the largest amount.
    public var isUsable: Bool {
        switch kind {
        case .percent(let parts): (0...Limits.partsPerMillion).contains(parts)
        case .flat(let units, _): (0...Money.maximumMinorUnits).contains(units)
        }
    }

    /// The order of the contract: influencer and link, influencer, article, category, merchant.
    var specificity: Int {
        (linkID == nil ? 0 : 8) + (influencerID == nil ? 0 : 4) + (sku == nil ? 0 : 2)
            + (category == nil ? 0 : 1)
    }

    /// Whether this rule comes before another.
    func precedes(_ other: CommissionRule) -> Bool {
        if specificity != other.specificity { return specificity > other.specificity }
        if validFrom != other.validFrom { return validFrom > other.validFrom }
        return id < other.id
    }
}

/// What a rule is looked up for.
public struct RuleQuery: Equatable, Sendable {
    /// Who is paid.
    public var influencerID: EntityID
    /// By which link.
    public var linkID: EntityID?
    /// For what.
    public var event: ConversionEvent
    /// When it happened.
    public var at: Timestamp
    /// For a renewal that follows from a customer's first conversion: when that was.
    public var recurringSince: Timestamp?
    /// The article of one basket line.
    public var sku: String?
    /// The category of one basket line.
    public var category: String?

    /// A look-up for a whole sale.
    public init(influencerID: EntityID, linkID: EntityID?, event: ConversionEvent, at: Timestamp) {
        self.influencerID = influencerID
        self.linkID = linkID
        self.event = event
        self.at = at
    }
}

/// The rules of one merchant, in the order in which they are asked.
public struct RuleBook: Sendable {
    private var byPartner: [EntityID: [CommissionRule]] = [:]
    private var general: [CommissionRule] = []
    /// Whether a basket's lines can be paid differently.
    public let knowsItems: Bool

    /// A book of rules in any order; rules that cannot be used are left out.
    public init(_ rules: [CommissionRule]) {
        let sorted = rules.filter(\.isUsable).sorted { $0.precedes($1) }
        for rule in sorted {
            // A link belongs to one influencer; a rule may name either.
            if let partner = rule.linkID ?? rule.influencerID {
                byPartner[partner, default: []].append(rule)
            } else {
                general.append(rule)
            }
        }
        knowsItems = sorted.contains { $0.sku != nil || $0.category != nil }
    }

    /// The rule that decides; nil when none applies.
    /// - Complexity: O(rules of the link, the influencer and the merchant at large).
    public func rule(for query: RuleQuery) -> CommissionRule? {
        var best: CommissionRule?
        for rules in [
            query.linkID.flatMap { byPartner[$0] }, byPartner[query.influencerID], general,
        ] {
            guard let found = rules?.first(where: { RuleBook.matches($0, query) }) else { continue }
            if best.map({ found.precedes($0) }) ?? true { best = found }
        }
        return best
    }

    private static func matches(_ rule: CommissionRule, _ query: RuleQuery) -> Bool {
        func agrees<T: Equatable>(_ wanted: T?, _ given: T?) -> Bool {
            wanted == nil || wanted == given
        }
        guard agrees(rule.influencerID, query.influencerID), agrees(rule.linkID, query.linkID),
            agrees(rule.event, query.event), agrees(rule.sku, query.sku),
            agrees(rule.category, query.category), rule.validFrom <= query.at,
            rule.validTo.map({ query.at < $0 }) ?? true
        else { return false }
        guard let since = query.recurringSince, let months = rule.recurringMonths else {
            return true
        }
        return query.at < since.advanced(byMonths: months)
    }
}

extension Timestamp {
    /// The instant so many calendar months later, on the month's last day where there is no such day.
    func advanced(byMonths months: Int32) -> Timestamp {
        let day = day
        let (year, month, dayOfMonth) = day.civil
        let index = year * 12 + month - 1 + Int(min(max(months, 0), Limits.maximumDays / 30))
        var target: Day?
        for candidate in stride(from: dayOfMonth, to: 0, by: -1) where target == nil {
            target = Day(year: index / 12, month: index % 12 + 1, day: candidate)
        }
        let within = microseconds - day.start.microseconds
        return (target ?? day).start.advanced(byMicroseconds: within)
    }
}
