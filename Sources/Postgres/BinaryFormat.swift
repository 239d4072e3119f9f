// PostgreSQL's binary formats of single values: what *_send and *_recv read and write.
internal import Tracking

/// Object IDs of the types that are written and read here (src/include/catalog/pg_type.dat).
enum TypeOID {
    static let bool: UInt32 = 16
    static let bytea: UInt32 = 17
    static let char: UInt32 = 18
    static let name: UInt32 = 19
    static let int8: UInt32 = 20
    static let int2: UInt32 = 21
    static let int4: UInt32 = 23
    static let text: UInt32 = 25
    static let oid: UInt32 = 26
    static let json: UInt32 = 114
    static let unknown: UInt32 = 705
    static let bpchar: UInt32 = 1042
    static let varchar: UInt32 = 1043
    static let date: UInt32 = 1082
    static let timestamp: UInt32 = 1114
    static let timestamptz: UInt32 = 1184
    static let numeric: UInt32 = 1700
    static let uuid: UInt32 = 2950
    static let jsonb: UInt32 = 3802
    static let boolArray: UInt32 = 1000
    static let int2Array: UInt32 = 1005
    static let int4Array: UInt32 = 1007
    static let textArray: UInt32 = 1009
    static let int8Array: UInt32 = 1016
    static let dateArray: UInt32 = 1182
    static let timestamptzArray: UInt32 = 1185
    static let numericArray: UInt32 = 1231
    static let uuidArray: UInt32 = 2951
}

/// Times as PostgreSQL counts them: from 2000-01-01.
enum BinaryTime {
    static let epochMicroseconds: Int64 = 946_684_800_000_000
    static let epochDays: Int32 = 10_957

    /// Microseconds since 2000; what does not fit becomes an infinity.
    static func encode(_ time: Timestamp) -> Int64 {
        let (value, overflow) = time.microseconds.subtractingReportingOverflow(epochMicroseconds)
        if overflow || time.microseconds == .min { return .min }
        return time.microseconds == .max ? .max : value
    }

    /// The instant; infinities become the first and last instant.
    static func decode(_ value: Int64) -> Timestamp {
        if value == .min || value == .max { return Timestamp(microseconds: value) }
        return Timestamp(microseconds: epochMicroseconds).advanced(byMicroseconds: value)
    }

    static func encode(_ day: Day) -> Int32 {
        let (value, overflow) = day.number.subtractingReportingOverflow(epochDays)
        return overflow ? .min : value
    }

    static func decode(_ value: Int32) -> Day {
        let (number, overflow) = value.addingReportingOverflow(epochDays)
        return Day(number: overflow ? .max : number)
    }
}

/// `numeric` to and from integers with a decimal exponent; exact or nothing.
enum BinaryNumeric {
    /// The most decimals that an amount can carry: a fraction's digits must fit 64 bits.
    static let maximumExponent: UInt8 = 16
    static let negative: UInt16 = 0x4000
    static let notANumber: UInt16 = 0xC000

    /// Calls `emit` with each 16-bit word of `minorUnits` / 10^`exponent`, in order.
    /// - Precondition: `exponent` ≤ ``maximumExponent``.
    static func words(_ minorUnits: Int64, exponent: UInt8, _ emit: (UInt16) -> Void) {
        precondition(exponent <= maximumExponent)
        let scale = powerOfTen(Int(exponent))
        var whole = minorUnits.magnitude / scale
        let fractionGroups = (Int(exponent) + 3) / 4
        // Below 10^16 × 1 after padding to whole groups, so it fits.
        var fraction = minorUnits.magnitude % scale * powerOfTen(fractionGroups * 4 - Int(exponent))
        var low: [UInt16] = []
        for _ in 0..<fractionGroups {
            low.append(UInt16(fraction % 10_000))
            fraction /= 10_000
        }
        var high: [UInt16] = []
        while whole > 0 {
            high.append(UInt16(whole % 10_000))
            whole /= 10_000
        }
        var digits = Array(high.reversed()) + low.reversed()
        var weight = high.count - 1
        while digits.last == 0 { digits.removeLast() }
        while digits.first == 0 {
            digits.removeFirst()
            weight -= 1
        }
        if digits.isEmpty { weight = 0 }
        emit(UInt16(digits.count))
        emit(UInt16(bitPattern: Int16(weight)))
        emit(minorUnits < 0 ? negative : 0)
        emit(UInt16(exponent))
        for digit in digits { emit(digit) }
    }

    /// The value times 10^`exponent`; nil when that is no 64-bit integer (NaN, more decimals, too large).
    static func minorUnits(_ bytes: UnsafeRawBufferPointer, exponent: UInt8) -> Int64? {
        guard let parts = Parts(bytes) else { return nil }
        var sum: Int128 = 0
        for index in 0..<parts.count {
            let (product, overflow) = sum.multipliedReportingOverflow(by: 10_000)
            if overflow { return nil }
            sum = product + Int128(parts.digit(index))
        }
        if sum == 0 { return 0 }
        var power = 4 * (parts.weight - parts.count + 1) + Int(exponent)
        while power > 0 {
            let (product, overflow) = sum.multipliedReportingOverflow(by: 10)
            if overflow { return nil }
            sum = product
            power -= 1
        }
        while power < 0 {
            guard sum % 10 == 0 else { return nil }
            sum /= 10
            power += 1
        }
        return Int64(exactly: parts.isNegative ? -sum : sum)
    }

    /// The decimal text as PostgreSQL itself would write it.
    static func text(_ bytes: UnsafeRawBufferPointer) -> String? {
        guard let parts = Parts(bytes) else { return nil }
        var result = parts.isNegative ? "-" : ""
        if parts.weight < 0 {
            result += "0"
        } else {
            for group in 0...parts.weight {
                let digits = String(parts.digit(group))
                result += group == 0 ? digits : padded(digits)
            }
        }
        guard parts.scale > 0 else { return result }
        var fraction = ""
        var group = parts.weight + 1
        while fraction.utf8.count < parts.scale {
            fraction += group < 0 ? "0000" : padded(String(parts.digit(group)))
            group += 1
        }
        return result + "." + fraction.prefix(parts.scale)
    }

    private static func padded(_ digits: String) -> String {
        String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    }

    private static func powerOfTen(_ exponent: Int) -> UInt64 {
        var value: UInt64 = 1
        for _ in 0..<exponent { value *= 10 }
        return value
    }

    /// A numeric's words, checked against its length.
    private struct Parts {
        let bytes: UnsafeRawBufferPointer
        let count: Int
        let weight: Int
        let scale: Int
        let isNegative: Bool

        init?(_ bytes: UnsafeRawBufferPointer) {
            guard bytes.count >= 8 else { return nil }
            self.bytes = bytes
            count = Int(Parts.word(bytes, 0))
            weight = Int(Int16(bitPattern: Parts.word(bytes, 1)))
            let sign = Parts.word(bytes, 2)
            scale = Int(Parts.word(bytes, 3))
            guard sign == 0 || sign == BinaryNumeric.negative, bytes.count == 8 + 2 * count,
                scale <= 0x3FFF
            else { return nil }
            isNegative = sign != 0
        }

        /// Digit group `index`; zero beyond those that are stored.
        func digit(_ index: Int) -> UInt16 { index < count ? Parts.word(bytes, 4 + index) : 0 }

        private static func word(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> UInt16 {
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
        }
    }
}
