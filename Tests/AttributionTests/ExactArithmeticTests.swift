// Rounding and splitting: by table, by refusal, and against slow arithmetic.
import Attribution
import Testing
import Tracking
import Workbench

@Suite("Exact arithmetic")
struct ExactArithmeticTests {
    @Test(
        "A half goes to the even neighbour, all else to the nearer",
        arguments: [
            (1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (-1, 2, 0), (-3, 2, -2), (-5, 2, -2),
            (4, 3, 1), (5, 3, 2), (-5, 3, -2), (0, 7, 0), (24_999, 10_000, 2), (25_000, 10_000, 2),
            (25_001, 10_000, 3), (35_000, 10_000, 4),
        ] as [(Int, Int, Int64)])
    func halfEven(dividend: Int, divisor: Int, expected: Int64) {
        #expect(ExactArithmetic.halfEven(Int128(dividend), dividedBy: Int128(divisor)) == expected)
    }

    @Test("A divisor that is not positive and a quotient that does not fit are refused")
    func refusals() {
        #expect(ExactArithmetic.halfEven(1, dividedBy: 0) == nil)
        #expect(ExactArithmetic.halfEven(1, dividedBy: -3) == nil)
        #expect(ExactArithmetic.halfEven(Int128.max, dividedBy: 1) == nil)
        #expect(ExactArithmetic.halfEven(Int128.min, dividedBy: 1) == nil)
        #expect(ExactArithmetic.halfEven(Int128(Int64.max), dividedBy: 1) == .max)
    }

    @Test("Rounding agrees with slow decimal arithmetic", arguments: 1...20)
    func oracle(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        for _ in 0..<100 {
            let amount = Int64.random(in: 0...Money.maximumMinorUnits, using: &random)
            let parts = Int32.random(in: 0...1_000_000, using: &random)
            let fast = ExactArithmetic.share(amount, partsPerMillion: parts)
            let slow = (SlowNumber(amount) * SlowNumber(parts)).halfEven(by: SlowNumber(1_000_000))
            #expect(fast.map { String($0) } == slow.text, "\(amount) × \(parts) ppm")
        }
    }

    @Test(
        "A split gives what is left over to the largest remainders",
        arguments: [
            (100, [1, 1, 1], [34, 33, 33]), (100, [2, 1], [67, 33]), (0, [5, 5], [0, 0]),
            (7, [0, 1], [0, 7]), (5, [400_000, 200_000, 400_000], [2, 1, 2]),
            (1, [1, 1, 1, 1], [1, 0, 0, 0]), (10, [3, 3, 4], [3, 3, 4]),
        ] as [(Int64, [Int64], [Int64])])
    func split(whole: Int64, weights: [Int64], expected: [Int64]) {
        #expect(ExactArithmetic.split(whole, by: weights) == expected)
    }

    @Test(
        "A split without weights, with negative numbers or with nothing to go by is refused",
        arguments: [(10, []), (10, [0, 0]), (10, [5, -1]), (-1, [1])] as [(Int64, [Int64])])
    func splitRefusals(whole: Int64, weights: [Int64]) {
        #expect(ExactArithmetic.split(whole, by: weights) == nil)
    }

    @Test("Parts add up to the whole and lie within one unit of their share", arguments: 1...20)
    func splitProperties(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        for _ in 0..<100 {
            let whole = Int64.random(in: 0...Money.maximumMinorUnits, using: &random)
            let count = Int.random(in: 1...12, using: &random)
            let weights = (0..<count).map { _ in Int64.random(in: 0...1_000_000, using: &random) }
            guard weights.contains(where: { $0 > 0 }) else { continue }
            let parts = try #require(ExactArithmetic.split(whole, by: weights))
            #expect(parts.reduce(0, +) == whole)
            let total = weights.reduce(0, +)
            for (part, weight) in zip(parts, weights) {
                let floor = Int64(Int128(whole) * Int128(weight) / Int128(total))
                #expect(part == floor || part == floor + 1)
            }
        }
    }

    @Test("A derived identity follows from its cause alone and is a version 8 UUID")
    func derivedIdentity() {
        let sale = EntityID(high: 1, low: 2)
        let other = EntityID(high: 2, low: 1)
        let id = DerivedID.commission(sale: sale, influencer: other)
        #expect(id == DerivedID.commission(sale: sale, influencer: other))
        #expect(id != DerivedID.commission(sale: other, influencer: sale))
        #expect(id != DerivedID.reversal(commission: sale, refund: other))
        #expect(id.high >> 12 & 0xF == 8 && id.low >> 62 == 2)
        let purposes = Set(LedgerPurpose.allCases.map { DerivedID.entry($0, commission: sale) })
        #expect(purposes.count == LedgerPurpose.allCases.count)
    }

    @Test("The derived identity of a known cause never changes")
    func derivedIdentityIsFixed() {
        let id = DerivedID.commission(
            sale: EntityID(high: 0x0102_0304_0506_0708, low: 9),
            influencer: EntityID(high: 10, low: 11))
        #expect("\(id)" == "0ee9ddd5-3b6c-8c88-ab79-d411b82df3c6")
    }

    @Test("JSON text escapes what it must and keeps the order of members")
    func json() {
        let value = JSONValue.object([
            ("b", .text("a\"\\\n\u{0}é")), ("a", .array([.integer(-7), .null, .bool(true)])),
        ])
        #expect(value.encoded == "{\"b\":\"a\\\"\\\\\\u000a\u{FFFD}é\",\"a\":[-7,null,true]}")
    }
}
