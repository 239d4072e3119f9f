// The ledger: one row is one transfer, so it balances by construction.
public import Tracking

/// A party's account.
public enum LedgerAccount: Hashable, Sendable {
    /// What a merchant owes.
    case merchant(EntityID)
    /// Earned, not yet payable.
    case held(EntityID)
    /// Payable.
    case payable(EntityID)
    /// The platform's fees.
    case platformFees

    /// The text in `ledger_entries`.
    public var text: String {
        switch self {
        case .merchant(let id): "merchant:\(id)"
        case .held(let id): "influencer:\(id):held"
        case .payable(let id): "influencer:\(id):payable"
        case .platformFees: "platform:fees"
        }
    }
}

/// A row of `ledger_entries`: `amountMinor` moves from the debited account to the credited one.
public struct LedgerEntry: Equatable, Sendable {
    /// The merchant whose sale it is about.
    public var merchantID: EntityID
    /// Derived from the cause.
    public var entryID: EntityID
    /// The account that gives.
    public var debit: LedgerAccount
    /// The account that takes.
    public var credit: LedgerAccount
    /// Minor units, above zero.
    public var amountMinor: Int64
    /// The currency.
    public var currency: Currency
    /// The word of `ledger_entries.kind`.
    public var kind: String
    /// The commission row that caused it.
    public var commissionID: EntityID
    /// The entry that it takes back, in whole or in part.
    public var reverses: EntityID?

    /// A row; nil when nothing is moved, because the ledger holds no empty rows.
    public init?(
        _ purpose: LedgerPurpose, merchantID: EntityID, commissionID: EntityID,
        from debit: LedgerAccount,
        to credit: LedgerAccount, amountMinor: Int64, currency: Currency, reverses: EntityID? = nil
    ) {
        guard amountMinor > 0 else { return nil }
        self.merchantID = merchantID
        entryID = DerivedID.entry(purpose, commission: commissionID)
        self.debit = debit
        self.credit = credit
        self.amountMinor = amountMinor
        self.currency = currency
        kind =
            switch purpose {
            case .commission: "commission"
            case .fee: "fee"
            case .release: "release"
            case .reversal, .feeReversal: "reversal"
            }
        self.commissionID = commissionID
        self.reverses = reverses
    }

    /// The row that makes a commission payable: what is left of it when its hold ends.
    public static func release(
        commission: EntityID, merchant: EntityID, influencer: EntityID, amountMinor: Int64,
        currency: Currency
    ) -> LedgerEntry? {
        LedgerEntry(
            .release, merchantID: merchant, commissionID: commission, from: .held(influencer),
            to: .payable(influencer), amountMinor: amountMinor, currency: currency)
    }
}

/// What an influencer has to have before money is paid out.
public struct InfluencerStanding: Equatable, Sendable {
    /// `influencers.status`.
    public var isActive: Bool
    /// `influencers.kyc_status`.
    public var kyc: String

    /// A standing.
    public init(isActive: Bool, kyc: String) {
        self.isActive = isActive
        self.kyc = kyc
    }
}

/// Earned is not payable: what stands between the two.
public enum PayableGate {
    /// Why a commission is not payable now; nil when it is.
    ///
    /// - Parameters:
    ///   - isVerified: The sale is proved.
    ///   - doubt: What a person has to look at first.
    ///   - standing: The influencer; nil when there is no such row.
    ///   - holdUntil: The end of the hold.
    ///   - now: The time of the judgement.
    public static func obstacle(
        isVerified: Bool, doubt: String?, standing: InfluencerStanding?, holdUntil: Timestamp,
        now: Timestamp
    ) -> String? {
        guard isVerified else { return "unverified" }
        if let doubt { return doubt }
        guard let standing else { return "influencer_unknown" }
        guard standing.isActive else { return "influencer_inactive" }
        guard standing.kyc == "verified" else { return "kyc_\(standing.kyc)" }
        return now < holdUntil ? "hold_period" : nil
    }
}
