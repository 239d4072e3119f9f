// A loop's listening sockets: watched, paused while no descriptor is left, closed in the end.
internal import LinuxIO

/// A loop's listening sockets and the descriptor it holds in reserve.
struct ListenerSet: ~Copyable {
    /// Raw descriptors; this set closes them.
    private(set) var descriptors: [CInt]
    /// Whether epoll watches them.
    var isWatched = false
    /// Taken off epoll for a moment, because the process has no descriptor left.
    var isPaused = false
    /// Given up to accept and close one connection when there is no other descriptor.
    private var reserve: CInt = -1

    init(descriptors: [CInt]) {
        self.descriptors = descriptors
        reserve = ListenerSet.openReserve()
    }

    deinit {
        for descriptor in descriptors { Socket.close(descriptor) }
        if reserve >= 0 { Socket.close(reserve) }
    }

    /// Closes the listening sockets.
    mutating func close() {
        for descriptor in descriptors { Socket.close(descriptor) }
        descriptors = []
        isWatched = false
        isPaused = false
    }

    /// Accepts one connection on the reserved descriptor and closes it; false when even that failed.
    mutating func shed(_ listener: CInt) -> Bool {
        guard reserve >= 0 else {
            reserve = ListenerSet.openReserve()
            return false
        }
        Socket.close(reserve)
        var peer = PeerAddress()
        let descriptor = Socket.accept(listener, peer: &peer)
        if descriptor >= 0 { Socket.close(descriptor) }
        reserve = ListenerSet.openReserve()
        return descriptor >= 0 && reserve >= 0
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
    /// Puts the listeners under epoll's watch.
    mutating func watchListeners() throws(Errno) {
        guard !listeners.isWatched else { return }
        for (position, descriptor) in listeners.descriptors.enumerated() {
            try epoll.add(
                descriptor, .readable,
                data: LoopSignal.firstListener + UInt64(truncatingIfNeeded: position))
        }
        listeners.isWatched = true
        listeners.isPaused = false
    }

    /// Takes the listeners off epoll until the clock's next second.
    mutating func pauseListeners() {
        for descriptor in listeners.descriptors { try? epoll.remove(descriptor) }
        listeners.isWatched = false
        listeners.isPaused = true
    }
}
