// From received bytes to answers: every complete request in the buffer, in order, then one send.
internal import EdgeCore
internal import LinuxIO
internal import RingLog
internal import Telemetry
internal import Tracking

/// How one request left its connection.
enum ServeStep: BitwiseCopyable {
    /// Answered; so many bytes are done with.
    case consumed(Int)
    /// Answered with the connection's last answer.
    case last
    /// The connection waits with the bytes it keeps: for its body, the disk, or its client.
    case waiting
}

extension EventLoop {
    /// Reads once and serves what came.
    mutating func receive(_ index: Int) {
        let connection = slab[index]
        if connection.pointee.awaitsProxyHeader, let version = settings.proxyHeader,
            !receiveProxyHeader(index, version)
        {
            return
        }
        if connection.pointee.isTLS { return receiveSealed(index) }
        let room = receiveRoom(index)
        let count = Socket.receive(connection.pointee.descriptor, room)
        counters.add(.callsReceive)
        if count == room.count { connection.pointee.isUnread = true }
        if count <= 0 {
            if count == -Socket.wouldBlock { return watch(index, .readable) }
            return close(index)
        }
        counters.add(.bytesReceived, count)
        take(index, count)
    }

    /// Where a connection's next bytes go: behind its unfinished request, or into the receive slab.
    @inline(__always)
    func receiveRoom(_ index: Int) -> UnsafeMutableRawBufferPointer {
        guard let input = slab[index].pointee.input else { return receiveSlab }
        let filled = Int(slab[index].pointee.inputCount)
        return UnsafeMutableRawBufferPointer(start: input + filled, count: inputRoom(index))
    }

    /// Serves what has come into ``receiveRoom(_:)``.
    @inline(__always)
    mutating func take(_ index: Int, _ count: Int) {
        let connection = slab[index]
        guard let input = connection.pointee.input else {
            return serve(index, UnsafeMutableRawBufferPointer(rebasing: receiveSlab[..<count]))
        }
        if connection.pointee.phase == .body { return continueBody(index, received: count) }
        connection.pointee.inputCount += UInt32(truncatingIfNeeded: count)
        let filled = Int(connection.pointee.inputCount)
        serve(index, UnsafeMutableRawBufferPointer(start: input, count: filled))
    }

    /// Serves every complete request in `bytes`: the receive slab's or the connection's own block.
    ///
    /// Called while it serves the same connection (a body's end is followed by the next request), it
    /// leaves the bytes, which then are at the start of the connection's block, to the call that is
    /// under way: a client's pipeline must not be a recursion.
    mutating func serve(_ index: Int, _ bytes: UnsafeMutableRawBufferPointer) {
        guard !isServing else {
            servesKept = true
            return
        }
        isServing = true
        servePass(index, bytes)
        while servesKept {
            servesKept = false
            guard let input = slab[index].pointee.input else { break }
            let kept = Int(slab[index].pointee.inputCount)
            servePass(index, UnsafeMutableRawBufferPointer(start: input, count: kept))
        }
        isServing = false
    }

