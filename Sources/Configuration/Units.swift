// Byte sizes and durations as people write them: a whole number and its unit.

/// Byte sizes such as `64MiB`.
public enum ByteSize {
    static let units: [(name: String, size: Int64)] = [
        ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1),
    ]

    /// Parses a whole number and its unit; nil for anything else, a missing unit included.
    public static func parse(_ text: String) -> Int? {
        Quantity.parse(text, units).flatMap { Int(exactly: $0) }
    }

    /// The shortest exact text.
    public static func text(_ bytes: Int) -> String {
        Quantity.text(Int64(bytes), units)
    }
}

/// Durations such as `100ms` or `15min`.
public enum DurationText {
    static let units: [(name: String, size: Int64)] = [
        ("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000),
        ("ms", 1000),
    ]

    /// Parses a whole number and its unit into microseconds; nil for anything else.
    public static func parse(_ text: String) -> Int64? { Quantity.parse(text, units) }

    /// The shortest exact text.
    public static func text(_ microseconds: Int64) -> String { Quantity.text(microseconds, units) }
}

private enum Quantity {
    static func parse(_ text: String, _ units: [(name: String, size: Int64)]) -> Int64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, let number = Int64(digits) else { return nil }
        let unit = text[digits.endIndex...].drop { $0 == " " }
        guard let size = units.first(where: { $0.name == unit })?.size else { return nil }
        let (value, overflow) = number.multipliedReportingOverflow(by: size)
        return overflow ? nil : value
    }

    static func text(_ value: Int64, _ units: [(name: String, size: Int64)]) -> String {
        let fitting = units.first { value != 0 && value % $0.size == 0 }
        guard let unit = fitting ?? units.last else { return "\(value)" }
        return "\(value / unit.size)\(unit.name)"
    }
}
