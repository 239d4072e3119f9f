// Up to which moment everything that a ring received is provably committed.
internal import Tracking

/// Pairs a reading of the clock with a reading of the ring's head that came after it: once all up
/// to that head is committed, so is all that was received before that moment.
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
    ///   - time: The clock, read before `head`.
    ///   - head: The ring's last sequence.
    mutating func observe(time: Timestamp, head: UInt64) {
        guard open == nil else { return }
        open = Mark(
            time: time.advanced(byMicroseconds: -FlusherLimits.watermarkMarginMicroseconds),
            head: head)
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
