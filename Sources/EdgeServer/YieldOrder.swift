// Which connection gives way when there is no room: lists by age over slab indices, one set for the
// loop and one for each address. Every step takes constant time; the memory is fixed and only touched
// where connections have been.
internal import LinuxIO
internal import Tracking

/// What makes a connection give way.
enum YieldClass: UInt8, BitwiseCopyable, CaseIterable {
    /// It has said nothing yet.
    case silent
    /// Its request is not whole.
    case unfinished
    /// It has had its last answer, and may yet read it.
    case leaving
    /// Its TLS handshake is not complete.
    case greeting
    /// Between two requests.
    case idle
    /// It does not read what it has asked for: it gives its bytes up, never its place.
    case unread
    /// Its conversion waits for the disk: it never gives way.
    case kept

    /// Whether one of the class gives way to a newcomer, and not only to somebody's bytes.
    var givesPlace: Bool { rawValue <= YieldClass.idle.rawValue }
}

/// The connections of one loop in the order in which they give way.
///
/// Of two connections of one class the one that has been in it for longer goes first; idle ones go
/// after all others. Times are ticks of any size that only grow.
struct YieldOrder: ~Copyable {
    private static let none = UInt32.max

    /// First and last of the six lists that somebody can be taken from.
    private struct Ends: BitwiseCopyable {
        var first = InlineArray<6, UInt32>(repeating: YieldOrder.none)
        var last = InlineArray<6, UInt32>(repeating: YieldOrder.none)
    }

    private struct Links: BitwiseCopyable {
        var next = YieldOrder.none
        var previous = YieldOrder.none
    }

    private struct Entry: BitwiseCopyable {
        var byAge = Links()
        var byAddress = Links()
        /// The address's group, or none for a proxy's connection.
        var group = YieldOrder.none
        /// When it came into its class.
        var since: UInt32 = 0
        var kind = YieldClass.kept
    }

    /// The connections of one address.
    private struct Group: BitwiseCopyable {
        var prefix: UInt64
        var isIPv6: Bool
        var count: UInt32 = 0
        /// The next group of the same bucket, or the next free one.
        var next: UInt32
        var ends = Ends()
    }

    private let capacity: Int
    private let entries: UnsafeMutablePointer<Entry>
    private let groups: UnsafeMutablePointer<Group>
    private let buckets: UnsafeMutablePointer<UInt32>
    private let bucketMask: UInt64
    private let key: SipHashKey
    private var usedEntries = 0
    private var usedGroups = 0
    private var firstFreeGroup = YieldOrder.none
    private var ends = Ends()
    /// Connections that may give way to a newcomer.
    private(set) var count = 0

    /// Room for so many connections; `key` is random, so that nobody can aim at one bucket.
    init(capacity: Int, key: SipHashKey) {
        precondition(capacity > 0 && capacity < Int(YieldOrder.none))
        self.capacity = capacity
        self.key = key
        entries = .allocate(capacity: capacity)
        groups = .allocate(capacity: capacity)
        // As many buckets as there can be addresses, up to what a loop's start may well touch.
        var count = 64
        while count < capacity, count < 1 << 16 { count *= 2 }
        buckets = .allocate(capacity: count)
        buckets.initialize(repeating: YieldOrder.none, count: count)
        bucketMask = UInt64(count - 1)
    }

    deinit {
        entries.deallocate()
        groups.deallocate()
        buckets.deallocate()
    }

    /// Takes in a connection, which gives way to nobody until it is placed.
    mutating func add(_ index: Int) {
        precondition(index < capacity)
        while usedEntries <= index {
            (entries + usedEntries).initialize(to: Entry())
            usedEntries += 1
        }
        entries[index] = Entry()
    }

    /// Counts a connection, which is in no list yet, as one of an address: all of it for IPv4, its
    /// /64 for IPv6.
    mutating func join(_ index: Int, _ address: PeerAddress) {
        assert(index < usedEntries && entries[index].group == YieldOrder.none)
        assert(entries[index].kind == .kept)
        let group = find(address) ?? make(address)
        groups[group].count += 1
        entries[index].group = UInt32(truncatingIfNeeded: group)
    }

    /// Puts a connection into a class that it came into at `since`: behind those already there, unless
    /// it has been there since then.
    @inline(__always)
    mutating func place(_ index: Int, _ kind: YieldClass, since: UInt32) {
        assert(index < usedEntries)
        let entry = entries + index
        if entry.pointee.kind == kind && (entry.pointee.since == since || kind == .kept) { return }
        move(index, kind, since: since)
    }

    private mutating func move(_ index: Int, _ kind: YieldClass, since: UInt32) {
        unlink(index)
        entries[index].kind = kind
        entries[index].since = since
        guard kind != .kept else { return }
        if kind.givesPlace { count += 1 }
        let list = Int(kind.rawValue)
        let name = UInt32(truncatingIfNeeded: index)
        let last = ends.last[list]
        entries[index].byAge = Links(next: YieldOrder.none, previous: last)
        if last == YieldOrder.none {
            ends.first[list] = name
        } else {
            entries[Int(last)].byAge.next = name
        }
        ends.last[list] = name
        guard entries[index].group != YieldOrder.none else { return }
        let group = groups + Int(entries[index].group)
        let lastOfGroup = group.pointee.ends.last[list]
        entries[index].byAddress = Links(next: YieldOrder.none, previous: lastOfGroup)
        if lastOfGroup == YieldOrder.none {
            group.pointee.ends.first[list] = name
        } else {
            entries[Int(lastOfGroup)].byAddress.next = name
        }
        group.pointee.ends.last[list] = name
    }

