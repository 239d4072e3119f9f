// An error that repeats is logged now and then, with a count, instead of every time.
internal import Synchronization

/// Decides which of many like errors reach the log.
///
/// The first of a kind passes, then at most one in each interval, which tells how many were held
/// back since. Kinds are words of the code; beyond ``maximumKinds`` they share one place.
public final class RepeatedErrors: Sendable {
    /// Kinds that are told apart.
    public static let maximumKinds = 64

    private struct Kind {
        var loggedAt: Int64
        var suppressed: Int
    }

    private let kinds = Mutex<[String: Kind]>([:])
    private let intervalNanoseconds: Int64

    /// At most one record of each kind in so many seconds.
    public init(intervalSeconds: Int64 = 10) {
        intervalNanoseconds = max(0, min(intervalSeconds, 86_400)) * 1_000_000_000
    }

    /// Whether to log an error now.
    ///
    /// - Parameters:
    ///   - kind: What is counted together.
    ///   - now: Monotonic nanoseconds.
    /// - Returns: nil to keep silent, else how many were held back since the last one logged.
    public func note(_ kind: String, nowNanoseconds now: Int64) -> Int? {
        kinds.withLock { kinds in
            let isFull = kinds.count >= RepeatedErrors.maximumKinds && kinds[kind] == nil
            let name = isFull ? "" : kind
            guard var entry = kinds[name] else {
                kinds[name] = Kind(loggedAt: now, suppressed: 0)
                return 0
            }
            let (age, overflow) = now.subtractingReportingOverflow(entry.loggedAt)
            if !overflow, age < intervalNanoseconds {
                entry.suppressed &+= 1  // A count of errors cannot reach 2^63.
                kinds[name] = entry
                return nil
            }
            kinds[name] = Kind(loggedAt: now, suppressed: 0)
            return entry.suppressed
        }
    }

    /// Forgets a kind, so that its next error is logged at once; whether it was known.
    @discardableResult public func clear(_ kind: String) -> Bool {
        kinds.withLock { $0.removeValue(forKey: kind) != nil }
    }
}
