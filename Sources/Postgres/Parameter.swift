// The values that a statement takes, and how they are laid out for libpq.
public import Tracking

/// One parameter of a statement.
///
/// All but `text` and `null` go in binary with their own type. `text` goes as text without a type, so
/// that the server reads it as whatever the statement needs (an `inet`, a `numeric`, an enum word);
/// where nothing tells it the type, write `$1::text`.
public enum Parameter: Sendable {
    /// SQL NULL.
    case null
    /// `boolean`.
    case bool(Bool)
    /// `smallint`.
    case int16(Int16)
    /// `integer`.
    case int32(Int32)
    /// `bigint`.
    case int64(Int64)
    /// Text, read by the server as the type that the statement needs.
    case text(String)
    /// The same from raw UTF-8.
    case bytes([UInt8])
    /// `bytea`.
    case bytea([UInt8])
    /// `uuid`.
    case uuid(EntityID)
    /// `timestamptz`.
    case timestamp(Timestamp)
    /// `date`.
    case date(Day)
    /// `numeric`, exactly `minorUnits` / 10^`exponent`.
    case numeric(minorUnits: Int64, exponent: UInt8)
    /// `jsonb` from its text.
    case json(String)
    /// `bigint[]`.
    case int64Array([Int64?])
    /// `integer[]`.
    case int32Array([Int32?])
    /// `smallint[]`.
    case int16Array([Int16?])
    /// `text[]`.
    case textArray([String?])
    /// `uuid[]`.
    case uuidArray([EntityID?])
    /// `timestamptz[]`.
    case timestampArray([Timestamp?])
    /// `boolean[]`.
    case boolArray([Bool?])
    /// `date[]`.
    case dateArray([Day?])
    /// `numeric[]`, each element with the exponent at its index.
    case numericArray([Int64?], exponents: [UInt8])

    /// A text, or NULL for nil.
    public static func optional(_ text: String?) -> Parameter { text.map { .text($0) } ?? .null }
    /// A UUID, or NULL for nil.
    public static func optional(_ id: EntityID?) -> Parameter { id.map { .uuid($0) } ?? .null }
    /// An instant, or NULL for nil.
    public static func optional(_ time: Timestamp?) -> Parameter {
        time.map { .timestamp($0) } ?? .null
    }
    /// A `bigint`, or NULL for nil.
    public static func optional(_ value: Int64?) -> Parameter { value.map { .int64($0) } ?? .null }
}

extension Parameter {
    /// The type that is declared for it; 0 lets the server infer.
    var oid: UInt32 {
        switch self {
        case .null, .text, .bytes: 0
        case .bool: TypeOID.bool
        case .int16: TypeOID.int2
        case .int32: TypeOID.int4
        case .int64: TypeOID.int8
        case .bytea: TypeOID.bytea
        case .uuid: TypeOID.uuid
        case .timestamp: TypeOID.timestamptz
        case .date: TypeOID.date
        case .numeric: TypeOID.numeric
        case .json: TypeOID.jsonb
        case .int64Array: TypeOID.int8Array
        case .int32Array: TypeOID.int4Array
        case .int16Array: TypeOID.int2Array
        case .textArray: TypeOID.textArray
        case .uuidArray: TypeOID.uuidArray
        case .timestampArray: TypeOID.timestamptzArray
        case .boolArray: TypeOID.boolArray
        case .dateArray: TypeOID.dateArray
        case .numericArray: TypeOID.numericArray
        }
    }

    /// Whether libpq sends it as text (NUL-terminated) and not in binary.
    var isText: Bool {
        switch self {
        case .text, .bytes: true
        default: false
        }
    }

    var isNull: Bool {
        if case .null = self { return true }
        return false
    }

    /// Appends the value's bytes, without a length.
    func encode(into bytes: inout BinaryBytes) {
        switch self {
        case .null: break
        case .bool(let value): bytes.append(UInt8(value ? 1 : 0))
        case .int16(let value): bytes.append(value)
        case .int32(let value): bytes.append(value)
        case .int64(let value): bytes.append(value)
        case .text(let value): bytes.append(value)
        case .bytes(let value), .bytea(let value): bytes.append(value)
        case .uuid(let value): bytes.append(value)
        case .timestamp(let value): bytes.append(BinaryTime.encode(value))
        case .date(let value): bytes.append(BinaryTime.encode(value))
        case .numeric(let units, let exponent): bytes.append(numeric: units, exponent: exponent)
        case .json(let value):
            bytes.append(UInt8(1))  // jsonb's only version.
            bytes.append(value)
        default: encodeArray(into: &bytes)
        }
    }

    private func encodeArray(into bytes: inout BinaryBytes) {
        switch self {
        case .int64Array(let list):
            bytes.append(array: list, of: TypeOID.int8) { $0.append($1) }
        case .int32Array(let list):
            bytes.append(array: list, of: TypeOID.int4) { $0.append($1) }
        case .int16Array(let list):
            bytes.append(array: list, of: TypeOID.int2) { $0.append($1) }
        case .textArray(let list):
            bytes.append(array: list, of: TypeOID.text) { $0.append($1) }
        case .uuidArray(let list):
            bytes.append(array: list, of: TypeOID.uuid) { $0.append($1) }
        case .timestampArray(let list):
            bytes.append(array: list, of: TypeOID.timestamptz) { $0.append(BinaryTime.encode($1)) }
        case .boolArray(let list):
            bytes.append(array: list, of: TypeOID.bool) { $0.append(UInt8($1 ? 1 : 0)) }
        case .dateArray(let list):
            bytes.append(array: list, of: TypeOID.date) { $0.append(BinaryTime.encode($1)) }
        case .numericArray(let list, let exponents):
            precondition(list.count == exponents.count)
            var index = 0
            bytes.append(array: list, of: TypeOID.numeric) { target, units in
                while list[index] == nil { index += 1 }
                target.append(numeric: units, exponent: exponents[index])
                index += 1
            }
        default: break  // The scalars are above.
        }
    }
}

/// Big-endian bytes that grow.
struct BinaryBytes {
    var storage: [UInt8] = []

    mutating func append(_ byte: UInt8) { storage.append(byte) }

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { storage.append(contentsOf: $0) }
    }

    mutating func append(_ text: String) { storage.append(contentsOf: text.utf8) }

    mutating func append(_ bytes: [UInt8]) { storage.append(contentsOf: bytes) }

    mutating func append(_ id: EntityID) {
        append(id.high)
        append(id.low)
    }

    mutating func append(numeric minorUnits: Int64, exponent: UInt8) {
        var words: [UInt16] = []
        BinaryNumeric.words(minorUnits, exponent: exponent) { words.append($0) }
        for word in words { append(word) }
    }

    /// A one-dimensional array as array_recv reads it.
    mutating func append<Element>(
        array: [Element?], of element: UInt32, _ encode: (inout BinaryBytes, Element) -> Void
    ) {
        append(Int32(array.isEmpty ? 0 : 1))
        append(Int32(array.contains { $0 == nil } ? 1 : 0))
        append(element)
        if array.isEmpty { return }
        append(Int32(clamping: array.count))
        append(Int32(1))
        for value in array {
            guard let value else {
                append(Int32(-1))
                continue
            }
            let start = storage.count
            append(Int32(0))
            encode(&self, value)
            let length = Int32(clamping: storage.count - start - 4)
            withUnsafeBytes(of: length.bigEndian) { bytes in
                for index in 0..<4 { storage[start + index] = bytes[index] }
            }
        }
    }
}
