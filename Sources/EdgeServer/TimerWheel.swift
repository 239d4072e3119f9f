// Deadlines of connections: a hashed wheel of doubly linked lists over slab indices. Putting a
// deadline off costs nothing; the wheel looks again when the old one comes.

/// The wheel of one loop.
///
/// Times are in microseconds of any clock that never steps.
struct TimerWheel: ~Copyable {
    /// Slots; a deadline further away than all of them is looked at when the last comes.
    static let slots = 128
    /// Microseconds of one slot.
    static let tickMicroseconds: Int64 = 125_000
    private static let none = UInt32.max

    private struct Entry: BitwiseCopyable {
        var next = TimerWheel.none
        var previous = TimerWheel.none
        /// The tick whose slot holds the entry, or -1.
        var tick: Int64 = -1
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let heads: UnsafeMutablePointer<UInt32>
    private let capacity: Int
    private var initialised = 0
    /// The last tick whose slot has been emptied.
    private var currentTick: Int64

    init(capacity: Int, now: Int64) {
        self.capacity = capacity
        entries = .allocate(capacity: capacity)
        heads = .allocate(capacity: TimerWheel.slots)
        heads.initialize(repeating: TimerWheel.none, count: TimerWheel.slots)
        currentTick = now / TimerWheel.tickMicroseconds
    }

    deinit {
        entries.deallocate()
        heads.deallocate()
    }

    /// Watches an index until its deadline, unless it is watched until then or earlier already.
    ///
    /// The expiry callback decides with the true deadline, so a late deadline over an early one
    /// needs no move.
    mutating func schedule(_ index: Int, at deadline: Int64) {
        precondition(index < capacity)
        while initialised <= index {
            (entries + initialised).initialize(to: Entry())
            initialised += 1
        }
        let tick = slotTick(deadline)
        if entries[index].tick >= 0 {
            if entries[index].tick <= tick { return }
            unlink(index)
        }
        let slot = Int(tick % Int64(TimerWheel.slots))
        let head = heads[slot]
        entries[index] = Entry(next: head, previous: TimerWheel.none, tick: tick)
        if head != TimerWheel.none {
            entries[Int(head)].previous = UInt32(truncatingIfNeeded: index)
        }
        heads[slot] = UInt32(truncatingIfNeeded: index)
    }

    /// Stops watching an index.
    mutating func cancel(_ index: Int) {
        guard index < initialised, entries[index].tick >= 0 else { return }
        unlink(index)
    }

    /// The next index whose slot has come by `now`; it is no longer watched.
    ///
    /// Nil when there is none.
    ///
    /// The caller compares the true deadline and schedules the index again when it lies ahead.
    mutating func next(by now: Int64) -> Int? {
        let target = now / TimerWheel.tickMicroseconds
        while true {
            let slot = Int(currentTick % Int64(TimerWheel.slots))
            let head = heads[slot]
            if head != TimerWheel.none {
                unlink(Int(head))
                return Int(head)
            }
            guard currentTick < target else { return nil }
            currentTick += 1
        }
    }

    /// The tick that a deadline is looked at: the first that begins at or after it, within the wheel.
    private func slotTick(_ deadline: Int64) -> Int64 {
        let wanted = deadline / TimerWheel.tickMicroseconds + 1
        return min(max(wanted, currentTick + 1), currentTick + Int64(TimerWheel.slots) - 1)
    }

    private mutating func unlink(_ index: Int) {
        let entry = entries[index]
        if entry.previous == TimerWheel.none {
            heads[Int(entry.tick % Int64(TimerWheel.slots))] = entry.next
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next != TimerWheel.none { entries[Int(entry.next)].previous = entry.previous }
        entries[index].tick = -1
    }
}
