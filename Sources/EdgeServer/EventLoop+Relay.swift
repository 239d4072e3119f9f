// TLS connections of a process that has handed over: their sessions cannot leave it, so it carries
// the plaintext to the successor and its answers back, until each client has had one more answer.
internal import LinuxIO
internal import TLS
internal import Telemetry

/// One TLS connection, between its client and the successor.
struct RelayedConnection {
    /// How far it has come.
    enum Phase {
        /// Bytes go both ways.
        case open
        /// Everything is said; the client has not taken all of it.
        case leaving
        /// The writing half is closed; what the client still sends is thrown away.
        case lingering
        /// Nothing is left of it.
        case over
    }

    /// The client's socket.
    let client: CInt
    /// Plaintext to and from the successor; -1 when there is none.
    var inner: CInt
    var tls: TLSSession
    var phase: Phase
    /// Ciphertext that the client has not taken: `outputStart..<outputEnd`.
    var output: UnsafeMutableRawPointer?
    var outputStart = 0
    var outputEnd = 0
    /// Ciphertext that came before and that the session has not read.
    var unread: [UInt8] = []
    /// When a lingering one is closed, microseconds of the monotonic clock.
    var deadline: Int64 = 0
    /// What epoll watches the client for.
    var interest = Epoll.Events.readable
}

// MARK: - Beginning

extension EventLoop {
    /// Whether a connection can be carried: every TLS session but one whose answer waits for the disk.
    func isRelayable(_ index: Int) -> Bool {
        guard slab[index].pointee.tls.isActive else { return false }
        return switch slab[index].pointee.phase {
        case .handshake, .fresh, .idle, .head, .body, .sending, .lingering: true
        case .free, .parked: false
        }
    }

    /// Moves a TLS connection out of the slab to those that are carried; where descriptors or the
    /// successor fail it stays, and is drained like any other.
    mutating func beginRelay(_ index: Int, to successor: CInt) {
        let connection = slab[index].pointee
        guard let client = try? Socket.duplicate(connection.descriptor) else { return }
        var relayed = RelayedConnection(
            client: client, inner: -1, tls: connection.tls, phase: .open)
        if connection.phase == .lingering {
            relayed.phase = .lingering
        } else if connection.closesAfterOutput {
            relayed.phase = .leaving
        } else {
            guard let ends = try? Socket.pair() else { return Socket.close(client) }
            defer { Socket.close(ends.second) }
            guard pass(index, to: successor, as: ends.second) else {
                Socket.close(ends.first)
                return Socket.close(client)
            }
            relayed.inner = ends.first
            counters.add(.connectionsPassed, 1)
        }
        relayed.deadline = now + Limits.drainLingerMicroseconds
        if let kept = connection.output {
            let count = Int(connection.outputEnd - connection.outputStart)
            relayed.keep(
                UnsafeRawBufferPointer(start: kept + Int(connection.outputStart), count: count))
        }
        relayed.unread = [UInt8](
            unsafeUninitializedCapacity: Int(connection.sealedInputCount)
        ) { bytes, count in
            count = takeUnread(index, into: UnsafeMutableRawBufferPointer(bytes))
        }
        relays.append(relayed)
        // The session is no longer the slot's, nor its socket this epoll's.
        if connection.isWatched { try? epoll.remove(connection.descriptor) }
        slab[index].pointee.tls = TLSSession()
        slab[index].pointee.isTLS = false
        counters.add(.tlsConnectionsClosed, 1)
        _ = countSealed(index, .nothing)
        close(index)
    }
}

extension RelayedConnection {
    /// Keeps ciphertext that the client does not take now.
    mutating func keep(_ bytes: UnsafeRawBufferPointer) {
        let block = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 16)
        if let source = bytes.baseAddress { block.copyMemory(from: source, byteCount: bytes.count) }
        output = block
        (outputStart, outputEnd) = (0, bytes.count)
    }

    /// Sends what is kept; false when the client takes no more now or ever.
    mutating func sendKept() -> Bool {
        guard let kept = output else { return true }
        let rest = UnsafeRawBufferPointer(
            start: kept + outputStart, count: outputEnd - outputStart)
        let sent = Socket.send(client, rest)
        guard sent == rest.count else {
            if sent < 0, sent != -Socket.wouldBlock {
                end()
            } else {
                outputStart += max(sent, 0)
            }
            return false
        }
        kept.deallocate()
        output = nil
        return true
    }

    /// Closes everything.
    mutating func end() {
        guard phase != .over else { return }
        phase = .over
        if tls.isActive { tls.end() }
        output?.deallocate()
        output = nil
        Socket.close(client)
        endInner()
    }

    /// Lets go of the successor's side.
    mutating func endInner() {
        if inner >= 0 { Socket.close(inner) }
        inner = -1
    }

    /// Closes the writing half and waits a moment for the client's end, so that it sees no reset.
    mutating func linger(until deadline: Int64) {
        phase = .lingering
        self.deadline = deadline
        Socket.shutdownWriting(client)
    }
}

// MARK: - Carrying

