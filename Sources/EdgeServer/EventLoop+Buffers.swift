// What connections keep between turns: unfinished requests and unsent answers.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

extension EventLoop {
    /// Keeps unserved bytes, at the start of a block of the connection's own; false when the budget
    /// is spent.
    mutating func keep(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer, atLeast size: BlockClass = .small
    ) -> Bool {
        guard let source = rest.baseAddress, !rest.isEmpty else {
            releaseInput(index)
            return true
        }
        let connection = slab[index]
        let wanted = rest.count >= pool.smallBytes ? BlockClass.large : size
        guard rest.count <= pool.bytes(wanted) else { return false }
        if let input = connection.pointee.input {
            if connection.pointee.inputClass == .large || wanted == .small {
                if source != input { input.copyMemory(from: source, byteCount: rest.count) }
                connection.pointee.inputCount = UInt32(truncatingIfNeeded: rest.count)
                return true
            }
        }
        guard let block = takeBlock(wanted, for: index, of: .request) else { return false }
        block.copyMemory(from: source, byteCount: rest.count)
        releaseInput(index)
        connection.pointee.input = block
        connection.pointee.inputClass = wanted
        connection.pointee.inputCount = UInt32(truncatingIfNeeded: rest.count)
        return true
    }

    /// Where the block of a connection in phase head keeps what is parsed of it: its last bytes.
    private func progressOffset(_ index: Int) -> Int {
        let stride = MemoryLayout<HeadProgress>.stride
        return (pool.bytes(slab[index].pointee.inputClass) - stride) & ~15
    }

    /// The progress of the head at the start of `rest`; nil when this is its first attempt.
    @inline(__always)
    func headProgress(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer
    ) -> UnsafeMutablePointer<HeadProgress>? {
        let connection = slab[index]
        guard connection.pointee.phase == .head, let input = connection.pointee.input,
            input == rest.baseAddress
        else { return nil }
        return (input + progressOffset(index)).assumingMemoryBound(to: HeadProgress.self)
    }

    /// Prepares for the second attempt at a head, which has just been kept.
    func beginHeadProgress(_ index: Int) {
        guard let input = slab[index].pointee.input else { return }
        // An unfinished head is shorter than the limit, and a block longer by more than this.
        assert(Int(slab[index].pointee.inputCount) <= progressOffset(index))
        (input + progressOffset(index)).initializeMemory(
            as: HeadProgress.self, to: HeadProgress())
    }

    /// A block for a connection; where the budget is spent, those of others who give way.
    mutating func takeBlock(
        _ size: BlockClass, for index: Int, of use: BlockUse
    ) -> UnsafeMutableRawPointer? {
        for _ in 0..<pool.yieldsPerBlock {
            if let block = pool.take(size, of: use) { return block }
            guard giveWayForBytes(besides: index) else { break }
        }
        let block = pool.take(size, of: use)
        if block == nil { counters.add(.connectionsRefused, 1) }
        return block
    }

    /// Has one of those give way who hold memory: whoever has left his answers unread for the longest,
    /// then the oldest unfinished request or handshake; false when there is none.
    private mutating func giveWayForBytes(besides index: Int) -> Bool {
        guard
            let victim = yields.first(.unread, besides: index)
                ?? yields.first(.unfinished, besides: index)
                ?? yields.first(.greeting, besides: index)
        else { return false }
        giveWay(victim)
        return true
    }

    /// Counts what OpenSSL holds for a connection from now on; false when the budget is spent and
    /// nobody gives way.
    @inline(__always)
    mutating func countSealed(_ index: Int, _ use: SealedUse) -> Bool {
        slab[index].pointee.sealedUse == use || changeSealed(index, use)
    }

    private mutating func changeSealed(_ index: Int, _ use: SealedUse) -> Bool {
        pool.unreserve(slab[index].pointee.sealedUse.bytes)
        slab[index].pointee.sealedUse = .nothing
        for _ in 0...pool.yieldsPerBlock {
            if pool.reserve(use.bytes) {
                slab[index].pointee.sealedUse = use
                return true
            }
            guard giveWayForBytes(besides: index) else { break }
        }
        counters.add(.connectionsRefused, 1)
        return false
    }

    /// Bytes that the next recv may add to a connection's block.
    func inputRoom(_ index: Int) -> Int {
        let connection = slab[index].pointee
        let filled = Int(connection.inputCount)
        if connection.phase == .head { return max(progressOffset(index) - filled, 1) }
        let room = pool.bytes(connection.inputClass) - filled
        guard connection.phase == .body, connection.bodyTotal >= 0 else { return room }
        return min(room, Int(connection.headBytes) + Int(connection.bodyTotal) - filled)
    }

    mutating func releaseInput(_ index: Int) {
        guard let input = slab[index].pointee.input else { return }
        pool.give(input, slab[index].pointee.inputClass)
        slab[index].pointee.input = nil
        slab[index].pointee.inputCount = 0
    }

    mutating func releaseOutput(_ index: Int) {
        guard let output = slab[index].pointee.output else { return }
        pool.give(output, slab[index].pointee.outputClass)
        slab[index].pointee.output = nil
        slab[index].pointee.outputStart = 0
        slab[index].pointee.outputEnd = 0
    }

    /// Moves the send slab's answers into a block of the connection's own; false (and the connection
    /// closed) when the budget is spent.
    mutating func keepOutput(_ index: Int, from sent: Int) -> Bool {
        let count = pendingOutput - sent
        let size = pool.smallest(for: count)
        guard let block = takeBlock(size, for: index, of: .answer),
            let source = sendSlab.baseAddress
        else {
            pendingOutput = 0
            close(index)
            return false
        }
        assert(slab[index].pointee.output == nil)
        block.copyMemory(from: source + sent, byteCount: count)
        pendingOutput = 0
        slab[index].pointee.output = block
        slab[index].pointee.outputClass = size
        slab[index].pointee.outputStart = 0
        slab[index].pointee.outputEnd = UInt32(truncatingIfNeeded: count)
        return true
    }
}
