// The spool's memory of itself: who it is, which rings it had, how far their identities may go.
internal import CLinux
internal import LinuxIO
internal import Tracking

/// What the identity file holds (docs/formats/spool.md).
struct SpoolIdentity: Equatable, Sendable {
    /// What is remembered of one ring.
    struct Ring: Equatable, Sendable {
        /// The live ring's UUID; zero for none.
        var ringUUID = EntityID.zero
        /// No identity of the ring is at or beyond this time; 0 for none yet.
        var leaseMilliseconds: Int64 = 0
    }

    /// A loss that has not been acknowledged.
    struct Loss: Equatable, Sendable {
        var ringUUID: EntityID
        var ringID: UInt16
        var gap: RingGap
        var noticedMicroseconds: Int64
    }

    var generation: UInt64 = 0
    var spoolUUID: EntityID
    var bootID: EntityID
    var epoch: UInt64 = 0
    var createdMicroseconds: Int64
    var node: UInt8
    var isCleanStop = true
    var isClaimed = false
    var machine: [UInt8]
    var rings = [Ring](repeating: Ring(), count: RingLogLimits.maximumWorkers)
    /// The newest are kept when there are more than ``maximumLosses``.
    var losses: [Loss] = []

    static let magic: UInt64 = 0x4449_4C4F_4F50_534B  // "KSPOOLID" in file order.
    static let version: UInt32 = 1
    static let slotBytes = 4096
    static let ringsOffset = 1024
    static let lossesOffset = 2048
    static let maximumLosses = 32

    /// Writes one slot, checksum last.
    func encode(to slot: UnsafeMutableRawBufferPointer) {
        slot.initializeMemory(as: UInt8.self, repeating: 0)
        var header = clinux_spool_identity()
        header.magic = SpoolIdentity.magic.littleEndian
        header.version = SpoolIdentity.version.littleEndian
        header.generation = generation.littleEndian
        header.spool_uuid = spoolUUID.persisted
        header.boot_id = bootID.persisted
        header.epoch = epoch.littleEndian
        header.created_microseconds = createdMicroseconds.littleEndian
        header.node = UInt16(node).littleEndian
        header.clean_stop = isCleanStop ? 1 : 0
        header.claimed = isClaimed ? 1 : 0
        withUnsafeMutableBytes(of: &header.machine) { $0.copyBytes(from: machine.prefix(63)) }
        slot.storeBytes(of: header, as: clinux_spool_identity.self)
        for (index, ring) in rings.enumerated() {
            var entry = clinux_spool_ring()
            entry.ring_uuid = ring.ringUUID.persisted
            entry.lease_milliseconds = ring.leaseMilliseconds.littleEndian
            slot.storeBytes(
                of: entry, toByteOffset: SpoolIdentity.ringsOffset + 32 * index,
                as: clinux_spool_ring.self)
        }
        for (index, loss) in losses.suffix(SpoolIdentity.maximumLosses).enumerated() {
            var entry = clinux_spool_gap()
            entry.ring_uuid = loss.ringUUID.persisted
            entry.first_sequence = loss.gap.firstSequence.littleEndian
            entry.last_sequence = (loss.gap.lastSequence ?? 0).littleEndian
            entry.noticed_microseconds = loss.noticedMicroseconds.littleEndian
            entry.ring_id = loss.ringID.littleEndian
            entry.cause = loss.gap.cause.persisted.littleEndian
            slot.storeBytes(
                of: entry, toByteOffset: SpoolIdentity.lossesOffset + 64 * index,
                as: clinux_spool_gap.self)
        }
        slot.storeBytes(
            of: checksum(UnsafeRawBufferPointer(slot)).littleEndian, toByteOffset: 12,
            as: UInt32.self)
    }

    /// A slot's content; nil when it is not one, and an error when it is of another version.
    static func decode(_ slot: UnsafeRawBufferPointer) throws(VersionMismatch) -> SpoolIdentity? {
        guard slot.count >= slotBytes else { return nil }
        let header = slot.loadUnaligned(as: clinux_spool_identity.self)
        guard UInt64(littleEndian: header.magic) == magic else { return nil }
        let found = UInt32(littleEndian: header.version)
        guard checksum(slot) == UInt32(littleEndian: header.crc) else { return nil }
        guard found == version else { throw VersionMismatch(found: found) }
        var machine = withUnsafeBytes(of: header.machine) { Array($0.prefix(63)) }
        if let end = machine.firstIndex(of: 0) { machine.removeSubrange(end...) }
        var identity = SpoolIdentity(
            spoolUUID: EntityID(header.spool_uuid), bootID: EntityID(header.boot_id),
            createdMicroseconds: Int64(littleEndian: header.created_microseconds),
            node: UInt8(truncatingIfNeeded: UInt16(littleEndian: header.node)), machine: machine)
        identity.generation = UInt64(littleEndian: header.generation)
        identity.epoch = UInt64(littleEndian: header.epoch)
        identity.isCleanStop = header.clean_stop == 1
        identity.isClaimed = header.claimed == 1
        for index in 0..<RingLogLimits.maximumWorkers {
            let entry = slot.loadUnaligned(
                fromByteOffset: ringsOffset + 32 * index, as: clinux_spool_ring.self)
            identity.rings[index] = Ring(
                ringUUID: EntityID(entry.ring_uuid),
                leaseMilliseconds: Int64(littleEndian: entry.lease_milliseconds))
        }
        identity.losses = (0..<maximumLosses).compactMap { index in
            loss(
                slot.loadUnaligned(
                    fromByteOffset: lossesOffset + 64 * index, as: clinux_spool_gap.self))
        }
        return identity
    }

