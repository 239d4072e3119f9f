// Publication of the tables to the loops: one atomic pointer, reclaimed when every loop has passed
// an epoch. No lock and no reference counting on the loops.
internal import Synchronization
internal import Tracking

/// Where the loops find the current tables.
///
/// A loop calls ``enter(loop:)`` before it looks anything up, keeps the view at most until
/// ``leave(loop:)``, and sleeps only outside. Old tables are freed by the control threads, in
/// ``publish(_:)`` or ``reclaim()``, once no loop can still see them.
///
/// `@unchecked Sendable`: the raw memory holds atomics only, each loop writes only its own.
public final class EdgeDirectory: @unchecked Sendable {
    /// A loop's word stands alone on its cache lines.
    private static let stride = 128

    private struct Control {
        var current: EdgeTables?
        var retired: [(tables: EdgeTables, epoch: UInt64)] = []
    }

    private let loops: Int
    private let words: UnsafeMutableRawPointer
    private let pointer = Atomic<UnsafeMutablePointer<EdgeTableView>?>(nil)
    private let epoch = Atomic<UInt64>(1)
    private let control = Mutex(Control())

    /// A directory for so many loops, with nothing published.
    /// - Precondition: `loops` is not negative.
    public init(loops: Int) {
        precondition(loops >= 0)
        self.loops = loops
        words = .allocate(byteCount: max(loops, 1) * Self.stride, alignment: Self.stride)
        for loop in 0..<max(loops, 1) {
            (words + loop * Self.stride).bindMemory(to: Atomic<UInt64>.self, capacity: 1)
                .initialize(to: Atomic(0))
        }
    }

    deinit {
        words.deallocate()
    }

    @inline(__always) private func word(_ loop: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (words + loop &* Self.stride).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// The current tables, pinned until ``leave(loop:)``; nil when nothing was ever published.
    ///
    /// Orderings: the store of the epoch and the load of the pointer are both sequentially
    /// consistent, as are the publisher's store of the pointer and its look at the epochs: either
    /// the publisher sees this loop's older epoch and waits, or this loop sees the new pointer.
    /// - Precondition: `loop` is one of the directory's, entered by one thread, not entered
    ///   already.
    @inline(__always) public func enter(loop: Int) -> UnsafePointer<EdgeTableView>? {
        precondition(loop >= 0 && loop < loops)
        let now = epoch.load(ordering: .acquiring)
        word(loop).pointee.store(now, ordering: .sequentiallyConsistent)
        return UnsafePointer(pointer.load(ordering: .sequentiallyConsistent))
    }

    /// Lets the tables of ``enter(loop:)`` go.
    @inline(__always) public func leave(loop: Int) {
        precondition(loop >= 0 && loop < loops)
        // Releasing: the loop's reads of the tables happen before they are freed.
        word(loop).pointee.store(0, ordering: .releasing)
    }

    /// Makes these the current tables and frees what no loop sees any more.
    ///
    /// Control threads only.
    public func publish(_ tables: EdgeTables) {
        control.withLock { control in
            pointer.store(tables.view, ordering: .sequentiallyConsistent)
            let retiredAt = epoch.add(1, ordering: .sequentiallyConsistent).newValue
            if let old = control.current { control.retired.append((old, retiredAt)) }
            control.current = tables
            collect(&control)
        }
    }

    /// Frees what no loop sees any more; the number of generations that still wait.
    @discardableResult public func reclaim() -> Int {
        control.withLock { control in
            collect(&control)
            return control.retired.count
        }
    }

    /// The current tables for control threads.
    public var current: EdgeTables? { control.withLock { $0.current } }

    private func collect(_ control: inout Control) {
        var oldest = UInt64.max
        for loop in 0..<loops {
            let seen = word(loop).pointee.load(ordering: .sequentiallyConsistent)
            if seen != 0 { oldest = min(oldest, seen) }
        }
        control.retired.removeAll { $0.epoch <= oldest }
    }
}
