// Which clicks are the first of their visitor on a link and day: `clicks_logs.is_unique`.
internal import Tracking

/// A bounded set of (day, visitor, link) that remembers which click was the first.
///
/// Encoding a click again gives the same answer, so that a batch may be tried any number of times.
/// Past the bound of a day the older half is forgotten: a visitor can then count as unique again.
struct UniqueVisitors {
    private struct Entry {
        var hash: UInt64
        var click: UInt64
    }

    /// One generation of one day: open addressing, at most three quarters full.
    private struct Generation {
        var entries: [Entry]
        var count = 0

        init(slots: Int) { entries = Array(repeating: Entry(hash: 0, click: 0), count: slots) }

        /// The slot that holds the hash or would take it.
        func slot(of hash: UInt64) -> Int {
            let mask = entries.count - 1
            var index = Int(truncatingIfNeeded: hash) & mask
            while entries[index].hash != 0, entries[index].hash != hash {
                index = (index + 1) & mask
            }
            return index
        }

        var isFull: Bool { count >= entries.count / 4 * 3 }
    }

    private struct DaySet {
        var day: Int32
        var current: Generation
        var previous: Generation?
    }

    private let key: SipHashKey
    private let firstSlots: Int
    private let maximumSlots: Int
    private var days: [DaySet] = []

    /// An empty set under a secret key.
    /// - Precondition: both slot counts are powers of two.
    init(
        key: SipHashKey, firstSlots: Int = 1024,
        maximumSlots: Int = FlusherLimits.maximumVisitorSlots
    ) {
        precondition(firstSlots.nonzeroBitCount == 1 && maximumSlots.nonzeroBitCount == 1)
        precondition(firstSlots >= 4 && firstSlots <= maximumSlots)
        self.key = key
        self.firstSlots = firstSlots
        self.maximumSlots = maximumSlots
    }

    /// Whether a click is the first of its visitor on its link that day.
    /// - Complexity: O(1) amortised.
    mutating func isFirst(day: Int32, visitor: UInt64, link: EntityID, click: UInt64) -> Bool {
        var state = SipHash24(key: key)
        state.combine(visitor)
        state.combine(link.high)
        state.combine(link.low)
        let hash = state.finish(tail: 0, totalBytes: 24) | 1  // 0 marks a free slot.
        let index = position(of: day)
        let slot = days[index].current.slot(of: hash)
        let found = days[index].current.entries[slot]
        if found.hash == hash { return found.click == click }
        if let previous = days[index].previous {
            let old = previous.entries[previous.slot(of: hash)]
            if old.hash == hash { return old.click == click }
        }
        insert(Entry(hash: hash, click: click), at: slot, in: index)
        return true
    }

    private mutating func insert(_ entry: Entry, at slot: Int, in index: Int) {
        days[index].current.entries[slot] = entry
        days[index].current.count += 1
        guard days[index].current.isFull else { return }
        let full = days[index].current
        guard full.entries.count < maximumSlots else {
            days[index].previous = full
            days[index].current = Generation(slots: firstSlots)
            return
        }
        var larger = Generation(slots: full.entries.count * 2)
        for entry in full.entries where entry.hash != 0 {
            larger.entries[larger.slot(of: entry.hash)] = entry
        }
        larger.count = full.count
        days[index].current = larger
    }

    /// The day's place; the day that came in first makes room.
    private mutating func position(of day: Int32) -> Int {
        if let index = days.firstIndex(where: { $0.day == day }) { return index }
        if days.count >= FlusherLimits.maximumVisitorDays {
            days.removeFirst()
        }
        days.append(DaySet(day: day, current: Generation(slots: firstSlots), previous: nil))
        return days.count - 1
    }
}
