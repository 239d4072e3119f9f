// Writing JSON, as bytes, without a model of it in memory.

/// JSON text in the making: commas and escapes are this type's business, nesting is the caller's.
public struct JSONText: Sendable {
    /// What has been written.
    public private(set) var bytes: [UInt8] = []
    private var needsComma = false

    /// Empty text.
    public init() { bytes.reserveCapacity(1024) }

    /// The text as a string.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Begins an object, as a value.
    public mutating func beginObject() { open(UInt8(ascii: "{")) }
    /// Ends the innermost object.
    public mutating func endObject() { close(UInt8(ascii: "}")) }
    /// Begins an array, as a value.
    public mutating func beginArray() { open(UInt8(ascii: "[")) }
    /// Ends the innermost array.
    public mutating func endArray() { close(UInt8(ascii: "]")) }

    /// Writes a member's name; its value comes next.
    public mutating func key(_ name: String) {
        separate()
        quote(name.utf8)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    /// Writes a string.
    public mutating func value(_ text: String) {
        separate()
        quote(text.utf8)
        needsComma = true
    }

    /// Writes an integer.
    public mutating func value(_ number: some FixedWidthInteger) { raw(String(number)) }
    /// Writes a truth value.
    public mutating func value(_ truth: Bool) { raw(truth ? "true" : "false") }
    /// Writes `null`.
    public mutating func null() { raw("null") }

    /// Writes a number of seconds, given in microseconds, with its decimals.
    public mutating func seconds(microseconds: Int64) {
        raw(decimalSeconds(microseconds: microseconds))
    }

    /// Writes text that is JSON already, such as a number of many digits.
    public mutating func raw(_ json: String) {
        separate()
        bytes.append(contentsOf: json.utf8)
        needsComma = true
    }

    /// Writes a member that is a string, or null.
    public mutating func member(_ name: String, _ text: String?) {
        key(name)
        if let text { value(text) } else { null() }
    }
    /// Writes a member that is an integer, or null.
    public mutating func member(_ name: String, _ number: (some FixedWidthInteger)?) {
        key(name)
        if let number { value(number) } else { null() }
    }
    /// Writes a member that is a truth value.
    public mutating func member(_ name: String, _ truth: Bool) {
        key(name)
        value(truth)
    }
    /// Writes a member that is an object.
    public mutating func object(_ name: String, _ body: (inout JSONText) -> Void) {
        key(name)
        beginObject()
        body(&self)
        endObject()
    }
    /// Writes a member that is an array.
    public mutating func array(_ name: String, _ body: (inout JSONText) -> Void) {
        key(name)
        beginArray()
        body(&self)
        endArray()
    }

    /// One whole object.
    public static func object(_ body: (inout JSONText) -> Void) -> JSONText {
        var json = JSONText()
        json.beginObject()
        body(&json)
        json.endObject()
        return json
    }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
    }

    private mutating func open(_ bracket: UInt8) {
        separate()
        bytes.append(bracket)
        needsComma = false
    }

    private mutating func close(_ bracket: UInt8) {
        bytes.append(bracket)
        needsComma = true
    }

    /// RFC 8259, section 7: the quotation mark, the backslash and all below U+0020 are escaped.
    private mutating func quote(_ text: some Sequence<UInt8>) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: bytes.append(contentsOf: "\\n".utf8)
            case 0x0D: bytes.append(contentsOf: "\\r".utf8)
            case 0x09: bytes.append(contentsOf: "\\t".utf8)
            case 0..<0x20, 0x7F:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(byte >> 4 < 10 ? 48 + byte >> 4 : 87 + byte >> 4)
                bytes.append(byte & 15 < 10 ? 48 + byte & 15 : 87 + byte & 15)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

/// Microseconds as decimal seconds, such as `1.25`; no exponent, no needless zero.
public func decimalSeconds(microseconds: Int64) -> String {
    let magnitude = microseconds.magnitude
    var fraction = String(magnitude % 1_000_000)
    fraction = String(repeating: "0", count: 6 - fraction.utf8.count) + fraction
    while fraction.hasSuffix("0") { fraction.removeLast() }
    let whole = (microseconds < 0 ? "-" : "") + String(magnitude / 1_000_000)
    return fraction.isEmpty ? whole : "\(whole).\(fraction)"
}
