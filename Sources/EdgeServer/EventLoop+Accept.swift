// New connections: accepted, counted, and read at once, for most bring their request with them.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

extension EventLoop {
    /// Accepts what waits at a listener.
    mutating func accept(_ position: Int) {
        guard position < listeners.sockets.count else { return }
        let listener = listeners.sockets[position].descriptor
        let isTLS = listeners.sockets[position].kind == .https
        for _ in 0..<Limits.acceptsPerTurn {
            var peer = PeerAddress()
            let descriptor = Socket.accept(listener, peer: &peer)
            counters.add(.callsOther)
            if descriptor >= 0 {
                admit(descriptor, peer, isTLS: isTLS)
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
    private mutating func admit(_ descriptor: CInt, _ peer: PeerAddress, isTLS: Bool) {
        // A proxy's connections are many clients': only the process's limit is for them.
        let isProxy = !settings.proxies.isEmpty && settings.proxies.contains(peer)
        if settings.proxyHeader != nil, !isProxy {
            // Without a trusted proxy's header nobody can say who this is; HTTP would be a guess.
            counters.add(.connectionsRefused, 1)
            return Socket.close(descriptor)
        }
        guard shared.enter(peer, countingAddress: !isProxy) else {
            return refuseConnection(descriptor, isTLS: isTLS)
        }
        guard let index = slab.take(descriptor: descriptor, peer: peer) else {
            shared.leave(peer, countingAddress: !isProxy)
            return refuseConnection(descriptor, isTLS: isTLS)
        }
        counters.add(.connectionsAccepted, 1)
        slab[index].pointee.isProxy = isProxy
        slab[index].pointee.awaitsProxyHeader = settings.proxyHeader != nil
        slab[index].pointee.deadline = now + limits.headerTimeoutMicroseconds
        if isTLS { expectHandshake(index) }
        receive(index)
    }

    /// One past the limit: told so, and closed.
    private mutating func refuseConnection(_ descriptor: CInt, isTLS: Bool) {
        counters.add(.connectionsRefused, 1)
        if !isTLS {
            let count = writeStatus(503, closing: true, at: 0)
            _ = Socket.send(descriptor, UnsafeRawBufferPointer(rebasing: sendSlab[..<count]))
        }
        Socket.close(descriptor)
    }

    /// Watches a connection for `interest` from now on, and for its deadline.
    mutating func watch(_ index: Int, _ interest: Epoll.Events) {
        let connection = slab[index]
        wheel.schedule(index, at: connection.pointee.deadline)
        if connection.pointee.isWatched && connection.pointee.interest == interest { return }
        counters.add(.callsOther)
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
        if slab[index].pointee.isTLS { endSealed(index) }
        releaseInput(index)
        releaseOutput(index)
        wheel.cancel(index)
        shared.leave(
            slab[index].pointee.peer, countingAddress: !slab[index].pointee.isProxy)
        Socket.close(slab[index].pointee.descriptor)
        counters.add(.callsOther)
        slab.give(index)
        counters.add(.connectionsClosed, 1)
    }

    /// Closes everything that is still open, at the end.
    mutating func closeAll() {
        for index in 0..<slab.highWater where slab[index].pointee.phase != .free { close(index) }
    }
}
