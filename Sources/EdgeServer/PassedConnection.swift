// An open connection on its way from a process to its successor: the descriptor, and what of its
// conversation lies in this process.
internal import EdgeCore
internal import LinuxIO
internal import TLS
internal import Telemetry

/// What goes with a connection's descriptor: version 1.
///
/// Little-endian, 40 bytes, then the unserved bytes of the client, then the unsent ones of the
/// answer.
///
/// | bytes | holds |
/// |---|---|
/// | 0 | `C` |
/// | 1 | version, 1 |
/// | 2 | kind of its listener |
/// | 3 | flags: 1 closes after the output, 2 lingers then, 4 a trusted proxy, 8 IPv6, 16 only lingers |
/// | | 32 awaits a PROXY header, 64 carried by the predecessor: one more answer |
/// | 4–7 | zero |
/// | 8–15, 16–23 | the peer's halves |
/// | 24–27, 28–31 | how many bytes are unserved, unsent |
/// | 32–39 | the deadline, microseconds of the monotonic clock, which both processes share |
struct PassedConnection {
    static let tag = UInt8(ascii: "C")
    private static let version: UInt8 = 1
    static let headBytes = 40

    var kind = ListenerKind.http
    var closesAfterOutput = false
    var lingers = false
    var isProxy = false
    var onlyLingers = false
    var awaitsProxyHeader = false
    var isRelayed = false
    var peer = PeerAddress()
    var deadline: Int64 = 0
    var input: UnsafeRawBufferPointer = .init(start: nil, count: 0)
    var output: UnsafeRawBufferPointer = .init(start: nil, count: 0)

    init() {}

    /// Reads a message; its bytes stay the caller's.
    ///
    /// Nil for anything but a whole one of this version.
    init?(_ message: UnsafeRawBufferPointer) {
        guard message.count >= PassedConnection.headBytes, message[0] == PassedConnection.tag,
            message[1] == PassedConnection.version, let kind = ListenerKind(rawValue: message[2])
        else { return nil }
        func word<T: FixedWidthInteger>(_ offset: Int) -> T {
            T(littleEndian: message.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        let inputCount = Int(word(24) as UInt32)
        let outputCount = Int(word(28) as UInt32)
        guard message.count == PassedConnection.headBytes + inputCount + outputCount else {
            return nil
        }
        self.kind = kind
        closesAfterOutput = message[3] & 1 != 0
        lingers = message[3] & 2 != 0
        isProxy = message[3] & 4 != 0
        onlyLingers = message[3] & 16 != 0
        awaitsProxyHeader = message[3] & 32 != 0
        isRelayed = message[3] & 64 != 0
        peer = PeerAddress(high: word(8), low: word(16), isIPv6: message[3] & 8 != 0)
        deadline = word(32)
        let middle = PassedConnection.headBytes + inputCount
        input = UnsafeRawBufferPointer(rebasing: message[PassedConnection.headBytes..<middle])
        output = UnsafeRawBufferPointer(rebasing: message[middle...])
    }

    /// Writes the message at the start of `room`; its length, 0 when it does not fit.
    func write(to room: UnsafeMutableRawBufferPointer) -> Int {
        let total = PassedConnection.headBytes + input.count + output.count
        guard total <= room.count else { return 0 }
        func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
            room.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        var flags: UInt8 = closesAfterOutput ? 1 : 0
        if lingers { flags |= 2 }
        if isProxy { flags |= 4 }
        if peer.isIPv6 { flags |= 8 }
        if onlyLingers { flags |= 16 }
        if awaitsProxyHeader { flags |= 32 }
        if isRelayed { flags |= 64 }
        put(PassedConnection.tag, at: 0)
        put(PassedConnection.version, at: 1)
        put(kind.rawValue, at: 2)
        put(flags, at: 3)
        put(UInt32(0), at: 4)
        put(peer.high, at: 8)
        put(peer.low, at: 16)
        put(UInt32(truncatingIfNeeded: input.count), at: 24)
        put(UInt32(truncatingIfNeeded: output.count), at: 28)
        put(deadline, at: 32)
        let body = UnsafeMutableRawBufferPointer(rebasing: room[PassedConnection.headBytes...])
        body.copyMemory(from: input)
        UnsafeMutableRawBufferPointer(rebasing: body[input.count...]).copyMemory(from: output)
        return total
    }
}

extension EventLoop {
    /// Gives the successor every connection: itself where its conversation lies in plain bytes, its
    /// plaintext where that is sealed.
    ///
    /// Answers that wait for the disk leave first, within a sync.
    mutating func passConnections() {
        for index in 0..<slab.highWater {
            guard let successor = shared.successor else { return }
            if isRelayable(index) { beginRelay(index, to: successor) }
            guard isPassable(index) else { continue }
            guard pass(index, to: successor, as: slab[index].pointee.descriptor) else { return }
            counters.add(.connectionsPassed, 1)
            // The successor's duplicate would keep it under this epoll's watch.
            if slab[index].pointee.isWatched { try? epoll.remove(slab[index].pointee.descriptor) }
            close(index)
        }
    }

    private func isPassable(_ index: Int) -> Bool {
        switch slab[index].pointee.phase {
        case _ where slab[index].pointee.tls.isActive: false
        // Its first byte has not been read.
        case .handshake: true
        case .fresh, .idle, .head, .body, .sending, .lingering: true
        case .free, .parked: false
        }
    }

    /// Sends a connection as one of its sockets; false when the successor takes no more.
    mutating func pass(_ index: Int, to successor: CInt, as descriptor: CInt) -> Bool {
        let connection = slab[index].pointee
        var passed = PassedConnection()
        let isSealed = connection.tls.isActive
        // Also one that this process's predecessor carries.
        passed.isRelayed = isSealed || connection.isRelayed
        passed.kind = connection.isTLS && !isSealed ? .https : .http
        passed.closesAfterOutput = connection.closesAfterOutput
        passed.lingers = connection.lingers
        passed.isProxy = connection.isProxy
        passed.onlyLingers = connection.phase == .lingering
        passed.awaitsProxyHeader = connection.awaitsProxyHeader
        passed.peer = connection.peer
        passed.deadline = connection.deadline
        if let input = connection.input {
            passed.input = UnsafeRawBufferPointer(start: input, count: Int(connection.inputCount))
        }
        var spelled: UnsafeMutableRawBufferPointer?
        defer { spelled?.deallocate() }
        if connection.phase == .body, connection.bodyTotal < 0 {
            // A body that waits for more of it always has a spelling; without one it ends here.
            guard let body = spellBody(index) else { return true }
            spelled = body
            passed.input = UnsafeRawBufferPointer(body)
        }
        // Ciphertext stays with its session.
        if let output = connection.output, !isSealed {
            let start = Int(connection.outputStart)
            passed.output = UnsafeRawBufferPointer(
                start: output + start, count: Int(connection.outputEnd) - start)
        }
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: PassedConnection.headBytes + passed.input.count + passed.output.count,
            alignment: 16)
        defer { room.deallocate() }
        let count = passed.write(to: room)
        do throws(Errno) {
            try PacketSocket.send(
                successor, UnsafeRawBufferPointer(rebasing: room[..<count]),
                descriptor: descriptor)
            return true
        } catch {
            shared.loseSuccessor()
            return false
        }
    }

    /// The head of a request and the bytes that lead to where its chunked body is; nil when there is
    /// none.
    private func spellBody(_ index: Int) -> UnsafeMutableRawBufferPointer? {
        let connection = slab[index].pointee
        guard let input = connection.input else { return nil }
        let headBytes = Int(connection.headBytes)
        let body = UnsafeRawBufferPointer(
            start: input + headBytes, count: connection.chunks.produced)
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: headBytes + body.count + ChunkedDecoder.spellingBytes, alignment: 16)
        room.copyMemory(from: UnsafeRawBufferPointer(start: input, count: headBytes))
        let rest = UnsafeMutableRawBufferPointer(rebasing: room[headBytes...])
        guard let count = connection.chunks.spell(body, into: rest) else {
            room.deallocate()
            return nil
        }
        // The room begins the allocation, so that whoever frees it frees all.
        return UnsafeMutableRawBufferPointer(rebasing: room[..<(headBytes + count)])
    }

