// Integer arithmetic that loses nothing: one rounding rule, one way of splitting.

/// Exact arithmetic on minor units.
public enum ExactArithmetic {
    /// A quotient rounded to the nearest integer, a half to the even one.
    ///
    /// - Returns: nil when the divisor is not positive or the quotient does not fit.
    public static func halfEven(_ dividend: Int128, dividedBy divisor: Int128) -> Int64? {
        guard divisor > 0 else { return nil }
        // Truncation is towards zero; `remainder` has the dividend's sign.
        let (quotient, remainder) = dividend.quotientAndRemainder(dividingBy: divisor)
        let rest = remainder.magnitude
        let room = divisor.magnitude - rest
        let away = rest > room || (rest == room && quotient % 2 != 0)
        let rounded = away ? quotient + (dividend < 0 ? -1 : 1) : quotient
        return Int64(exactly: rounded)
    }

    /// `amount × parts ÷ 1,000,000`, rounded once, half to even; nil when it does not fit.
    public static func share(_ amount: Int64, partsPerMillion parts: Int32) -> Int64? {
        // 64 bits × 32 bits fit into 128.
        halfEven(
            Int128(amount) * Int128(parts), dividedBy: Int128(Limits.partsPerMillion))
    }

    /// Splits a whole by weights so that the parts add up to it exactly: by largest remainder, a tie
    /// going to the earlier part.
    ///
    /// - Returns: One part for each weight, in order; nil for a negative whole or weight, for weights
    ///   that are all zero, or for none.
    /// - Complexity: O(n log n).
    public static func split(_ whole: Int64, by weights: [Int64]) -> [Int64]? {
        guard whole >= 0, !weights.isEmpty, weights.allSatisfy({ $0 >= 0 }) else { return nil }
        let total = weights.reduce(Int128(0)) { $0 + Int128($1) }
        guard total > 0 else { return nil }
        var parts: [Int64] = []
        var remainders: [(remainder: Int128, index: Int)] = []
        var given: Int64 = 0
        for (index, weight) in weights.enumerated() {
            let (quotient, remainder) = (Int128(whole) * Int128(weight))
                .quotientAndRemainder(dividingBy: total)
            // The quotient is at most `whole`, because the weight is at most the total.
            let part = Int64(truncatingIfNeeded: quotient)
            parts.append(part)
            given += part
            remainders.append((remainder, index))
        }
        remainders.sort { ($1.remainder, $0.index) < ($0.remainder, $1.index) }
        // Fewer units are left than there are parts: each remainder is less than one unit.
        for (_, index) in remainders.prefix(Int(clamping: whole - given)) { parts[index] += 1 }
        return parts
    }
}
