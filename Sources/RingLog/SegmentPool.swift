// Segment files by the quota: made and zero-filled once, used again by rename, never beyond the
// limit.
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// Why no segment could be had.
enum SegmentShortage: Error {
    /// The quota, or its part for clicks, is used up.
    case quota
    /// The disk is full.
    case diskFull
    /// A call failed.
    case failed(Errno)
}

/// The files of a spool directory.
///
/// Used by one thread at a time: the opener, then the spooler.
final class SegmentPool: @unchecked Sendable {
    // Sendable: all but the atomics is touched only by the opener and, after it, the spooler.
    let directory: String
    let files: any SpoolFileSystem
    let segmentBytes: Int
    let quotaSegments: Int
    private let inUse = Atomic<Int>(0)
    private var free: [PreparedFile] = []
    let maker: SegmentMaker
    /// Set while the spooler's thread runs.
    var preparer: SegmentPreparer?
    private var nextNumber: UInt64 = 1
    private var retryAt: Int64 = 0

    init(directory: String, files: any SpoolFileSystem, segmentBytes: Int, quotaBytes: Int) {
        self.directory = directory
        self.files = files
        self.segmentBytes = segmentBytes
        quotaSegments = quotaBytes / segmentBytes
        maker = SegmentMaker(directory: directory, files: files, segmentBytes: segmentBytes)
    }

    /// Bytes of the segments that hold, or held until they are released, somebody's records.
    var inUseBytes: Int { inUse.load(ordering: .relaxed) }
    var freeCount: Int { free.count }

    /// Counts a segment that was found at open, and keeps its number from being given again.
    func adopt(_ header: SegmentHeader) {
        inUse.add(header.segmentBytes, ordering: .relaxed)
        noteNumber(header.number)
    }

    /// Keeps a number from being given again.
    func noteNumber(_ number: UInt64) {
        if number < UInt64.max / 2 { nextNumber = max(nextNumber, number + 1) }
    }

    /// Keeps a file for later use, or removes it when it has another size or there are enough.
    func keep(_ file: any SpoolFile, path: String, spare: Int) {
        guard free.count < spare, (try? file.status().bytes) == segmentBytes else {
            try? files.remove(path)
            return
        }
        free.append(PreparedFile(file: file, path: path))
    }

    /// Whether one more segment may be taken without yielding any.
    func hasRoom(forConversions: Bool) -> Bool {
        inUseBytes + segmentBytes <= limitBytes(forConversions: forConversions)
    }

    /// Bytes that may be in use: clicks leave the last tenth.
    func limitBytes(forConversions: Bool) -> Int {
        let kept = forConversions ? 0 : max(1, quotaSegments / RingLogLimits.conversionShare)
        return max(1, quotaSegments - kept) * segmentBytes
    }

    /// A segment of before, at whose end `end` nothing more is written, as it should be from now on:
    /// cut to what it holds when that is less than half of it, so that no number of restarts fills the
    /// quota with room that nobody uses.
    ///
    /// The next sync makes it durable; ``cut(_:)`` follows.
    func shortened(_ segment: SpoolSegment, end: Int) -> SegmentHeader {
        var header = segment.header
        let bytes = (end + 4095) / 4096 * 4096
        guard bytes < segmentBytes / 2, bytes < header.segmentBytes else { return header }
        header.segmentBytes = bytes
        do {
            try writeHeader(header, to: segment.file)
            return header
        } catch {
            return segment.header
        }
    }

    /// Gives the disk back what a shortened segment does not need.
    func cut(_ segment: SpoolSegment) {
        guard let status = try? segment.file.status(), status.bytes > segment.header.segmentBytes
        else { return }
        try? segment.file.truncate(to: segment.header.segmentBytes)
    }

    /// Room has been made on a disk that was full: it is tried at once.
    func retry() { retryAt = 0 }

    /// A segment with this header (number and size are filled in), which the next sync makes durable.
    func take(_ wanted: SegmentHeader, now: Int64) throws(SegmentShortage) -> SpoolSegment {
        guard now >= retryAt || !free.isEmpty else { throw .diskFull }
        var header = wanted
        header.number = nextNumber
        header.segmentBytes = segmentBytes
        let free = try freeFile(now: now)
        let path = "\(directory)/\(SegmentPool.name(header))"
        do {
            try writeHeader(header, to: free.file)
            // For people only: the file's name has been durable since it was made, whichever of
            // the two it has after a loss of power.
            try files.rename(free.path, to: path)
        } catch {
            throw .failed(error)
        }
        nextNumber += 1
        inUse.add(segmentBytes, ordering: .relaxed)
        if preparer != nil { prepareSpares(now: now) }
        return SpoolSegment(
            file: free.file, path: path, header: header, durableEnd: RingLogLimits.fileHeadBytes,
            lastSequence: 0)
    }

    /// Takes a segment back whose records nobody needs any more.
    func giveBack(_ segment: SpoolSegment, spare: Int) {
        segment.release()
        inUse.subtract(segment.header.segmentBytes, ordering: .relaxed)
        guard !segment.isSuspect, free.count < spare else {
            try? files.remove(segment.path)
            return
        }
        // The mark and the name only spare the next open some work; both may be lost.
        var header = segment.header
        header.isInUse = false
        let path = "\(directory)/free-\(padded(header.number)).segment"
        do {
            try writeHeader(header, to: segment.file)
            try files.rename(segment.path, to: path)
            keep(segment.file, path: path, spare: spare)
        } catch {
            try? files.remove(segment.path)
        }
    }

    /// Sees to it that files lie ready ahead of need, as far as the quota allows: on the preparer's
    /// thread when it runs, else one at a time here.
    func prepareSpares(now: Int64) {
        guard let preparer else {
            guard free.isEmpty, now >= retryAt, roomSegments > 1 else { return }
            if let made = try? maker.make() { free.append(made) }
            return
        }
        let room = roomSegments - free.count
        preparer.want(max(0, min(RingLogLimits.readySegments - free.count, room)))
    }

    /// Whole segments that the quota still has room for.
    private var roomSegments: Int { (quotaSegments * segmentBytes - inUseBytes) / segmentBytes }

    private func freeFile(now: Int64) throws(SegmentShortage) -> PreparedFile {
        if let last = free.popLast() { return last }
        if let ready = preparer?.take() { return ready }
        do {
            return try maker.make()
        } catch {
            guard error.isFull else { throw .failed(error) }
            retryAt = now + RingLogLimits.fullRetryMicroseconds
            throw .diskFull
        }
    }

    private func writeHeader(_ header: SegmentHeader, to file: any SpoolFile) throws(Errno) {
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: RingLogLimits.fileHeadBytes, alignment: 4096)
        defer { block.deallocate() }
        header.encode(to: block)
        try file.write(UnsafeRawBufferPointer(block), at: 0)
    }

    private static func name(_ header: SegmentHeader) -> String {
        "ring-\(header.ringID)-\(padded(header.number)).segment"
    }
}

/// Twelve decimal digits, so that names sort as numbers do.
private func padded(_ number: UInt64) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 12 - digits.count)) + digits
}

extension Errno {
    /// Whether the disk, or the user's share of it, is full (`ENOSPC`, `EDQUOT`).
    var isFull: Bool { self == .noSpace || rawValue == 122 }
}
