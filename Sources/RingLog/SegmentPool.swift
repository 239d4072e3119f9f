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
    // Sendable: `free` and `retryAt` are touched only by the opener and, after it, the spooler.
    let directory: String
    let files: any SpoolFileSystem
    let segmentBytes: Int
    let quotaSegments: Int
    private let inUseCount = Atomic<Int>(0)
    private var free: [(file: any SpoolFile, path: String)] = []
    private var nextNumber: UInt64 = 1
    private var retryAt: Int64 = 0

    init(directory: String, files: any SpoolFileSystem, segmentBytes: Int, quotaBytes: Int) {
        self.directory = directory
        self.files = files
        self.segmentBytes = segmentBytes
        quotaSegments = quotaBytes / segmentBytes
    }

    /// Segments that hold, or held until they are released, somebody's records.
    var inUse: Int { inUseCount.load(ordering: .relaxed) }
    var freeCount: Int { free.count }

    /// Counts a segment that was found at open, and keeps its number from being given again.
    func adopt(number: UInt64) {
        inUseCount.add(1, ordering: .relaxed)
        noteNumber(number)
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
        free.append((file, path))
    }

    /// Whether one more segment may be taken without yielding any.
    func hasRoom(forConversions: Bool) -> Bool { inUse < limit(forConversions: forConversions) }

    /// Segments that may be in use: clicks leave the last tenth.
    func limit(forConversions: Bool) -> Int {
        let kept = forConversions ? 0 : max(1, quotaSegments / RingLogLimits.conversionShare)
        return max(1, quotaSegments - kept)
    }

    /// A segment with this header (number and size are filled in), its name durable.
    func take(_ wanted: SegmentHeader, now: Int64) throws(SegmentShortage) -> SpoolSegment {
        guard now >= retryAt else { throw .diskFull }
        var header = wanted
        header.number = nextNumber
        header.segmentBytes = segmentBytes
        let (file, oldPath) = try freeFile(now: now)
        let path = "\(directory)/\(SegmentPool.name(header))"
        do {
            try writeHeader(header, to: file)
            try files.rename(oldPath, to: path)
            try files.syncDirectory(directory)
        } catch {
            throw .failed(error)
        }
        nextNumber += 1
        inUseCount.add(1, ordering: .relaxed)
        return SpoolSegment(
            file: file, path: path, header: header, durableEnd: RingLogLimits.fileHeadBytes,
            lastSequence: 0)
    }

    /// Takes a segment back whose records nobody needs any more.
    func giveBack(_ segment: SpoolSegment, spare: Int) {
        segment.release()
        inUseCount.subtract(1, ordering: .relaxed)
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

    /// Makes a spare file ahead of need, if there is none and the quota allows one.
    func prepareSpare(now: Int64) {
        guard free.isEmpty, now >= retryAt, inUse + 1 < quotaSegments else { return }
        if let made = try? make(now: now) { free.append(made) }
    }

    private func freeFile(
        now: Int64
    ) throws(SegmentShortage) -> (file: any SpoolFile, path: String) {
        if let last = free.popLast() { return last }
        return try make(now: now)
    }

    /// A new file, allocated and zero-filled, so that later writes meet neither a full disk nor
    /// blocks that must first be converted.
    private func make(
        now: Int64
    ) throws(SegmentShortage) -> (file: any SpoolFile, path: String) {
        let path = "\(directory)/free-\(padded(nextNumber)).segment"
        do {
            let file = try files.open(path, create: true)
            try file.allocate(segmentBytes)
            let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
            defer { zeros.deallocate() }
            zeros.initializeMemory(as: UInt8.self, repeating: 0)
            var offset = 0
            while offset < segmentBytes {
                let count = min(zeros.count, segmentBytes - offset)
                try file.write(UnsafeRawBufferPointer(rebasing: zeros[..<count]), at: offset)
                offset += count
            }
            try file.sync()
            return (file, path)
        } catch {
            try? files.remove(path)
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
