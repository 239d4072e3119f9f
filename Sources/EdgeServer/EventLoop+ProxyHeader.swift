// The PROXY header ahead of a connection's first byte of HTTP or TLS, where it is configured.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry

extension EventLoop {
    /// Reads the PROXY header that a new connection begins with, and makes its client the peer.
    ///
    /// Bytes are looked at before they are taken, so that what lies behind the header is still the
    /// socket's. Until it is complete the connection is idle, under the deadline of its start.
    /// - Returns: Whether the first request may be read; else the connection waits or is closed.
    mutating func receiveProxyHeader(_ index: Int, _ version: ProxyVersion) -> Bool {
        let connection = slab[index]
        let kept = Int(connection.pointee.inputCount)
        let limit = ProxyHeader.maximumBytes(version)
        var header = UnsafeMutableRawBufferPointer(rebasing: receiveSlab[..<limit])
        if let input = connection.pointee.input {
            header = UnsafeMutableRawBufferPointer(start: input, count: limit)
        }
        let room = UnsafeMutableRawBufferPointer(rebasing: header[kept...])
        let seen = Socket.peek(connection.pointee.descriptor, room)
        if seen <= 0 {
            if seen == -Socket.wouldBlock { watch(index, .readable) } else { close(index) }
            return false
        }
        let bytes = UnsafeRawBufferPointer(rebasing: header[..<(kept + seen)])
        let verdict = ProxyHeader.parse(bytes, version)
        let taken: Int
        switch verdict {
        case .needMore: taken = seen
        case .complete(let length, _): taken = length - kept
        case .refused:
            counters.add(.connectionsRefused, 1)
            close(index)
            return false
        }
        let wanted = UnsafeMutableRawBufferPointer(rebasing: room[..<taken])
        guard Socket.receive(connection.pointee.descriptor, wanted) == taken else {
            close(index)
            return false
        }
        counters.add(.bytesReceived, taken)
        guard case .complete(_, let client) = verdict else {
            let all = UnsafeMutableRawBufferPointer(rebasing: header[..<(kept + seen)])
            if keep(index, all) { watch(index, .readable) } else { close(index) }
            return false
        }
        releaseInput(index)
        connection.pointee.awaitsProxyHeader = false
        guard let client else { return true }
        return adopt(
            PeerAddress(high: client.high, low: client.low, isIPv6: client.isIPv6), index)
    }

    /// Counts a proxied connection as its client's from now on.
    private mutating func adopt(_ client: PeerAddress, _ index: Int) -> Bool {
        let isProxy = settings.proxies.contains(client)
        if !isProxy {
            guard enterAddress(client) else {
                counters.add(.connectionsRefused, 1)
                close(index)
                return false
            }
            yields.place(index, .kept, since: 0)
            yields.join(index, client)
        }
        slab[index].pointee.peer = client
        slab[index].pointee.isProxy = isProxy
        return true
    }
}
