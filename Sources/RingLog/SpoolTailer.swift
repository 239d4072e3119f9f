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
    private var reader: SegmentReader?
    private var chunks: [(chunk: SegmentChunk, last: UInt64)] = []
    /// The sequence that ``next()`` looks for.
    public private(set) var nextSequence: UInt64
    /// What was found missing since ``takeGaps()``.
    public private(set) var gaps: [RingGap] = []

    init(handle: RingHandle, from sequence: UInt64) {
        self.handle = handle
        nextSequence = max(1, sequence)
    }

    /// The next durable record; nil when there is none yet.
    ///
    /// Missing records are skipped and noted in ``gaps``. The payload stays valid until
    /// ``releaseBatch()``, so that a batch can be encoded again.
    public mutating func next() -> SpoolRecord? {
        while true {
            let durable = handle.durableSequence
            guard nextSequence <= durable else { return nil }
            guard let (segment, following) = handle.segment(for: nextSequence) else {
                skip(to: durable + 1, .segmentMissing)
                return nil
            }
            if segment.firstSequence > nextSequence {
                skip(to: min(segment.firstSequence, durable + 1), .segmentMissing)
                continue
            }
            // After an error a later segment holds the tail again; what it has is not read here.
            let last = following.map { $0 - 1 } ?? durable
            if let record = next(in: segment, last: min(last, durable)) { return record }
            if segment.isReleased { continue }  // Recycled while it was read: look again.
            skip(to: min(last, durable) + 1, .spoolDamaged)
        }
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
    }

    private mutating func next(in segment: SpoolSegment, last: UInt64) -> SpoolRecord? {
        guard nextSequence <= last else { return nil }
        var walk: SegmentReader
        if let reader, reader.segment === segment { walk = reader } else { walk = .init(segment) }
        let found = walk.next(nextSequence...last, below: segment.durableEnd)
        // Checked after the read: a file that was released before may hold something else already.
        guard let found, !segment.isReleased else {
            reader = nil
            return nil
        }
        if found.head.sequence > nextSequence { skip(to: found.head.sequence, .spoolDamaged) }
        reader = walk
        nextSequence = found.head.sequence + 1
        if chunks.last?.chunk !== found.chunk { chunks.append((found.chunk, 0)) }
        chunks[chunks.count - 1].last = found.head.sequence
        return SpoolRecord(
            sequence: found.head.sequence, kind: found.head.kind, payload: found.payload)
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
