// What becomes of a sale: the ladder from click to coupon to customer, and the verdict.
public import Tracking

/// By what a sale was attributed; `sales.attribution`.
public enum AttributionKind: String, CaseIterable, Sendable {
    /// The click that the token names.
    case click
    /// The coupon's owner.
    case coupon
    /// The customer's first conversion.
    case customer
    /// Nobody.
    case none
}

/// A step of the ladder and what came of it, for the explanation.
public struct Rung: Equatable, Sendable {
    /// The step.
    public var kind: AttributionKind
    /// `taken`, or why not.
    public var result: String
}

/// To whom a sale belongs.
public struct AttributionResult: Equatable, Sendable {
    /// By what.
    public var kind: AttributionKind = .none
    /// To whom.
    public var influencerID: EntityID?
    /// By which link.
    public var linkID: EntityID?
    /// By which click.
    public var clickID: ClickID?
    /// When the customer's first conversion was, where that decided.
    public var recurringSince: Timestamp?
    /// What a person has to look at before money is paid.
    public var doubt: String?
    /// The steps that were tried, in order.
    public var rungs: [Rung] = []
    /// Why nobody is paid: the first reason that was met; nil when somebody is.
    public var reason: String? {
        kind == .none ? rungs.first { $0.result != "not_given" }?.result ?? "no_partner" : nil
    }
}

/// What becomes of a sale now.
public enum Verdict: Equatable, Sendable {
    /// Something is on its way; look again soon.
    case wait(reason: String)
    /// Something that should be there is missing; look again from time to time.
    case hold(reason: String)
    /// Nothing to do until another message or a person changes the row.
    case park(reason: String)
    /// It counts no more.
    case reject(reason: String)
    /// Decided.
    case complete(Completion)
}

/// A decided sale.
public struct Completion: Equatable, Sendable {
    /// To whom it belongs.
    public var attribution: AttributionResult
    /// What is owed for it; nil when nothing is, with `unpaidReason`.
    public var commission: Commission?
    /// Why nothing is owed.
    public var unpaidReason: String?
    /// The ledger rows of the commission and the fee.
    public var entries: [LedgerEntry]
    /// The platform's fee in minor units.
    public var feeMinor: Int64
}

/// A first row of `commissions`.
public struct Commission: Equatable, Sendable {
    /// Derived from sale and influencer.
    public var id: EntityID
    /// Who is owed.
    public var influencerID: EntityID
    /// How much, above zero.
    public var amountMinor: Int64
    /// The rule that weighs most.
    public var ruleID: EntityID
    /// The terms for every later refund.
    public var terms: FrozenTerms
    /// When its hold ends.
    public var holdUntil: Timestamp
    /// What a person has to look at first.
    public var doubt: String?
}

/// Decides sales.
public enum Attribution {
    /// Decides one sale that is not a refund.
    ///
    /// - Parameters:
    ///   - sale: The conversion.
    ///   - evidence: What the database knows of it.
    ///   - rules: The merchant's rules.
    public static func decide(_ sale: Sale, _ evidence: Evidence, _ rules: RuleBook) -> Verdict {
        guard let settings = evidence.settings else { return .hold(reason: "merchant_unknown") }
        guard sale.isVerified else {
            return evidence.isSuperseded
                ? .reject(reason: "superseded") : .park(reason: "unverified")
        }
        switch sale.reported {
        case .pending: return .park(reason: "merchant_pending")
        case .rejected: return .reject(reason: "merchant_rejected")
        case .completed: break
        }
        guard (0...Money.maximumMinorUnits).contains(sale.amount.minorUnits) else {
            return .reject(reason: "amount_unusable")
        }
        switch climb(sale, evidence, settings) {
        case .undecided(let verdict): return verdict
        case .decided(let attribution):
            return complete(sale, attribution, settings: settings, rules: rules)
        }
    }

    enum Climb {
        case decided(AttributionResult)
        case undecided(Verdict)
    }

    static func climb(_ sale: Sale, _ evidence: Evidence, _ settings: MerchantSettings) -> Climb {
        var result = AttributionResult()
        switch evidence.click {
        case .notNamed: result.rungs.append(Rung(kind: .click, result: "not_given"))
        case .ambiguous: return .undecided(.hold(reason: "click_ambiguous"))
        case .missing(.unknown), .missing(.behind):
            return .undecided(.wait(reason: "click_not_landed"))
        case .missing(.passed): return .undecided(.hold(reason: "click_lost"))
        case .landed(let click):
            let judgement = judge(click, of: sale, settings)
            result.rungs.append(Rung(kind: .click, result: judgement.obstacle ?? "taken"))
            if judgement.obstacle == nil {
                result.kind = .click
                result.influencerID = click.influencerID
                result.linkID = click.linkID
                result.clickID = click.id
                result.doubt = judgement.doubt
                return .decided(result)
            }
        }
        guard let coupon = evidence.coupon else {
            let why = sale.couponCode == nil ? "not_given" : "coupon_unknown"
            result.rungs.append(Rung(kind: .coupon, result: why))
            return climbToCustomer(sale, evidence, result)
        }
        result.rungs.append(Rung(kind: .coupon, result: "taken"))
        result.kind = .coupon
        result.influencerID = coupon.influencerID
        result.linkID = coupon.linkID
        return .decided(result)
    }

