// Wall time for click IDs: read once at the start, carried on by the clock that never steps, drawn
// slowly towards the wall clock where the two part.

/// Wall time that never jumps.
///
/// Microseconds throughout.
struct CarriedClock: BitwiseCopyable {
    /// How much of each second a correction may take.
    static let slewPerSecond: Int64 = 50_000
    /// A difference that is a step, not drift.
    static let stepMicroseconds: Int64 = 1_000_000

    /// Wall time less the boot clock.
    private(set) var offset: Int64
    private var nextCheck: Int64
    /// Steps of the wall clock seen so far.
    private(set) var steps = 0
    /// How far the wall clock was ahead when it was last read, after the correction of then.
    private var lead: Int64 = 0

    init(wall: Int64, boot: Int64) {
        offset = wall - boot
        nextCheck = boot + 1_000_000
    }

    /// Whether the wall clock should be read for ``correct(wall:boot:)``: once a second.
    @inline(__always) func isDue(boot: Int64) -> Bool { boot >= nextCheck }

    /// The time now.
    @inline(__always) func now(boot: Int64) -> Int64 {
        boot &+ offset  // Clock readings, far from overflow.
    }

    /// Draws the time towards the wall clock.
    mutating func correct(wall: Int64, boot: Int64) {
        nextCheck = boot + 1_000_000
        let difference = wall - now(boot: boot)
        if abs(difference - lead) >= CarriedClock.stepMicroseconds { steps += 1 }
        let correction = min(
            max(difference, -CarriedClock.slewPerSecond), CarriedClock.slewPerSecond)
        offset += correction
        lead = difference - correction
    }
}
