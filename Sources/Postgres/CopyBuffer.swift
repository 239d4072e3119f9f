// Rows in the binary COPY format, built without an allocation a row.
// PostgreSQL 15, "COPY", "Binary Format".
public import Tracking

/// Rows for `COPY … FROM STDIN (FORMAT binary)`; header and trailer are added when it is sent.
///
/// Begin a row with its number of columns, then append exactly so many values.
public struct CopyBuffer: ~Copyable {
    private var memory: UnsafeMutableRawBufferPointer
    private var pendingColumns: Int16 = 0
    /// Bytes of all rows.
    public private(set) var byteCount = 0
    /// Rows begun.
    public private(set) var rowCount = 0

    /// The format's signature, flags and empty extension.
    static let header: [UInt8] =
        Array("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0] + [0, 0, 0, 0] + [0, 0, 0, 0]
    /// The row count that ends the data: -1.
    static let trailer: [UInt8] = [0xFF, 0xFF]

    /// An empty buffer that grows by doubling.
    public init(capacity: Int = 1 << 20) {
        memory = .allocate(byteCount: max(64, capacity), alignment: 16)
    }

    deinit { memory.deallocate() }

    /// The rows' bytes, valid until the next change.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<byteCount]) }

    /// Whether the last row has all its values.
    var isComplete: Bool { pendingColumns == 0 }

    /// Forgets all rows and keeps the memory.
    public mutating func reset() {
        byteCount = 0
        rowCount = 0
        pendingColumns = 0
    }

    /// Begins a row of so many values.
    /// - Precondition: The row before has all its values.
    public mutating func beginRow(columns: Int16) {
        precondition(pendingColumns == 0, "the row before lacks values")
        put(columns)
        rowCount += 1
        pendingColumns = columns
    }

    /// Appends NULL.
    public mutating func appendNull() { begin(-1) }

    /// Appends a `bigint`.
    public mutating func append(int64 value: Int64) {
        begin(8)
        put(value)
    }

    /// Appends an `integer`.
    public mutating func append(int32 value: Int32) {
        begin(4)
        put(value)
    }

    /// Appends a `smallint`.
    public mutating func append(int16 value: Int16) {
        begin(2)
        put(value)
    }

    /// Appends a `boolean`.
    public mutating func append(bool value: Bool) {
        begin(1)
        put(UInt8(value ? 1 : 0))
    }

    /// Appends a `uuid`.
    public mutating func append(uuid value: EntityID) {
        begin(16)
        put(value.high)
        put(value.low)
    }

    /// Appends a `timestamptz`.
    public mutating func append(timestamp value: Timestamp) {
        begin(8)
        put(BinaryTime.encode(value))
    }

    /// Appends a `date`.
    public mutating func append(date value: Day) {
        begin(4)
        put(BinaryTime.encode(value))
    }

    /// Appends text (UTF-8 without NUL, else the server refuses the row) or a `bytea`.
    public mutating func append(text value: UnsafeRawBufferPointer) {
        begin(Int32(clamping: value.count))
        put(value)
    }

    /// Appends text.
    public mutating func append(text value: String) {
        var copy = value
        copy.withUTF8 { append(text: UnsafeRawBufferPointer($0)) }
    }

    /// Appends text or a `bytea` from an array.
    public mutating func append(text value: [UInt8]) {
        value.withUnsafeBytes { append(text: $0) }
    }

    /// Appends a `jsonb` from its text.
    public mutating func append(json value: UnsafeRawBufferPointer) {
        begin(Int32(clamping: value.count + 1))
        put(UInt8(1))
        put(value)
    }

    /// Appends a `text[]`; a nil base address is a NULL element.
    public mutating func append(textArray values: some Collection<UnsafeRawBufferPointer>) {
        let lengthAt = beginArray(of: TypeOID.text, count: values.count)
        for value in values {
            guard value.baseAddress != nil else {
                put(Int32(-1))
                continue
            }
            put(Int32(clamping: value.count))
            put(value)
        }
        endArray(lengthAt)
    }

    /// Appends a `text[]`.
    public mutating func append(textArray values: [[UInt8]?]) {
        let lengthAt = beginArray(of: TypeOID.text, count: values.count)
        for value in values {
            guard let value else {
                put(Int32(-1))
                continue
            }
            put(Int32(clamping: value.count))
            value.withUnsafeBytes { put($0) }
        }
        endArray(lengthAt)
    }

    /// Appends a `bigint[]`.
    public mutating func append(int64Array values: [Int64]) {
        let lengthAt = beginArray(of: TypeOID.int8, count: values.count)
        for value in values {
            put(Int32(8))
            put(value)
        }
        endArray(lengthAt)
    }

    /// Appends an `inet` of 4 bytes.
    public mutating func append(inet4 address: UInt32, prefix: UInt8) {
        begin(8)
        put(UInt32(2) << 24 | UInt32(min(prefix, 32)) << 16 | 4)  // AF_INET, bits, no cidr, 4 bytes
        put(address)
    }

    /// Appends an `inet` of 16 bytes, as two big-endian halves.
    public mutating func append(inet6 high: UInt64, _ low: UInt64, prefix: UInt8) {
        begin(20)
        put(UInt32(3) << 24 | UInt32(min(prefix, 128)) << 16 | 16)  // PGSQL_AF_INET6
        put(high)
        put(low)
    }

    /// Appends a `numeric`, exactly `minorUnits` / 10^`exponent`.
    public mutating func append(numeric minorUnits: Int64, exponent: UInt8) {
        let lengthAt = byteCount
        begin(0)
        var words: [UInt16] = []
        BinaryNumeric.words(minorUnits, exponent: exponent) { words.append($0) }
        for word in words { put(word) }
        endArray(lengthAt)
    }

    @inline(__always)
    private mutating func begin(_ length: Int32) {
        precondition(pendingColumns > 0, "the row has all its values")
        pendingColumns -= 1
        put(length)
    }

    /// Writes an array's head; where its length goes.
    private mutating func beginArray(of element: UInt32, count: Int) -> Int {
        let lengthAt = byteCount
        begin(0)
        put(Int32(count == 0 ? 0 : 1))
        put(Int32(1))  // May hold NULLs; array_recv reads the elements either way.
        put(element)
        if count > 0 {
            put(Int32(clamping: count))
            put(Int32(1))
        }
        return lengthAt
    }

    private mutating func endArray(_ lengthAt: Int) {
        let length = Int32(clamping: byteCount - lengthAt - 4)
        memory.storeBytes(of: length.bigEndian, toByteOffset: lengthAt, as: Int32.self)
    }

    @inline(__always)
    private mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
        ensure(MemoryLayout<Value>.size)
        memory.storeBytes(of: value.bigEndian, toByteOffset: byteCount, as: Value.self)
        byteCount += MemoryLayout<Value>.size
    }

    private mutating func put(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
        ensure(bytes.count)
        memory.baseAddress?.advanced(by: byteCount).copyMemory(
            from: source, byteCount: bytes.count)
        byteCount += bytes.count
    }

    @inline(__always)
    private mutating func ensure(_ extra: Int) {
        if byteCount + extra > memory.count { grow(extra) }
    }

    @inline(never)
    private mutating func grow(_ extra: Int) {
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(memory.count * 2, byteCount + extra), alignment: 16)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<byteCount]))
        memory.deallocate()
        memory = larger
    }
}
