// A strict JSON reader (RFC 8259) over bytes. Numbers stay text, so that amounts stay exact; a key
// twice, nesting too deep or anything after the value is refused.
internal import Tracking

/// A JSON value with the place of its text.
struct JSONValue {
    /// What it is.
    enum Content {
        case null
        case boolean(Bool)
        case number
        case string([UInt8])
        case array([JSONValue])
        case object([(name: [UInt8], value: JSONValue)])
    }

    let content: Content
    /// Where its text lies in the bytes that were parsed.
    let range: Range<Int>
}

/// Parses one JSON text.
struct JSONReader {
    /// Why a text is refused.
    enum Problem: String, Error {
        case malformed = "malformed_json"
        case tooDeep = "json_too_deep"
        case tooLarge = "json_too_large"
        case duplicateKey = "duplicate_key"
    }

    private let bytes: UnsafeRawBufferPointer
    private var index = 0
    private var values = 0

    /// The value that the whole of the bytes is.
    static func parse(_ bytes: UnsafeRawBufferPointer) throws(Problem) -> JSONValue {
        guard bytes.count <= ConversionLimits.maxBodyBytes else { throw .tooLarge }
        guard TextChecks.isUTF8(bytes) else { throw .malformed }
        var reader = JSONReader(bytes: bytes)
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.index == bytes.count else { throw .malformed }
        return value
    }

    private init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func take(_ wanted: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: wanted) else { return false }
        index += 1
        return true
    }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D {
            index += 1
        }
    }

    private mutating func value(depth: Int) throws(Problem) -> JSONValue {
        guard depth <= ConversionLimits.maxJSONDepth else { throw .tooDeep }
        values += 1
        guard values <= ConversionLimits.maxJSONValues else { throw .tooLarge }
        skipSpace()
        let start = index
        let content: JSONValue.Content
        switch next {
        case UInt8(ascii: "{"): content = try object(depth: depth)
        case UInt8(ascii: "["): content = try array(depth: depth)
        case UInt8(ascii: "\""): content = .string(try string())
        case UInt8(ascii: "t"): content = try literal("true", .boolean(true))
        case UInt8(ascii: "f"): content = try literal("false", .boolean(false))
        case UInt8(ascii: "n"): content = try literal("null", .null)
        default: content = try number()
        }
        return JSONValue(content: content, range: start..<index)
    }

    private mutating func literal(
        _ word: String, _ content: JSONValue.Content
    ) throws(Problem) -> JSONValue.Content {
        for byte in word.utf8 {
            guard next == byte else { throw .malformed }
            index += 1
        }
        return content
    }

    private mutating func object(depth: Int) throws(Problem) -> JSONValue.Content {
        index += 1
        var members: [(name: [UInt8], value: JSONValue)] = []
        skipSpace()
        if take("}") { return .object([]) }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw .malformed }
            let name = try string()
            skipSpace()
            guard take(":") else { throw .malformed }
            guard members.count < ConversionLimits.maxJSONMembers else { throw .tooLarge }
            guard !members.contains(where: { $0.name == name }) else { throw .duplicateKey }
            members.append((name, try value(depth: depth + 1)))
            skipSpace()
            if take("}") { return .object(members) }
            guard take(",") else { throw .malformed }
        }
    }

    private mutating func array(depth: Int) throws(Problem) -> JSONValue.Content {
        index += 1
        var elements: [JSONValue] = []
        skipSpace()
        if take("]") { return .array([]) }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return .array(elements) }
            guard take(",") else { throw .malformed }
        }
    }

    private mutating func digits() throws(Problem) {
        let start = index
        while let byte = next, TextChecks.isDigit(byte) { index += 1 }
        guard index > start else { throw .malformed }
    }

    private mutating func number() throws(Problem) -> JSONValue.Content {
        _ = take("-")
        if take("0") {
            if let byte = next, TextChecks.isDigit(byte) { throw .malformed }
        } else {
            try digits()
        }
        if take(".") { try digits() }
        if take("e") || take("E") {
            if !take("+") { _ = take("-") }
            try digits()
        }
        return .number
    }

    private mutating func string() throws(Problem) -> [UInt8] {
        index += 1
        var text: [UInt8] = []
        while let byte = next {
            index += 1
            switch byte {
            case UInt8(ascii: "\""): return text
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw .malformed
            default: text.append(byte)
            }
        }
        throw .malformed
    }

    private mutating func escape(into text: inout [UInt8]) throws(Problem) {
        guard let byte = next else { throw .malformed }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"): text += Array(String(Character(try scalar())).utf8)
        default: throw .malformed
        }
    }

    /// The scalar of one or two `\u` escapes; NUL and lone surrogates are refused, as PostgreSQL does.
    private mutating func scalar() throws(Problem) -> Unicode.Scalar {
        var value = try fourDigits()
        if value & 0xFC00 == 0xD800 {
            guard take("\\"), take("u") else { throw .malformed }
            let low = try fourDigits()
            guard low & 0xFC00 == 0xDC00 else { throw .malformed }
            value = 0x10000 + (value & 0x3FF) << 10 + (low & 0x3FF)
        }
        guard value != 0, let scalar = Unicode.Scalar(value) else { throw .malformed }
        return scalar
    }

    private mutating func fourDigits() throws(Problem) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = hexadecimalValue(of: byte) else { throw .malformed }
            value = value << 4 | UInt32(digit)
            index += 1
        }
        return value
    }
}
