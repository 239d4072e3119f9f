// Looks at rings and a spool, live or not: takes no lock, writes nothing, and puts up with files that
// are used again while it reads.
internal import LinuxIO
public import Tracking

/// Reads the directories of a store that may be in use.
///
/// Rings are copied before the spool is read, so that whatever leaves a ring meanwhile is met in the
/// spool. One thread at a time.
public struct StoreInspector {
    /// How much is read.
    public enum Depth: Sendable {
        /// Heads, the rings' contents, and each log's last segment.
        case survey
        /// Every record.
        case everything
    }

    /// How often what looks damaged is read again: a write may be under way.
    static let retries = 3
    static let retryMicroseconds: Int64 = 20_000

    private let ringDirectory: String
    private let spoolDirectory: String
    private let files = KernelFiles(isReadOnly: true)

    /// An inspector of two directories.
    public init(ringDirectory: String, spoolDirectory: String) {
        self.ringDirectory = ringDirectory
        self.spoolDirectory = spoolDirectory
    }

    /// What the directories hold.
    ///
    /// - Parameters:
    ///   - depth: How much is read.
    ///   - uuid: Only this log; nil for all.
    ///   - visit: Called with each record that is read, in each log's order.
    public func look(
        _ depth: Depth, only uuid: EntityID? = nil,
        visit: (EntityID, StoredRecord) -> Void = { _, _ in }
    ) throws(RingLogError) -> StoreView {
        var problems: [StoreProblem] = []
        let rings = try snapshots(&problems)
        let identity = try readIdentity(&problems)
        let found = try readSegments(identity?.spoolUUID, &problems)
        for ring in rings { problems += ring.problems }
        var logs: [LogView] = []
        let ids = Set(rings.map(\.view.ringUUID))
            .union(found.filter { $0.view.state == .inUse }.map(\.view.ringUUID))
        for id in ids where uuid == nil || uuid == id {
            let ring = rings.first { $0.view.ringUUID == id }
            let segments = found.filter { $0.view.state == .inUse && $0.view.ringUUID == id }
            let isLive = identity?.rings.contains { $0.ringUUID == id } ?? false
            // The walk ends before this call does.
            withoutActuallyEscaping(visit) { visit in
                let log = LogWalk(uuid: id, visit: visit)
                logs.append(
                    walk(log, ring: ring, segments: segments, isLive: isLive, depth: depth))
            }
        }
        logs.sort {
            ($0.ringID, $0.isLive ? 0 : 1, $0.ringUUID) < (
                $1.ringID, $1.isLive ? 0 : 1, $1.ringUUID
            )
        }
        return StoreView(
            spool: identity.map(StoreInspector.view), logs: logs, segments: found.map(\.view),
            problems: problems)
    }

    // MARK: - Files

    /// A segment file that could be read.
    private struct Found {
        let view: SegmentView
        let segment: SpoolSegment?
    }

    private func snapshots(
        _ problems: inout [StoreProblem]
    ) throws(RingLogError) -> [RingSnapshot] {
        var rings: [RingSnapshot] = []
        for name in try list(ringDirectory) where name.hasSuffix(".ring") {
            if let ring = try RingSnapshot.take("\(ringDirectory)/\(name)", problems: &problems) {
                rings.append(ring)
            }
        }
        return rings
    }

    private func list(_ directory: String) throws(RingLogError) -> ArraySlice<String> {
        do {
            return try files.list(directory).prefix(RingLogLimits.maximumFiles)
        } catch .noSuchFile {
            return []
        } catch {
            throw .access(directory, error)
        }
    }

    private func readIdentity(
        _ problems: inout [StoreProblem]
    ) throws(RingLogError) -> SpoolIdentity? {
        let path = "\(spoolDirectory)/identity"
        let file: any SpoolFile
        do {
            file = try files.open(path, create: false)
        } catch .noSuchFile {
            problems.append(StoreProblem(path: path, reason: "is missing"))
            return nil
        } catch {
            throw .access(path, error)
        }
        let slot = UnsafeMutableRawBufferPointer.allocate(
            byteCount: SpoolIdentity.slotBytes, alignment: 8)
        defer { slot.deallocate() }
        var newest: SpoolIdentity?
        for index in 0..<2 {
            for attempt in 0...StoreInspector.retries {
                let count = try? file.readFully(slot, at: index * SpoolIdentity.slotBytes)
                do {
                    if count == slot.count,
                        let identity = try SpoolIdentity.decode(UnsafeRawBufferPointer(slot))
                    {
                        if identity.generation >= newest?.generation ?? 0 { newest = identity }
                        break
                    }
                } catch {
                    throw .version(path: path, found: error.found)
                }
                if count == slot.count, slot.allSatisfy({ $0 == 0 }) { break }
                if attempt == StoreInspector.retries {
                    problems.append(
                        StoreProblem(path: path, reason: "slot \(index) is damaged"))
                } else {
                    Thread.sleep(microseconds: StoreInspector.retryMicroseconds)
                }
            }
        }
        return newest
    }

