// One segment file: its head, and what is known of its records.
internal import CLinux
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// What each of the two copies in a segment's first 4,096 bytes says.
struct SegmentHeader: Equatable, Sendable {
    var spoolUUID: EntityID
    var ringUUID: EntityID
    var nonce: EntityID
    var firstSequence: UInt64
    var epoch: UInt64
    var number: UInt64
    var segmentBytes: Int
    var createdMicroseconds: Int64
    var ringID: UInt16
    var node: UInt8
    var isInUse: Bool

    static let magic: UInt64 = 0x4D47_4553_444B_4C43  // "CLKDSEGM" in file order.
    static let version: UInt32 = 1
    static let copyBytes = 2048

    /// Writes both copies.
    func encode(to block: UnsafeMutableRawBufferPointer) {
        precondition(block.count == RingLogLimits.fileHeadBytes)
        block.initializeMemory(as: UInt8.self, repeating: 0)
        var header = clinux_segment_header()
        header.magic = SegmentHeader.magic.littleEndian
        header.version = SegmentHeader.version.littleEndian
        header.spool_uuid = spoolUUID.persisted
        header.ring_uuid = ringUUID.persisted
        header.nonce = nonce.persisted
        header.first_sequence = firstSequence.littleEndian
        header.epoch = epoch.littleEndian
        header.number = number.littleEndian
        header.segment_bytes = UInt64(segmentBytes).littleEndian
        header.created_microseconds = createdMicroseconds.littleEndian
        header.ring_id = ringID.littleEndian
        header.node = UInt16(node).littleEndian
        header.state = UInt32(isInUse ? 1 : 0).littleEndian
        for offset in [0, SegmentHeader.copyBytes] {
            let copy = UnsafeMutableRawBufferPointer(
                rebasing: block[offset..<offset + SegmentHeader.copyBytes])
            copy.storeBytes(of: header, as: clinux_segment_header.self)
            let crc = SegmentHeader.checksum(UnsafeRawBufferPointer(copy))
            copy.storeBytes(of: crc.littleEndian, toByteOffset: 12, as: UInt32.self)
        }
    }

    /// The newer valid copy; nil when neither is valid.
    static func decode(_ block: UnsafeRawBufferPointer) throws(VersionMismatch) -> SegmentHeader? {
        guard block.count >= RingLogLimits.fileHeadBytes else { return nil }
        var newest: SegmentHeader?
        for offset in [0, copyBytes] {
            let copy = UnsafeRawBufferPointer(rebasing: block[offset..<offset + copyBytes])
            if let header = try decode(copy: copy), header.number >= newest?.number ?? 0 {
                newest = header
            }
        }
        return newest
    }

    /// Both copies, nil for one that is not valid.
    static func copies(
        _ block: UnsafeRawBufferPointer
    ) throws(VersionMismatch) -> [SegmentHeader?] {
        guard block.count >= RingLogLimits.fileHeadBytes else { return [nil, nil] }
        var copies: [SegmentHeader?] = []
        for offset in [0, copyBytes] {
            copies.append(
                try decode(
                    copy: UnsafeRawBufferPointer(rebasing: block[offset..<offset + copyBytes])))
        }
        return copies
    }

    private static func decode(
        copy: UnsafeRawBufferPointer
    ) throws(VersionMismatch) -> SegmentHeader? {
        let header = copy.loadUnaligned(as: clinux_segment_header.self)
        guard UInt64(littleEndian: header.magic) == magic,
            checksum(copy) == UInt32(littleEndian: header.crc)
        else { return nil }
        let found = UInt32(littleEndian: header.version)
        guard found == version else { throw VersionMismatch(found: found) }
        let bytes = UInt64(littleEndian: header.segment_bytes)
        guard bytes <= 1 << 40, UInt64(littleEndian: header.first_sequence) > 0 else { return nil }
        return SegmentHeader(
            spoolUUID: EntityID(header.spool_uuid), ringUUID: EntityID(header.ring_uuid),
            nonce: EntityID(header.nonce),
            firstSequence: UInt64(littleEndian: header.first_sequence),
            epoch: UInt64(littleEndian: header.epoch),
            number: UInt64(littleEndian: header.number), segmentBytes: Int(bytes),
            createdMicroseconds: Int64(littleEndian: header.created_microseconds),
            ringID: UInt16(littleEndian: header.ring_id),
            node: UInt8(truncatingIfNeeded: UInt16(littleEndian: header.node)),
            isInUse: UInt32(littleEndian: header.state) == 1)
    }

    private static func checksum(_ copy: UnsafeRawBufferPointer) -> UInt32 {
        headChecksum(copy, bytes: copyBytes)
    }
}

/// A segment in use.
///
/// A file that is used again gets a new one of these.
final class SpoolSegment: Sendable {
    let file: any SpoolFile
    let path: String
    let header: SegmentHeader
    let seed: UInt32
    /// Bytes that a sync covers; what readers may read.
    private let durableEndCell: Atomic<Int>
    /// The last sequence that a sync covers, or that recovery gave it; 0 for none.
    private let lastSequenceCell: Atomic<UInt64>
    private let flags = Atomic<UInt8>(0)
    /// When the spooler first saw that all of it was flushed; 0 for not yet.
    private let flushedAtCell = Atomic<Int64>(0)

    init(
        file: any SpoolFile, path: String, header: SegmentHeader, durableEnd: Int,
        lastSequence: UInt64
    ) {
        self.file = file
        self.path = path
        self.header = header
        seed = RecordFormat.seed(nonce: header.nonce)
        durableEndCell = Atomic(durableEnd)
        lastSequenceCell = Atomic(lastSequence)
    }

    var firstSequence: UInt64 { header.firstSequence }
    var durableEnd: Int { durableEndCell.load(ordering: .acquiring) }
    var lastSequence: UInt64 { lastSequenceCell.load(ordering: .acquiring) }
    var flushedAt: Int64 {
        get { flushedAtCell.load(ordering: .relaxed) }
        set { flushedAtCell.store(newValue, ordering: .relaxed) }
    }

    /// Publishes what a sync has covered: the sequence last, which is what readers ask for first.
    func publish(end: Int, lastSequence: UInt64) {
        durableEndCell.store(end, ordering: .releasing)
        lastSequenceCell.store(lastSequence, ordering: .releasing)
    }

    /// No more is written to it.
    var isSealed: Bool { flags.load(ordering: .acquiring) & 1 != 0 }
    func seal() { flags.bitwiseOr(1, ordering: .releasing) }
    /// Its file holds, or will soon hold, something else.
    var isReleased: Bool { flags.load(ordering: .acquiring) & 2 != 0 }
    func release() { flags.bitwiseOr(2, ordering: .sequentiallyConsistent) }
    /// A sync of it has failed, so the file is never used again.
    var isSuspect: Bool { flags.load(ordering: .acquiring) & 4 != 0 }
    func suspect() { flags.bitwiseOr(4, ordering: .releasing) }
}
