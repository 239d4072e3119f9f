// A ring file in memory: its identity, the positions of its two ends, its body mapped twice in a
// row.
internal import CLinux
internal import LinuxIO
internal import Tracking

/// What the first 128 bytes of a ring file say.
struct RingHeader: Equatable, Sendable {
    var ringUUID: EntityID
    var nonce: EntityID
    var spoolUUID: EntityID
    var bootID: EntityID
    var bodyBytes: Int
    var createdMicroseconds: Int64
    var ringID: UInt16
    var node: UInt8

    static let magic: UInt64 = 0x474E_4952_444B_4C43  // "CLKDRING" in file order.
    static let version: UInt32 = 1
    static let bytes = MemoryLayout<clinux_ring_header>.size
    static let positionsOffset = bytes

    /// Writes the header, checksum included.
    func encode(to bytes: UnsafeMutableRawBufferPointer) {
        precondition(bytes.count >= RingHeader.bytes)
        var header = clinux_ring_header()
        header.magic = RingHeader.magic.littleEndian
        header.version = RingHeader.version.littleEndian
        header.ring_uuid = ringUUID.persisted
        header.nonce = nonce.persisted
        header.spool_uuid = spoolUUID.persisted
        header.boot_id = bootID.persisted
        header.body_bytes = UInt64(bodyBytes).littleEndian
        header.created_microseconds = createdMicroseconds.littleEndian
        header.ring_id = ringID.littleEndian
        header.node = UInt16(node).littleEndian
        bytes.storeBytes(of: header, as: clinux_ring_header.self)
        let crc = RingHeader.checksum(UnsafeRawBufferPointer(bytes))
        bytes.storeBytes(of: crc.littleEndian, toByteOffset: 12, as: UInt32.self)
    }

    /// The header; nil when its checksum does not hold or it cannot be a ring's.
    static func decode(_ bytes: UnsafeRawBufferPointer) throws(VersionMismatch) -> RingHeader? {
        guard bytes.count >= RingHeader.bytes else { return nil }
        let header = bytes.loadUnaligned(as: clinux_ring_header.self)
        guard UInt64(littleEndian: header.magic) == magic,
            checksum(bytes) == UInt32(littleEndian: header.crc)
        else { return nil }
        let found = UInt32(littleEndian: header.version)
        guard found == version else { throw VersionMismatch(found: found) }
        let body = UInt64(littleEndian: header.body_bytes)
        guard body > 0, body % 4096 == 0, body <= 1 << 40 else { return nil }
        return RingHeader(
            ringUUID: EntityID(header.ring_uuid), nonce: EntityID(header.nonce),
            spoolUUID: EntityID(header.spool_uuid), bootID: EntityID(header.boot_id),
            bodyBytes: Int(body),
            createdMicroseconds: Int64(littleEndian: header.created_microseconds),
            ringID: UInt16(littleEndian: header.ring_id),
            node: UInt8(truncatingIfNeeded: UInt16(littleEndian: header.node)))
    }

    private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        headChecksum(bytes, bytes: RingHeader.bytes)
    }
}

/// A mapped ring.
final class RingMemory: @unchecked Sendable {
    // Sendable: positions are atomic; the body is written by one event loop and read by one spooler
    // behind the published head.
    let header: RingHeader
    let path: String
    private let mapping: MappedFile
    /// Told apart from whatever lies at `path` later.
    private let file: FileDescriptor
    /// The body's first byte; as many bytes again behind it mirror it.
    let body: UnsafeMutableRawPointer
    let slotCount: UInt64
    let seed: UInt32
    let headSlot, headSequence, tailSlot, tailSequence, epoch: SharedCell

    private init(
        header: RingHeader, path: String, file: consuming FileDescriptor,
        mapping: consuming MappedFile
    ) {
        let base = mapping.start
        self.header = header
        self.path = path
        self.file = file
        self.mapping = mapping
        body = base + RingLogLimits.fileHeadBytes
        slotCount = UInt64(header.bodyBytes / RingLogLimits.slotBytes)
        seed = RecordFormat.seed(nonce: header.nonce)
        let positions = base + RingHeader.positionsOffset
        headSlot = SharedCell(positions)
        headSequence = SharedCell(positions + 8)
        tailSlot = SharedCell(positions + 64)
        tailSequence = SharedCell(positions + 72)
        epoch = SharedCell(positions + 128)
    }

