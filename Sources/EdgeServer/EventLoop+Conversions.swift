// Conversions: the body collected, the message judged, its records appended, the answer parked until
// the disk has them.
internal import EdgeCore
internal import LinuxIO
internal import RingLog
internal import Telemetry
internal import Tracking

extension EventLoop {
    /// A pixel, postback or JSON message whose head is complete.
    mutating func conversion(
        _ index: Int, _ route: Route, _ rest: UnsafeMutableRawBufferPointer
    ) -> ServeStep {
        // Earlier answers go first: this one may have to wait for the disk.
        if !flush(index) { return keepUntilSent(index, rest) }
        let takesBody = head.pointee.method == .post
        if head.pointee.hasBody, !takesBody { head.pointee.keepAlive = false }
        if takesBody, head.pointee.contentLength > limits.bodyBytes { return refuse(index, 413) }
        if let answered = limit(index, route, UnsafeRawBufferPointer(rest)) { return answered }
        let length = takesBody ? max(head.pointee.contentLength, 0) : 0
        if takesBody, head.pointee.isChunked || rest.count - head.pointee.headBytes < length {
            return collect(index, rest)
        }
        let bytes = UnsafeRawBufferPointer(rest)
        let end = head.pointee.headBytes + length
        let body = UnsafeRawBufferPointer(rebasing: bytes[head.pointee.headBytes..<end])
        let ignoresBody = head.pointee.hasBody && !takesBody
        let held = decide(route, bytes, body)
        if !head.pointee.keepAlive { slab[index].pointee.closesAfterOutput = true }
        if releaseNow(held) { return ignoresBody ? .last : .consumed(end) }
        let leftover = UnsafeMutableRawBufferPointer(rebasing: rest[end...])
        slab[index].pointee.lingers = ignoresBody || !leftover.isEmpty
        park(index, held, keeping: ignoresBody ? nil : leftover)
        return .waiting
    }

    /// Answers a message whose address sends too many, before a byte of its body is asked for; nil
    /// when it may be judged.
    ///
    /// A pixel is answered with its image whatever becomes of it (contract, 4); it is not recorded.
    private mutating func limit(
        _ index: Int, _ route: Route, _ bytes: UnsafeRawBufferPointer
    ) -> ServeStep? {
        // One that waits for its body was counted when its head came.
        guard head.pointee.method != .head, !slab[index].pointee.hasContinued else { return nil }
        let peer = client(index, bytes)
        guard settings.proxies.isLimited(peer, head.pointee),
            let retryAfter = overRate(conversionRates, peer)
        else { return nil }
        if head.pointee.hasBody { head.pointee.keepAlive = false }
        if route == .pixel {
            counters.add(.requestsLimited, 1)
            _ = releaseNow(answerUnrecorded(true))
        } else {
            pendingOutput += writeLimited(retryAfter)
        }
        if !head.pointee.keepAlive { slab[index].pointee.closesAfterOutput = true }
        return head.pointee.hasBody ? .last : .consumed(head.pointee.headBytes)
    }

    /// Begins to collect a body.
    private mutating func collect(
        _ index: Int, _ rest: UnsafeMutableRawBufferPointer
    ) -> ServeStep {
        let connection = slab[index]
        let received = rest.count - head.pointee.headBytes
        guard keep(index, rest, atLeast: .large) else { return refuse(index, 503) }
        connection.pointee.phase = .body
        connection.pointee.headBytes = UInt32(truncatingIfNeeded: head.pointee.headBytes)
        connection.pointee.bodyTotal =
            head.pointee.isChunked ? -1 : Int32(truncatingIfNeeded: head.pointee.contentLength)
        connection.pointee.chunks = ChunkedDecoder()
        connection.pointee.deadline = now + limits.headerTimeoutMicroseconds
        if received == 0 {
            if head.pointee.expectsContinue, !connection.pointee.hasContinued {
                // Once: where the client does not take it now, this request comes here again.
                connection.pointee.hasContinued = true
                pendingOutput += writeContinue(at: pendingOutput)
            }
            finish(index, lingers: false)
            return .waiting
        }
        connection.pointee.inputCount = UInt32(truncatingIfNeeded: head.pointee.headBytes)
        continueBody(index, received: received)
        return .waiting
    }

