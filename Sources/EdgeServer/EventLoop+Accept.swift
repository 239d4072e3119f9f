// New connections: accepted, counted, and read at once, for most bring their request with them.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

extension EventLoop {
    /// Accepts what waits at a listener, as far as it is this loop's to take.
    mutating func accept(_ position: Int) {
        guard position < listeners.sockets.count else { return }
        let socket = listeners.sockets[position]
        let listener = socket.descriptor
        let isTLS = socket.kind == .https
        for _ in 0..<Limits.acceptsPerTurn {
            guard mayTake(from: socket) else { return }
            var peer = PeerAddress()
            let descriptor = Socket.accept(listener, peer: &peer)
            counters.add(.callsOther)
            if descriptor >= 0 {
                admit(descriptor, peer, isTLS: isTLS)
                continue
            }
            switch AcceptFailure(Errno.current) {
            case .nobodyWaits: return
            case .oneConnection: continue
            case .noDescriptor:
                switch listeners.shed(listener) {
                case .done: counters.add(.connectionsRefused, 1)
                case .nobodyWaits: return
                case .failed: return pauseListeners()
                }
            case .noMemory: return pauseListeners()
            }
        }
    }

    /// Takes a connection in; where a limit leaves no room, for another's place.
    private mutating func admit(_ descriptor: CInt, _ peer: PeerAddress, isTLS: Bool) {
        // A proxy's connections are many clients': only the process's limit is for them.
        let isProxy = !settings.proxies.isEmpty && settings.proxies.contains(peer)
        if settings.proxyHeader != nil, !isProxy {
            // Without a trusted proxy's header nobody can say who this is; HTTP would be a guess.
            counters.add(.connectionsRefused, 1)
            return Socket.close(descriptor)
        }
        guard isProxy || enterAddress(peer) else {
            return refuseConnection(descriptor, isTLS: isTLS)
        }
        guard enterHouse(), let index = slab.take(descriptor: descriptor, peer: peer) else {
            if !isProxy { shared.leaveAddress(peer) }
            return refuseConnection(descriptor, isTLS: isTLS)
        }
        counters.add(.connectionsAccepted, 1)
        yields.add(index)
        if !isProxy { yields.join(index, peer) }
        slab[index].pointee.isProxy = isProxy
        slab[index].pointee.awaitsProxyHeader = settings.proxyHeader != nil
        slab[index].pointee.readingCredit = UInt32(clamping: limits.idleTimeoutMicroseconds)
        slab[index].pointee.deadline = now + limits.headerTimeoutMicroseconds
        if isTLS { expectHandshake(index) }
        receive(index)
    }

    /// Counts a connection in; false when the process is full of connections that do not give way.
    ///
    /// Who gives way is the one that the order names among the connections of all loops; another loop's
    /// is closed by that loop, a moment later.
    mutating func enterHouse() -> Bool {
        for _ in 0..<Limits.yieldsPerNewcomer {
            let hasRoom = slab.count < slab.capacity
            if hasRoom, shared.enter() { return true }
            let rank = yields.firstRank
            if hasRoom, shared.enterOverdrawn(besides: settings.number, before: rank) {
                return true
            }
            guard let victim = yields.first() else { return false }
            giveWay(victim)
        }
        return false
    }

    /// Counts a connection of an address in, in the place of an older one of the same address if it
    /// has no other; false when none of them gives way.
    ///
    /// So the many behind one address (a NAT) share it by need, and whoever holds its connections open
    /// without using them keeps nobody out.
    mutating func enterAddress(_ peer: PeerAddress) -> Bool {
        if shared.enterAddress(peer) { return true }
        guard let victim = yields.first(of: peer) else { return false }
        giveWay(victim)
        return shared.enterAddress(peer)
    }

