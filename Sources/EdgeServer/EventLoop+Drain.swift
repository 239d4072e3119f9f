// The end of a loop: nobody is let in any more, what is in hand is answered, who is idle is closed.
internal import EdgeCore
internal import LinuxIO

/// How far a drain has come.
struct DrainState: BitwiseCopyable {
    var isDraining = false
    /// Every connection has ended, or waited too long.
    var isOver = false
    /// When it began, in the loop's microseconds.
    var startedAt: Int64 = 0
}

extension EventLoop {
    /// Takes in who waits at the door, unless it stays open for the next process, and leaves it.
    mutating func beginDrain() {
        drain.isDraining = true
        drain.startedAt = now
        if !shared.leavesQueues {
            for position in listeners.sockets.indices { accept(position) }
        }
        leaveListeners()
    }

    /// One step towards the end.
    ///
    /// A successor gets every connection that can be passed. Without one, idle connections have a
    /// moment for a request that is under way; then their writing half is closed, so that a client
    /// that sends at that instant meets an end and no reset.
    mutating func continueDrain() {
        passConnections()
        let age = now - drain.startedAt
        if age >= Limits.drainGraceMicroseconds {
            endWaiting(.silent)
            endWaiting(.idle)
            for index in 0..<slab.highWater where slab[index].pointee.isBeforeHandshake {
                receive(index)
                if slab[index].pointee.isBeforeHandshake { endQuietly(index) }
            }
        }
        drain.isOver = slab.count == 0 || age >= Limits.drainMicroseconds
    }

    /// Ends every connection of a class that owns no buffer, but for those whose request has come.
    private mutating func endWaiting(_ kind: YieldClass) {
        while let index = yields.first(kind) {
            receive(index)
            let phase = slab[index].pointee.phase
            if phase == .fresh || phase == .idle { endQuietly(index) }
        }
    }

    /// Closes the writing half, after a TLS session's close_notify; the connection lingers.
    private mutating func endQuietly(_ index: Int) {
        slab[index].pointee.closesAfterOutput = true
        finish(index, lingers: true)
    }
}
