// Answers on their way: sent at once where the client takes them, kept where it does not.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

extension EventLoop {
    /// Sends the send slab's answers; false when some had to be kept, or the connection is gone.
    mutating func flush(_ index: Int) -> Bool {
        if slab[index].pointee.isTLS { return flushSealed(index) }
        guard pendingOutput > 0 else { return true }
        let connection = slab[index]
        let bytes = UnsafeRawBufferPointer(rebasing: sendSlab[..<pendingOutput])
        let sent = Socket.send(
            connection.pointee.descriptor, bytes, beforeEnd: connection.pointee.closesAfterOutput)
        counters.add(.callsSend)
        if sent == pendingOutput {
            pendingOutput = 0
            counters.add(.bytesSent, sent)
            return true
        }
        guard sent >= 0 || sent == -Socket.wouldBlock else {
            close(index)
            return false
        }
        counters.add(.bytesSent, max(sent, 0))
        guard keepOutput(index, from: max(sent, 0)) else { return false }
        awaitReader(index)
        return false
    }

    /// Sends what remains and, if it is all, ends the connection or waits for its next request.
    mutating func finish(_ index: Int, lingers: Bool) {
        slab[index].pointee.lingers = lingers
        if flush(index) { settle(index) }
    }

    /// After the last byte of output: the end, or the next request.
    private mutating func settle(_ index: Int) {
        guard slab[index].pointee.closesAfterOutput else { return watch(index, .readable) }
        guard slab[index].pointee.lingers else { return close(index) }
        halfClose(index)
    }

    /// Says that no more will be said, and throws away what the client still sends, so that it sees
    /// an end and not a reset.
    private mutating func halfClose(_ index: Int) {
        releaseInput(index)
        Socket.shutdownWriting(slab[index].pointee.descriptor)
        slab[index].pointee.phase = .lingering
        slab[index].pointee.discarded = 0
        let patience =
            drain.isDraining ? Limits.drainLingerMicroseconds : Limits.lingerMicroseconds
        slab[index].pointee.deadline = now + patience
        watch(index, .readable)
    }

    /// Waits for the client to read, for as long as its credit lasts.
    mutating func awaitReader(_ index: Int) {
        slab[index].pointee.phase = .sending
        slab[index].pointee.deadline = now + Int64(slab[index].pointee.readingCredit)
        watch(index, .writable)
    }

    /// Lengthens a reader's time by what it has just read: never beyond an idle connection's, and by
    /// so little for few bytes that they do not hold the connection.
    private func credit(_ index: Int, bytes count: Int) {
        let connection = slab[index]
        let earned = Int64(count) * 1_000_000 / Limits.readBytesPerSecond
        connection.pointee.deadline = min(
            connection.pointee.deadline + earned, now + limits.idleTimeoutMicroseconds)
        connection.pointee.readingCredit = UInt32(clamping: connection.pointee.deadline - now)
    }

    /// Sends kept output, as far as the client takes it, then serves what was kept behind it.
    mutating func continueSending(_ index: Int) {
        if slab[index].pointee.isTLS { return continueSealed(index) }
        sendKept(index)
    }

    /// Sends a block of output as it is, then serves.
    mutating func sendKept(_ index: Int) {
        let connection = slab[index]
        guard let output = connection.pointee.output else { return afterOutput(index) }
        let start = Int(connection.pointee.outputStart)
        let end = Int(connection.pointee.outputEnd)
        let bytes = UnsafeRawBufferPointer(start: output + start, count: end - start)
        let sent = Socket.send(connection.pointee.descriptor, bytes)
        counters.add(.callsSend)
        guard sent >= 0 || sent == -Socket.wouldBlock else { return close(index) }
        if connection.pointee.phase == .sending { credit(index, bytes: max(sent, 0)) }
        if sent == bytes.count {
            counters.add(.bytesSent, sent)
            releaseOutput(index)
            return afterOutput(index)
        }
        counters.add(.bytesSent, max(sent, 0))
        connection.pointee.outputStart += UInt32(truncatingIfNeeded: max(sent, 0))
        if connection.pointee.phase != .sending {
            awaitReader(index)
        } else {
            watch(index, .writable)
        }
    }

    mutating func afterOutput(_ index: Int) {
        let connection = slab[index]
        if connection.pointee.closesAfterOutput { return settle(index) }
        connection.pointee.phase = .idle
        guard let input = connection.pointee.input else {
            connection.pointee.deadline = now + limits.idleTimeoutMicroseconds
            return watch(index, .readable)
        }
        let filled = Int(connection.pointee.inputCount)
        serve(index, UnsafeMutableRawBufferPointer(start: input, count: filled))
    }

    /// Reads and throws away what a client says after its last answer.
    mutating func discard(_ index: Int) {
        let connection = slab[index]
        let count = Socket.receive(connection.pointee.descriptor, receiveSlab)
        counters.add(.callsReceive)
        if count == receiveSlab.count { connection.pointee.isUnread = true }
        if count == -Socket.wouldBlock { return }
        guard count > 0 else { return close(index) }
        counters.add(.bytesReceived, count)
        connection.pointee.discarded += UInt32(truncatingIfNeeded: count)
        if connection.pointee.discarded > Limits.lingerBytes { close(index) }
    }

    /// Ends the patience with every connection whose deadline has passed.
    mutating func expire() {
        for _ in 0..<Limits.deadlinesPerTurn {
            guard let index = wheel.next(by: now) else {
                hasMoreDue = false
                return
            }
            let connection = slab[index]
            guard connection.pointee.phase != .free else { continue }
            if connection.pointee.deadline > now {
                wheel.schedule(index, at: connection.pointee.deadline)
            } else {
                endPatience(index)
            }
        }
        hasMoreDue = true
    }

    /// Ends a connection whose deadline has passed, with an answer where a request is owed one.
    private mutating func endPatience(_ index: Int) {
        counters.add(.connectionsTimedOut, 1)
        switch slab[index].pointee.phase {
        case .head, .body:
            counters.add(.requestsBadRequest, 1)
            refuseNow(index, 408)
        case .parked:
            releaseOutput(index)
            refuseNow(index, 503)
        case .handshake, .fresh, .idle, .sending, .lingering:
            // What the client has not taken by now would stay in the kernel's memory.
            let descriptor = slab[index].pointee.descriptor
            if Socket.unacknowledgedBytes(descriptor) > 0 { Socket.resetAtClose(descriptor) }
            close(index)
        case .free: break
        }
    }

    /// Refuses outside of ``serve(_:_:)``.
    mutating func refuseNow(_ index: Int, _ status: UInt16) {
        if case .last = refuse(index, status) { finish(index, lingers: true) }
    }
}
