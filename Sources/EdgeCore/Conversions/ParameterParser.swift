// Queries and forms: split, decoded once, and refused rather than guessed at. And the way back, the
// canonical form that a signed GET is checked against.
internal import Tracking

/// A decoded parameter.
public struct ConversionParameter: Equatable, Sendable {
    /// The name as sent, decoded once.
    public var name: [UInt8]
    /// The value, decoded once; empty when there was no `=`.
    public var value: [UInt8]

    /// A parameter by its decoded parts.
    public init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }
}

/// Reads and writes `application/x-www-form-urlencoded`.
public enum ParameterParser {
    /// Why a query or form is refused.
    public enum Problem: String, Error, Sendable {
        /// A `%` without two hexadecimal digits.
        case brokenEscape = "broken_escape"
        /// Bytes that are no UTF-8, or a NUL.
        case notText = "not_text"
        /// A parameter a second time.
        case duplicate = "duplicate_parameter"
        /// More than ``ConversionLimits/maxParameters``.
        case tooMany = "too_many_parameters"
    }

    /// Appends the parameters of a query or form to those read before; none may be there twice.
    ///
    /// `+` is a space; empty parts between `&` are passed over.
    public static func parse(
        _ bytes: UnsafeRawBufferPointer, into parameters: inout [ConversionParameter]
    ) throws(Problem) {
        var start = 0
        while start < bytes.count {
            var end = start
            while end < bytes.count, bytes[end] != UInt8(ascii: "&") { end += 1 }
            defer { start = end + 1 }
            guard end > start else { continue }
            guard parameters.count < ConversionLimits.maxParameters else { throw .tooMany }
            var equals = start
            while equals < end, bytes[equals] != UInt8(ascii: "=") { equals += 1 }
            let name = try decode(bytes[start..<equals])
            let value = try decode(bytes[min(equals + 1, end)..<end])
            guard TextChecks.isUTF8(name), TextChecks.isUTF8(value) else { throw .notText }
            guard !parameters.contains(where: { $0.name == name }) else { throw .duplicate }
            parameters.append(ConversionParameter(name: name, value: value))
        }
    }

    /// The canonical form that a signed GET's `sig` covers (contract, 4): all parameters but `sig`,
    /// encoded again, sorted by encoded name.
    public static func canonical(_ parameters: [ConversionParameter]) -> [UInt8] {
        let encoded = parameters.filter { $0.name != Array("sig".utf8) }
            .map { (name: encode($0.name), value: encode($0.value)) }
            .sorted { $0.name.lexicographicallyPrecedes($1.name) }
        var form: [UInt8] = []
        for (name, value) in encoded {
            if !form.isEmpty { form.append(UInt8(ascii: "&")) }
            form += name
            form.append(UInt8(ascii: "="))
            form += value
        }
        return form
    }

    /// Percent-encodes all but `A–Z a–z 0–9 - . _ ~`, with upper-case digits.
    public static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count)
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                text.append(byte)
            default:
                text.append(UInt8(ascii: "%"))
                text.append(uppercaseHexadecimalDigit(byte >> 4))
                text.append(uppercaseHexadecimalDigit(byte))
            }
        }
        return text
    }

    private static func decode(_ bytes: Slice<UnsafeRawBufferPointer>) throws(Problem) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count)
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            if byte == UInt8(ascii: "+") {
                text.append(UInt8(ascii: " "))
            } else if byte == UInt8(ascii: "%") {
                guard bytes.endIndex - index >= 2, let high = hexadecimalValue(of: bytes[index]),
                    let low = hexadecimalValue(of: bytes[index + 1])
                else { throw .brokenEscape }
                text.append(high << 4 | low)
                index += 2
            } else {
                text.append(byte)
            }
        }
        return text
    }
}
