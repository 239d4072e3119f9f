// The visitor behind trusted proxies: the chain of X-Forwarded-For or Forwarded, read from the right.
// What an untrusted peer claims is never read (contract, 7.6).
public import Configuration
internal import EdgeCore
internal import LinuxIO

/// Which peers are believed about the address of their client.
public struct TrustedProxies: Sendable {
    /// Addresses in a chain that are looked at; a longer chain of proxies is not believed.
    static let maximumHops = 16

    private let ranges: [AddressRange]

    /// The proxies of `proxy.trusted`.
    public init(_ ranges: [AddressRange]) { self.ranges = ranges }

    @inline(__always) var isEmpty: Bool { ranges.isEmpty }

    /// Whether an address is a proxy's.
    func contains(_ address: PeerAddress) -> Bool {
        for range in ranges where range.contains(address) { return true }
        return false
    }

    /// The visitor: the last address of the chain that is no proxy's, or the farthest proxy where
    /// nothing sound is said beyond it.
    ///
    /// Of two headers neither is believed unless they agree: a proxy that writes one of them hands
    /// through what a client has written into the other.
    func client(of peer: PeerAddress, _ head: RequestHead, _ bytes: UnsafeRawBufferPointer)
        -> PeerAddress
    {
        guard contains(peer) else { return peer }
        guard head.forwarded.isPresent else {
            guard head.xForwardedFor.isPresent else { return peer }
            return farthest(ForwardedChain(.xForwardedFor, of: head, in: bytes), behind: peer)
        }
        let standard = farthest(ForwardedChain(.forwarded, of: head, in: bytes), behind: peer)
        guard head.xForwardedFor.isPresent else { return standard }
        let other = farthest(ForwardedChain(.xForwardedFor, of: head, in: bytes), behind: peer)
        return standard == other ? standard : peer
    }

    /// Whether an address that ``client(of:_:_:)`` gave is a visitor's, so that limits are for it.
    ///
    /// A proxy's never is, but when its client wrote a header that contradicts the proxy's own: such
    /// clients share one place in the tables, and nobody else is in it.
    @inline(__always) func isLimited(_ address: PeerAddress, _ head: RequestHead) -> Bool {
        isEmpty || isVisitor(address, head)
    }

    private func isVisitor(_ address: PeerAddress, _ head: RequestHead) -> Bool {
        !contains(address) || head.forwarded.isPresent && head.xForwardedFor.isPresent
    }

    private func farthest(_ chain: consuming ForwardedChain, behind peer: PeerAddress)
        -> PeerAddress
    {
        var nearest = peer
        for _ in 0..<TrustedProxies.maximumHops {
            guard case .address(let hop) = chain.next() else { return nearest }
            let address = PeerAddress(high: hop.high, low: hop.low, isIPv6: hop.isIPv6)
            if !contains(address) { return address }
            nearest = address
        }
        return peer
    }
}
