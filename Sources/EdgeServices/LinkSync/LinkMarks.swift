// What is remembered of every link's row, in the order of their identities and in ranges of it: the
// comparison asks for one range at a time.
internal import Tracking

/// What is remembered of a link that was read.
struct LinkMark: Equatable {
    /// Of domain and slug; leads back to them in the table (``LinkKey/trace(domain:slug:seed:)``).
    var keyHash: UInt64
    /// Of the whole row, by PostgreSQL.
    var rowHash: UInt64
}

/// The marks of all links: those of the last load in one sorted array (32 bytes each), and what has
/// changed since beside it.
struct LinkMarks {
    private struct Entry {
        var id: EntityID
        var mark: LinkMark
    }

    private let rangeRows: Int
    private var loaded: [Entry] = []
    private var removed: Set<EntityID> = []
    private var added: [EntityID: LinkMark] = [:]

    /// None; `rangeRows` is how many loaded links a range has.
    init(rangeRows: Int) {
        precondition(rangeRows > 0)
        self.rangeRows = rangeRows
    }

    /// Links.
    var count: Int { loaded.count - removed.count + added.count }

    /// Takes in the next link of a load, which come in the order of their identities; one that does not
    /// is remembered all the same.
    mutating func append(_ id: EntityID, _ mark: LinkMark) {
        guard loaded.last.map({ $0.id < id }) ?? true else { return self[id] = mark }
        loaded.append(Entry(id: id, mark: mark))
    }

    /// The mark of a link; setting nil forgets it.
    subscript(id: EntityID) -> LinkMark? {
        get {
            guard let index = index(of: id) else { return added[id] }
            return removed.contains(id) ? nil : loaded[index].mark
        }
        set {
            guard let index = index(of: id) else {
                added[id] = newValue
                return
            }
            if let newValue {
                loaded[index].mark = newValue
                removed.remove(id)
            } else {
                removed.insert(id)
            }
        }
    }

    /// Ranges that the links are compared in; at least one.
    var rangeCount: Int { max(1, (loaded.count + rangeRows - 1) / rangeRows) }

    /// Where a range begins, and where the next one does; nil after the last.
    func bounds(of range: Int) -> (from: EntityID, to: EntityID?) {
        precondition(range < rangeCount)
        let next = (range + 1) * rangeRows
        return (
            range == 0 ? .zero : loaded[range * rangeRows].id,
            next < loaded.count ? loaded[next].id : nil
        )
    }

    /// Where every range but the first begins.
    var thresholds: [EntityID] { (1..<rangeCount).map { loaded[$0 * rangeRows].id } }

    /// What a range's links sum up to.
    func sum(of range: Int) -> LinkSum {
        var sum = LinkSum()
        visit(range) { _, mark in sum.add(LinkSum(count: 1, rows: mark.rowHash)) }
        return sum
    }

    /// The identities of a range's links.
    func ids(of range: Int) -> Set<EntityID> {
        var ids: Set<EntityID> = []
        visit(range) { id, _ in ids.insert(id) }
        return ids
    }

    private func visit(_ range: Int, _ body: (EntityID, LinkMark) -> Void) {
        let (from, to) = bounds(of: range)
        let end = min((range + 1) * rangeRows, loaded.count)
        for index in min(range * rangeRows, end)..<end {
            let entry = loaded[index]
            if removed.isEmpty || !removed.contains(entry.id) { body(entry.id, entry.mark) }
        }
        for (id, mark) in added where id >= from {
            if let to, id >= to { continue }
            body(id, mark)
        }
    }

    private func index(of id: EntityID) -> Int? {
        var (low, high) = (0, loaded.count)
        while low < high {
            let middle = (low + high) / 2
            if loaded[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low < loaded.count && loaded[low].id == id ? low : nil
    }
}