    private mutating func servePass(_ index: Int, _ bytes: UnsafeMutableRawBufferPointer) {
        var position = 0
        while position < bytes.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[position...])
            switch serveOne(index, rest) {
            case .consumed(let count):
                position += count
                // A client that may not send more gets nothing more read.
                if slab[index].pointee.closesAfterOutput {
                    return finish(index, lingers: position < bytes.count || drain.isDraining)
                }
            case .last: return finish(index, lingers: true)
            case .waiting: return
            }
        }
        releaseInput(index)
        slab[index].pointee.phase = .idle
        slab[index].pointee.deadline = now + limits.idleTimeoutMicroseconds
        finish(index, lingers: false)
    }

    /// One request at the start of `rest`.
    @inline(__always)
    private mutating func serveOne(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer
    ) -> ServeStep {
        let bytes = UnsafeRawBufferPointer(rest)
        switch parseHead(index, rest) {
        case .needMore: return awaitHead(index, rest)
        case .refused(let status):
            counters.add(.requestsBadRequest, 1)
            return refuse(index, status)
        case .complete: break
        }
        if sendSlab.count - pendingOutput < Limits.responseBytes, !flush(index) {
            return keepUntilSent(index, rest)
        }
        if drain.isDraining || slab[index].pointee.isRelayed { head.pointee.keepAlive = false }
        let route = Router.route(head, bytes)
        switch route {
        case .redirect: return redirect(index, bytes)
        case .pixel, .postback, .conversions: return conversion(index, route, rest)
        default: return fixed(index, route, bytes)
        }
    }

    /// Parses the head at the start of `rest`: where its last attempt ended, if there was one.
    @inline(__always)
    private mutating func parseHead(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer
    ) -> RequestParse {
        let bytes = UnsafeRawBufferPointer(rest)
        guard let progress = headProgress(index, rest) else {
            return RequestParser.parse(bytes, limit: limits.headerBytes, into: &head.pointee)
        }
        return RequestParser.parse(
            bytes, limit: limits.headerBytes, into: &head.pointee, resuming: &progress.pointee)
    }

    /// A click: decided by the engine, recorded in the ring, answered; in this order.
    @inline(__always)
    private mutating func redirect(
        _ index: Int, _ bytes: UnsafeRawBufferPointer
    ) -> ServeStep {
        // A body on a redirect is not read: the answer is the connection's last.
        let hasBody = head.pointee.hasBody
        if hasBody { head.pointee.keepAlive = false }
        if !isAdmitted { isAdmitted = shared.isAdmitted }
        // Before the node is claimed no identity may be minted: as if nothing were loaded.
        let record =
            isAdmitted ? appender.reserve(bytes: ClickRecord.maximumBytes, priority: .click) : nil
        let tables = isAdmitted ? tables : nil
        let peer = client(index, bytes)
        let isLimited = settings.proxies.isLimited(peer, head.pointee)
        let probe = clickRates.probe(peer, at: now)
        let isRapid = isLimited && probe.waitMicroseconds > 0
        let place = geo?.place(of: peer) ?? ClickPlace()
        let answer = engine.answer(
            head, bytes,
            client: ClientAddress(high: peer.high, low: peer.low, isIPv6: peer.isIPv6),
            place: place, clock: clock, tables: tables, closing: !head.pointee.keepAlive,
            isRapid: isRapid,
            record: record, response: sendRoom(at: pendingOutput))
        if answer.recordBytes > 0 {
            // In the ring before the first byte of the answer leaves (contract, 7.1).
            release(
                answer,
                appender.commit(bytes: answer.recordBytes, kind: RecordKind.click.rawValue))
            counters.add(.clicksRecorded, 1)
            if isRapid {
                counters.add(.clicksRapid, 1)
            } else if isLimited {
                clickRates.take(probe, at: now)
            }
        } else {
            if record != nil { appender.cancel() }
            if answer.isDropped {
                counters.add(.clicksDropped, 1)
                appender.noteDrop(at: clock.wall)
            }
        }
        if answer.isUnknown, isLimited, let wait = overRate(unknownRates, peer) {
            pendingOutput += writeLimited(wait)
        } else {
            counters.add(counter(of: answer.outcome), 1)
            if answer.recordBytes == 0 { release(unrecorded: answer) }
        }
        if answer.closes { slab[index].pointee.closesAfterOutput = true }
        return hasBody ? .last : .consumed(head.pointee.headBytes)
    }

    /// The client behind a connection's request, as far as trusted proxies tell.
    @inline(__always)
    func client(_ index: Int, _ bytes: UnsafeRawBufferPointer) -> PeerAddress {
        let peer = slab[index].pointee.peer
        return settings.proxies.isEmpty
            ? peer : settings.proxies.client(of: peer, head.pointee, bytes)
    }

    /// Takes a token of an address, or gives the seconds after which there is one.
    func overRate(_ rates: RateTable, _ peer: PeerAddress) -> UInt16? {
        let wait = rates.take(peer, at: now)
        return wait > 0 ? RateTable.retryAfter(wait) : nil
    }

    /// 429, on a connection that may go on.
    mutating func writeLimited(_ retryAfter: UInt16) -> Int {
        counters.add(.requestsLimited, 1)
        return writeStatus(
            429, closing: !head.pointee.keepAlive, at: pendingOutput, retryAfter: retryAfter)
    }

    /// Answers that are no click and no conversion.
    private mutating func fixed(
        _ index: Int, _ route: Route, _ bytes: UnsafeRawBufferPointer
    ) -> ServeStep {
        let hasBody = head.pointee.hasBody
        if hasBody { head.pointee.keepAlive = false }
        counters.add(.requestsOther, 1)
        pendingOutput += writeRoute(route)
        if !head.pointee.keepAlive { slab[index].pointee.closesAfterOutput = true }
        return hasBody ? .last : .consumed(head.pointee.headBytes)
    }

    /// A refusal is a connection's last answer.
    mutating func refuse(_ index: Int, _ status: UInt16) -> ServeStep {
        if sendSlab.count - pendingOutput < Limits.responseBytes, !flush(index) {
            // The client reads nothing; it need not be told.
            if slab[index].pointee.phase != .free { slab[index].pointee.closesAfterOutput = true }
            return .waiting
        }
        pendingOutput += writeStatus(status, closing: true, at: pendingOutput)
        slab[index].pointee.closesAfterOutput = true
        return .last
    }

    /// Keeps a partial head until more of it comes.
    private mutating func awaitHead(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer
    ) -> ServeStep {
        let connection = slab[index]
        // A head's time runs from its first byte; a new connection's first has begun already.
        let isFirst =
            connection.pointee.phase == .fresh && rest.baseAddress == receiveSlab.baseAddress
        let isBegun =
            connection.pointee.phase == .head && rest.baseAddress == connection.pointee.input
        if !isFirst && !isBegun {
            connection.pointee.deadline = now + limits.headerTimeoutMicroseconds
        }
        guard keep(index, rest) else { return refuse(index, 503) }
        connection.pointee.phase = .head
        if !isBegun { beginHeadProgress(index) }
        finish(index, lingers: false)
        return .waiting
    }

    /// Keeps requests unserved until earlier answers have gone.
    mutating func keepUntilSent(_ index: Int, _ rest: UnsafeMutableRawBufferPointer) -> ServeStep {
        if slab[index].pointee.phase != .free, !keep(index, rest) { close(index) }
        return .waiting
    }
}
