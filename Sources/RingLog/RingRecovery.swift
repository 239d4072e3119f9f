// What is done with ring files at open: adopt the sound, carry the records of all others to the
// spool.
internal import LinuxIO
internal import Tracking

extension RingMemory {
    /// Takes up the positions after a stop of any kind; false when they cannot be right.
    ///
    /// - Parameter spooled: The last record of this ring that the spool has.
    func adoptPositions(spooled: UInt64) -> Bool {
        let head = headSlot.load()
        let tail = tailSlot.load()
        let freed = tailSequence.load()
        // The sequence is published after the position, so it may be one record behind it, and behind
        // what the spooler has made of it. (One ahead in rings of before 28 November 2026.)
        let behind = headSequence.load()
        if spooled == behind &+ 1 || (freed == behind &+ 1 && tail == head) {
            headSequence.store(behind &+ 1)
        }
        let last = headSequence.load()
        guard tail <= head, head < UInt64.max / 2, head - tail <= slotCount, freed <= last,
            last - freed <= head - tail + 1, spooled <= last
        else { return false }
        // A record whose head was stored, but whose position was not yet published.
        if head - tail < slotCount, last < UInt64.max - 2,
            let record = RecordFormat.check(
                address(ofSlot: head),
                available: Int(slotCount - (head - tail)) * RingLogLimits.slotBytes, seed: seed,
                sequences: max(1, last)...last + 1)
        {
            headSequence.store(record.sequence)
            headSlot.publish(head + UInt64(record.slots))
        }
        return confirmPositions(spooled: spooled)
    }

    /// Holds the positions, which carry no checksum, against the records, which do.
    ///
    /// False when records that belong between the ends lie elsewhere. Sequences that fell behind
    /// their records are put right: no sequence may be given twice, none be taken for spooled.
    private func confirmPositions(spooled: UInt64) -> Bool {
        let head = headSlot.load()
        let tail = tailSlot.load()
        let found = validSequences(from: tail, slots: head - tail)
        if let first = found.first, first.slot == tail {
            tailSequence.store(first.sequence - 1)
        } else if head == tail, tailSequence.load() != headSequence.load() {
            return false
        }
        if let last = found.last, last.sequence > headSequence.load() {
            headSequence.store(last.sequence)
        }
        let known = Set(found.map(\.sequence))
        let wanted = spooled + 1...max(spooled + 1, headSequence.load())
        guard spooled < headSequence.load(), UInt64(wanted.count) > UInt64(known.count) else {
            return true
        }
        // All of the body, whichever record lies across a head that is wrong.
        return !validSequences(from: tail, slots: slotCount, mayPassEnd: true).contains {
            wanted.contains($0.sequence) && !known.contains($0.sequence)
        }
    }

    /// The valid records among so many slots, where they begin, in order of their slots.
    private func validSequences(
        from start: UInt64, slots: UInt64, mayPassEnd: Bool = false
    ) -> [(slot: UInt64, sequence: UInt64)] {
        var found: [(slot: UInt64, sequence: UInt64)] = []
        var slot = start
        while slot < start + slots {
            guard
                let record = RecordFormat.check(
                    address(ofSlot: slot),
                    available: Int(mayPassEnd ? slotCount : start + slots - slot)
                        * RingLogLimits.slotBytes, seed: seed, sequences: 1...UInt64.max - 2)
            else {
                slot += 1
                continue
            }
            found.append((slot, record.sequence))
            slot += UInt64(record.slots)
        }
        return found
    }
}

/// Carries what a ring that is not continued holds beyond the spool into segments of its own log.
struct RingRescue {
    let pool: SegmentPool
    let spoolUUID: EntityID
    let epoch: UInt64
    let now: Int64
    private(set) var gaps: [RingGap] = []

    init(pool: SegmentPool, spoolUUID: EntityID, epoch: UInt64, now: Int64) {
        self.pool = pool
        self.spoolUUID = spoolUUID
        self.epoch = epoch
        self.now = now
    }

