// One link's record in a table, read in place.
public import Tracking

/// A link as it lies in a table; valid as long as the table is.
public struct LinkView {
    /// From the record's first byte to the end of its section.
    let record: UnsafeRawBufferPointer
    let merchantEntry: UnsafeRawPointer
    let influencerEntry: UnsafeRawPointer
    let merchantIndex: Int
    let slugBytes: Int

    @inline(__always) private func id(_ start: UnsafeRawPointer) -> EntityID {
        EntityID(
            high: UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            low: UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    /// The link's identity.
    public var id: EntityID {
        // Not by `map`: where nothing is optimised, a method as a value is a heap object.
        guard let start = record.baseAddress else { return .zero }
        return id(start)
    }
    /// The merchant who pays.
    public var merchantID: EntityID { id(merchantEntry) }
    /// The influencer who sends.
    public var influencerID: EntityID { id(influencerEntry) }
    /// The slug.
    @inline(__always) public var slug: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: record.baseAddress.map { $0 + LinkTableLayout.recordBytes }, count: slugBytes)
    }
    @inline(__always) var domainIndex: Int {
        Int(UInt16(littleEndian: record.loadUnaligned(fromByteOffset: 24, as: UInt16.self)))
    }
    @inline(__always) var flags: LinkFlags {
        LinkFlags(
            rawValue: UInt16(
                littleEndian: record.loadUnaligned(fromByteOffset: 26, as: UInt16.self)))
    }
    /// The status.
    public var status: LinkStatus {
        flags.contains(.archived) ? .archived : flags.contains(.paused) ? .paused : .active
    }
    /// 301, 302, 307 or 308.
    public var redirectStatus: UInt16 { flags.redirectStatus }
    /// Whether the visitor's own parameters are merged into the destination.
    public var forwardsQuery: Bool { flags.contains(.forwardsQuery) }
    /// When the link begins to work.
    public var startsAt: Timestamp? { fields()?.startsAt }
    /// When it ends.
    public var expiresAt: Timestamp? { fields()?.expiresAt }
    /// The destination as it was given, macros and all.
    public var destination: [UInt8] {
        fields().map { LinkTemplate.source(of: $0.destination) } ?? []
    }
    /// Where an ended link leads.
    public var expiredURL: [UInt8]? { fields()?.expiredURL.map(LinkTemplate.source(of:)) }
    /// Where a link leads that does not work now.
    public var fallbackURL: [UInt8]? { fields()?.fallbackURL.map(LinkTemplate.source(of:)) }

    /// What follows the slug.
    struct Fields {
        var startsAt: Timestamp?
        var expiresAt: Timestamp?
        var destination: UnsafeRawBufferPointer
        var expiredURL: UnsafeRawBufferPointer?
        var fallbackURL: UnsafeRawBufferPointer?
        var end: Int
    }

    /// Takes the record apart; nil when it breaks off.
    @inline(__always) func fields() -> Fields? {
        let flags = flags
        var reader = RecordCursor(
            bytes: record, offset: LinkTableLayout.recordBytes &+ slugBytes)
        var startsAt: Timestamp?
        var expiresAt: Timestamp?
        if flags.contains(.hasStart) {
            guard let value = reader.word() else { return nil }
            startsAt = Timestamp(microseconds: Int64(bitPattern: value))
        }
        if flags.contains(.hasExpiry) {
            guard let value = reader.word() else { return nil }
            expiresAt = Timestamp(microseconds: Int64(bitPattern: value))
        }
        guard let destination = reader.program() else { return nil }
        var expiredURL: UnsafeRawBufferPointer?
        var fallbackURL: UnsafeRawBufferPointer?
        if flags.contains(.hasExpiredURL) {
            guard let program = reader.program() else { return nil }
            expiredURL = program
        }
        if flags.contains(.hasFallbackURL) {
            guard let program = reader.program() else { return nil }
            fallbackURL = program
        }
        return Fields(
            startsAt: startsAt, expiresAt: expiresAt, destination: destination,
            expiredURL: expiredURL, fallbackURL: fallbackURL, end: reader.offset)
    }
}

/// Reads a record's fields in order, never past its end.
struct RecordCursor {
    let bytes: UnsafeRawBufferPointer
    var offset: Int

    @inline(__always) mutating func byte() -> UInt8? {
        guard offset < bytes.count else { return nil }
        defer { offset &+= 1 }
        return bytes[offset]
    }

    @inline(__always) mutating func word() -> UInt64? {
        guard offset &+ 8 <= bytes.count else { return nil }
        defer { offset &+= 8 }
        return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always) mutating func take(_ length: Int) -> UnsafeRawBufferPointer? {
        guard length <= bytes.count &- offset, let base = bytes.baseAddress else { return nil }
        defer { offset &+= length }
        return UnsafeRawBufferPointer(start: base + offset, count: length)
    }

    /// A 16-bit length and so many bytes.
    @inline(__always) mutating func program() -> UnsafeRawBufferPointer? {
        guard offset &+ 2 <= bytes.count else { return nil }
        let length = UInt16(
            littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        offset &+= 2
        return take(Int(length))
    }
}
