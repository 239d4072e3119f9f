// Latencies counted in buckets whose width grows with them, as HdrHistogram does it: fixed memory,
// no value further from its bucket's than one part in 64.

/// Counts of latencies in microseconds.
public struct LatencyHistogram: Sendable {
    /// Buckets of each power of two.
    private static let subBuckets = 64
    private static let powers = 34
    private var buckets = [Int](repeating: 0, count: subBuckets * (powers + 1))
    /// Latencies counted.
    public private(set) var count = 0
    /// The largest, in microseconds, exact.
    public private(set) var maximum: Int64 = 0
    /// The sum of all, in microseconds.
    public private(set) var sum: Int64 = 0

    /// An empty one.
    public init() {}

    /// Counts one latency; a negative one counts as none.
    public mutating func record(microseconds: Int64) {
        let value = max(0, microseconds)
        buckets[LatencyHistogram.bucket(value)] += 1
        count += 1
        sum &+= value  // 2^63 µs are 292,000 years of waiting.
        maximum = max(maximum, value)
    }

    /// Counts all that another has counted.
    public mutating func merge(_ other: LatencyHistogram) {
        for index in buckets.indices { buckets[index] += other.buckets[index] }
        count += other.count
        sum &+= other.sum
        maximum = max(maximum, other.maximum)
    }

    /// The latency in microseconds that so many parts in a million are not above; 0 when empty.
    ///
    /// `500_000` is the median, `999_000` the 99.9th percentile. At most 1/64 too large.
    public func percentile(partsPerMillion: Int) -> Int64 {
        guard count > 0 else { return 0 }
        let parts = min(max(partsPerMillion, 0), 1_000_000)
        // Rounded up: the smallest value that at least so many are not above.
        let rank = max(1, (count * parts + 999_999) / 1_000_000)
        var seen = 0
        for index in buckets.indices {
            seen += buckets[index]
            if seen >= rank { return min(LatencyHistogram.upperBound(index), maximum) }
        }
        return maximum
    }

    /// Median, 99th, 99.9th percentile and maximum in one line.
    public var summary: String {
        "p50 \(percentile(partsPerMillion: 500_000)) µs, "
            + "p99 \(percentile(partsPerMillion: 990_000)) µs, "
            + "p99.9 \(percentile(partsPerMillion: 999_000)) µs, max \(maximum) µs"
    }

    private static func bucket(_ value: Int64) -> Int {
        let small = Int64(subBuckets)
        guard value >= small else { return Int(value) }
        let power = 63 - value.leadingZeroBitCount - 6
        guard power < powers else { return subBuckets * (powers + 1) - 1 }
        return subBuckets * (power + 1) + Int(value >> Int64(power) - small)
    }

    private static func upperBound(_ bucket: Int) -> Int64 {
        guard bucket >= subBuckets else { return Int64(bucket) }
        let power = Int64(bucket / subBuckets - 1)
        let within = Int64(bucket % subBuckets + subBuckets)
        return (within + 1) << power - 1
    }
}
