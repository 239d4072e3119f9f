// Walks the records of a segment by reading, not mapping: a bad sector is an error here, not a
// signal.
internal import LinuxIO

/// Finds one valid record after the other, slot by slot where one is damaged.
struct SegmentReader {
    /// A valid record in a chunk.
    struct Found {
        let head: RecordHead
        let payload: UnsafeRawBufferPointer
        let chunk: SegmentChunk
        /// The offset behind it in the file.
        let end: Int
    }

    let segment: SpoolSegment
    private var offset = RingLogLimits.fileHeadBytes
    private var chunk: SegmentChunk?
    private var chunkStart = 0
    private var chunkCount = 0

    private let shelf: ChunkShelf?

    /// - Parameter shelf: Where its chunks' memory comes from and goes to.
    init(_ segment: SpoolSegment, shelf: ChunkShelf? = nil) {
        self.segment = segment
        self.shelf = shelf
    }

    /// The next valid record whose sequence lies in a range, below an offset of the file.
    mutating func next(_ sequences: ClosedRange<UInt64>, below end: Int) -> Found? {
        while end - offset >= RingLogLimits.slotBytes {
            guard let available = load(end: end), let chunk else { return nil }
            let base = UnsafeRawPointer(chunk.start)
            let record = base + (offset - chunkStart)
            guard let peeked = RecordFormat.peek(record), sequences.contains(peeked.sequence),
                peeked.bytes <= end - offset
            else {
                offset += RingLogLimits.slotBytes
                continue
            }
            if peeked.bytes > available, offset > chunkStart {
                // Cut off by the chunk's end: read again from the record's beginning.
                drop()
                continue
            }
            guard
                let head = RecordFormat.check(
                    record, available: available, seed: segment.seed, sequences: sequences)
            else {
                offset += RingLogLimits.slotBytes
                continue
            }
            offset += head.bytes
            let payload = UnsafeRawBufferPointer(
                start: record + RingLogLimits.recordHeadBytes, count: head.payloadBytes)
            return Found(head: head, payload: payload, chunk: chunk, end: offset)
        }
        return nil
    }

    /// Passes over whole records of other kinds, by their heads, as long as their sequences follow each
    /// other; the sequence to go on with.
    ///
    /// A damaged one among them is found by whoever wants it.
    mutating func pass(
        except kinds: UInt16, from sequence: UInt64, through last: UInt64, below end: Int
    ) -> UInt64 {
        var sequence = sequence
        while sequence <= last, end - offset >= RingLogLimits.slotBytes {
            guard let available = load(end: end), let chunk else { break }
            let base = UnsafeRawPointer(chunk.start)
            guard let head = RecordFormat.peek(base + (offset - chunkStart)),
                head.sequence == sequence, kinds >> UInt16(head.kind) & 1 == 0,
                head.bytes <= end - offset
            else { break }
            if head.bytes > available, offset > chunkStart {
                drop()
                continue
            }
            guard head.bytes <= available else { break }
            offset += head.bytes
            sequence += 1
        }
        return sequence
    }

    /// Forgets what was read, so that what has been written since is seen.
    mutating func drop() {
        chunk = nil
        chunkCount = 0
    }

    /// Makes sure that the slot at `offset` is in memory; bytes available from there on.
    private mutating func load(end: Int) -> Int? {
        let have = chunkStart + chunkCount - offset
        if chunk != nil, offset >= chunkStart, have >= RingLogLimits.slotBytes { return have }
        let wanted = min(RingLogLimits.callBytes, end - offset)
        let fresh = SegmentChunk(capacity: wanted, shelf: shelf)
        guard let count = read(into: fresh.bytes), count >= RingLogLimits.slotBytes else {
            return nil
        }
        chunk = fresh
        chunkStart = offset
        chunkCount = count
        return count
    }

    /// Reads; where the disk reports an error, page by page with zeros for what cannot be read.
    private func read(into bytes: UnsafeMutableRawBufferPointer) -> Int? {
        do {
            return try segment.file.readFully(bytes, at: offset)
        } catch {
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            for start in stride(from: 0, to: bytes.count, by: 4096) {
                let page = UnsafeMutableRawBufferPointer(
                    rebasing: bytes[start..<min(start + 4096, bytes.count)])
                _ = try? segment.file.readFully(page, at: offset + start)
            }
            return bytes.count
        }
    }
}
