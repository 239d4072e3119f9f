// Giving way across loops: where another loop's oldest connection is to go first, or there is no other,
// that loop is asked, and closes it in its next turn; until then the house is a little overdrawn. No
// lock, no wait.
internal import Synchronization

/// What one loop has to give, and what is asked of it.
///
/// The memory lives as long as the process, so that the handle is plain data.
struct GivingWay: @unchecked Sendable {
    private struct Words: ~Copyable {
        /// Connections that may give way, as of the loop's last turn.
        let offered = Atomic<Int>(0)
        /// The rank of the first of them (``YieldOrder/firstRank``).
        let rank = Atomic<UInt64>(.max)
        /// How many of them others have asked for and not got yet.
        let wanted = Atomic<Int>(0)
    }

    // Sendable: three atomic words.
    private let words: UnsafeMutablePointer<Words>

    /// A cache line of its own.
    init() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
        words = memory.initializeMemory(as: Words.self, to: Words())
    }

    /// Says what the loop has to give; by the loop, once a turn.
    @inline(__always) func offer(_ count: Int, rank: UInt64) {
        words.pointee.offered.store(count, ordering: .relaxed)
        words.pointee.rank.store(rank, ordering: .relaxed)
    }

    /// The rank of the first that the loop has to give, as of its last turn.
    var rank: UInt64 { words.pointee.rank.load(ordering: .relaxed) }

    /// Asks for one; false when the loop has no more than others have asked for.
    func ask() -> Bool {
        let wanted = words.pointee.wanted.wrappingAdd(1, ordering: .relaxed).newValue
        if wanted <= words.pointee.offered.load(ordering: .relaxed) { return true }
        words.pointee.wanted.wrappingSubtract(1, ordering: .relaxed)
        return false
    }

    /// Takes what is asked for; by the loop.
    func take() -> Int { words.pointee.wanted.exchange(0, ordering: .relaxed) }
}

extension LoopShared {
    /// Counts a connection in for which another loop gives one of its own up, of a rank before
    /// `rank`; false when no loop has such a one, or when too many are owed already.
    func enterOverdrawn(besides loop: Int, before rank: UInt64) -> Bool {
        var chosen: (loop: Int, rank: UInt64)?
        for other in givingWay.indices where other != loop {
            let theirs = givingWay[other].rank
            if theirs < min(rank, chosen?.rank ?? .max) { chosen = (other, theirs) }
        }
        guard let chosen, overdraw() else { return false }
        guard givingWay[chosen.loop].ask() else {
            settle()
            leave()
            return false
        }
        wake(chosen.loop)
        return true
    }
}

extension EventLoop {
    /// Gives up as many connections as other loops have asked for.
    mutating func giveWhatIsAsked() {
        for _ in 0..<giving.take() {
            // What was offered may have been needed since; then the house is over its limit until
            // somebody gives way or leaves.
            if let victim = yields.first() { giveWay(victim) }
            shared.settle()
        }
    }
}
