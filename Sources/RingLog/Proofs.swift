// What an answer must be able to show before it leaves: the two-tier promise as types (contract, 7.1
// and 7.2). Only this module makes proofs, so no other code can let an answer go on a guess.

/// Proof that a record is in its ring, complete and checksummed.
///
/// The death of the process cannot lose it any more; what a redirect needs.
public struct Appended: ~Copyable {
    /// The record's number in its ring.
    public let sequence: UInt64

    @inline(__always) init(sequence: UInt64) { self.sequence = sequence }
}

/// Proof that a successful sync covers a record.
///
/// The loss of power cannot lose it any more; what the 200 of a conversion needs.
public struct Durable: ~Copyable {
    /// Every record up to this one is covered.
    public let sequence: UInt64

    init(sequence: UInt64) { self.sequence = sequence }
}