    /// Closes a connection for another's sake.
    ///
    /// Not ``close(_:)``: another connection may be being served.
    mutating func giveWay(_ index: Int) {
        counters.add(.connectionsGivenWay, 1)
        // One that was between requests is told that it was closed; of the others the kernel too is
        // to keep nothing.
        if slab[index].pointee.phase != .idle {
            Socket.resetAtClose(slab[index].pointee.descriptor)
        }
        end(index)
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
        rank(index)
        if connection.pointee.isWatched && connection.pointee.interest == interest { return }
        counters.add(.callsOther)
        do throws(Errno) {
            // Of what can be read epoll tells once, so that it need not look at the connection again
            // at the next wait; ``watchUnread(_:)`` is for what a read has left.
            let events = interest == .readable ? Epoll.Events.incoming : interest
            if connection.pointee.isWatched {
                try epoll.modify(connection.pointee.descriptor, events, data: slab.data(index))
            } else {
                try epoll.add(connection.pointee.descriptor, events, data: slab.data(index))
                connection.pointee.isWatched = true
            }
            connection.pointee.interest = interest
        } catch {
            close(index)  // The kernel has no memory for it: better gone than deaf.
        }
    }

    /// Has epoll look again at a connection whose last read may have left something.
    ///
    /// One that is watched for something else will be looked at when it is watched for reading again.
    mutating func watchUnread(_ index: Int) {
        let connection = slab[index]
        connection.pointee.isUnread = false
        guard connection.pointee.phase != .free, connection.pointee.isWatched,
            connection.pointee.interest == .readable
        else { return }
        counters.add(.callsOther)
        do throws(Errno) {
            try epoll.modify(
                connection.pointee.descriptor, .incoming, data: slab.data(index))
        } catch {
            close(index)
        }
    }

    /// Gives a waiting connection its place among those that give way.
    @inline(__always)
    private mutating func rank(_ index: Int) {
        let connection = slab[index]
        let kind: YieldClass
        let patience: Int64
        switch connection.pointee.phase {
        case .handshake: (kind, patience) = (.greeting, limits.headerTimeoutMicroseconds)
        case .fresh: (kind, patience) = (.silent, limits.headerTimeoutMicroseconds)
        case .lingering: (kind, patience) = (.leaving, Limits.lingerMicroseconds)
        case .head, .body: (kind, patience) = (.unfinished, limits.headerTimeoutMicroseconds)
        case .idle: (kind, patience) = (.idle, limits.idleTimeoutMicroseconds)
        case .sending: (kind, patience) = (.unread, limits.idleTimeoutMicroseconds)
        case .parked, .free: (kind, patience) = (.kept, 0)
        }
        let since = (connection.pointee.deadline - patience) / TimerWheel.tickMicroseconds
        yields.place(index, kind, since: UInt32(truncatingIfNeeded: since))
    }

    /// Closes a connection and gives back all that it held.
    mutating func close(_ index: Int) {
        pendingOutput = 0
        end(index)
    }

    /// Closes a connection that is not being served.
    private mutating func end(_ index: Int) {
        if slab[index].pointee.isTLS { endSealed(index) }
        releaseInput(index)
        releaseOutput(index)
        wheel.cancel(index)
        yields.remove(index)
        shared.leave()
        if !slab[index].pointee.isProxy { shared.leaveAddress(slab[index].pointee.peer) }
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

/// What accept(2)'s failure concerns.
enum AcceptFailure: BitwiseCopyable {
    /// The queue is empty.
    case nobodyWaits
    /// The one connection that failed while it waited.
    case oneConnection
    /// Process or system have no descriptor left.
    case noDescriptor
    /// The kernel's memory, or the listener: nothing that another call would better.
    case noMemory

    /// What an error number means, after accept(2).
    init(_ error: Errno) {
        switch error {
        case .wouldBlock: self = .nobodyWaits
        case .tooManyDescriptors, .tooManyFilesInSystem: self = .noDescriptor
        case .interrupted, .connectionAborted, .protocolError, .notPermitted, .timedOut,
            .networkDown, .networkUnreachable, .hostDown, .hostUnreachable:
            self = .oneConnection
        default: self = .noMemory
        }
    }
}
