// Finds out, from the files' own heads and never from their names, what a spool directory holds.
internal import LinuxIO
internal import Tracking

/// One ring's records on disk, as found at open.
struct RecoveredLog {
    var ringID: UInt16
    var node: UInt8
    var nonce: EntityID
    var segments: [SpoolSegment] = []
    var lastSequence: UInt64 = 0
}

/// What the spool's files are.
struct SpoolRecovery {
    var logs: [EntityID: RecoveredLog] = [:]
    var notices: [String] = []
    var highestEpoch: UInt64 = 0
    /// The spool that the newest segment names; for a lost identity file.
    var namedSpool: (spoolUUID: EntityID, node: UInt8)?
    private var newestNumber: UInt64 = 0
    private var freeFiles: [(file: any SpoolFile, path: String)] = []
    private var headless: [(file: any SpoolFile, path: String, bytes: Int)] = []

    /// Reads every segment's head.
    init(directory: String, pool: SegmentPool) throws(RingLogError) {
        let names: [String]
        do {
            names = try pool.files.list(directory)
        } catch {
            throw .access(directory, error)
        }
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: RingLogLimits.fileHeadBytes, alignment: 4096)
        defer { block.deallocate() }
        for name in names.prefix(RingLogLimits.maximumFiles) where name.hasSuffix(".segment") {
            let path = "\(directory)/\(name)"
            do {
                let file = try pool.files.open(path, create: false)
                let status = try file.status()
                guard status.isRegularFile else { continue }
                let count = try file.readFully(block, at: 0)
                let header =
                    count == block.count
                    ? try SegmentHeader.decode(UnsafeRawBufferPointer(block)) : nil
                note(file: file, path: path, bytes: status.bytes, header: header, pool: pool)
            } catch let error as VersionMismatch {
                throw .version(path: path, found: error.found)
            } catch {
                notices.append("\(path) cannot be read: \(error)")
            }
        }
    }

    private mutating func note(
        file: any SpoolFile, path: String, bytes: Int, header: SegmentHeader?, pool: SegmentPool
    ) {
        guard let header else {
            headless.append((file, path, bytes))
            return
        }
        highestEpoch = max(highestEpoch, header.epoch)
        pool.noteNumber(header.number)
        if header.number >= newestNumber {
            newestNumber = header.number
            namedSpool = (header.spoolUUID, header.node)
        }
        guard header.isInUse else {
            freeFiles.append((file, path))
            return
        }
        let segment = SpoolSegment(
            file: file, path: path, header: header,
            durableEnd: min(bytes, max(header.segmentBytes, RingLogLimits.fileHeadBytes)),
            lastSequence: 0)
        add(segment)
    }

    private mutating func add(_ segment: SpoolSegment) {
        segment.seal()
        let header = segment.header
        logs[
            header.ringUUID,
            default: RecoveredLog(
                ringID: header.ringID, node: header.node, nonce: header.nonce)
        ].segments.append(segment)
    }

    /// Orders each log's segments, finds where it ends, and gives files that hold nothing to the
    /// pool.
    ///
    /// - Parameter nonces: Rings known beside the spool, for files whose head is damaged.
    mutating func settle(
        spoolUUID: EntityID, rings: [RingHeader], pool: SegmentPool, spare: Int
    ) throws(RingLogError) {
        salvage(spoolUUID: spoolUUID, rings: rings, pool: pool)
        for (ringUUID, log) in logs {
            var log = log
            let foreign = log.segments.filter { $0.header.spoolUUID != spoolUUID }
            for segment in foreign {
                notices.append("\(segment.path) belongs to another spool and is left alone")
            }
            log.segments.removeAll { $0.header.spoolUUID != spoolUUID }
            log.segments.sort {
                ($0.firstSequence, $0.header.number) < ($1.firstSequence, $1.header.number)
            }
            try settle(&log, pool)
            for segment in log.segments { pool.adopt(segment.header) }
            logs[ringUUID] = log.segments.isEmpty ? nil : log
        }
        for (file, path) in freeFiles { pool.keep(file, path: path, spare: spare) }
        freeFiles = []
    }

    private mutating func settle(
        _ log: inout RecoveredLog, _ pool: SegmentPool
    ) throws(RingLogError) {
        var kept: [SpoolSegment] = []
        for segment in log.segments.reversed() {
            if let next = kept.last {
                // A later file that begins at the same record or before replaces this one.
                guard segment.firstSequence < next.firstSequence else {
                    freeFiles.append((segment.file, segment.path))
                    continue
                }
                segment.publish(end: segment.durableEnd, lastSequence: next.firstSequence - 1)
                kept.append(segment)
                continue
            }
            var reader = SegmentReader(segment)
            var last: UInt64 = 0
            var end = RingLogLimits.fileHeadBytes
            let first = segment.firstSequence
            while let found = reader.next(
                max(first, last + 1)...UInt64.max - 1, below: segment.durableEnd)
            {
                last = found.head.sequence
                end = found.end
            }
            guard last != 0 else {
                freeFiles.append((segment.file, segment.path))
                continue
            }
            let header = pool.shortened(segment, end: end)
            do {
                // A killed process leaves its writes to the kernel; durable means synced.
                try segment.file.syncData()
            } catch {
                throw .inputOutput(path: segment.path, error)
            }
            let sealed = SpoolSegment(
                file: segment.file, path: segment.path, header: header, durableEnd: end,
                lastSequence: last)
            sealed.seal()
            pool.cut(sealed)
            log.lastSequence = last
            kept.append(sealed)
        }
        log.segments = kept.reversed()
    }

    /// Looks into files whose head is damaged for records of the rings that are known.
    private mutating func salvage(spoolUUID: EntityID, rings: [RingHeader], pool: SegmentPool) {
        var known = rings
        for (ringUUID, log) in logs {
            known.append(
                RingHeader(
                    ringUUID: ringUUID, nonce: log.nonce, spoolUUID: spoolUUID, bootID: .zero,
                    bodyBytes: 0, createdMicroseconds: 0, ringID: log.ringID, node: log.node))
        }
        for (file, path, bytes) in headless {
            var isSalvaged = false
            for ring in known where !isSalvaged {
                guard let segment = salvaged(file, path, bytes, ring, spoolUUID) else { continue }
                add(segment)
                notices.append("\(path) had a damaged head; its records were found without it")
                isSalvaged = true
            }
            if !isSalvaged { freeFiles.append((file, path)) }
        }
        headless = []
    }

    private func salvaged(
        _ file: any SpoolFile, _ path: String, _ bytes: Int, _ ring: RingHeader,
        _ spoolUUID: EntityID
    ) -> SpoolSegment? {
        func segment(first: UInt64) -> SpoolSegment {
            let header = SegmentHeader(
                spoolUUID: spoolUUID, ringUUID: ring.ringUUID, nonce: ring.nonce,
                firstSequence: first, epoch: 0, number: 0, segmentBytes: bytes,
                createdMicroseconds: 0, ringID: ring.ringID, node: ring.node, isInUse: true)
            return SpoolSegment(
                file: file, path: path, header: header, durableEnd: bytes, lastSequence: 0)
        }
        var reader = SegmentReader(segment(first: 1))
        guard let found = reader.next(1...UInt64.max - 1, below: bytes) else { return nil }
        return segment(first: found.head.sequence)
    }
}
