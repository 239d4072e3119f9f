// Refunds: the commission on what remains, at the frozen terms, less what was posted.
public import Tracking

/// A commission of a sale as it stands: its first row, its reversals and their ledger rows.
public struct PostedCommission: Equatable, Sendable {
    /// The first row.
    public var id: EntityID
    /// Who is owed.
    public var influencerID: EntityID
    /// The first row's amount and all its reversals, summed.
    public var netMinor: Int64
    /// The fee and what was given back of it, summed.
    public var netFeeMinor: Int64
    /// Whether it has become payable: a reversal then takes from there.
    public var isReleased: Bool
    /// The terms that were frozen with it.
    public var terms: FrozenTerms

    /// A commission.
    public init(
        id: EntityID, influencerID: EntityID, netMinor: Int64, netFeeMinor: Int64, isReleased: Bool,
        terms: FrozenTerms
    ) {
        self.id = id
        self.influencerID = influencerID
        self.netMinor = netMinor
        self.netFeeMinor = netFeeMinor
        self.isReleased = isReleased
        self.terms = terms
    }
}

/// The sale that a refund is about.
public struct RefundTarget: Equatable, Sendable {
    /// How far the sale is.
    public enum Standing: Equatable, Sendable {
        /// Not decided yet.
        case undecided
        /// Decided.
        case completed
        /// It never counted.
        case rejected
        /// Nothing is left of it.
        case refunded
    }

    /// The sale.
    public var saleID: EntityID
    /// How far it is.
    public var standing: Standing
    /// Its amount.
    public var amount: Money
    /// What earlier refunds took.
    public var refundedMinor: Int64
    /// What it earned.
    public var commissions: [PostedCommission]

    /// A target.
    public init(
        saleID: EntityID, standing: Standing, amount: Money, refundedMinor: Int64,
        commissions: [PostedCommission]
    ) {
        self.saleID = saleID
        self.standing = standing
        self.amount = amount
        self.refundedMinor = refundedMinor
        self.commissions = commissions
    }
}

/// A further row of `commissions` that takes back.
public struct Reversal: Equatable, Sendable {
    /// Derived from the commission and the refund.
    public var id: EntityID
    /// The first row.
    public var reverses: EntityID
    /// Who gives back.
    public var influencerID: EntityID
    /// How much is taken back, above zero; the row holds it negative.
    public var amountMinor: Int64
    /// How much of the fee is given back.
    public var feeMinor: Int64
    /// Whether nothing is left of the commission.
    public var isWhole: Bool
    /// Whether it was taken from what is payable.
    public var isReleased: Bool
    /// The terms, as on the first row.
    public var terms: FrozenTerms
}

/// What becomes of a refund.
public enum RefundVerdict: Equatable, Sendable {
    /// Look again soon.
    case wait(reason: String)
    /// Nothing to do until another message or a person changes the row.
    case park(reason: String)
    /// It is not taken.
    case reject(reason: String)
    /// It is taken.
    case apply(AppliedRefund)
}

/// A refund that was taken.
public struct AppliedRefund: Equatable, Sendable {
    /// The sale.
    public var saleID: EntityID
    /// This part, in minor units.
    public var amountMinor: Int64
    /// Nothing is left of the sale.
    public var isWhole: Bool
    /// What is taken back from each influencer.
    public var reversals: [Reversal]
    /// The ledger rows.
    public var entries: [LedgerEntry]
}

extension Attribution {
    /// Decides a refund and brings the sale forward, so that the next refund sees it.
    ///
    /// - Parameters:
    ///   - refund: The refund's own row.
    ///   - target: The sale; nil when none with its order is known.
    ///   - isSuperseded: For a claim: a verified refund for the same key exists.
    public static func refund(
        _ refund: Sale, of target: inout RefundTarget?, isSuperseded: Bool = false
    ) -> RefundVerdict {
        guard refund.isVerified else {
            return isSuperseded ? .reject(reason: "superseded") : .park(reason: "unverified")
        }
        switch refund.reported {
        case .pending: return .park(reason: "merchant_pending")
        case .rejected: return .reject(reason: "merchant_rejected")
        case .completed: break
        }
        guard var sale = target else { return .wait(reason: "sale_missing") }
        switch sale.standing {
        case .undecided: return .wait(reason: "sale_not_decided")
        case .rejected: return .reject(reason: "sale_rejected")
        case .refunded: return .reject(reason: "nothing_left")
        case .completed: break
        }
        guard refund.amount.currency == sale.amount.currency else {
            return .reject(reason: "currency_mismatch")
        }
        let left = sale.amount.minorUnits - sale.refundedMinor
        guard left >= 0, sale.refundedMinor >= 0 else { return .park(reason: "refunds_unusable") }
        let part = refund.hasAmount ? refund.amount.minorUnits : left
        guard part > 0 || (!refund.hasAmount && sale.amount.minorUnits == 0) else {
            return .reject(reason: refund.hasAmount ? "amount_not_positive" : "nothing_left")
        }
        guard part <= left else { return .reject(reason: "exceeds_what_is_left") }
        guard let applied = take(part, leaving: left - part, from: &sale, by: refund) else {
            return .park(reason: "terms_unusable")
        }
        target = sale
        return .apply(applied)
    }

    private static func take(
        _ part: Int64, leaving rest: Int64, from sale: inout RefundTarget, by refund: Sale
    ) -> AppliedRefund? {
        var applied = AppliedRefund(
            saleID: sale.saleID, amountMinor: part, isWhole: rest == 0, reversals: [], entries: [])
        for index in sale.commissions.indices {
            let posted = sale.commissions[index]
            guard let due = posted.terms.commission(onRemaining: rest == 0 ? nil : rest),
                let dueFee = posted.terms.fee(onCommission: due)
            else { return nil }
            // Terms never rise as the remainder falls; a row that was changed by hand stays as it is.
            let back = max(0, posted.netMinor - due)
            let feeBack = max(0, posted.netFeeMinor - dueFee)
            sale.commissions[index].netMinor -= back
            sale.commissions[index].netFeeMinor -= feeBack
            guard back > 0 || feeBack > 0 else { continue }
            let reversal = Reversal(
                id: DerivedID.reversal(commission: posted.id, refund: refund.id),
                reverses: posted.id, influencerID: posted.influencerID, amountMinor: back,
                feeMinor: feeBack, isWhole: rest == 0, isReleased: posted.isReleased,
                terms: posted.terms)
            applied.reversals.append(reversal)
            applied.entries += entries(of: reversal, merchant: refund.merchantID)
        }
        sale.refundedMinor += part
        if rest == 0 { sale.standing = .refunded }
        return applied
    }

    /// The influencer gives back what was credited, the platform its fee, both to the merchant.
    private static func entries(of reversal: Reversal, merchant: EntityID) -> [LedgerEntry] {
        let source: LedgerAccount =
            reversal.isReleased ? .payable(reversal.influencerID) : .held(reversal.influencerID)
        let currency = reversal.terms.currency
        return [
            LedgerEntry(
                .reversal, merchantID: merchant, commissionID: reversal.id, from: source,
                to: .merchant(merchant), amountMinor: reversal.amountMinor, currency: currency,
                reverses: DerivedID.entry(.commission, commission: reversal.reverses)),
            LedgerEntry(
                .feeReversal, merchantID: merchant, commissionID: reversal.id,
                from: .platformFees, to: .merchant(merchant), amountMinor: reversal.feeMinor,
                currency: currency,
                reverses: DerivedID.entry(.fee, commission: reversal.reverses)),
        ].compactMap { $0 }
    }
}