    /// Finds every valid record beyond the log's last, wherever it lies, and spools them in order.
    ///
    /// - Parameters:
    ///   - body: The ring's body.
    ///   - mirrored: Whether as many bytes again may be read behind it.
    ///   - ring: What is known of the ring.
    ///   - head: The last sequence that the ring says it holds; nil when it cannot be believed.
    ///   - log: The ring's log, extended by what is found.
    mutating func rescue(
        _ body: UnsafeRawBufferPointer, mirrored: Bool, ring: RingHeader, head: UInt64?,
        log: inout RecoveredLog
    ) throws(RingLogError) {
        let seed = RecordFormat.seed(nonce: ring.nonce)
        guard let base = body.baseAddress else { return }
        var records: [(sequence: UInt64, offset: Int, bytes: Int)] = []
        var offset = 0
        while offset < body.count {
            let available = mirrored ? body.count : body.count - offset
            if let record = RecordFormat.check(
                base + offset, available: available, seed: seed,
                sequences: log.lastSequence + 1...UInt64.max - 1)
            {
                records.append((record.sequence, offset, record.bytes))
                offset += record.bytes
            } else {
                offset += RingLogLimits.slotBytes
            }
        }
        records.sort { $0.sequence < $1.sequence }
        try write(records, base: base, ring: ring, log: &log)
        // At most as many records as the body has slots can be missing behind the last one found.
        if let head, head > log.lastSequence, head - log.lastSequence <= UInt64(body.count / 64) {
            gaps.append(
                RingGap(
                    firstSequence: log.lastSequence + 1, lastSequence: head, cause: .ringDamaged))
        }
    }

    private mutating func write(
        _ records: [(sequence: UInt64, offset: Int, bytes: Int)], base: UnsafeRawPointer,
        ring: RingHeader, log: inout RecoveredLog
    ) throws(RingLogError) {
        var segment: SpoolSegment?
        var end = 0
        var path = pool.directory
        do {
            for record in records {
                if record.sequence > log.lastSequence + 1, log.lastSequence > 0 {
                    gaps.append(
                        RingGap(
                            firstSequence: log.lastSequence + 1,
                            lastSequence: record.sequence - 1, cause: .ringDamaged))
                }
                if segment == nil || end + record.bytes > pool.segmentBytes {
                    try finish(segment, end: end, log: log)
                    let fresh = try take(ring, first: record.sequence)
                    path = fresh.path
                    log.segments.append(fresh)
                    segment = fresh
                    end = RingLogLimits.fileHeadBytes
                }
                let bytes = UnsafeRawBufferPointer(
                    start: base + record.offset, count: record.bytes)
                try segment?.file.write(bytes, at: end)
                end += record.bytes
                log.lastSequence = record.sequence
            }
            try finish(segment, end: end, log: log)
        } catch let error as Errno {
            throw .inputOutput(path: path, error)
        } catch {
            throw .inputOutput(path: path, .noSpace)
        }
    }

    /// A segment for what is rescued, beyond the quota if need be: by a ring's bytes at most, and a start
    /// that was refused instead would serve nobody.
    private func take(_ ring: RingHeader, first: UInt64) throws -> SpoolSegment {
        do {
            return try pool.take(
                SegmentHeader(
                    spoolUUID: spoolUUID, ringUUID: ring.ringUUID, nonce: ring.nonce,
                    firstSequence: first, epoch: epoch, number: 0, segmentBytes: 0,
                    createdMicroseconds: now, ringID: ring.ringID, node: ring.node, isInUse: true),
                now: now)
        } catch {
            switch error {
            case .failed(let errno): throw errno
            case .quota, .diskFull: throw Errno.noSpace
            }
        }
    }

    private func finish(_ segment: SpoolSegment?, end: Int, log: RecoveredLog) throws(Errno) {
        guard let segment else { return }
        try segment.file.syncData()
        segment.seal()
        segment.publish(end: end, lastSequence: log.lastSequence)
    }
}
