// A loop's view of the listening sockets: watched by every loop, paused while no descriptor is left.
internal import LinuxIO

/// The listening sockets as one loop watches them, and the descriptor it holds in reserve.
///
/// All loops watch all sockets (EPOLLEXCLUSIVE: one is woken for a connection). The loop whose share
/// a socket is watches it first and so is woken first; when it is busy, the kernel wakes another. That
/// one is told once (edge-triggered) and takes what waits only if it has fewer connections than the
/// socket's own loop, or if that has not moved for a while: of clients that keep their connections and
/// come all at once, as proxies do after a restart, the loop that woke first would have all for good.
struct ListenerSet: ~Copyable {
    /// Not owned; empty once the loop accepts no more.
    private(set) var sockets: [ListeningSocket]
    /// Whether epoll watches them.
    var isWatched = false
    /// Taken off epoll for a moment, because the process has no descriptor left.
    var isPaused = false
    /// Given up to accept and close one connection when there is no other descriptor.
    private var reserve: CInt = -1

    init(sockets: [ListeningSocket]) {
        self.sockets = sockets
        reserve = ListenerSet.openReserve()
    }

    deinit { if reserve >= 0 { Socket.close(reserve) } }

    /// Forgets the sockets: this loop accepts no more.
    mutating func leave() {
        sockets = []
        isWatched = false
        isPaused = false
    }

    /// What became of a connection that there is no descriptor for.
    enum Shedding: BitwiseCopyable {
        /// Accepted on the reserved descriptor and closed.
        case done
        /// Nobody waited: without a descriptor accept(2) fails before it looks.
        case nobodyWaits
        /// Not even that was possible.
        case failed
    }

    /// Accepts one connection on the reserved descriptor and closes it.
    mutating func shed(_ listener: CInt) -> Shedding {
        guard reserve >= 0 else {
            reserve = ListenerSet.openReserve()
            return .failed
        }
        Socket.close(reserve)
        var peer = PeerAddress()
        let descriptor = Socket.accept(listener, peer: &peer)
        let isEmpty = descriptor < 0 && Errno.current == .wouldBlock
        if descriptor >= 0 { Socket.close(descriptor) }
        reserve = ListenerSet.openReserve()
        guard reserve >= 0 else { return .failed }
        return descriptor >= 0 ? .done : isEmpty ? .nobodyWaits : .failed
    }

    private static func openReserve() -> CInt {
        do throws(Errno) {
            return try FileDescriptor.open("/dev/null", .read).release()
        } catch {
            return -1
        }
    }
}

extension EventLoop {
    /// Watches this loop's own share of the listeners, waits until the others watch theirs, and then
    /// watches all.
    ///
    /// Who watches a socket first is woken first.
    mutating func startListening() throws(Errno) {
        try watchListeners(own: true)
        shared.noteStart()
        let end = SystemClock.monotonicNanoseconds() / 1000 + Limits.startMicroseconds
        while shared.startedLoops < shared.loopCount,
            SystemClock.monotonicNanoseconds() / 1000 < end
        {
            Thread.sleep(microseconds: 100)
        }
        try watchListeners(own: false)
        listeners.isWatched = true
    }

    /// Puts every listener under epoll's watch again.
    mutating func resumeListeners() throws(Errno) {
        guard !listeners.isWatched else { return }
        try watchListeners(own: true)
        try watchListeners(own: false)
        listeners.isWatched = true
        listeners.isPaused = false
    }

    /// Whether this loop may take what waits at a socket.
    @inline(__always)
    func mayTake(from socket: ListeningSocket) -> Bool {
        let owner = socket.share % shared.loopCount
        if owner == settings.number { return true }
        let pulse = shared.pulses[owner]
        return slab.count < pulse.connections
            || pulse.silence(at: now) >= Limits.standstillMicroseconds
    }

    private mutating func watchListeners(own: Bool) throws(Errno) {
        for (position, socket) in listeners.sockets.enumerated()
        where (socket.share % shared.loopCount == settings.number) == own {
            try epoll.add(
                socket.descriptor, own ? [.readable, .exclusive] : [.readable, .exclusive, .edge],
                data: LoopSignal.firstListener + UInt64(truncatingIfNeeded: position))
        }
    }

    /// Takes the listeners off epoll.
    private mutating func unwatchListeners() {
        for socket in listeners.sockets { try? epoll.remove(socket.descriptor) }
        listeners.isWatched = false
    }

    /// Takes the listeners off epoll until the clock's next second.
    mutating func pauseListeners() {
        unwatchListeners()
        listeners.isPaused = true
    }

    /// Accepts no more.
    mutating func leaveListeners() {
        unwatchListeners()
        listeners.leave()
        shared.noteListenersLeft()
    }
}
