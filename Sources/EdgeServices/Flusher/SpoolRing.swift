// Ring and spool as the flusher's record source.
internal import RingLog
internal import Tracking

/// A ring of the store.
final class SpoolRing: RecordRing {
    private let handle: RingHandle

    /// The source over a ring's handle.
    init(_ handle: RingHandle) { self.handle = handle }

    var ringID: UInt16 { handle.ringID }
    var ringUUID: EntityID { handle.ringUUID }
    var epoch: UInt64 { handle.epoch }
    var isRetired: Bool { handle.isRetired }
    var headSequence: UInt64 { handle.headSequence }
    var openedAtSequence: UInt64 { handle.openedAtSequence }
    var clockOffset: Int64? { handle.clockOffset }
    var oldestStamp: Timestamp? {
        handle.oldestStampMilliseconds.map { Timestamp(milliseconds: $0) }
    }
    var recoveredLosses: [LostRecords] { handle.recoveredGaps.map(LostRecords.init) }

    func makeTail(from sequence: UInt64, of stream: RecordStream) -> any RecordTail {
        let clicks = UInt16(1) << UInt16(RecordKind.click.rawValue)
        return SpoolTail(
            handle.makeTailer(from: sequence, kinds: stream == .clicks ? clicks : ~clicks))
    }

    func setFlushed(_ stream: RecordStream, through sequence: UInt64) {
        handle.setFlushed(stream, through: sequence)
    }
}

/// A tailer of the store.
final class SpoolTail: RecordTail {
    private var tailer: SpoolTailer

    /// The source over a tailer.
    init(_ tailer: consuming SpoolTailer) { self.tailer = tailer }

    var nextSequence: UInt64 { tailer.nextSequence }

    func next() -> PendingRecord? {
        guard let record = tailer.next() else { return nil }
        return PendingRecord(
            sequence: record.sequence, kind: record.kind, payload: record.payload)
    }

    func seek(to sequence: UInt64) {
        tailer.seek(to: sequence)
        tailer.releaseBatch()
    }

    func release() { tailer.releaseBatch() }
    func release(through sequence: UInt64) { tailer.releaseBatch(through: sequence) }

    func takeLosses() -> [LostRecords] { tailer.takeGaps().map(LostRecords.init) }
}

extension LostRecords {
    /// A gap of the store.
    ///
    /// One whose end nothing tells is recorded by its first sequence.
    init(_ gap: RingGap) {
        let cause = gap.cause.rawValue
        self.init(
            first: gap.firstSequence, last: gap.lastSequence ?? gap.firstSequence,
            cause: gap.lastSequence == nil ? cause + " (how many is not known)" : cause)
    }
}
