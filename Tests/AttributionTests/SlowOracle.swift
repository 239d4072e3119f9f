// Decimal schoolbook arithmetic, slow and obvious, to check the fast arithmetic against.

/// A natural number as decimal digits, least significant first.
struct SlowNumber: Equatable {
    var digits: [Int]

    init(_ value: some BinaryInteger) {
        digits = String(value).reversed().map { $0.wholeNumberValue ?? 0 }
    }

    private init(digits: [Int]) {
        var trimmed = digits
        while trimmed.count > 1, trimmed.last == 0 { trimmed.removeLast() }
        self.digits = trimmed
    }

    static func * (left: SlowNumber, right: SlowNumber) -> SlowNumber {
        var result = Array(repeating: 0, count: left.digits.count + right.digits.count + 1)
        for (i, a) in left.digits.enumerated() {
            for (j, b) in right.digits.enumerated() { result[i + j] += a * b }
        }
        for index in 0..<result.count - 1 {
            result[index + 1] += result[index] / 10
            result[index] %= 10
        }
        return SlowNumber(digits: result)
    }

    static func + (left: SlowNumber, right: SlowNumber) -> SlowNumber {
        var result: [Int] = []
        var carry = 0
        for index in 0...max(left.digits.count, right.digits.count) {
            let a = index < left.digits.count ? left.digits[index] : 0
            let b = index < right.digits.count ? right.digits[index] : 0
            result.append((a + b + carry) % 10)
            carry = (a + b + carry) / 10
        }
        return SlowNumber(digits: result)
    }

    static func < (left: SlowNumber, right: SlowNumber) -> Bool {
        if left.digits.count != right.digits.count { return left.digits.count < right.digits.count }
        return left.digits.reversed().lexicographicallyPrecedes(right.digits.reversed())
    }

    func minus(_ other: SlowNumber) -> SlowNumber {
        var result = digits
        for index in 0..<result.count {
            if index < other.digits.count { result[index] -= other.digits[index] }
            if result[index] < 0 {
                result[index] += 10
                if index + 1 < result.count { result[index + 1] -= 1 }
            }
        }
        return SlowNumber(digits: result)
    }

    func divided(by divisor: SlowNumber) -> (quotient: SlowNumber, remainder: SlowNumber) {
        var remainder = SlowNumber(0)
        var quotient: [Int] = []
        for digit in digits.reversed() {
            remainder = SlowNumber(digits: [digit] + remainder.digits)
            var count = 0
            while !(remainder < divisor) {
                remainder = remainder.minus(divisor)
                count += 1
            }
            quotient.append(count)
        }
        return (SlowNumber(digits: quotient.reversed()), remainder)
    }

    /// The quotient rounded half to even.
    func halfEven(by divisor: SlowNumber) -> SlowNumber {
        let (quotient, remainder) = divided(by: divisor)
        let twice = remainder + remainder
        let isOdd = (quotient.digits.first ?? 0) % 2 == 1
        let up = divisor < twice || (twice == divisor && isOdd)
        return up ? quotient + SlowNumber(1) : quotient
    }

    var text: String { digits.reversed().map(String.init).joined() }
}
