// Identities that follow from what caused a row, so that writing it twice is impossible.
public import Tracking

/// Derives the identity of a row from its cause.
///
/// 128 bits of SipHash-2-4 under two fixed, public keys, marked as UUID version 8 (RFC 9562, 5.8).
/// The causes are identities that this system made; nobody outside chooses them, so a keyed hash
/// with a public key is enough to keep them apart.
public struct DerivedID {
    private var first = SipHash24(
        key: SipHashKey(first: 0x6174_7472_6962_7574, second: 0x696f_6e2e_6c65_6467))
    private var second = SipHash24(
        key: SipHashKey(first: 0x6572_2e72_6f77_2e69, second: 0x6465_6e74_6974_792e))
    private var words = 0

    private init() {}

    private mutating func combine(_ word: UInt64) {
        first.combine(word)
        second.combine(word)
        words += 1
    }

    private mutating func combine(_ id: EntityID) {
        combine(id.high)
        combine(id.low)
    }

    private mutating func finish() -> EntityID {
        EntityID(
            high: first.finish(tail: 0, totalBytes: words * 8),
            low: second.finish(tail: 0, totalBytes: words * 8)
        ).stamped(version: 8)
    }

    private static func make(_ purpose: UInt64, _ first: EntityID, _ second: EntityID) -> EntityID {
        var derived = DerivedID()
        derived.combine(purpose)
        derived.combine(first)
        derived.combine(second)
        return derived.finish()
    }

    /// The first commission row of a sale for an influencer.
    public static func commission(sale: EntityID, influencer: EntityID) -> EntityID {
        make(1, sale, influencer)
    }

    /// The row that takes back part of a commission because of a refund.
    public static func reversal(commission: EntityID, refund: EntityID) -> EntityID {
        make(2, commission, refund)
    }

    /// The ledger row of a kind that a commission row (first or reversal) caused.
    public static func entry(_ purpose: LedgerPurpose, commission: EntityID) -> EntityID {
        make(16 + UInt64(purpose.rawValue), commission, .zero)
    }
}

/// What a commission row causes in the ledger: each at most once.
public enum LedgerPurpose: UInt8, CaseIterable, Sendable {
    /// The merchant owes the influencer.
    case commission = 1
    /// The merchant owes the platform.
    case fee
    /// The influencer's money becomes payable.
    case release
    /// The influencer gives back.
    case reversal
    /// The platform gives its fee back.
    case feeReversal
}