    /// The last rung: a renewal stays with the partner of the customer's first conversion.
    private static func climbToCustomer(
        _ sale: Sale, _ evidence: Evidence, _ before: AttributionResult
    ) -> Climb {
        var result = before
        guard sale.event == .renewal, sale.customerID != nil else {
            result.rungs.append(Rung(kind: .customer, result: "not_given"))
            return .decided(result)
        }
        switch evidence.customer {
        case .undecided: return .undecided(.wait(reason: "customer_not_decided"))
        case .unknown: result.rungs.append(Rung(kind: .customer, result: "customer_unknown"))
        case .first(let influencer, let link, let at):
            result.rungs.append(Rung(kind: .customer, result: "taken"))
            result.kind = .customer
            result.influencerID = influencer
            result.linkID = link
            result.recurringSince = at
        }
        return .decided(result)
    }

    /// Whether a click earns the sale, at the sale's event time.
    ///
    /// - Returns: Why it does not, or what a person has to look at first; neither for a good click.
    static func judge(
        _ click: CandidateClick, of sale: Sale, _ settings: MerchantSettings
    ) -> (obstacle: String?, doubt: String?) {
        guard click.merchantID == sale.merchantID else { return ("other_merchant", nil) }
        let clickedAt = click.id.clickedAt
        let latest = sale.eventTime.advanced(byMicroseconds: Limits.clockToleranceMicroseconds)
        guard clickedAt <= latest else { return ("click_after_event", nil) }
        let window = Int64(settings.lookbackDays) * Day.microseconds
        guard clickedAt.advanced(byMicroseconds: window) >= sale.eventTime else {
            return ("lookback_expired", nil)
        }
        switch click.invalidReason {
        // Browsers visit by a prefetched redirect; the token that came back proves the visit.
        case nil, .prefetch: return (click.isBot ? "click_bot" : nil, nil)
        // A doubt behind a proved sale is for a person to settle, never a silent zero.
        case .datacenter: return (nil, "click_datacenter")
        case .velocity: return (nil, "click_velocity")
        case .bot, .preview, .nonNavigational, .overCap, .noTrack, .paused, .notStarted, .expired,
            .archived:
            return ("click_" + (click.invalidReason?.name ?? "invalid"), nil)
        }
    }

    private static func complete(
        _ sale: Sale, _ attribution: AttributionResult, settings: MerchantSettings, rules: RuleBook
    ) -> Verdict {
        func unpaid(_ reason: String) -> Verdict {
            .complete(
                Completion(
                    attribution: attribution, commission: nil, unpaidReason: reason, entries: [],
                    feeMinor: 0))
        }
        guard let influencer = attribution.influencerID else {
            return unpaid(attribution.reason ?? "no_partner")
        }
        var query = RuleQuery(
            influencerID: influencer, linkID: attribution.linkID, event: sale.event,
            at: sale.eventTime)
        query.recurringSince = attribution.recurringSince
        switch rules.freeze(sale, for: query, feePPM: settings.platformFeePPM) {
        case .noRule: return unpaid("no_rule")
        case .unusable(let reason): return .hold(reason: reason)
        case .terms(let terms, let ruleID):
            guard let amount = terms.commission(onRemaining: sale.amount.minorUnits),
                let fee = terms.fee(onCommission: amount)
            else { return .hold(reason: "amount_unusable") }
            guard amount > 0 else { return unpaid("nothing_owed") }
            let hold = Int64(settings.holdDays) * Day.microseconds
            let commission = Commission(
                id: DerivedID.commission(sale: sale.id, influencer: influencer),
                influencerID: influencer, amountMinor: amount, ruleID: ruleID, terms: terms,
                holdUntil: sale.eventTime.advanced(byMicroseconds: hold), doubt: attribution.doubt)
            return .complete(
                Completion(
                    attribution: attribution, commission: commission, unpaidReason: nil,
                    entries: entries(of: commission, feeMinor: fee, merchant: sale.merchantID),
                    feeMinor: fee))
        }
    }

    /// The merchant owes the influencer the commission and, on top, the platform its fee.
    static func entries(
        of commission: Commission, feeMinor: Int64, merchant: EntityID
    ) -> [LedgerEntry] {
        let currency = commission.terms.currency
        return [
            LedgerEntry(
                .commission, merchantID: merchant, commissionID: commission.id,
                from: .merchant(merchant), to: .held(commission.influencerID),
                amountMinor: commission.amountMinor, currency: currency),
            LedgerEntry(
                .fee, merchantID: merchant, commissionID: commission.id, from: .merchant(merchant),
                to: .platformFees, amountMinor: feeMinor, currency: currency),
        ].compactMap { $0 }
    }

    /// How long until a sale that waits or is held is looked at again: a part of its age.
    public static func retryMicroseconds(receivedAt: Timestamp, now: Timestamp) -> Int64 {
        let (age, overflow) = now.microseconds.subtractingReportingOverflow(receivedAt.microseconds)
        let part = overflow ? Limits.longestRetryMicroseconds : age / Limits.retryPartOfAge
        return min(max(part, Limits.shortestRetryMicroseconds), Limits.longestRetryMicroseconds)
    }
}
