// Where the flusher's records come from: the seam between its decisions and ring and spool.
internal import Tracking

/// A span of sequences that will never be read.
struct LostRecords: Equatable, Sendable {
    /// The first of them.
    var first: UInt64
    /// The last of them.
    var last: UInt64
    /// Why.
    var cause: String
}

/// One ring's durable records, in order; used by one thread.
protocol RecordTail: AnyObject {
    /// The next durable record; nil at the durable end, and while ``FlusherLimits/lossesPerGather``
    /// losses wait to be taken. Its bytes live until they are released or ``seek(to:)``.
    func next() -> PendingRecord?
    /// The sequence that ``next()`` looks for.
    var nextSequence: UInt64 { get }
    /// Reads on from a sequence; forgets what was read.
    func seek(to sequence: UInt64)
    /// The records read so far are no longer needed.
    func release()
    /// The records read so far through a sequence are no longer needed.
    func release(through sequence: UInt64)
    /// Losses met since the last call.
    func takeLosses() -> [LostRecords]
}

/// One ring as the flusher sees it.
protocol RecordRing: AnyObject {
    /// The ring's number in the fleet.
    var ringID: UInt16 { get }
    /// Its own identity.
    var ringUUID: EntityID { get }
    /// Raised at each open.
    var epoch: UInt64 { get }
    /// No loop writes to it any more.
    var isRetired: Bool { get }
    /// The last sequence that was written.
    var headSequence: UInt64 { get }
    /// ``headSequence`` when the ring was opened.
    var openedAtSequence: UInt64 { get }
    /// The wall time by which its records are stamped, less the boot clock, in microseconds; nil while
    /// no loop has told.
    var clockOffset: Int64? { get }
    /// No record beyond ``headSequence``, read after it, is stamped before this; nil while no loop has
    /// told.
    var oldestStamp: Timestamp? { get }
    /// Losses that recovery found.
    var recoveredLosses: [LostRecords] { get }
    /// A reader of a stream's records from a sequence on; it may give others too.
    func makeTail(from sequence: UInt64, of stream: RecordStream) -> any RecordTail
    /// All records of a stream through a sequence are committed: their space may be used again.
    func setFlushed(_ stream: RecordStream, through sequence: UInt64)
}
