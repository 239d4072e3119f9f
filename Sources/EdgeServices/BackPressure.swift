// How full the spool is and how long it lasts at the present rate, told before it hurts.
internal import Synchronization

/// The fill of something with a bound, over the last moments.
public struct BackPressure: Sendable {
    /// Bounds and thresholds.
    public enum Limits {
        /// Fills in per cent at which a warning is due, once each time they are crossed upwards.
        public static let warningPercents = [50, 75, 90]
        /// Over how long the rate is taken.
        static let windowMicroseconds: Int64 = 30_000_000
        /// The least time between two readings that are kept.
        static let sampleMicroseconds: Int64 = 1_000_000
        /// A time left that is longer is not told: nothing is filling.
        static let maximumSecondsLeft: Int64 = 30 * 86_400
    }

    private var samples: [(time: Int64, used: Int)] = []
    private var used = 0
    private var quota = 0
    private var warned = 0

    /// Nothing seen yet.
    public init() {}

    /// Takes a reading.
    ///
    /// - Parameters:
    ///   - now: Microseconds of a clock that never steps.
    ///   - used: Bytes of records that the database does not have.
    ///   - quota: Bytes that there may be.
    /// - Returns: The highest threshold in per cent that has been crossed since the last reading.
    public mutating func observe(now: Int64, used: Int, quota: Int) -> Int? {
        self.used = max(0, used)
        self.quota = max(0, quota)
        if samples.last.map({ now - $0.time >= Limits.sampleMicroseconds }) ?? true {
            samples.append((now, self.used))
            samples.removeAll { now - $0.time > Limits.windowMicroseconds }
        }
        let reached = Limits.warningPercents.last { usedPercent >= $0 } ?? 0
        defer { warned = reached }
        return reached > warned ? reached : nil
    }

    /// How full it is, in per cent; 100 for one without room.
    public var usedPercent: Int {
        guard quota > 0 else { return 100 }
        // By hundredths first where a hundredfold would not fit.
        return used > Int.max / 100 ? used / max(1, quota / 100) : used * 100 / quota
    }

    /// Bytes a second by which it fills; 0 or less where it empties.
    public var bytesPerSecond: Int {
        guard let first = samples.first, let last = samples.last, last.time > first.time else {
            return 0
        }
        let milliseconds = max(1, Int((last.time - first.time) / 1000))
        return (last.used - first.used) / milliseconds * 1000
            + (last.used - first.used) % milliseconds * 1000 / milliseconds
    }

    /// Seconds until it is full at the present rate; nil while it does not fill.
    public var secondsUntilFull: Int64? {
        let rate = bytesPerSecond
        guard rate > 0 else { return nil }
        let seconds = Int64(max(0, quota - used) / rate)
        return seconds <= Limits.maximumSecondsLeft ? seconds : nil
    }
}

/// A back-pressure that one thread feeds and others read.
public final class BackPressureGauge: Sendable {
    private let state = Mutex(BackPressure())

    /// Nothing seen yet.
    public init() {}

    /// The state as of the last reading.
    public var reading: BackPressure { state.withLock { $0 } }

    /// Takes a reading; see ``BackPressure/observe(now:used:quota:)``.
    public func observe(now: Int64, used: Int, quota: Int) -> Int? {
        state.withLock { $0.observe(now: now, used: used, quota: quota) }
    }
}
