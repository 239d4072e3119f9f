// Whether the loops move: each notes when it begins to work and when it waits, and a watchdog looks.
internal import LinuxIO
internal import Synchronization

/// A loop's sign of life and its load: the loop writes, the watchdog and the other loops read.
///
/// The memory lives as long as the process, so that the handle is plain data.
struct LoopPulse: @unchecked Sendable {
    private struct Words: ~Copyable {
        let busySince = Atomic<Int64>(0)
        let connections = Atomic<Int>(0)
    }

    // Sendable: two atomic words.
    private let words: UnsafeMutablePointer<Words>

    /// A cache line of its own.
    init() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
        words = memory.initializeMemory(as: Words.self, to: Words())
    }

    /// Waits for events from here on, for as long as it takes, with so many connections.
    @inline(__always) func rest(connections: Int) {
        words.pointee.busySince.store(0, ordering: .relaxed)
        words.pointee.connections.store(connections, ordering: .relaxed)
    }

    /// Works since `now`, microseconds of the monotonic clock.
    @inline(__always) func work(_ now: Int64) {
        words.pointee.busySince.store(now, ordering: .relaxed)
    }

    /// Connections of the loop, as of its last turn.
    var connections: Int { words.pointee.connections.load(ordering: .relaxed) }

    /// Microseconds that the loop has been at one turn; 0 while it waits.
    func silence(at now: Int64) -> Int64 {
        let since = words.pointee.busySince.load(ordering: .relaxed)
        return since == 0 ? 0 : max(0, now - since)
    }
}

/// A loop that does not move.
public struct SilentLoop: Sendable, Equatable {
    /// The loop, counted from 0.
    public let loop: Int
    /// Microseconds that it has been at one turn.
    public let microseconds: Int64
}

extension EdgeServer {
    /// Loops that have been at one turn for a second or more.
    ///
    /// New connections are the other loops'; the open ones of a silent loop are stuck until it moves.
    public var silentLoops: [SilentLoop] { shared.silentLoops }
}

extension LoopShared {
    /// Loops that have been at one turn for a second or more.
    var silentLoops: [SilentLoop] {
        let now = SystemClock.monotonicNanoseconds() / 1000
        return pulses.enumerated().compactMap { loop, pulse in
            let silence = pulse.silence(at: now)
            guard silence >= Limits.silenceMicroseconds else { return nil }
            return SilentLoop(loop: loop, microseconds: silence)
        }
    }

    /// Looks at the loops until they have ended; tells of each loop that falls silent, and has the
    /// others look at the listeners, for it may have been woken for a connection that it never took.
    func watchLoops(_ onSilence: @Sendable (SilentLoop) -> Void) {
        var silent: Set<Int> = []
        while endedLoops < loopCount {
            Thread.sleep(microseconds: Limits.watchMicroseconds)
            let found = silentLoops
            for loop in found where !silent.contains(loop.loop) { onSilence(loop) }
            if !found.isEmpty { wakeAll() }
            silent = Set(found.map(\.loop))
        }
    }
}
