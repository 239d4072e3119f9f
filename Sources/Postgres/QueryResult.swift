// The rows of one statement, read from libpq's binary result.
internal import CLibPQ
public import Tracking

/// Rows in binary.
///
/// A value of another type than asked for, NULL, and an index outside are nil alike.
public final class QueryResult {
    private let result: OpaquePointer
    /// Rows.
    public let count: Int
    /// Columns in each row.
    public let columnCount: Int

    init(owning result: OpaquePointer) {
        self.result = result
        count = Int(PQntuples(result))
        columnCount = Int(PQnfields(result))
    }

    deinit { PQclear(result) }

    /// Rows that the command inserted, changed, deleted or selected.
    var affectedRows: Int {
        guard let text = PQcmdTuples(result) else { return 0 }
        return Int(String(cString: text)) ?? 0
    }

    /// The columns' names, in order.
    public var columns: [String] {
        (0..<columnCount).map { String(cString: PQfname(result, Int32($0))) }
    }

    /// The first column of that name; nil when there is none.
    public func column(_ name: String) -> Int? { columns.firstIndex(of: name) }

    /// Whether the value is NULL (or not there).
    public func isNull(_ row: Int, _ column: Int) -> Bool { raw(row, column) == nil }

    /// The value's bytes, valid while this result lives.
    public func raw(_ row: Int, _ column: Int) -> UnsafeRawBufferPointer? {
        guard row >= 0, row < count, column >= 0, column < columnCount,
            PQgetisnull(result, Int32(row), Int32(column)) == 0
        else { return nil }
        return UnsafeRawBufferPointer(
            start: PQgetvalue(result, Int32(row), Int32(column)),
            count: Int(PQgetlength(result, Int32(row), Int32(column))))
    }

    private func oid(_ column: Int) -> UInt32 { PQftype(result, Int32(column)) }

    private func raw(_ row: Int, _ column: Int, _ accepted: UInt32..., bytes: Int)
        -> UnsafeRawBufferPointer?
    {
        guard let value = raw(row, column), accepted.contains(oid(column)), value.count == bytes
        else { return nil }
        return value
    }

    /// A `smallint`, `integer`, `bigint` or `oid`.
    public func int64(_ row: Int, _ column: Int) -> Int64? {
        guard let value = raw(row, column) else { return nil }
        switch (oid(column), value.count) {
        case (TypeOID.int2, 2): return Int64(BinaryReader.load(value, 0, Int16.self))
        case (TypeOID.int4, 4): return Int64(BinaryReader.load(value, 0, Int32.self))
        case (TypeOID.oid, 4): return Int64(BinaryReader.load(value, 0, UInt32.self))
        case (TypeOID.int8, 8): return BinaryReader.load(value, 0, Int64.self)
        default: return nil
        }
    }

    /// An integer that fits 32 bits.
    public func int32(_ row: Int, _ column: Int) -> Int32? {
        int64(row, column).flatMap { Int32(exactly: $0) }
    }

    /// An integer that fits 16 bits.
    public func int16(_ row: Int, _ column: Int) -> Int16? {
        int64(row, column).flatMap { Int16(exactly: $0) }
    }

    /// A `boolean`.
    public func bool(_ row: Int, _ column: Int) -> Bool? {
        raw(row, column, TypeOID.bool, bytes: 1).map { $0[0] != 0 }
    }

    /// A `uuid`.
    public func uuid(_ row: Int, _ column: Int) -> EntityID? {
        raw(row, column, TypeOID.uuid, bytes: 16).map { EntityID(bigEndianBytes: $0) }
    }

    /// A `timestamptz` or `timestamp`; infinities are the first and last instant.
    public func timestamp(_ row: Int, _ column: Int) -> Timestamp? {
        raw(row, column, TypeOID.timestamptz, TypeOID.timestamp, bytes: 8).map {
            BinaryTime.decode(BinaryReader.load($0, 0, Int64.self))
        }
    }

    /// A `date`.
    public func date(_ row: Int, _ column: Int) -> Day? {
        raw(row, column, TypeOID.date, bytes: 4).map {
            BinaryTime.decode(BinaryReader.load($0, 0, Int32.self))
        }
    }