    private func readSegments(
        _ spoolUUID: EntityID?, _ problems: inout [StoreProblem]
    ) throws(RingLogError) -> [Found] {
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: RingLogLimits.fileHeadBytes, alignment: 4096)
        defer { block.deallocate() }
        var found: [Found] = []
        for name in try list(spoolDirectory) where name.hasSuffix(".segment") {
            let path = "\(spoolDirectory)/\(name)"
            do {
                let file = try files.open(path, create: false)
                found.append(try read(file, path: path, spoolUUID, block, &problems))
            } catch .noSuchFile as Errno {
                continue  // Renamed or removed since the listing.
            } catch let error as VersionMismatch {
                throw .version(path: path, found: error.found)
            } catch let error as Errno {
                problems.append(StoreProblem(path: path, reason: "cannot be read: \(error)"))
            } catch {
                problems.append(StoreProblem(path: path, reason: "cannot be read"))
            }
        }
        return found.sorted {
            ($0.view.firstSequence, $0.view.number) < ($1.view.firstSequence, $1.view.number)
        }
    }

    private func read(
        _ file: any SpoolFile, path: String, _ spoolUUID: EntityID?,
        _ block: UnsafeMutableRawBufferPointer, _ problems: inout [StoreProblem]
    ) throws -> Found {
        let bytes = try file.status().bytes
        var count = 0
        var copies: [SegmentHeader?] = [nil, nil]
        var header: SegmentHeader?
        for attempt in 0...StoreInspector.retries {
            count = try file.readFully(block, at: 0)
            let whole = UnsafeRawBufferPointer(block)
            copies = try count == block.count ? SegmentHeader.copies(whole) : [nil, nil]
            header = try count == block.count ? SegmentHeader.decode(whole) : nil
            let isBlank = block[..<count].allSatisfy { $0 == 0 }
            if isBlank || !copies.contains(nil) || attempt == StoreInspector.retries { break }
            Thread.sleep(microseconds: StoreInspector.retryMicroseconds)
        }
        guard let header else {
            let isBlank = block[..<count].allSatisfy { $0 == 0 }
            if !isBlank { problems.append(StoreProblem(path: path, reason: "the head is damaged")) }
            return Found(
                view: SegmentView(
                    path: path, state: isBlank ? .blank : .damaged, bytes: bytes, number: 0,
                    ringID: 0, ringUUID: .zero, epoch: 0, firstSequence: 0, createdMicroseconds: 0),
                segment: nil)
        }
        if copies.contains(nil) {
            problems.append(StoreProblem(path: path, reason: "one copy of the head is damaged"))
        }
        let isForeign = spoolUUID.map { $0 != header.spoolUUID } ?? false
        let state: SegmentState =
            isForeign ? .foreign : header.isInUse ? .inUse : .free
        if bytes < header.segmentBytes, state == .inUse {
            problems.append(
                StoreProblem(
                    path: path, reason: "has \(bytes) bytes, its head says \(header.segmentBytes)"))
        }
        return Found(
            view: SegmentView(
                path: path, state: state, bytes: bytes, number: header.number,
                ringID: header.ringID, ringUUID: header.ringUUID, epoch: header.epoch,
                firstSequence: header.firstSequence,
                createdMicroseconds: header.createdMicroseconds),
            segment: SpoolSegment(
                file: file, path: path, header: header, durableEnd: bytes, lastSequence: 0))
    }

    private static func view(_ identity: SpoolIdentity) -> SpoolView {
        SpoolView(
            spoolUUID: identity.spoolUUID, node: identity.node,
            machine: String(decoding: identity.machine, as: UTF8.self), bootID: identity.bootID,
            epoch: identity.epoch, isCleanStop: identity.isCleanStop,
            isClaimed: identity.isClaimed,
            rings: identity.rings.enumerated().filter { $0.element.ringUUID != .zero }.map {
                SpoolView.Ring(
                    worker: $0.offset, ringUUID: $0.element.ringUUID,
                    leaseMilliseconds: $0.element.leaseMilliseconds)
            },
            losses: identity.losses.map {
                SpoolView.Loss(ringUUID: $0.ringUUID, ringID: $0.ringID, gap: $0.gap)
            })
    }

    // MARK: - Records

    private func walk(
        _ log: LogWalk, ring: RingSnapshot?, segments: [Found], isLive: Bool, depth: Depth
    ) -> LogView {
        var walk = log
        let known = segments.compactMap(\.segment)
        for (index, segment) in known.enumerated() {
            let isLast = index == known.count - 1
            guard depth == .everything || isLast else {
                walk.pass(segment)
                continue
            }
            let end = isLast ? nil : known[index + 1].firstSequence
            if let end, end <= segment.firstSequence { continue }  // Replaced by a later file.
            walk.read(segment, before: end)
        }
        let spooled = walk.last
        if let ring { walk.read(ring, hasSegments: !known.isEmpty) }
        let ringID = ring?.view.ringID ?? segments.first?.view.ringID ?? 0
        return LogView(
            ringID: ringID, ringUUID: walk.uuid, isLive: isLive, ring: ring?.view,
            segments: segments.map(\.view), firstSequence: walk.first, lastSequence: walk.last,
            spooledSequence: spooled, recordCount: walk.count, gaps: walk.gaps,
            badSlots: ring?.badSlots ?? 0)
    }
}

