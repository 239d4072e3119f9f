// The loop's view of time, read once per turn, and the Date header that is formatted once a second.
public import Tracking

/// Wall-clock time as one event loop sees it.
public struct LoopClock: Sendable {
    /// Bytes of ``writeDate(to:)``: `Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF.
    public static let dateBytes = 37

    /// The time of the loop's current turn.
    public private(set) var wall = Timestamp(microseconds: 0)
    /// The UTC day of ``wall``.
    public private(set) var day = Day(number: 0)
    private var second = Int64.min
    private var line = InlineArray<5, UInt64>(repeating: 0)

    /// A clock at the epoch; update it before use.
    public init() {
        update(wallMicroseconds: 0)
    }

    /// Takes a new reading of the wall clock.
    /// - Complexity: O(1); formats the date when the second has changed.
    @inline(__always) public mutating func update(wallMicroseconds: Int64) {
        wall = Timestamp(microseconds: wallMicroseconds)
        let now = wall.seconds
        if now != second { format(second: now) }
    }

    /// Writes the Date line (RFC 9110, 6.6.1) with its CRLF.
    /// - Precondition: `bytes` has room for 40 bytes, of which ``dateBytes`` count.
    @inline(__always) func writeDate(to bytes: UnsafeMutableRawPointer) {
        for index in 0..<5 {
            bytes.storeBytes(of: line[index], toByteOffset: index &* 8, as: UInt64.self)
        }
    }

    private mutating func format(second now: Int64) {
        second = now
        day = wall.day
        let (year, month, dayOfMonth) = day.civil
        let ofDay = Int(now - Int64(day.number) * 86_400)
        let days: StaticString = "SunMonTueWedThuFriSat"
        let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"
        var text = DateText()
        text.append("Date: ", 6)
        text.append(days, from: day.weekday * 3, 3)
        text.append(", ", 2)
        text.append(dayOfMonth, digits: 2)
        text.append(" ", 1)
        text.append(months, from: (month - 1) * 3, 3)
        text.append(" ", 1)
        text.append(year, digits: 4)
        text.append(" ", 1)
        text.append(ofDay / 3600, digits: 2)
        text.append(":", 1)
        text.append(ofDay / 60 % 60, digits: 2)
        text.append(":", 1)
        text.append(ofDay % 60, digits: 2)
        text.append(" GMT\r\n", 6)
        for word in 0..<5 {
            var value: UInt64 = 0
            for byte in 0..<8 { value |= UInt64(text.bytes[word * 8 + byte]) << UInt64(byte * 8) }
            line[word] = value.littleEndian
        }
    }
}

/// The Date line under way; no closure over it, which would be an allocation where nothing is optimised.
private struct DateText {
    var bytes = InlineArray<40, UInt8>(repeating: 0)
    private var count = 0

    mutating func append(_ source: StaticString, from start: Int = 0, _ length: Int) {
        for offset in 0..<length {
            bytes[count] = source.utf8Start[start + offset]
            count += 1
        }
    }

    mutating func append(_ number: Int, digits: Int) {
        var divisor = digits == 4 ? 1000 : 10
        while divisor > 0 {
            bytes[count] = UInt8(truncatingIfNeeded: 0x30 + number / divisor % 10)
            count += 1
            divisor /= 10
        }
    }
}
