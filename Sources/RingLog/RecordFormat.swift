// A record's head and checksum, as docs/formats/records.md has them: the same in ring and segment.
internal import CLinux
internal import Tracking

/// What a valid record's head says.
struct RecordHead: BitwiseCopyable {
    let slots: Int
    let payloadBytes: Int
    let kind: UInt8
    let sequence: UInt64

    var bytes: Int { slots * RingLogLimits.slotBytes }
}

/// Composing and checking heads.
enum RecordFormat {
    /// The constant in the head's top eleven bits.
    static let marker: UInt32 = 0x5A3

    /// The shape word of a record with so many payload bytes.
    @inline(__always) static func shape(slots: Int, payloadBytes: Int, kind: UInt8) -> UInt32 {
        let unused = slots * 64 - 16 - payloadBytes
        return UInt32(truncatingIfNeeded: slots) | UInt32(truncatingIfNeeded: unused) << 11
            | UInt32(kind & 0xF) << 17 | marker << 21
    }

    /// Slots of a record with so many payload bytes.
    @inline(__always) static func slots(payloadBytes: Int) -> Int {
        (payloadBytes + 16 + 63) / 64
    }

    /// What the ring's secret makes every checksum begin with.
    static func seed(nonce: EntityID) -> UInt32 {
        nonce.bytes.withUnsafeBytes { clinux_crc32c(0xFFFF_FFFF, $0.baseAddress, 16) }
    }

    /// The shape and sequence at an address, unchecked; nil when it cannot be a record's head.
    @inline(__always) static func peek(_ record: UnsafeRawPointer) -> RecordHead? {
        let shape = UInt32(littleEndian: record.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard shape >> 21 == marker else { return nil }
        let slots = Int(shape & 0x7FF)
        let payload = slots * 64 - 16 - Int(shape >> 11 & 0x3F)
        guard slots > 0, payload >= 0 else { return nil }
        return RecordHead(
            slots: slots, payloadBytes: payload, kind: UInt8(shape >> 17 & 0xF),
            sequence: UInt64(
                littleEndian: record.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    /// The head of a record whose checksum holds and whose sequence lies in a range; nil for any
    /// other bytes.
    ///
    /// - Parameter available: Bytes that may be read from the address on.
    static func check(
        _ record: UnsafeRawPointer, available: Int, seed: UInt32,
        sequences: ClosedRange<UInt64>
    ) -> RecordHead? {
        guard available >= 64, let head = peek(record), head.bytes <= available,
            sequences.contains(head.sequence)
        else { return nil }
        let crc = UInt32(littleEndian: record.loadUnaligned(as: UInt32.self))
        guard clinux_record_crc(seed, record, head.bytes) == crc else { return nil }
        return head
    }
}

/// The checksum of a file's head: CRC32C of everything but the checksum itself at bytes 12-15.
///
/// Every version keeps this rule, so that another version is told apart from damage.
func headChecksum(_ head: UnsafeRawBufferPointer, bytes: Int) -> UInt32 {
    precondition(bytes >= 16 && head.count >= bytes)
    let start = clinux_crc32c(0xFFFF_FFFF, head.baseAddress, 12)
    return ~clinux_crc32c(start, head.baseAddress.map { $0 + 16 }, bytes - 16)
}

extension EntityID {
    /// The sixteen bytes of a persisted struct.
    init(_ bytes: clinux_bytes16) {
        self.init(high: UInt64(bigEndian: bytes.first), low: UInt64(bigEndian: bytes.second))
    }

    /// The sixteen bytes for a persisted struct.
    var persisted: clinux_bytes16 {
        clinux_bytes16(first: high.bigEndian, second: low.bigEndian)
    }
}
