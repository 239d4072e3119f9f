// Wall-clock instants, UTC days and months, and their text forms. No time zones but UTC.

/// Microseconds since 1970-01-01T00:00:00Z.
public struct Timestamp: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Microseconds since the Unix epoch; negative before it.
    public var microseconds: Int64

    /// An instant by its microseconds since the Unix epoch.
    public init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    /// An instant by its milliseconds since the Unix epoch.
    public init(milliseconds: Int64) {
        // &*: callers pass clock readings, 280,000 years from overflow.
        microseconds = milliseconds &* 1000
    }

    /// An instant by its seconds since the Unix epoch; nil beyond the years 1 to 9999.
    public init?(unixSeconds: Int64) {
        guard (-62_135_596_800...253_402_300_799).contains(unixSeconds) else { return nil }
        microseconds = unixSeconds * 1_000_000
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    public var milliseconds: Int64 { floorDivide(microseconds, 1000) }
    /// Whole seconds since the Unix epoch, rounded down.
    public var seconds: Int64 { floorDivide(microseconds, 1_000_000) }
    /// The UTC day that holds the instant.
    public var day: Day {
        Day(number: Int32(clamping: floorDivide(microseconds, Day.microseconds)))
    }

    /// Earlier before later.
    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.microseconds < right.microseconds
    }

    /// The instant so many microseconds later (or earlier), saturating.
    public func advanced(byMicroseconds delta: Int64) -> Timestamp {
        let (sum, overflow) = microseconds.addingReportingOverflow(delta)
        return Timestamp(microseconds: overflow ? (delta < 0 ? .min : .max) : sum)
    }
}

