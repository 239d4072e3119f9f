// Conversions of one loop whose answers wait for the disk, in the order of their sequences.

/// A ring of fixed size.
///
/// Entries of connections that have gone are passed over by whoever pops them.
struct ParkedQueue: ~Copyable {
    /// One waiting answer.
    struct Entry: BitwiseCopyable {
        /// The connection, as epoll's data names it.
        var connection: UInt64
        /// The sequence that must be durable.
        var sequence: UInt64
    }

    private let storage: UnsafeMutablePointer<Entry>
    private let capacity: Int
    private var first = 0
    private(set) var count = 0

    init(capacity: Int = Limits.parked) {
        self.capacity = capacity
        storage = .allocate(capacity: capacity)
    }

    deinit { storage.deallocate() }

    @inline(__always) var isEmpty: Bool { count == 0 }
    @inline(__always) var isFull: Bool { count == capacity }

    /// Adds an entry; its sequence is not below the last one's.
    /// - Precondition: The queue is not full.
    mutating func append(_ entry: Entry) {
        precondition(count < capacity)
        (storage + (first + count) % capacity).initialize(to: entry)
        count += 1
    }

    /// The next connection whose sequence is durable.
    mutating func next(durable: UInt64) -> Entry? {
        guard count > 0, storage[first].sequence <= durable else { return nil }
        let entry = storage[first]
        first = (first + 1) % capacity
        count -= 1
        return entry
    }
}
