// Publication of the tables to the loops: one atomic pointer, reclaimed when every loop has passed
// an epoch. No lock and no reference counting on the loops.
internal import Synchronization
internal import Tracking

/// A loop's way to the current tables: plain pointers, so that nothing is counted on the click path.
///
/// Valid as long as its ``EdgeDirectory``.
public struct TableReader: @unchecked Sendable {
    // Sendable: the pointers lead to atomics; that only one thread enters is the caller's promise.
    fileprivate let word: UnsafeMutablePointer<Atomic<UInt64>>
    fileprivate let epoch: UnsafeMutablePointer<Atomic<UInt64>>
    fileprivate let pointer: UnsafeMutablePointer<Atomic<UnsafeMutablePointer<EdgeTableView>?>>

    /// The current tables, pinned until ``leave()``; nil when nothing was ever published.
    ///
    /// Orderings: the store of the epoch and the load of the pointer are both sequentially
    /// consistent, as are the publisher's store of the pointer and its look at the epochs: either
    /// the publisher sees this loop's older epoch and waits, or this loop sees the new pointer.
    /// - Precondition: Not entered already.
    @inline(__always) public func enter() -> UnsafePointer<EdgeTableView>? {
        let now = epoch.pointee.load(ordering: .acquiring)
        word.pointee.store(now, ordering: .sequentiallyConsistent)
        return UnsafePointer(pointer.pointee.load(ordering: .sequentiallyConsistent))
    }

    /// Lets the tables of ``enter()`` go.
    @inline(__always) public func leave() {
        // Releasing: the loop's reads of the tables happen before they are freed.
        word.pointee.store(0, ordering: .releasing)
    }
}

/// Where the loops find the current tables.
///
/// A loop enters through its ``reader(loop:)`` once a turn, before it looks anything up, and sleeps
/// only outside. Old tables are freed by the control threads, in ``publish(_:)`` or ``reclaim()``,
/// once no loop can still see them.
///
/// `@unchecked Sendable`: the raw memory holds atomics only, each loop writes only its own.
public final class EdgeDirectory: @unchecked Sendable {
    /// What stands alone on its cache lines.
    private static let stride = 128

    private struct Control {
        var current: EdgeTables?
        var retired: [(tables: EdgeTables, epoch: UInt64)] = []
    }

    private let loops: Int
    /// A word for each loop, then the epoch and the pointer.
    private let words: UnsafeMutableRawPointer
    private let epoch: UnsafeMutablePointer<Atomic<UInt64>>
    private let pointer: UnsafeMutablePointer<Atomic<UnsafeMutablePointer<EdgeTableView>?>>
    private let control = Mutex(Control())

    /// A directory for so many loops, with nothing published.
    /// - Precondition: `loops` is not negative.
    public init(loops: Int) {
        precondition(loops >= 0)
        self.loops = loops
        words = .allocate(byteCount: (loops + 1) * Self.stride, alignment: Self.stride)
        for loop in 0..<loops {
            (words + loop * Self.stride).bindMemory(to: Atomic<UInt64>.self, capacity: 1)
                .initialize(to: Atomic(0))
        }
        let last = words + loops * Self.stride
        epoch = last.bindMemory(to: Atomic<UInt64>.self, capacity: 1)
        epoch.initialize(to: Atomic(1))
        pointer = (last + 8).bindMemory(
            to: Atomic<UnsafeMutablePointer<EdgeTableView>?>.self, capacity: 1)
        pointer.initialize(to: Atomic(nil))
    }

    deinit {
        words.deallocate()
    }

    private func word(_ loop: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (words + loop &* Self.stride).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// A loop's way to the tables.
    /// - Precondition: `loop` is one of the directory's; one thread uses it.
    public func reader(loop: Int) -> TableReader {
        precondition(loop >= 0 && loop < loops)
        return TableReader(word: word(loop), epoch: epoch, pointer: pointer)
    }

    /// Makes these the current tables and frees what no loop sees any more.
    ///
    /// Control threads only.
    public func publish(_ tables: EdgeTables) {
        control.withLock { put(tables, &$0) }
    }

    /// Makes these the current tables if `old` still are; whether they were.
    ///
    /// Control threads only.
    @discardableResult public func publish(_ tables: EdgeTables, replacing old: EdgeTables) -> Bool
    {
        control.withLock { control in
            guard control.current === old else { return false }
            put(tables, &control)
            return true
        }
    }

    private func put(_ tables: EdgeTables, _ control: inout Control) {
        pointer.pointee.store(tables.view, ordering: .sequentiallyConsistent)
        let retiredAt = epoch.pointee.add(1, ordering: .sequentiallyConsistent).newValue
        if let old = control.current { control.retired.append((old, retiredAt)) }
        control.current = tables
        collect(&control)
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
