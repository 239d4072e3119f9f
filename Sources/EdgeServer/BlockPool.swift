// Buffers of one loop in two sizes, under one budget. Only connections with something unfinished own
// one; a finished one gives it back.
internal import Tracking

/// A buffer's size class.
enum BlockClass: UInt8, BitwiseCopyable {
    /// A partial head, or the answer of one conversion.
    case small
    /// A body, or unsent output.
    case large
}

/// What a buffer is for.
enum BlockUse: BitwiseCopyable {
    /// Bytes of a request.
    case request
    /// An answer, parked or unsent: an eighth of the budget is for these alone.
    case answer
}

/// Blocks of two sizes, handed out while the budget lasts.
///
/// - Note: Owned by one loop thread. Blocks beyond ``Limits/keptBlocks`` go back to the allocator,
///   so that a burst does not stay resident.
struct BlockPool: ~Copyable {
    let smallBytes: Int
    let largeBytes: Int
    /// Bytes that may be out at once.
    let budgetBytes: Int
    /// Bytes that are out.
    private(set) var usedBytes = 0
    private var freeSmall = BlockStack()
    private var freeLarge = BlockStack()

    init(smallBytes: Int, largeBytes: Int, budgetBytes: Int) {
        precondition(smallBytes > 0 && largeBytes >= smallBytes)
        self.smallBytes = smallBytes
        self.largeBytes = largeBytes
        self.budgetBytes = budgetBytes
    }

    /// Connections that give way for one block: as many small blocks as a large one is.
    var yieldsPerBlock: Int { largeBytes / smallBytes + 1 }

    /// The capacity of a class.
    @inline(__always) func bytes(_ size: BlockClass) -> Int {
        size == .small ? smallBytes : largeBytes
    }

    /// The class for so many bytes.
    @inline(__always) func smallest(for count: Int) -> BlockClass {
        count <= smallBytes ? .small : .large
    }

    /// A block, its bytes undefined; nil when the budget is spent.
    mutating func take(_ size: BlockClass, of use: BlockUse) -> UnsafeMutableRawPointer? {
        let count = bytes(size)
        let budget = use == .answer ? budgetBytes : budgetBytes - budgetBytes / 8
        guard usedBytes + count <= budget else { return nil }
        usedBytes += count
        let kept = size == .small ? freeSmall.pop() : freeLarge.pop()
        return kept ?? .allocate(byteCount: count, alignment: 64)
    }

    /// Counts memory that somebody else allocates for a request; false when the budget is spent.
    mutating func reserve(_ count: Int) -> Bool {
        guard usedBytes + count <= budgetBytes - budgetBytes / 8 else { return false }
        usedBytes += count
        return true
    }

    /// Counts it no more.
    mutating func unreserve(_ count: Int) {
        usedBytes -= count
        assert(usedBytes >= 0)
    }

    /// Takes a block back.
    mutating func give(_ block: UnsafeMutableRawPointer, _ size: BlockClass) {
        usedBytes -= bytes(size)
        assert(usedBytes >= 0)
        let isKept = size == .small ? freeSmall.push(block) : freeLarge.push(block)
        if !isKept { block.deallocate() }
    }
}

/// A fixed stack of free blocks.
private struct BlockStack: ~Copyable {
    private let storage: UnsafeMutablePointer<UnsafeMutableRawPointer>
    private var count = 0

    init() { storage = .allocate(capacity: Limits.keptBlocks) }

    deinit {
        for index in 0..<count { storage[index].deallocate() }
        storage.deallocate()
    }

    mutating func pop() -> UnsafeMutableRawPointer? {
        guard count > 0 else { return nil }
        count -= 1
        return storage[count]
    }

    mutating func push(_ block: UnsafeMutableRawPointer) -> Bool {
        guard count < Limits.keptBlocks else { return false }
        (storage + count).initialize(to: block)
        count += 1
        return true
    }
}