/// One UTC day, by its number since 1970-01-01.
public struct Day: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Days since 1970-01-01.
    public var number: Int32
    /// The length of a day.
    public static let microseconds: Int64 = 86_400_000_000

    /// A day by its number since 1970-01-01.
    public init(number: Int32) {
        self.number = number
    }

    /// A day of the proleptic Gregorian calendar; nil when there is no such day in the years 1 to 9999.
    public init?(year: Int, month: Int, day: Int) {
        guard (1...9999).contains(year), (1...12).contains(month), day >= 1,
            day <= Day.count(inMonth: month, of: year)
        else { return nil }
        // Days from civil, after Howard Hinnant's "chrono-compatible low-level date algorithms".
        let shifted = month <= 2 ? year - 1 : year
        let era = floorDivide(Int64(shifted), 400)
        let yearOfEra = Int64(shifted) - era * 400
        let monthIndex = Int64((month + 9) % 12)
        let dayOfYear = (153 * monthIndex + 2) / 5 + Int64(day) - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        number = Int32(era * 146_097 + dayOfEra - 719_468)
    }

    /// Parses `YYYY-MM-DD` exactly.
    public init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard bytes.count == 10, bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
            let year = decimalDigits(bytes[0..<4]), let month = decimalDigits(bytes[5..<7]),
            let day = decimalDigits(bytes[8..<10])
        else { return nil }
        self.init(year: year, month: month, day: day)
    }

    /// Year, month 1...12 and day 1...31.
    public var civil: (year: Int, month: Int, day: Int) {
        let shifted = Int64(number) + 719_468
        let era = floorDivide(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
        let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        return (Int(yearOfEra + era * 400 + (month <= 2 ? 1 : 0)), Int(month), Int(day))
    }

    /// 0 for Sunday to 6 for Saturday.
    public var weekday: Int { Int((Int64(number) + 4) - floorDivide(Int64(number) + 4, 7) * 7) }
    /// The day's first instant.
    public var start: Timestamp { Timestamp(microseconds: Int64(number) * Day.microseconds) }
    /// The day so many days later.
    public func advanced(by days: Int32) -> Day { Day(number: number + days) }
    /// The first day of this day's month.
    public var firstOfMonth: Day { advanced(by: Int32(1 - civil.day)) }
    /// The first day of the next month.
    public var firstOfNextMonth: Day {
        let (year, month, _) = civil
        return firstOfMonth.advanced(by: Int32(Day.count(inMonth: month, of: year)))
    }

    /// `YYYYMMDD`, the suffix of a day's leaf of `clicks_logs`.
    public var compact: String { dashed.filter { $0 != "-" } }
    /// `YYYYMM`, the suffix of a month's leaf of `sales`.
    public var compactMonth: String { String(compact.prefix(6)) }
    /// `YYYY-MM-DD`.
    public var dashed: String {
        let (year, month, day) = civil
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
    }

    /// Earlier before later.
    public static func < (left: Day, right: Day) -> Bool { left.number < right.number }

    static func count(inMonth month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

extension Timestamp: CustomStringConvertible {
    /// RFC 3339 in UTC with six decimals, such as `2026-01-02T03:04:05.000006Z`.
    public var description: String {
        let within = microseconds - Int64(day.number) * Day.microseconds
        let seconds = Int(within / 1_000_000)
        let clock =
            "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
        return "\(day.dashed)T\(clock).\(padded(Int(within % 1_000_000), 6))Z"
    }

    /// Parses RFC 3339 text; nil for anything else.
    ///
    /// A date, `T` or a space, a time, optional decimals, `Z` or an offset. Decimals beyond
    /// microseconds are cut; a leap second (`:60`) is refused.
    public init?(rfc3339 text: UnsafeRawBufferPointer) {
        guard text.count >= 20, text.count <= 40 else { return nil }
        func number(_ range: Range<Int>) -> Int? { decimalDigits(text[range]) }
        func isByte(_ index: Int, _ wanted: Unicode.Scalar) -> Bool {
            text[index] == UInt8(ascii: wanted)
        }
        guard let year = number(0..<4), isByte(4, "-"), let month = number(5..<7), isByte(7, "-"),
            let dayOfMonth = number(8..<10),
            let day = Day(year: year, month: month, day: dayOfMonth),
            isByte(10, "T") || isByte(10, "t") || isByte(10, " "),
            let hour = number(11..<13), hour < 24, isByte(13, ":"),
            let minute = number(14..<16), minute < 60, isByte(16, ":"),
            let second = number(17..<19), second < 60
        else { return nil }
        var index = 19
        var fraction: Int64 = 0
        if isByte(index, ".") {
            index += 1
            var scale: Int64 = 100_000
            let first = index
            while index < text.count, let digit = decimalDigits(text[index..<index + 1]) {
                fraction += Int64(digit) * scale
                scale /= 10
                index += 1
            }
            guard index > first else { return nil }
        }
        guard index < text.count else { return nil }
        var offsetSeconds: Int64 = 0
        if isByte(index, "Z") || isByte(index, "z") {
            index += 1
        } else {
            guard isByte(index, "+") || isByte(index, "-"), text.count == index + 6,
                let hours = number(index + 1..<index + 3), hours < 24, isByte(index + 3, ":"),
                let minutes = number(index + 4..<index + 6), minutes < 60
            else { return nil }
            offsetSeconds = Int64(hours * 3600 + minutes * 60) * (isByte(index, "-") ? -1 : 1)
            index += 6
        }
        guard index == text.count else { return nil }
        let secondOfDay = Int64(hour * 3600 + minute * 60 + second) - offsetSeconds
        microseconds = day.start.microseconds + secondOfDay * 1_000_000 + fraction
    }
}

/// Division that rounds towards minus infinity.
func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
    let quotient = value / divisor
    return value % divisor < 0 ? quotient - 1 : quotient
}

/// One to nine decimal digits as a number; nil for anything else, signs and spaces included.
func decimalDigits(_ bytes: some Collection<UInt8>) -> Int? {
    guard !bytes.isEmpty, bytes.count <= 9 else { return nil }
    var value = 0
    for byte in bytes {
        guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
        value = value * 10 + Int(byte - UInt8(ascii: "0"))
    }
    return value
}

func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