    /// Takes in body bytes that lie behind the collected ones in the connection's block.
    mutating func continueBody(_ index: Int, received: Int) {
        let connection = slab[index]
        guard let input = connection.pointee.input else { return close(index) }
        let headBytes = Int(connection.pointee.headBytes)
        let filled = Int(connection.pointee.inputCount)
        if connection.pointee.bodyTotal >= 0 {
            let total = headBytes + Int(connection.pointee.bodyTotal)
            connection.pointee.inputCount = UInt32(truncatingIfNeeded: filled + received)
            guard filled + received >= total else { return watch(index, .readable) }
            return completeBody(
                index, bodyCount: total - headBytes, surplus: total..<filled + received)
        }
        let raw = UnsafeRawBufferPointer(start: input + filled, count: received)
        let decoded = UnsafeMutableRawBufferPointer(
            start: input + headBytes, count: limits.bodyBytes)
        switch connection.pointee.chunks.decode(raw, into: decoded) {
        case .needMore:
            let count = headBytes + connection.pointee.chunks.produced
            connection.pointee.inputCount = UInt32(truncatingIfNeeded: count)
            watch(index, .readable)
        case .complete:
            let end = filled + connection.pointee.chunks.consumed
            completeBody(
                index, bodyCount: connection.pointee.chunks.produced,
                surplus: end..<filled + received)
        case .refused(let status):
            counters.add(.requestsBadRequest, 1)
            refuseNow(index, status)
        }
    }

    /// A message is whole in the connection's block; `surplus` belongs to the next request.
    private mutating func completeBody(_ index: Int, bodyCount: Int, surplus: Range<Int>) {
        let connection = slab[index]
        guard let input = connection.pointee.input else { return close(index) }
        let headBytes = Int(connection.pointee.headBytes)
        connection.pointee.hasContinued = false
        let bytes = UnsafeRawBufferPointer(start: input, count: headBytes)
        // Other requests have used the loop's head since; the same bytes parse the same way again.
        guard
            RequestParser.parse(bytes, limit: limits.headerBytes, into: &head.pointee) == .complete
        else {
            return refuseNow(index, 400)
        }
        if drain.isDraining || connection.pointee.isRelayed { head.pointee.keepAlive = false }
        let route = Router.route(head, bytes)
        let body = UnsafeRawBufferPointer(start: input + headBytes, count: bodyCount)
        let held = decide(route, bytes, body)
        if !head.pointee.keepAlive { connection.pointee.closesAfterOutput = true }
        let leftover = UnsafeMutableRawBufferPointer(
            start: input + surplus.lowerBound, count: surplus.count)
        guard releaseNow(held) else {
            connection.pointee.lingers = !leftover.isEmpty
            return park(index, held, keeping: leftover)
        }
        if connection.pointee.closesAfterOutput {
            releaseInput(index)
            return finish(index, lingers: !leftover.isEmpty)
        }
        connection.pointee.phase = .idle
        guard !leftover.isEmpty else {
            releaseInput(index)
            connection.pointee.deadline = now + limits.idleTimeoutMicroseconds
            return finish(index, lingers: false)
        }
        // Within its own block; there is always room.
        _ = keep(index, leftover)
        serve(index, UnsafeMutableRawBufferPointer(start: input, count: surplus.count))
    }

    /// Keeps an answer until its record is durable.
    private mutating func park(
        _ index: Int, _ held: borrowing HeldAnswer, keeping leftover: UnsafeMutableRawBufferPointer?
    ) {
        if let leftover {
            guard keep(index, leftover) else { return close(index) }
        } else {
            releaseInput(index)
        }
        guard !parked.isFull, !appender.durabilityLost else {
            return refuseNow(index, 503)
        }
        pendingOutput = held.bytes
        guard keepOutput(index, from: 0) else { return }
        let connection = slab[index]
        connection.pointee.phase = .parked
        connection.pointee.parkedSequence = held.sequence
        connection.pointee.deadline = now + limits.commitWaitMicroseconds
        parked.append(ParkedQueue.Entry(connection: slab.data(index), sequence: held.sequence))
        watch(index, [])
    }

    /// Lets every answer go whose record is durable; all with 503 when durability is lost.
    mutating func releaseParked() {
        let isLost = appender.durabilityLost
        while let entry = parked.next(durable: isLost ? .max : appender.durableSequence) {
            guard let index = slab.index(entry.connection),
                slab[index].pointee.phase == .parked,
                slab[index].pointee.parkedSequence == entry.sequence
            else { continue }
            if let proof = appender.durable(entry.sequence) {
                release(parked: index, proof)
            } else {
                releaseOutput(index)
                refuseNow(index, 503)
            }
        }
    }
}
