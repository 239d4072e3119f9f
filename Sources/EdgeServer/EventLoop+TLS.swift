// Connections that speak TLS: ciphertext through the loop's wire, one recv and one send a turn, also for
// the flights of a handshake. What lies inside is served like any other connection's.
internal import LinuxIO
internal import TLS
internal import Telemetry

/// Handshakes that wait for a turn with time for them; first come, first served.
struct DeferredHandshakes: ~Copyable {
    private let entries: UnsafeMutablePointer<UInt64>
    private let capacity: Int
    private var first = 0
    private(set) var count = 0

    init(capacity: Int = Limits.deferredHandshakes) {
        self.capacity = capacity
        entries = .allocate(capacity: capacity)
    }

    deinit { entries.deallocate() }

    var isEmpty: Bool { count == 0 }

    /// Appends a connection's 64 bits; false when there is no room.
    mutating func append(_ data: UInt64) -> Bool {
        guard count < capacity else { return false }
        (entries + (first + count) % capacity).initialize(to: data)
        count += 1
        return true
    }

    /// Takes out the one that has waited longest.
    mutating func next() -> UInt64? {
        guard count > 0 else { return nil }
        let data = entries[first]
        first = (first + 1) % capacity
        count -= 1
        return data
    }
}

extension EventLoop {
    /// A new connection speaks TLS; its handshake has the time of a head, from now on, in all.
    mutating func expectHandshake(_ index: Int) {
        slab[index].pointee.isTLS = true
        slab[index].pointee.phase = .handshake
        counters.add(.tlsConnectionsOpened, 1)
    }

    /// Reads once and serves what came.
    mutating func receiveSealed(_ index: Int) {
        let connection = slab[index]
        // Nothing is asked of a connection that waits for its turn: this is its end.
        guard !connection.pointee.isDeferred else { return close(index) }
        let room = wire.room
        let count = Socket.receive(connection.pointee.descriptor, room)
        if count == room.count { connection.pointee.isUnread = true }
        if count <= 0 {
            if count == -Socket.wouldBlock { return watch(index, .readable) }
            // Cut off without close_notify: nobody is left to hear ours.
            if connection.pointee.tls.isActive { connection.pointee.tls.abandon() }
            return close(index)
        }
        counters.add(.bytesReceived, count)
        unseal(index, count)
    }

    /// Serves the first bytes of the wire's room.
    mutating func unseal(_ index: Int, _ count: Int) {
        beginSealing(index, count)
        if slab[index].pointee.phase == .handshake, !shakeHands(index, count) { return }
        readSealed(index)
    }

    private mutating func beginSealing(_ index: Int, _ count: Int) {
        wire.receive(count: count)
        sealing = index
    }

    // MARK: The handshake

    /// Goes on with a handshake; whether it is complete.
    private mutating func shakeHands(_ index: Int, _ count: Int) -> Bool {
        let connection = slab[index]
        if !connection.pointee.tls.isActive, !beginSession(index, count) { return false }
        switch connection.pointee.tls.handshake() {
        case .established(let isResumed):
            _ = countSealed(index, .nothing)
            counters.add(isResumed ? .tlsHandshakesResumed : .tlsHandshakesFull, 1)
            connection.pointee.phase = .fresh
            connection.pointee.deadline = now + limits.headerTimeoutMicroseconds
            return true
        case .needsMore:
            if sendSealed(index) { watch(index, .readable) }
        case .deferred: putOff(index)
        case .bytes, .ended, .failed: close(index)
        }
        return false
    }

    /// Makes the session of a connection whose first bytes have come.
    private mutating func beginSession(_ index: Int, _ count: Int) -> Bool {
        let connection = slab[index]
        let first = count > 0 ? wire.room[0] : 0
        guard first == 0x16 else {  // No handshake record.
            guard (0x41...0x5A).contains(first) else {
                counters.add(.tlsHandshakesFailed, 1)
                close(index)
                return false
            }
            // A request in the clear is told that it is wrong here.
            counters.add(.tlsConnectionsClosed, 1)
            counters.add(.requestsBadRequest, 1)
            connection.pointee.isTLS = false
            connection.pointee.phase = .idle
            refuseNow(index, 400)
            return false
        }
        guard countSealed(index, .handshake) else {
            close(index)
            return false
        }
        guard let tlsContext,
            connection.pointee.tls.begin(tlsContext, loop: settings.number, wire: wire)
        else {
            counters.add(.connectionsRefused, 1)
            close(index)
            return false
        }
        return true
    }