    /// Takes over the connections that the predecessor left to this loop.
    ///
    /// In the first turn: they may bring a request with them.
    mutating func adoptConnections() {
        hasAdopted = true
        for inherited in shared.takeAdopted(by: settings.number) {
            inherited.message.withUnsafeBytes { bytes in
                guard let passed = PassedConnection(bytes) else {
                    return Socket.close(inherited.descriptor)
                }
                adopt(inherited.descriptor, passed)
            }
        }
    }

    private mutating func adopt(_ descriptor: CInt, _ passed: PassedConnection) {
        // The predecessor let it in under its limits; past this process's it is closed.
        guard passed.isProxy || enterAddress(passed.peer) else { return Socket.close(descriptor) }
        guard enterHouse(), let index = slab.take(descriptor: descriptor, peer: passed.peer) else {
            if !passed.isProxy { shared.leaveAddress(passed.peer) }
            return Socket.close(descriptor)
        }
        yields.add(index)
        if !passed.isProxy { yields.join(index, passed.peer) }
        counters.add(.connectionsAccepted, 1)
        counters.add(.connectionsAdopted, 1)
        let connection = slab[index]
        connection.pointee.isProxy = passed.isProxy
        connection.pointee.awaitsProxyHeader = passed.awaitsProxyHeader
        connection.pointee.isRelayed = passed.isRelayed
        connection.pointee.closesAfterOutput = passed.closesAfterOutput
        connection.pointee.lingers = passed.lingers
        connection.pointee.phase = .idle
        connection.pointee.readingCredit = UInt32(clamping: limits.idleTimeoutMicroseconds)
        connection.pointee.deadline = passed.deadline
        if passed.kind == .https {
            expectHandshake(index)
            return receive(index)
        }
        if passed.onlyLingers {
            connection.pointee.phase = .lingering
            return watch(index, .readable)
        }
        if !passed.input.isEmpty {
            guard keep(index, UnsafeMutableRawBufferPointer(mutating: passed.input)) else {
                return close(index)
            }
        }
        resume(index, passed)
    }

    /// Goes on where the predecessor was: with its output, with the unserved bytes, or by reading.
    private mutating func resume(_ index: Int, _ passed: PassedConnection) {
        if !passed.output.isEmpty {
            guard passed.output.count <= sendSlab.count else { return close(index) }
            sendSlab.copyMemory(from: passed.output)
            pendingOutput = passed.output.count
            if keepOutput(index, from: 0) { continueSending(index) }
            return
        }
        guard let input = slab[index].pointee.input, !passed.awaitsProxyHeader else {
            return receive(index)
        }
        serve(index, UnsafeMutableRawBufferPointer(start: input, count: passed.input.count))
        // What is still unfinished has no more time than it had.
        let phase = slab[index].pointee.phase
        if phase == .head || phase == .body {
            slab[index].pointee.deadline = passed.deadline
            wheel.schedule(index, at: passed.deadline)
        }
    }
}
