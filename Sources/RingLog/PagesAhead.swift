// The pages that the next records come to lie in, entered into the process's page table before the loop
// gets there.

/// How much of a ring this process has pages for; used by the spooler alone.
///
/// Without it a loop takes a fault (1.5 µs) for every page of its first lap round the ring. A loop that has
/// appended nothing yet costs nothing: an idle process is not charged with its rings.
struct PagesAhead {
    private let memory: RingMemory
    /// The head as the process found it, and where the first lap ends.
    private let firstSlot, lapSlot: UInt64
    /// Pages are there up to this slot.
    private var endSlot: UInt64

    init(_ memory: RingMemory) {
        self.memory = memory
        firstSlot = memory.headSlot.load()
        lapSlot = firstSlot + memory.slotCount
        endSlot = firstSlot
    }

    /// Keeps the pages some way ahead of the loop, for one lap.
    mutating func follow() {
        guard endSlot < lapSlot else { return }
        let head = memory.headSlot.load()
        guard head != firstSlot else { return }
        let ahead = UInt64(RingLogLimits.pagesAheadBytes / RingLogLimits.slotBytes)
        let wanted = min(head + ahead, lapSlot)
        endSlot = max(endSlot, head)
        while endSlot < wanted {
            let bodyEnd = endSlot + memory.slotCount - endSlot % memory.slotCount
            let next = min(wanted, bodyEnd)
            memory.makePages(fromSlot: endSlot, slots: Int(next - endSlot))
            endSlot = next
        }
    }
}
