// The payload of a drop note, version 1 (docs/formats/records.md): what a full ring did not take.

/// Clicks that were redirected but not recorded, because ring and spool were full.
public struct DropRecord: Equatable, Sendable {
    /// This format's version.
    public static let version: UInt8 = 1
    /// Bytes of every record.
    public static let bytes = 32

    /// How many clicks.
    public var count: UInt64
    /// When the first of them came.
    public var firstAt: Timestamp
    /// When the last of them came.
    public var lastAt: Timestamp

    /// A note.
    public init(count: UInt64, firstAt: Timestamp, lastAt: Timestamp) {
        self.count = count
        self.firstAt = firstAt
        self.lastAt = lastAt
    }

    /// Writes the payload.
    /// - Precondition: `buffer` holds ``bytes``.
    /// - Returns: Bytes written.
    public func write(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        var writer = RecordWriter(buffer)
        writer.append(UInt64(DropRecord.version))
        writer.append(count)
        writer.append(firstAt.microseconds)
        writer.append(lastAt.microseconds)
        return writer.count
    }

    /// Reads a payload; nil when it is of another version or breaks off.
    public init?(payload bytes: UnsafeRawBufferPointer) {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == DropRecord.version, reader.take(7) != nil,
            let count = reader.integer(UInt64.self), let first = reader.integer(Int64.self),
            let last = reader.integer(Int64.self)
        else { return nil }
        self.init(
            count: count, firstAt: Timestamp(microseconds: first),
            lastAt: Timestamp(microseconds: last))
    }
}