    private mutating func putOff(_ index: Int) {
        guard wire.unreadCount == 0, deferredHandshakes.append(slab.data(index)) else {
            counters.add(.connectionsRefused, 1)
            return close(index)
        }
        counters.add(.tlsHandshakesDeferred, 1)
        slab[index].pointee.isDeferred = true
        watch(index, [])
    }

    /// Goes on with handshakes that were put off, as far as this turn's budget allows.
    mutating func continueHandshakes() {
        var waiting = deferredHandshakes.count
        while waiting > 0, wire.budget.full > 0, let data = deferredHandshakes.next() {
            waiting -= 1
            guard let index = slab.index(data), slab[index].pointee.isDeferred else { continue }
            slab[index].pointee.isDeferred = false
            beginSealing(index, 0)
            if shakeHands(index, 0) { readSealed(index) }
        }
    }

    // MARK: Inside

    /// Opens and serves what has come, as long as the connection waits for requests.
    private mutating func readSealed(_ index: Int) {
        let connection = slab[index]
        let data = slab.data(index)
        while true {
            let target = receiveRoom(index)
            guard !target.isEmpty else { return close(index) }
            switch connection.pointee.tls.read(into: target) {
            case .bytes(let count):
                take(index, count)
                guard slab.index(data) != nil else { return }
                guard waitsForRequests(index) else {
                    guard keepUnread(index) else { return close(index) }
                    _ = sendSealed(index)
                    return
                }
                if wire.unreadCount == 0, !connection.pointee.tls.hasPending {
                    _ = countSealed(index, .nothing)
                    if !wire.output.isEmpty { _ = sendSealed(index) }
                    return
                }
            case .needsMore:
                let isPart = connection.pointee.tls.hasPending
                guard countSealed(index, isPart ? .part : .nothing) else { return close(index) }
                if sendSealed(index) { watch(index, .readable) }
                return
            case .ended, .established, .deferred, .failed: return close(index)
            }
        }
    }

    private func waitsForRequests(_ index: Int) -> Bool {
        switch slab[index].pointee.phase {
        case .fresh, .idle, .head, .body: true
        case .free, .handshake, .parked, .sending, .lingering: false
        }
    }

    /// Seals and sends the send slab's answers; false when some had to be kept, or the connection is
    /// gone.
    mutating func flushSealed(_ index: Int) -> Bool {
        let connection = slab[index]
        sealing = index
        if pendingOutput > 0 {
            let bytes = UnsafeRawBufferPointer(rebasing: sendSlab[..<pendingOutput])
            pendingOutput = 0
            guard connection.pointee.tls.isActive, connection.pointee.tls.write(bytes) else {
                close(index)
                return false
            }
        }
        if connection.pointee.closesAfterOutput, connection.pointee.tls.isActive {
            connection.pointee.tls.sayGoodbye()
        }
        return sendSealed(index)
    }

    /// Sends the wire's output; false when some had to be kept, or the connection is gone.
    private mutating func sendSealed(_ index: Int) -> Bool {
        let connection = slab[index]
        let bytes = wire.output
        guard !bytes.isEmpty else { return true }
        let sent = Socket.send(
            connection.pointee.descriptor, bytes, beforeEnd: connection.pointee.closesAfterOutput)
        if sent == bytes.count {
            wire.clearOutput()
            counters.add(.bytesSent, sent)
            return true
        }
        counters.add(.bytesSent, max(sent, 0))
        let isFull = sent >= 0 || sent == -Socket.wouldBlock
        // A handshake's flight always fits into a socket that is alive.
        guard isFull, connection.pointee.phase != .handshake, connection.pointee.output == nil,
            keepSealed(index, UnsafeRawBufferPointer(rebasing: bytes[max(sent, 0)...]))
        else {
            connection.pointee.tls.abandon()
            wire.clearOutput()
            close(index)
            return false
        }
        awaitReader(index)
        return false
    }

