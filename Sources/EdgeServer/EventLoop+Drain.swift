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

    /// Idle connections have a moment for a request that is under way; then they are closed, and
    /// the loop ends with the last of the others.
    mutating func continueDrain() {
        if now - drain.startedAt >= Limits.drainGraceMicroseconds {
            for index in 0..<slab.highWater where slab[index].pointee.isIdle {
                receive(index)
                if slab[index].pointee.isIdle { close(index) }
            }
        }
        drain.isOver = slab.count == 0 || now - drain.startedAt >= Limits.drainMicroseconds
    }
}
