// How many connections each address has open, for all loops together, in fixed memory.
internal import LinuxIO
internal import Synchronization
internal import Tracking

/// A count-min sketch over addresses: two rows of counters, the smaller one counts.
///
/// A collision in both rows can only count too many, and the rows' key is random, so nobody can aim
/// one.
final class AddressCounts: @unchecked Sendable {
    // Sendable: the counters are atomics in memory that lives as long as this object; all else is let.
    private static let columns = 1 << 16
    private let memory: TableMemory
    private let counters: UnsafeMutablePointer<Atomic<UInt32>>
    private let key: SipHashKey
    private let limit: UInt32

    /// Counters at zero; `key` is random.
    init(limit: Int, key: SipHashKey) throws(Errno) {
        self.limit = UInt32(clamping: limit)
        self.key = key
        let stride = MemoryLayout<Atomic<UInt32>>.stride
        memory = try TableMemory(byteCount: 2 * AddressCounts.columns * stride)
        // An atomic integer is its bytes: pages of zeros cost nothing before they are counted in.
        counters = memory.start.bindMemory(
            to: Atomic<UInt32>.self, capacity: 2 * AddressCounts.columns)
    }

    deinit { memory.deallocate() }

    /// Counts a connection in; false (and not counted) when its address has too many.
    func enter(_ peer: PeerAddress) -> Bool {
        let (first, second) = cells(peer)
        // Relaxed: the counts order nothing else.
        let one = counters[first].wrappingAdd(1, ordering: .relaxed).newValue
        let two = counters[second].wrappingAdd(1, ordering: .relaxed).newValue
        if min(one, two) <= limit { return true }
        leave(peer)
        return false
    }

    /// Counts a connection out that ``enter(_:)`` let in.
    func leave(_ peer: PeerAddress) {
        let (first, second) = cells(peer)
        counters[first].wrappingSubtract(1, ordering: .relaxed)
        counters[second].wrappingSubtract(1, ordering: .relaxed)
    }

    private func cells(_ peer: PeerAddress) -> (Int, Int) {
        var hash = SipHash24(key: key)
        hash.combine(peer.high)  // An IPv6 address's /64, or the whole of an IPv4 one.
        let value = hash.finish(tail: peer.isIPv6 ? 1 : 0, totalBytes: 9)
        let mask = UInt64(AddressCounts.columns - 1)
        return (Int(value & mask), Int(value >> 32 & mask) + AddressCounts.columns)
    }
}