    /// Moves ciphertext into a block of the connection's own.
    private mutating func keepSealed(_ index: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let size = pool.smallest(for: bytes.count)
        guard bytes.count <= pool.bytes(size), let source = bytes.baseAddress,
            let block = takeBlock(size, for: index, of: .answer)
        else { return false }
        block.copyMemory(from: source, byteCount: bytes.count)
        wire.clearOutput()
        let connection = slab[index]
        connection.pointee.output = block
        connection.pointee.outputClass = size
        connection.pointee.outputStart = 0
        connection.pointee.outputEnd = UInt32(truncatingIfNeeded: bytes.count)
        return true
    }

    /// Sends what was kept, ciphertext or a parked answer, and serves what the session still holds.
    mutating func continueSealed(_ index: Int) {
        let connection = slab[index]
        if connection.pointee.phase == .parked, let output = connection.pointee.output {
            // A parked answer is not sealed yet: it might have become another one.
            let count = Int(connection.pointee.outputEnd)
            sendRoom(at: 0).copyMemory(
                from: UnsafeRawBufferPointer(start: output, count: count))
            pendingOutput = count
            releaseOutput(index)
            connection.pointee.phase = .idle
            beginSealing(index, 0)
            if !flushSealed(index) { return }
            afterOutput(index)
        } else {
            sendKept(index)
        }
        // No event tells of bytes that OpenSSL or the edge has taken in already.
        guard waitsForRequests(index), connection.pointee.tls.isActive,
            connection.pointee.tls.hasPending || connection.pointee.sealedInput != nil
        else { return }
        beginSealing(index, takeUnread(index, into: wire.room))
        readSealed(index)
    }

    /// Keeps the ciphertext of this turn that the session has not read, while the connection waits for
    /// something else; false when the budget is spent.
    private mutating func keepUnread(_ index: Int) -> Bool {
        let bytes = wire.unread
        // Whoever has had the last answer is not asked any more.
        guard let source = bytes.baseAddress, !bytes.isEmpty,
            !slab[index].pointee.closesAfterOutput
        else { return true }
        let size = pool.smallest(for: bytes.count)
        guard let block = takeBlock(size, for: index, of: .request) else { return false }
        block.copyMemory(from: source, byteCount: bytes.count)
        let connection = slab[index]
        assert(connection.pointee.sealedInput == nil)
        connection.pointee.sealedInput = block
        connection.pointee.sealedInputCount = UInt16(truncatingIfNeeded: bytes.count)
        return true
    }

    /// Moves the ciphertext that was kept to the start of `room`; its bytes.
    mutating func takeUnread(
        _ index: Int, into room: UnsafeMutableRawBufferPointer
    ) -> Int {
        let connection = slab[index]
        guard let block = connection.pointee.sealedInput else { return 0 }
        let count = Int(connection.pointee.sealedInputCount)
        room.copyMemory(from: UnsafeRawBufferPointer(start: block, count: count))
        releaseUnread(index)
        return count
    }

    private mutating func releaseUnread(_ index: Int) {
        guard let block = slab[index].pointee.sealedInput else { return }
        pool.give(block, pool.smallest(for: Int(slab[index].pointee.sealedInputCount)))
        slab[index].pointee.sealedInput = nil
        slab[index].pointee.sealedInputCount = 0
    }

    /// Says goodbye where anybody may hear it, and frees the session.
    mutating func endSealed(_ index: Int) {
        let connection = slab[index]
        counters.add(.tlsConnectionsClosed, 1)
        _ = countSealed(index, .nothing)
        releaseUnread(index)
        guard connection.pointee.tls.isActive else { return }
        if connection.pointee.phase == .handshake { counters.add(.tlsHandshakesFailed, 1) }
        // Another connection's bytes may lie in the wire, when this one gives way to it.
        let start = sealing == index ? 0 : wire.output.count
        // In the middle of kept ciphertext nothing else can be said.
        if connection.pointee.output == nil || connection.pointee.phase == .parked {
            connection.pointee.tls.sayGoodbye()
            let bytes = UnsafeRawBufferPointer(rebasing: wire.output[start...])
            if !bytes.isEmpty {
                _ = Socket.send(connection.pointee.descriptor, bytes, beforeEnd: true)
            }
        }
        wire.clearOutput(from: start)
        connection.pointee.tls.end()
    }
}