    /// A `numeric` as an integer of 10^-`exponent`; nil when it is not exactly one.
    public func numericMinor(_ row: Int, _ column: Int, exponent: UInt8) -> Int64? {
        guard let value = raw(row, column), oid(column) == TypeOID.numeric else { return nil }
        return BinaryNumeric.minorUnits(value, exponent: exponent)
    }

    /// The bytes of a text-like value (`jsonb` without its version byte) or of a `bytea`.
    public func bytes(_ row: Int, _ column: Int) -> [UInt8]? {
        textBytes(row, column).map { Array($0) }
    }

    /// The bytes of a text-like value, valid while this result lives.
    public func textBytes(_ row: Int, _ column: Int) -> UnsafeRawBufferPointer? {
        guard let value = raw(row, column) else { return nil }
        guard oid(column) == TypeOID.jsonb else { return value }
        return value.isEmpty ? nil : UnsafeRawBufferPointer(rebasing: value[1...])
    }

    /// A text-like value; the common other types in the form in which PostgreSQL or RFC 3339 writes them.
    public func text(_ row: Int, _ column: Int) -> String? {
        guard raw(row, column) != nil else { return nil }
        switch oid(column) {
        case TypeOID.bool: return bool(row, column).map { $0 ? "true" : "false" }
        case TypeOID.int2, TypeOID.int4, TypeOID.int8, TypeOID.oid:
            return int64(row, column).map { String($0) }
        case TypeOID.uuid: return uuid(row, column).map { $0.description }
        case TypeOID.timestamptz, TypeOID.timestamp:
            return timestamp(row, column).map { $0.description }
        case TypeOID.date: return date(row, column).map { $0.dashed }
        case TypeOID.numeric: return raw(row, column).flatMap { BinaryNumeric.text($0) }
        default: return textBytes(row, column).map { String(decoding: $0, as: UTF8.self) }
        }
    }

    /// A one-dimensional `bigint[]`, `integer[]` or `smallint[]`.
    public func int64Array(_ row: Int, _ column: Int) -> [Int64?]? {
        array(row, column, TypeOID.int8, TypeOID.int4, TypeOID.int2) { value in
            switch value.count {
            case 8: BinaryReader.load(value, 0, Int64.self)
            case 4: Int64(BinaryReader.load(value, 0, Int32.self))
            case 2: Int64(BinaryReader.load(value, 0, Int16.self))
            default: nil
            }
        }
    }

    /// A one-dimensional array of a text-like type.
    public func textArray(_ row: Int, _ column: Int) -> [String?]? {
        array(row, column, TypeOID.text, TypeOID.varchar, TypeOID.bpchar, TypeOID.name) {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// A one-dimensional `uuid[]`.
    public func uuidArray(_ row: Int, _ column: Int) -> [EntityID?]? {
        array(row, column, TypeOID.uuid) { $0.count == 16 ? EntityID(bigEndianBytes: $0) : nil }
    }

    private func array<Element>(
        _ row: Int, _ column: Int, _ accepted: UInt32...,
        decode: (UnsafeRawBufferPointer) -> Element?
    ) -> [Element?]? {
        guard let value = raw(row, column), value.count >= 12 else { return nil }
        let dimensions = BinaryReader.load(value, 0, Int32.self)
        guard accepted.contains(BinaryReader.load(value, 8, UInt32.self)) else { return nil }
        if dimensions == 0 { return [] }
        guard dimensions == 1, value.count >= 20 else { return nil }
        var list: [Element?] = []
        var offset = 20
        for _ in 0..<max(0, BinaryReader.load(value, 12, Int32.self)) {
            guard offset + 4 <= value.count else { return nil }
            let length = Int(BinaryReader.load(value, offset, Int32.self))
            offset += 4
            if length < 0 {
                list.append(nil)
                continue
            }
            guard offset + length <= value.count else { return nil }
            list.append(decode(UnsafeRawBufferPointer(rebasing: value[offset..<offset + length])))
            offset += length
        }
        return list
    }
}

enum BinaryReader {
    /// A big-endian integer at an offset that the caller has checked.
    static func load<Value: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeRawBufferPointer, _ offset: Int, _ type: Value.Type
    ) -> Value {
        Value(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
    }
}
