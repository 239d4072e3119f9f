// A ring file as it was at one moment, copied while its loop and spooler may go on.
internal import LinuxIO
internal import Tracking

/// What a ring held between its ends.
final class RingSnapshot {
    let view: RingFileView
    /// A record between the ends, in order.
    struct Found {
        let head: RecordHead
        let payload: UnsafeRawBufferPointer
    }
    let records: [Found]
    let badSlots: Int
    let problems: [StoreProblem]
    private let copy: UnsafeMutableRawBufferPointer

    /// Copies a ring; nil for a file that cannot be one, with the reason among `problems`.
    ///
    /// Nothing is locked or written. What the spooler frees while the copy is made is left out: the
    /// loop may have used it again, and by then the spool has it.
    static func take(
        _ path: String, problems: inout [StoreProblem]
    ) throws(RingLogError) -> RingSnapshot? {
        do {
            let file = try FileDescriptor.open(path, .read)
            let bytes = try file.status().bytes
            let head = UnsafeMutableRawBufferPointer.allocate(
                byteCount: RingHeader.bytes, alignment: 8)
            defer { head.deallocate() }
            let count = try file.read(into: head, at: 0)
            let header: RingHeader?
            do {
                header = try RingHeader.decode(
                    UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(head)[..<count]))
            } catch {
                throw RingLogError.version(path: path, found: error.found)
            }
            guard let header else {
                problems.append(StoreProblem(path: path, reason: "the header is damaged"))
                return nil
            }
            guard bytes == RingLogLimits.fileHeadBytes + header.bodyBytes else {
                problems.append(
                    StoreProblem(
                        path: path,
                        reason: "has \(bytes) bytes, its header says "
                            + "\(RingLogLimits.fileHeadBytes + header.bodyBytes)"))
                return nil
            }
            return try RingSnapshot(path: path, header: header, file: file)
        } catch .noSuchFile as Errno {
            return nil  // Retired between the listing and now.
        } catch let error as Errno {
            throw .access(path, error)
        } catch let error as RingLogError {
            throw error
        } catch {
            throw .inputOutput(path: path, .inputOutput)
        }
    }

    private init(
        path: String, header: RingHeader, file: borrowing FileDescriptor
    ) throws(Errno) {
        let page = try MappedFile(file, length: RingLogLimits.fileHeadBytes, writable: false)
        let cells = page.start + RingHeader.positionsOffset
        let tailSlot = SharedCell(cells + 64)
        var tail = tailSlot.acquire()
        // The loop publishes the sequence last: one read before the slot is never ahead of it.
        let sequenceBefore = SharedCell(cells + 8).acquire()
        let head = SharedCell(cells).acquire()
        let epoch = SharedCell(cells + 128).load()
        let slots = UInt64(header.bodyBytes / RingLogLimits.slotBytes)
        let isPossible = tail <= head && head < UInt64.max / 2 && head - tail <= slots
        let used = isPossible ? Int(head - tail) * RingLogLimits.slotBytes : 0
        copy = .allocate(byteCount: max(64, used), alignment: 64)
        let begin = tail
        if used > 0 {
            let start = Int(begin % slots) * RingLogLimits.slotBytes
            let first = min(used, header.bodyBytes - start)
            try RingSnapshot.read(
                file, into: UnsafeMutableRawBufferPointer(rebasing: copy[..<first]),
                at: RingLogLimits.fileHeadBytes + start)
            try RingSnapshot.read(
                file, into: UnsafeMutableRawBufferPointer(rebasing: copy[first..<used]),
                at: RingLogLimits.fileHeadBytes)
            tail = min(head, tailSlot.acquire())
        }
        let freed = SharedCell(cells + 72).acquire()
        let sequenceAfter = SharedCell(cells + 8).load()
        (records, badSlots) = RingSnapshot.walk(
            UnsafeRawBufferPointer(copy), from: Int(tail - begin) * RingLogLimits.slotBytes,
            to: used, seed: RecordFormat.seed(nonce: header.nonce))
        let last = max(records.last?.head.sequence ?? 0, sequenceBefore)
        view = RingFileView(
            path: path, ringID: header.ringID, ringUUID: header.ringUUID,
            spoolUUID: header.spoolUUID, bootID: header.bootID, epoch: epoch,
            bodyBytes: header.bodyBytes, createdMicroseconds: header.createdMicroseconds,
            headSequence: last, durableSequence: freed,
            usedBytes: isPossible ? Int(head - tail) * RingLogLimits.slotBytes : 0)
        var problems: [StoreProblem] = []
        if !isPossible {
            problems.append(StoreProblem(path: path, reason: "its positions cannot be right"))
        } else if max(last, freed) > sequenceAfter &+ 1 {
            problems.append(
                StoreProblem(path: path, reason: "its sequences contradict each other"))
        }
        self.problems = problems
    }

    deinit { copy.deallocate() }

    /// The valid records of some bytes, and how many slots belong to none.
    private static func walk(
        _ bytes: UnsafeRawBufferPointer, from start: Int, to end: Int, seed: UInt32
    ) -> (records: [Found], badSlots: Int) {
        guard let base = bytes.baseAddress else { return ([], 0) }
        var records: [Found] = []
        var badSlots = 0
        var offset = start
        var last: UInt64 = 0
        while offset < end {
            guard
                let record = RecordFormat.check(
                    base + offset, available: end - offset, seed: seed,
                    sequences: last + 1...UInt64.max - 1)
            else {
                badSlots += 1
                offset += RingLogLimits.slotBytes
                continue
            }
            let payload = UnsafeRawBufferPointer(
                start: base + offset + RingLogLimits.recordHeadBytes, count: record.payloadBytes)
            records.append(Found(head: record, payload: payload))
            last = record.sequence
            offset += record.bytes
        }
        return (records, badSlots)
    }

    private static func read(
        _ file: borrowing FileDescriptor, into bytes: UnsafeMutableRawBufferPointer, at offset: Int
    ) throws(Errno) {
        var done = 0
        while done < bytes.count {
            let count = try file.read(
                into: UnsafeMutableRawBufferPointer(rebasing: bytes[done...]), at: offset + done)
            if count == 0 { throw .inputOutput }
            done += count
        }
    }
}
