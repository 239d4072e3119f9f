// Reads a ring's durable records in order, for the flusher.
internal import LinuxIO

/// One record of the spool.
public struct SpoolRecord {
    /// Its number in its ring.
    public let sequence: UInt64
    /// What the payload is; `RecordKind.rawValue`.
    public let kind: UInt8
    /// The payload, valid until the tailer's ``SpoolTailer/releaseBatch()``.
    public let payload: UnsafeRawBufferPointer
}

/// Reads durable records, never beyond; notes what is missing.
///
/// One thread at a time.
public struct SpoolTailer: ~Copyable {
    private let handle: RingHandle
    /// Bit n: records of kind n are wanted; the others are passed over by their heads alone.
    private let kinds: UInt16
    /// Where the memory of read chunks goes, and comes from again.
    let shelf = ChunkShelf()
    private var reader: SegmentReader?
    /// Up to which sequence, and below which offset, the reader's segment may be read.
    private var last: UInt64 = 0
    private var end = 0
    private var chunks: [(chunk: SegmentChunk, last: UInt64)] = []
    /// The sequence that ``next()`` looks for.
    public private(set) var nextSequence: UInt64
    /// What was found missing since ``takeGaps()``.
    public private(set) var gaps: [RingGap] = []

    init(handle: RingHandle, from sequence: UInt64, kinds: UInt16) {
        self.handle = handle
        self.kinds = kinds
        nextSequence = max(1, sequence)
    }

    /// The next durable record of a wanted kind; nil when there is none yet, and while
    /// ``RingLogLimits/tailerGaps`` wait to be taken.
    ///
    /// Missing records are skipped and noted in ``gaps``. The payload stays valid until
    /// ``releaseBatch()``, so that a batch can be encoded again.
    public mutating func next() -> SpoolRecord? {
        while true {
            if reader == nil || nextSequence > last {
                guard find() else {
                    if chunks.isEmpty { shelf.clear() }
                    return nil
                }
            }
            if let record = take() { return record }
            if isCrowded { return nil }
            guard nextSequence <= last else { continue }
            let isReleased = reader?.segment.isReleased ?? true
            reader = nil
            if isReleased { continue }  // Recycled while it was read: look again.
            skip(to: last + 1, .spoolDamaged)
        }
    }

    /// Finds the segment of the next sequence; false when nothing more is durable.
    private mutating func find() -> Bool {
        while !isCrowded {
            let durable = handle.durableSequence
            guard nextSequence <= durable else { return false }
            guard let (segment, following) = handle.segment(for: nextSequence) else {
                skip(to: durable + 1, .segmentMissing)
                return false
            }
            if segment.firstSequence > nextSequence {
                skip(to: min(segment.firstSequence, durable + 1), .segmentMissing)
                continue
            }
            // After an error a later segment holds the tail again; what it has is not read here.
            last = min(following.map { $0 - 1 } ?? durable, durable)
            guard nextSequence <= last else { return false }
            end = segment.durableEnd
            if reader?.segment !== segment { reader = SegmentReader(segment, shelf: shelf) }
            return true
        }
        return false
    }

    private var isCrowded: Bool { gaps.count >= RingLogLimits.tailerGaps }

    /// The next wanted record of the reader's segment; nil when it has none up to `last`.
    private mutating func take() -> SpoolRecord? {
        while nextSequence <= last, !isCrowded {
            if kinds != .max, !pass() { return nil }
            guard nextSequence <= last, let found = reader?.next(nextSequence...last, below: end),
                // Checked after the read: a file released before may hold something else already.
                reader?.segment.isReleased == false
            else { return nil }
            if found.head.sequence > nextSequence { skip(to: found.head.sequence, .spoolDamaged) }
            nextSequence = found.head.sequence + 1
            guard kinds >> UInt16(found.head.kind) & 1 == 1 else { continue }
            if chunks.last?.chunk !== found.chunk { chunks.append((found.chunk, 0)) }
            chunks[chunks.count - 1].last = found.head.sequence
            return SpoolRecord(
                sequence: found.head.sequence, kind: found.head.kind, payload: found.payload)
        }
        return nil
    }

    /// Passes over records that are not wanted; false when the segment is gone meanwhile.
    private mutating func pass() -> Bool {
        let passed = reader?.pass(except: kinds, from: nextSequence, through: last, below: end)
        guard let passed, reader?.segment.isReleased == false else { return false }
        nextSequence = passed
        return true
    }

    /// What was found missing, once.
    public mutating func takeGaps() -> [RingGap] {
        defer { gaps = [] }
        return gaps
    }

    /// Lets go of the memory behind every record that was returned so far.
    public mutating func releaseBatch() { chunks.removeAll() }

    /// Lets go of the memory behind the records that were returned, through a sequence.
    public mutating func releaseBatch(through sequence: UInt64) {
        let kept = chunks.firstIndex { $0.last > sequence } ?? chunks.count
        chunks.removeFirst(kept)
    }

    /// Goes on from another sequence, earlier or later.
    public mutating func seek(to sequence: UInt64) {
        nextSequence = max(1, sequence)
        reader = nil
        last = 0
    }

    private mutating func skip(to sequence: UInt64, _ cause: RingGap.Cause) {
        guard sequence > nextSequence else { return }
        gaps.append(
            RingGap(
                firstSequence: nextSequence, lastSequence: sequence - 1,
                cause: handle.knownCause(of: nextSequence) ?? cause))
        nextSequence = sequence
    }
}
