// What ring and spool directories show to somebody who only looks: values, no files, no secrets.
public import Tracking

/// Something in a file that is not as its format says.
public struct StoreProblem: Equatable, Sendable {
    /// The file.
    public let path: String
    /// What is wrong with it, in one line.
    public let reason: String
}

/// One ring file.
public struct RingFileView: Sendable {
    /// Where it lies.
    public let path: String
    /// node × 32 + worker.
    public let ringID: UInt16
    /// The log's identity.
    public let ringUUID: EntityID
    /// The spool that takes its records.
    public let spoolUUID: EntityID
    /// The boot that made the file.
    public let bootID: EntityID
    /// Of the last open.
    public let epoch: UInt64
    /// Bytes of the body.
    public let bodyBytes: Int
    /// When the file was made, microseconds since 1970.
    public let createdMicroseconds: Int64
    /// The last sequence that was committed.
    public let headSequence: UInt64
    /// The last sequence whose slots are free again, because a sync covers it.
    public let durableSequence: UInt64
    /// Bytes of the body that are not free.
    public let usedBytes: Int
}

/// What a segment file is to its spool.
public enum SegmentState: String, Sendable {
    /// Prepared, never used.
    case blank
    /// Used before, ready to be used again.
    case free
    /// It holds, or held until now, somebody's records.
    case inUse = "in_use"
    /// Of another spool: left alone.
    case foreign
    /// Neither copy of its head can be read.
    case damaged
}

/// One segment file.
///
/// For a blank or damaged one only path, state and bytes say anything.
public struct SegmentView: Sendable {
    /// Where it lies.
    public let path: String
    /// What it is.
    public let state: SegmentState
    /// The file's length.
    public let bytes: Int
    /// Rising over the whole spool.
    public let number: UInt64
    /// Whose records it holds, node × 32 + worker.
    public let ringID: UInt16
    /// The log's identity.
    public let ringUUID: EntityID
    /// Of the run that began it.
    public let epoch: UInt64
    /// No record below it belongs here.
    public let firstSequence: UInt64
    /// When it was taken into use, microseconds since 1970.
    public let createdMicroseconds: Int64
}

/// The spool's identity file.
public struct SpoolView: Sendable {
    /// A ring that the spool knows as live.
    public struct Ring: Sendable {
        /// 0...31.
        public let worker: Int
        /// Its identity.
        public let ringUUID: EntityID
        /// No identity of a click is at or beyond this time, milliseconds since 1970.
        public let leaseMilliseconds: Int64
    }
    /// A loss that nobody has acknowledged.
    public struct Loss: Sendable {
        /// Whose records.
        public let ringUUID: EntityID
        /// node × 32 + worker.
        public let ringID: UInt16
        /// Which records, and why.
        public let gap: RingGap
    }

    /// What claims the node in the database.
    public let spoolUUID: EntityID
    /// 0...127.
    public let node: UInt8
    /// The machine that used it last.
    public let machine: String
    /// The boot of the last open.
    public let bootID: EntityID
    /// Raised by each open.
    public let epoch: UInt64
    /// Whether the last run ended with everything spooled and synced.
    public let isCleanStop: Bool
    /// Whether this spool has claimed its node in the database.
    public let isClaimed: Bool
    /// The live rings.
    public let rings: [Ring]
    /// Losses not acknowledged yet.
    public let losses: [Loss]
}

/// One log: a ring, live or former, and its segments.
public struct LogView: Sendable {
    /// node × 32 + worker.
    public let ringID: UInt16
    /// The log's identity.
    public let ringUUID: EntityID
    /// Whether the spool knows its ring as live.
    public let isLive: Bool
    /// Its ring file, if there is one.
    public let ring: RingFileView?
    /// Its segments by first sequence.
    public let segments: [SegmentView]
    /// The first record that can be read; 0 for none.
    public let firstSequence: UInt64
    /// The last record that can be read; 0 for none.
    public let lastSequence: UInt64
    /// The last record in the spool; 0 for none.
    public let spooledSequence: UInt64
    /// Records that were found; of a survey, those of the log's last segment and ring only.
    public let recordCount: Int
    /// What is missing before the last record; of a survey, there only.
    public let gaps: [RingGap]
    /// Slots between the ring's ends that belong to no valid record.
    public let badSlots: Int
}

/// All that two directories hold.
public struct StoreView: Sendable {
    /// nil when there is no identity file, or neither of its slots can be read.
    public let spool: SpoolView?
    /// By ring, the live one first.
    public let logs: [LogView]
    /// Every segment file, by number.
    public let segments: [SegmentView]
    /// What is damaged; gaps are listed with their logs.
    public let problems: [StoreProblem]

    /// Whether anything is damaged or missing.
    public var isSound: Bool {
        // After a stop in order a ring that is gone has taken nothing with it.
        let mayMissRings = spool?.isCleanStop == true
        return problems.isEmpty
            && logs.allSatisfy {
                $0.gaps.isEmpty && $0.badSlots == 0
                    && (mayMissRings || !$0.isLive || $0.ring != nil)
            }
    }
}

/// One record as it lies in ring or segment.
public struct StoredRecord {
    /// Its number in its ring.
    public let sequence: UInt64
    /// What the payload is; `RecordKind.rawValue`.
    public let kind: UInt8
    /// Whether it was read from the spool, or from the ring alone.
    public let isSpooled: Bool
    /// The payload, valid during the call that hands it over.
    public let payload: UnsafeRawBufferPointer
}