    /// Forgets a connection.
    mutating func remove(_ index: Int) {
        assert(index < usedEntries)
        unlink(index)
        entries[index].kind = .kept
        let group = Int(entries[index].group)
        guard entries[index].group != YieldOrder.none else { return }
        entries[index].group = YieldOrder.none
        groups[group].count -= 1
        if groups[group].count == 0 { free(group) }
    }

    /// The first of a class, leaving out one connection; nil when there is none.
    func first(_ kind: YieldClass, besides kept: Int? = nil) -> Int? {
        guard kind != .kept else { return nil }
        let first = ends.first[Int(kind.rawValue)]
        guard first != YieldOrder.none else { return nil }
        guard Int(first) == kept else { return Int(first) }
        let next = entries[Int(first)].byAge.next
        return next == YieldOrder.none ? nil : Int(next)
    }

    /// The connection that gives way to a newcomer: the oldest that is not idle, then the first idle
    /// one; nil when all are kept or are being sent something.
    func first() -> Int? { choose(ends) }

    /// Where the connection of ``first()`` stands among those of all loops: the smaller, the sooner it
    /// goes; the largest number when there is none.
    var firstRank: UInt64 {
        guard count > 0, let first = first() else { return .max }
        let entry = entries[first]
        return (entry.kind == .idle ? 1 << 32 : 0) | UInt64(entry.since)
    }

    /// The first among the connections of one address.
    func first(of address: PeerAddress) -> Int? {
        find(address).flatMap { choose(groups[$0].ends) }
    }

    /// Connections of an address in this loop.
    func count(of address: PeerAddress) -> Int {
        find(address).map { Int(groups[$0].count) } ?? 0
    }

    private func choose(_ ends: Ends) -> Int? {
        var oldest = YieldOrder.none
        for list in 0..<Int(YieldClass.idle.rawValue) {
            let first = ends.first[list]
            guard first != YieldOrder.none else { continue }
            let isOlder =
                oldest == YieldOrder.none
                || entries[Int(first)].since < entries[Int(oldest)].since
            if isOlder { oldest = first }
        }
        if oldest != YieldOrder.none { return Int(oldest) }
        let idle = ends.first[Int(YieldClass.idle.rawValue)]
        return idle == YieldOrder.none ? nil : Int(idle)
    }

    private mutating func unlink(_ index: Int) {
        let entry = entries[index]
        guard entry.kind != .kept else { return }
        if entry.kind.givesPlace { count -= 1 }
        let list = Int(entry.kind.rawValue)
        if entry.byAge.previous == YieldOrder.none {
            ends.first[list] = entry.byAge.next
        } else {
            entries[Int(entry.byAge.previous)].byAge.next = entry.byAge.next
        }
        if entry.byAge.next == YieldOrder.none {
            ends.last[list] = entry.byAge.previous
        } else {
            entries[Int(entry.byAge.next)].byAge.previous = entry.byAge.previous
        }
        guard entry.group != YieldOrder.none else { return }
        let group = groups + Int(entry.group)
        if entry.byAddress.previous == YieldOrder.none {
            group.pointee.ends.first[list] = entry.byAddress.next
        } else {
            entries[Int(entry.byAddress.previous)].byAddress.next = entry.byAddress.next
        }
        if entry.byAddress.next == YieldOrder.none {
            group.pointee.ends.last[list] = entry.byAddress.previous
        } else {
            entries[Int(entry.byAddress.next)].byAddress.previous = entry.byAddress.previous
        }
    }

    private func bucket(_ prefix: UInt64, _ isIPv6: Bool) -> Int {
        var hash = SipHash24(key: key)
        hash.combine(prefix)
        return Int(hash.finish(tail: isIPv6 ? 1 : 0, totalBytes: 9) & bucketMask)
    }

    private func find(_ address: PeerAddress) -> Int? {
        var group = buckets[bucket(address.high, address.isIPv6)]
        while group != YieldOrder.none {
            let candidate = groups + Int(group)
            if candidate.pointee.prefix == address.high,
                candidate.pointee.isIPv6 == address.isIPv6
            {
                return Int(group)
            }
            group = candidate.pointee.next
        }
        return nil
    }

    /// A group for an address that has none; there is room, for each connection is in one at most.
    private mutating func make(_ address: PeerAddress) -> Int {
        let group: Int
        if firstFreeGroup != YieldOrder.none {
            group = Int(firstFreeGroup)
            firstFreeGroup = groups[group].next
        } else {
            precondition(usedGroups < capacity)
            group = usedGroups
            usedGroups += 1
        }
        let bucket = bucket(address.high, address.isIPv6)
        (groups + group).initialize(
            to: Group(prefix: address.high, isIPv6: address.isIPv6, next: buckets[bucket]))
        buckets[bucket] = UInt32(truncatingIfNeeded: group)
        return group
    }

    private mutating func free(_ group: Int) {
        let bucket = bucket(groups[group].prefix, groups[group].isIPv6)
        let name = UInt32(truncatingIfNeeded: group)
        if buckets[bucket] == name {
            buckets[bucket] = groups[group].next
        } else {
            var before = Int(buckets[bucket])
            while groups[before].next != name { before = Int(groups[before].next) }
            groups[before].next = groups[group].next
        }
        groups[group].next = firstFreeGroup
        firstFreeGroup = name
    }
}