/// One log from its oldest segment to its ring's head.
private struct LogWalk {
    let uuid: EntityID
    let visit: (EntityID, StoredRecord) -> Void
    var first: UInt64 = 0
    var last: UInt64 = 0
    var count = 0
    var gaps: [RingGap] = []
    /// What lies before the next record was flushed and used again while it was read.
    private var isOvertaken = false

    init(uuid: EntityID, visit: @escaping (EntityID, StoredRecord) -> Void) {
        self.uuid = uuid
        self.visit = visit
    }

    /// A segment whose records are taken for granted.
    mutating func pass(_ segment: SpoolSegment) {
        if first == 0 { first = segment.firstSequence }
    }

    mutating func read(_ segment: SpoolSegment, before end: UInt64?) {
        // Without records before it nothing can be missing before it: older segments are freed.
        if last == 0 { last = segment.firstSequence - 1 }
        note(through: segment.firstSequence - 1, .segmentMissing)
        let limit = (end ?? .max) - 1
        var reader = SegmentReader(segment)
        var tries = 0
        while last < limit {
            let found = reader.next(last + 1...limit, below: segment.durableEnd)
            let isWhole = found.map { $0.head.sequence == last + 1 } ?? (end == nil)
            if !isWhole, tries < StoreInspector.retries {
                // Perhaps a write is under way; a file that is used again is another's now.
                tries += 1
                Thread.sleep(microseconds: StoreInspector.retryMicroseconds)
                reader = SegmentReader(segment)
                continue
            }
            guard let found else { break }
            guard isWhole || !isRecycled(segment) else {
                isOvertaken = true
                break
            }
            note(through: found.head.sequence - 1, .spoolDamaged)
            emit(found.head, found.payload, isSpooled: true)
        }
        if isRecycled(segment) { isOvertaken = true }
        if end != nil { note(through: limit, .spoolDamaged) }
    }

    mutating func read(_ ring: RingSnapshot, hasSegments: Bool) {
        let freed = ring.view.durableSequence
        for record in ring.records where record.head.sequence > last {
            // Nothing in the spool is no gap: what was flushed is freed.
            if hasSegments || count > 0 {
                note(through: min(freed, record.head.sequence - 1), .spoolDamaged)
                note(through: record.head.sequence - 1, .ringDamaged)
            }
            emit(record.head, record.payload, isSpooled: false)
        }
        // What the ring freed lies in the spool, if the spool still has anything of it.
        if hasSegments { note(through: freed, .spoolDamaged) }
        if ring.view.usedBytes > 0, last > 0 { note(through: ring.view.headSequence, .ringDamaged) }
    }

    private mutating func emit(
        _ head: RecordHead, _ payload: UnsafeRawBufferPointer, isSpooled: Bool
    ) {
        if first == 0 { first = head.sequence }
        isOvertaken = false
        last = head.sequence
        count += 1
        visit(
            uuid,
            StoredRecord(
                sequence: head.sequence, kind: head.kind, isSpooled: isSpooled, payload: payload))
    }

    /// Everything up to a sequence is missing.
    private mutating func note(through end: UInt64, _ cause: RingGap.Cause) {
        guard end > last else { return }
        defer { last = end }
        guard !isOvertaken else { return }
        gaps.append(RingGap(firstSequence: last + 1, lastSequence: end, cause: cause))
    }

    /// Whether the file's head tells another story by now.
    private func isRecycled(_ segment: SpoolSegment) -> Bool {
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: RingLogLimits.fileHeadBytes, alignment: 4096)
        defer { block.deallocate() }
        guard let count = try? segment.file.readFully(block, at: 0), count == block.count,
            let header = try? SegmentHeader.decode(UnsafeRawBufferPointer(block))
        else { return false }
        return header != segment.header
    }
}
