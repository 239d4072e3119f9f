// Comparing all links with the database's, a stretch of the table at a time, so that no statement takes
// long and changes are polled in between.
internal import Tracking

/// One pass over the table: sums by range of identities, gathered in the order of the disk, then the
/// ranges whose sums differ, which are asked for one by one.
///
/// The sums are of different moments: a link that has changed or moved meanwhile makes its range
/// suspect, and no more. Times are monotonic nanoseconds.
struct LinkComparison {
    /// Pages of the table that one statement reads: 8 MiB, some ten thousand links.
    static let chunkPages: Int64 = 1024
    /// The longest time between the beginnings of two passes, where a pass takes less: with the pass
    /// itself it stays below the minute that a DELETE may take.
    static let longestInterval: Int64 = 30_000_000_000

    /// What a pass does next.
    enum Step: Equatable {
        /// Nothing before the next pass.
        case rest
        /// A pass begins.
        case begin
        /// Read these pages, or all from the first on.
        case read(from: Int64, to: Int64?)
        /// Ask for a range by itself.
        case verify(range: Int)
    }

    private enum State: Equatable {
        case resting
        case reading(chunk: Int64)
        case verifying
    }

    private let interval: Int64
    private var began: Int64
    private var state = State.resting
    private var chunks: Int64 = 0
    private var sums: [LinkSum] = []
    private var suspects: [Int] = []

    /// Passes that begin at least `interval` apart, after everything was read at `now`.
    init(interval: Int64, now: Int64) {
        self.interval = min(interval, LinkComparison.longestInterval)
        began = now
    }

    /// What is next.
    func next(_ now: Int64) -> Step {
        switch state {
        case .resting: return now - began >= interval ? .begin : .rest
        case .reading(let chunk):
            let from = chunk * LinkComparison.chunkPages
            // The last one has no end: the table may have grown.
            return .read(
                from: from, to: chunk + 1 < chunks ? from + LinkComparison.chunkPages : nil)
        case .verifying: return suspects.last.map { .verify(range: $0) } ?? .rest
        }
    }

    /// Begins a pass over a table of so many pages, by so many ranges.
    mutating func begin(_ now: Int64, pages: Int64, ranges: Int) {
        began = now
        chunks = max(1, (pages + LinkComparison.chunkPages - 1) / LinkComparison.chunkPages)
        sums = Array(repeating: LinkSum(), count: ranges)
        state = .reading(chunk: 0)
    }

    /// Takes in what a stretch has of a range.
    mutating func add(_ sum: LinkSum, range: Int) {
        guard sums.indices.contains(range) else { return }
        sums[range].add(sum)
    }

    /// A stretch is read; after the last one the ranges that differ are suspects.
    mutating func advance(known: (Int) -> LinkSum) {
        guard case .reading(let chunk) = state else { return }
        guard chunk + 1 >= chunks else { return state = .reading(chunk: chunk + 1) }
        suspects = sums.indices.filter { sums[$0] != known($0) }.reversed()
        sums = []
        state = suspects.isEmpty ? .resting : .verifying
    }

    /// The range in question is the database's, or has been made so.
    mutating func clear() {
        _ = suspects.popLast()
        if suspects.isEmpty { state = .resting }
    }

    /// Gives a pass up: what it has seen is of a connection that was lost.
    mutating func abandon() {
        (state, sums, suspects) = (.resting, [], [])
    }
}

/// How many links there are, and the exclusive or of their rows' hashes.
struct LinkSum: Equatable {
    var count: Int64 = 0
    var rows: UInt64 = 0

    /// Adds other links'.
    mutating func add(_ other: LinkSum) {
        count += other.count
        rows ^= other.rows
    }
}