extension EventLoop {
    /// Carries until the last connection has ended, the time is over, or the successor has gone.
    ///
    /// The loop's ring is the successor's by then: nothing here touches it.
    mutating func relay() {
        let watch: Epoll
        do throws(Errno) {
            watch = try Epoll()
        } catch {
            for index in relays.indices { relays[index].end() }
            return
        }
        wire.budget = HandshakeBudget(full: .max, resumed: .max)
        for index in relays.indices { begin(index, watch) }
        let end = drain.startedAt + Limits.relayMicroseconds
        var isEnding = false
        while relays.contains(where: { $0.phase != .over }) {
            let count = watch.wait(events, milliseconds: 10)
            now = SystemClock.monotonicNanoseconds() / 1000
            for position in 0..<count {
                let data = events.data(position)
                let index = Int(data >> 1)
                guard relays[index].phase != .over else { continue }
                data & 1 == 0 ? hearClient(index) : hearSuccessor(index)
                adjust(index, watch)
            }
            if !isEnding, now >= end || shared.endsRelays {
                isEnding = true
                for index in relays.indices where relays[index].phase == .open { sayLast(index) }
            }
            for index in relays.indices
            where relays[index].phase == .lingering && now >= relays[index].deadline {
                relays[index].end()
            }
            if now >= end + Limits.drainLingerMicroseconds {
                for index in relays.indices { relays[index].end() }
            }
        }
    }

    /// Watches a connection, and goes on with what it has received already.
    private mutating func begin(_ index: Int, _ watch: borrowing Epoll) {
        let data = UInt64(truncatingIfNeeded: index) << 1
        do throws(Errno) {
            try watch.add(relays[index].client, relays[index].interest, data: data)
            if relays[index].inner >= 0 {
                try watch.add(relays[index].inner, .readable, data: data | 1)
            }
        } catch {
            return relays[index].end()
        }
        switch relays[index].phase {
        case .open:
            let unread = relays[index].unread
            relays[index].unread = []
            wire.room.copyBytes(from: unread)
            if relays[index].tls.hasPending || !unread.isEmpty { open(index, unread.count) }
        case .leaving where relays[index].output == nil:
            relays[index].linger(until: now + Limits.drainLingerMicroseconds)
        case .leaving, .lingering, .over: break
        }
        adjust(index, watch)
    }

    /// Watches the client for bytes or, while some are kept for it, for room; the successor while there
    /// is room for what it says.
    private mutating func adjust(_ index: Int, _ watch: borrowing Epoll) {
        guard relays[index].phase != .over else { return }
        let isFull = relays[index].output != nil
        let wanted: Epoll.Events = isFull ? .writable : .readable
        guard wanted != relays[index].interest else { return }
        relays[index].interest = wanted
        let data = UInt64(truncatingIfNeeded: index) << 1
        do throws(Errno) {
            try watch.modify(relays[index].client, wanted, data: data)
            if relays[index].inner >= 0 {
                try watch.modify(
                    relays[index].inner, isFull ? Epoll.Events(rawValue: 0) : .readable,
                    data: data | 1)
            }
        } catch {
            relays[index].end()
        }
    }

    private mutating func hearClient(_ index: Int) {
        if relays[index].output != nil {
            guard relays[index].sendKept() else { return }
            if relays[index].phase == .leaving {
                relays[index].linger(until: now + Limits.drainLingerMicroseconds)
            }
            return
        }
        let count = Socket.receive(relays[index].client, wire.room)
        if count == -Socket.wouldBlock { return }
        guard count > 0 else {
            // The client has gone; nobody is left to hear a goodbye.
            if relays[index].tls.isActive { relays[index].tls.abandon() }
            return relays[index].end()
        }
        counters.add(.bytesReceived, count)
        if relays[index].phase == .open { open(index, count) }
    }

    /// Gives the successor what the first bytes of the wire's room say.
    private mutating func open(_ index: Int, _ count: Int) {
        wire.receive(count: count)
        while true {
            switch relays[index].tls.read(into: receiveSlab) {
            case .bytes(let length):
                let plain = UnsafeRawBufferPointer(rebasing: receiveSlab[..<length])
                // More than the pair holds while nothing is answered is no visitor's.
                guard Socket.send(relays[index].inner, plain) == length else {
                    return sayLast(index)
                }
            case .needsMore: return sendWire(index)
            case .ended: return sayLast(index)
            case .failed, .established, .deferred:
                sendWire(index)
                return relays[index].end()
            }
        }
    }

    /// Seals what the successor says; its end is this connection's.
    private mutating func hearSuccessor(_ index: Int) {
        guard relays[index].output == nil, relays[index].inner >= 0 else { return }
        let room = UnsafeMutableRawBufferPointer(rebasing: sendSlab[..<TLSWire.Limits.inputBytes])
        let count = Socket.receive(relays[index].inner, room)
        if count == -Socket.wouldBlock { return }
        guard count > 0 else { return sayLast(index) }
        wire.receive(count: 0)
        guard relays[index].tls.write(UnsafeRawBufferPointer(rebasing: room[..<count])) else {
            return relays[index].end()
        }
        sendWire(index)
    }

    /// Says close_notify, sends what is left and lets the client read it.
    private mutating func sayLast(_ index: Int) {
        relays[index].endInner()
        relays[index].phase = .leaving
        wire.receive(count: 0)
        relays[index].tls.sayGoodbye()
        sendWire(index)
        guard relays[index].phase == .leaving, relays[index].output == nil else { return }
        relays[index].linger(until: now + Limits.drainLingerMicroseconds)
    }

    /// Sends the wire's output, and keeps what the client does not take.
    private mutating func sendWire(_ index: Int) {
        let bytes = wire.output
        guard !bytes.isEmpty else { return }
        defer { wire.clearOutput() }
        let isBlocked = relays[index].output != nil
        let sent = isBlocked ? 0 : Socket.send(relays[index].client, bytes)
        counters.add(.bytesSent, max(sent, 0))
        if sent == bytes.count { return }
        // In the middle of kept ciphertext nothing else can be said.
        guard !isBlocked, sent >= 0 || sent == -Socket.wouldBlock else {
            return relays[index].end()
        }
        relays[index].keep(UnsafeRawBufferPointer(rebasing: bytes[max(sent, 0)...]))
    }
}
