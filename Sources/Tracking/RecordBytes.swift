// Writing and reading the payloads of records: little-endian, bounds-checked, no allocation.

/// Kinds of record; what a ring slot's header carries (docs/formats/records.md).
public enum RecordKind: UInt8, CaseIterable, Sendable {
    /// A click, ``ClickRecord``.
    case click = 1
    /// An accepted conversion, ``ConversionRecord``.
    case conversion = 2
    /// A refused conversion message for the intake log, ``RefusalRecord``.
    case refusal = 3
    /// Clicks that a full ring did not take, ``DropRecord``.
    case drop = 4

    /// The stream whose cursor advances over the record: `ingest_cursors.stream`.
    public var stream: RecordStream { self == .click ? .clicks : .conversions }
}

/// The two streams of a ring, each with a cursor of its own; `ingest_cursors.stream`.
public enum RecordStream: Int16, CaseIterable, Sendable {
    /// Clicks.
    case clicks = 1
    /// Conversions, refusals and drop notes.
    case conversions = 2
}

/// Appends little-endian fields to a fixed buffer.
///
/// The caller has sized the buffer for the largest record, so running over its end is a programmer's
/// error and traps.
public struct RecordWriter: ~Copyable {
    @usableFromInline let buffer: UnsafeMutableRawBufferPointer
    /// Bytes written so far.
    public private(set) var count = 0

    /// A writer over a buffer that outlives it.
    @inline(__always) public init(_ buffer: UnsafeMutableRawBufferPointer) {
        self.buffer = buffer
    }

    /// Appends an integer.
    @inline(__always) public mutating func append<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ value: Integer
    ) {
        precondition(count + MemoryLayout<Integer>.size <= buffer.count)
        buffer.storeBytes(of: value.littleEndian, toByteOffset: count, as: Integer.self)
        count += MemoryLayout<Integer>.size
    }

    /// Appends an identifier's 16 bytes in network order.
    @inline(__always) public mutating func append(_ id: EntityID) {
        append(id.high.byteSwapped)
        append(id.low.byteSwapped)
    }

    /// Appends raw bytes without a length.
    @inline(__always) public mutating func append(bytes: UnsafeRawBufferPointer) {
        precondition(count + bytes.count <= buffer.count)
        if let source = bytes.baseAddress, bytes.count > 0, let target = buffer.baseAddress {
            (target + count).copyMemory(from: source, byteCount: bytes.count)
        }
        count += bytes.count
    }

    /// Appends a 16-bit length and the bytes, cut to `limit` at a UTF-8 boundary.
    @inline(__always) public mutating func append(text: UnsafeRawBufferPointer, limit: Int) {
        var length = min(text.count, limit)
        if length < text.count {
            while length > 0, text[length] & 0xC0 == 0x80 { length -= 1 }
        }
        append(UInt16(length))
        append(bytes: UnsafeRawBufferPointer(rebasing: text[..<length]))
    }

    /// Appends the mark of an absent text, which is not the empty text.
    @inline(__always) public mutating func appendAbsentText() {
        append(RecordReader.absent)
    }
}

/// Reads little-endian fields; every read past the end gives nil, so that no record can trap.
public struct RecordReader {
    /// The length that marks an absent text.
    public static let absent: UInt16 = 0xFFFF

    private let bytes: UnsafeRawBufferPointer
    /// Bytes read so far.
    public private(set) var offset = 0

    /// A reader over bytes that outlive it.
    public init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    /// The next integer.
    @inline(__always) public mutating func integer<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type = Integer.self
    ) -> Integer? {
        guard bytes.count - offset >= MemoryLayout<Integer>.size else { return nil }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self)
        offset += MemoryLayout<Integer>.size
        return Integer(littleEndian: value)
    }

    /// The next 16 bytes as an identifier.
    @inline(__always) public mutating func entityID() -> EntityID? {
        guard let high = integer(UInt64.self), let low = integer(UInt64.self) else { return nil }
        return EntityID(high: high.byteSwapped, low: low.byteSwapped)
    }

    /// The next `count` bytes.
    @inline(__always) public mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, bytes.count - offset >= count else { return nil }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    /// The next text with its 16-bit length: `.some(nil)` when it is marked absent, nil past the end.
    @inline(__always) public mutating func text() -> UnsafeRawBufferPointer?? {
        guard let length = integer(UInt16.self) else { return nil }
        guard length != RecordReader.absent else { return .some(nil) }
        guard let value = take(Int(length)) else { return nil }
        return .some(value)
    }
}
