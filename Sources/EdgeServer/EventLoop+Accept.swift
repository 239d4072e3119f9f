// New connections: accepted, counted, and read at once, for most bring their request with them.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

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
    private mutating func pauseListeners() {
        for descriptor in listeners.descriptors { try? epoll.remove(descriptor) }
        listeners.isWatched = false
        listeners.isPaused = true
    }

    /// Accepts what waits at a listener.
    mutating func accept(_ position: Int) {
        guard position < listeners.descriptors.count else { return }
        let listener = listeners.descriptors[position]
        for _ in 0..<Limits.acceptsPerTurn {
            var peer = PeerAddress()
            let descriptor = Socket.accept(listener, peer: &peer)
            if descriptor >= 0 {
                admit(descriptor, peer)
                continue
            }
            let error = Errno.current
            if error == .wouldBlock { return }
            if error == .tooManyDescriptors || error == .tooManyFilesInSystem {
                counters.add(.connectionsRefused, 1)
                if !listeners.shed(listener) { return pauseListeners() }
            }
            // Anything else concerns the one connection that failed while it waited.
        }
    }

    /// Takes a connection in, or closes it when a limit says so.
    private mutating func admit(_ descriptor: CInt, _ peer: PeerAddress) {
        // A proxy's connections are many clients': only the process's limit is for them.
        let isProxy = !settings.proxies.isEmpty && settings.proxies.contains(peer)
        guard shared.enter(peer, countingAddress: !isProxy) else {
            return refuseConnection(descriptor)
        }
        guard let index = slab.take(descriptor: descriptor, peer: peer) else {
            shared.leave(peer, countingAddress: !isProxy)
            return refuseConnection(descriptor)
        }
        counters.add(.connectionsAccepted, 1)
        slab[index].pointee.isProxy = isProxy
        slab[index].pointee.deadline = now + limits.headerTimeoutMicroseconds
        receive(index)
    }

    /// One past the limit: told so, and closed.
    private mutating func refuseConnection(_ descriptor: CInt) {
        counters.add(.connectionsRefused, 1)
        let count = writeStatus(503, closing: true, at: 0)
        _ = Socket.send(descriptor, UnsafeRawBufferPointer(rebasing: sendSlab[..<count]))
        Socket.close(descriptor)
    }

    /// Watches a connection for `interest` from now on, and for its deadline.
    mutating func watch(_ index: Int, _ interest: Epoll.Events) {
        let connection = slab[index]
        wheel.schedule(index, at: connection.pointee.deadline)
        if connection.pointee.isWatched && connection.pointee.interest == interest { return }
        do throws(Errno) {
            if connection.pointee.isWatched {
                try epoll.modify(connection.pointee.descriptor, interest, data: slab.data(index))
            } else {
                try epoll.add(connection.pointee.descriptor, interest, data: slab.data(index))
                connection.pointee.isWatched = true
            }
            connection.pointee.interest = interest
        } catch {
            close(index)  // The kernel has no memory for it: better gone than deaf.
        }
    }

    /// Closes a connection and gives back all that it held.
    mutating func close(_ index: Int) {
        pendingOutput = 0
        releaseInput(index)
        releaseOutput(index)
        wheel.cancel(index)
        shared.leave(
            slab[index].pointee.peer, countingAddress: !slab[index].pointee.isProxy)
        Socket.close(slab[index].pointee.descriptor)
        slab.give(index)
        counters.add(.connectionsClosed, 1)
    }

    /// Closes everything that is still open, at the end.
    mutating func closeAll() {
        for index in 0..<slab.highWater where slab[index].pointee.phase != .free { close(index) }
    }
}