    private static func loss(_ entry: clinux_spool_gap) -> Loss? {
        guard let cause = RingGap.Cause(persisted: UInt16(littleEndian: entry.cause)) else {
            return nil
        }
        let last = UInt64(littleEndian: entry.last_sequence)
        return Loss(
            ringUUID: EntityID(entry.ring_uuid), ringID: UInt16(littleEndian: entry.ring_id),
            gap: RingGap(
                firstSequence: UInt64(littleEndian: entry.first_sequence),
                lastSequence: last == 0 ? nil : last, cause: cause),
            noticedMicroseconds: Int64(littleEndian: entry.noticed_microseconds))
    }

    private static func checksum(_ slot: UnsafeRawBufferPointer) -> UInt32 {
        headChecksum(slot, bytes: slotBytes)
    }

    private func checksum(_ slot: UnsafeRawBufferPointer) -> UInt32 {
        SpoolIdentity.checksum(slot)
    }
}

extension RingGap.Cause {
    /// The number that stands for the cause on disk.
    var persisted: UInt16 {
        switch self {
        case .ringMissing: 1
        case .machineStopped: 2
        case .ringDamaged: 3
        case .spoolDamaged: 4
        case .segmentMissing: 5
        }
    }

    init?(persisted number: UInt16) {
        guard let cause = RingGap.Cause.allCases.first(where: { $0.persisted == number }) else {
            return nil
        }
        self = cause
    }
}

/// A file of a version that this program does not read.
struct VersionMismatch: Error {
    let found: UInt32
}

/// The identity file: two slots written in turn, so that a torn write leaves the other one.
struct IdentityFile: Sendable {
    private let file: any SpoolFile
    let path: String

    /// Opens the file; nil when there is none.
    init?(directory: String, files: any SpoolFileSystem) throws(RingLogError) {
        path = "\(directory)/identity"
        do {
            file = try files.open(path, create: false)
        } catch .noSuchFile {
            return nil
        } catch {
            throw .access(path, error)
        }
    }

    /// Makes the file with its first content, durable before it returns.
    init(
        directory: String, files: any SpoolFileSystem, first: SpoolIdentity
    ) throws(RingLogError) {
        path = "\(directory)/identity"
        let temporary = "\(path).new"
        do {
            file = try files.open(temporary, create: true)
            try IdentityFile.withSlot { (slot) throws(Errno) in
                try file.write(UnsafeRawBufferPointer(slot), at: SpoolIdentity.slotBytes)
            }
            try write(first)
            try file.sync()
            try files.rename(temporary, to: path)
            try files.syncDirectory(directory)
        } catch {
            throw .cannotCreate(path: path, error)
        }
    }

    /// Whether somebody has removed the file: the next start will not find it.
    var isRemoved: Bool { file.isRemoved }

    /// The newest valid slot; nil when neither is.
    func read() throws(RingLogError) -> SpoolIdentity? {
        var newest: SpoolIdentity?
        for index in 0..<2 {
            let slot: SpoolIdentity?
            do {
                slot = try decode(index)
            } catch {
                throw error
            }
            if let slot, slot.generation >= newest?.generation ?? 0 { newest = slot }
        }
        return newest
    }

    private func decode(_ index: Int) throws(RingLogError) -> SpoolIdentity? {
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: SpoolIdentity.slotBytes, alignment: 8)
        defer { bytes.deallocate() }
        do {
            let count = try file.readFully(bytes, at: index * SpoolIdentity.slotBytes)
            guard count == SpoolIdentity.slotBytes else { return nil }
        } catch {
            if error == .inputOutput { return nil }  // The other slot may still be readable.
            throw .inputOutput(path: path, error)
        }
        do {
            return try SpoolIdentity.decode(UnsafeRawBufferPointer(bytes))
        } catch {
            throw .version(path: path, found: error.found)
        }
    }

    /// Writes the content to the slot of its generation and makes it durable.
    func write(_ identity: SpoolIdentity) throws(Errno) {
        try IdentityFile.withSlot { (slot) throws(Errno) in
            identity.encode(to: slot)
            let index = Int(identity.generation & 1)
            try file.write(UnsafeRawBufferPointer(slot), at: index * SpoolIdentity.slotBytes)
        }
        try file.syncData()
    }

    private static func withSlot(
        _ body: (UnsafeMutableRawBufferPointer) throws(Errno) -> Void
    ) throws(Errno) {
        let slot = UnsafeMutableRawBufferPointer.allocate(
            byteCount: SpoolIdentity.slotBytes, alignment: 4096)
        defer { slot.deallocate() }
        slot.initializeMemory(as: UInt8.self, repeating: 0)
        try body(slot)
    }
}
