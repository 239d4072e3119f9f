// Gaps on their way into the database: bounded, and none forgotten before it is safe there.
internal import Tracking

/// What is lost and not yet told, and what is told and could still be taken back.
///
/// A gap is written before the cursor passes over it, so a failover that takes the gap back takes the
/// cursor back to it or before it, and it is met again by reading. Until then, and for losses behind
/// a log's end, which no reading meets, each new connection is told again.
struct GapBook {
    /// Losses behind the ends of logs: what the spool remembers of them bounds them.
    private let lasting: [IngestGap]
    private var owesLasting: Bool
    /// Met while reading, not yet written.
    private var waiting: [IngestGap] = []
    /// Written; the cursor that is to pass over them has not.
    private var told: [IngestGap] = []

    /// A book that owes what recovery found.
    init(lasting: [IngestGap]) {
        self.lasting = lasting
        owesLasting = !lasting.isEmpty
    }

    /// What is to be written now.
    var due: [IngestGap] { (owesLasting ? lasting : []) + waiting }
    /// Whether anything is to be written now.
    var isDue: Bool { owesLasting || !waiting.isEmpty }
    /// Gaps met while reading that are held.
    var count: Int { waiting.count + told.count }

    /// Whether what one lane can meet at a time still fits; if not, nothing more is read: what was
    /// not read is met later.
    var hasRoom: Bool {
        count + FlusherLimits.lossesPerGather <= FlusherLimits.maximumPendingGaps
    }

    /// Takes in what a lane has met.
    ///
    /// - Precondition: ``hasRoom``, before the lane was read.
    mutating func note(_ losses: [LostRecords], in lane: LaneID) {
        for loss in losses {
            let gap = IngestGap(loss, in: lane)
            if !waiting.contains(gap) { waiting.append(gap) }
        }
        precondition(count <= FlusherLimits.maximumPendingGaps, "read without room")
    }

    /// All that is due has been written.
    mutating func written() {
        for gap in waiting where !told.contains(gap) { told.append(gap) }
        waiting = []
        owesLasting = false
    }

    /// A lane's cursor stands at a sequence for good.
    mutating func passed(_ lane: LaneID, next: UInt64) {
        guard !told.isEmpty else { return }
        told.removeAll { $0.lane == lane && $0.last < next }
    }

    /// A new connection may lead to an older state.
    mutating func tellAgain() {
        owesLasting = !lasting.isEmpty
        waiting += told.filter { !waiting.contains($0) }
        told = []
    }
}

extension IngestGap {
    /// A loss of a lane.
    init(_ loss: LostRecords, in lane: LaneID) {
        self.init(
            lane: lane, first: loss.first, last: loss.last, from: nil, to: nil, cause: loss.cause)
    }
}
