// The only places where answers that promise something are let go, each with the proof in hand.
internal import EdgeCore
internal import RingLog

/// A conversion's answer, written to the send slab's beginning and not yet let go.
struct HeldAnswer: ~Copyable {
    /// How long it is.
    let bytes: Int
    /// The record that must be durable before it may leave; 0 when it promises nothing.
    let sequence: UInt64
}

extension EventLoop {
    /// Lets a redirect go whose click is recorded.
    @inline(__always)
    mutating func release(_ answer: ClickAnswer, _ proof: consuming Appended) {
        pendingOutput += answer.responseBytes
    }

    /// Lets an answer go that has no record: nothing to record, or no room for it.
    @inline(__always)
    mutating func release(unrecorded answer: ClickAnswer) {
        precondition(answer.recordBytes == 0)
        pendingOutput += answer.responseBytes
    }

    /// Lets a conversion's answer go.
    private mutating func release(_ held: borrowing HeldAnswer, _ proof: consuming Durable) {
        precondition(held.sequence <= proof.sequence)
        pendingOutput = held.bytes
    }

    /// Lets a conversion's answer go if it promises nothing or its record is durable already;
    /// whether it did.
    mutating func releaseNow(_ held: borrowing HeldAnswer) -> Bool {
        if held.sequence == 0 {
            pendingOutput = held.bytes
            return true
        }
        guard let proof = appender.durable(held.sequence) else { return false }
        release(held, proof)
        return true
    }

    /// Sends an answer that waited for the disk.
    mutating func release(parked index: Int, _ proof: consuming Durable) {
        precondition(slab[index].pointee.parkedSequence <= proof.sequence)
        continueSending(index)
    }
}
