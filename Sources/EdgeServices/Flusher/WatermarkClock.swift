// Up to which moment everything that a ring received is provably committed.
internal import Tracking

/// Pairs the loop's promise of how old its next records can be with a reading of the ring's head
/// that came after it: once all up to that head is committed, so is all that is older.
struct WatermarkClock: Equatable {
    private struct Mark: Equatable {
        var time: Timestamp
        var head: UInt64
    }

    private var open: Mark?
    private(set) var reached: Timestamp?

    /// No moment known yet.
    init() {}

    /// Takes a reading; ignored while one is open.
    ///
    /// - Parameters:
    ///   - time: What no record behind `head` is older than, read before `head`.
    ///   - head: The ring's last sequence.
    mutating func observe(time: Timestamp, head: UInt64) {
        guard open == nil else { return }
        open = Mark(time: time, head: head)
    }

    /// What the watermark is once all through a sequence is committed; nil while nothing is known.
    func time(through sequence: UInt64) -> Timestamp? {
        guard let open, open.head <= sequence else { return reached }
        return max(open.time, reached ?? open.time)
    }

    /// All through a sequence is committed.
    mutating func commit(through sequence: UInt64) {
        guard let mark = open, mark.head <= sequence else { return }
        reached = time(through: sequence)
        open = nil
    }
}