    /// Where an absolute slot lies.
    @inline(__always) func address(ofSlot slot: UInt64) -> UnsafeMutableRawPointer {
        body + Int(slot % slotCount) * RingLogLimits.slotBytes
    }

    /// Whether somebody has removed the file: the next start will not find it.
    var isRemoved: Bool { (try? file.status().links) == 0 }

    /// Enters the pages of some slots, which do not pass the body's end, into the page table.
    ///
    /// Where the kernel cannot (Linux before 5.14), the loop's own stores do it one by one.
    func makePages(fromSlot slot: UInt64, slots: Int) {
        let offset = Int(slot % slotCount) * RingLogLimits.slotBytes
        mapping.populate(
            offset: RingLogLimits.fileHeadBytes + offset, length: slots * RingLogLimits.slotBytes)
    }

    /// Makes a ring file: every block allocated, so that no store can meet a full file system.
    static func create(_ path: String, header: RingHeader) throws(Errno) -> RingMemory {
        let temporary = "\(path).new"
        do {
            let file = try FileDescriptor.open(temporary, [.readWrite, .create, .truncate])
            let length = RingLogLimits.fileHeadBytes + header.bodyBytes
            try file.allocate(length)
            try touch(file, length: length)
            let mapping = try MappedFile(
                mirroring: file, header: RingLogLimits.fileHeadBytes, body: header.bodyBytes,
                writable: true)
            header.encode(to: mapping.bytes)
            try FileSystem.rename(temporary, to: path)
            return RingMemory(header: header, path: path, file: file, mapping: mapping)
        } catch {
            try? FileSystem.remove(temporary)
            throw error
        }
    }

    /// Maps a ring file as it is; nil when its identity does not hold or its length is not what the
    /// identity says.
    static func open(_ path: String) throws(RingLogError) -> RingMemory? {
        do {
            let file = try FileDescriptor.open(path, .readWrite)
            let status = try file.status()
            guard status.isRegularFile, status.ownerID == CurrentProcess.userID else {
                throw RingLogError.rights(path: path, reason: "is not a file of this user")
            }
            let start = UnsafeMutableRawBufferPointer.allocate(
                byteCount: RingHeader.bytes, alignment: 8)
            defer { start.deallocate() }
            let count = try file.read(into: start, at: 0)
            let header = try RingHeader.decode(
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(start)[..<count]))
            guard let header, status.bytes == RingLogLimits.fileHeadBytes + header.bodyBytes else {
                return nil
            }
            // A sparse file would kill by SIGBUS at the first store that finds no memory.
            try file.allocate(status.bytes)
            let mapping = try MappedFile(
                mirroring: file, header: RingLogLimits.fileHeadBytes, body: header.bodyBytes,
                writable: true)
            return RingMemory(header: header, path: path, file: file, mapping: mapping)
        } catch let error as Errno {
            throw .access(path, error)
        } catch let error as VersionMismatch {
            throw .version(path: path, found: error.found)
        } catch let error as RingLogError {
            throw error
        } catch {
            throw .inputOutput(path: path, .inputOutput)
        }
    }

    /// The whole body of a ring file whose identity is lost, as plain bytes; nil when it is no file
    /// that could be a ring.
    static func rawBody(_ path: String) throws(Errno) -> [UInt8]? {
        let bytes = try FileSystem.read(path, limit: 1 << 31)
        guard bytes.count > RingLogLimits.fileHeadBytes else { return nil }
        return Array(bytes[RingLogLimits.fileHeadBytes...])
    }

    /// Has the kernel clear every page now, through a mapping that ends here: the first records then
    /// pay for a minor fault only, and an idle process is not charged with pages it has not used.
    private static func touch(_ file: borrowing FileDescriptor, length: Int) throws(Errno) {
        let mapping = try MappedFile(file, length: length, writable: true)
        for offset in stride(from: 0, to: length, by: 4096) {
            mapping.bytes.storeBytes(of: 0, toByteOffset: offset, as: UInt8.self)
        }
    }
}
