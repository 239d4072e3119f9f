// Waiting for one descriptor with a time limit, for libraries that own their sockets.
internal import CLinux
internal import Glibc

/// poll(2) on a single descriptor.
public struct DescriptorReadiness: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt8
    /// Readiness by its bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// There is something to read, an end or an error included.
    public static let readable = DescriptorReadiness(rawValue: 1)
    /// There is room to write.
    public static let writable = DescriptorReadiness(rawValue: 2)

    /// Waits until the descriptor is ready for any of `wanted`; empty when the time was over first.
    ///
    /// - Parameters:
    ///   - other: A descriptor that ends the wait, with an empty answer, when it is readable.
    ///   - milliseconds: The limit; negative waits for ever.
    /// - Note: An interruption may end the wait early with an empty answer: callers loop to a deadline.
    public static func wait(
        _ descriptor: CInt, for wanted: DescriptorReadiness, orReadable other: CInt? = nil,
        milliseconds: Int
    ) -> DescriptorReadiness {
        var events: Int16 = 0
        if wanted.contains(.readable) { events |= Int16(POLLIN) }
        if wanted.contains(.writable) { events |= Int16(POLLOUT) }
        var entries = (
            pollfd(fd: descriptor, events: events, revents: 0),
            // The kernel passes a negative one by.
            pollfd(fd: other ?? -1, events: Int16(POLLIN), revents: 0)
        )
        let count = withUnsafeMutablePointer(to: &entries) {
            $0.withMemoryRebound(to: pollfd.self, capacity: 2) {
                poll($0, 2, Int32(clamping: milliseconds))
            }
        }
        guard count > 0 else { return [] }
        let came = entries.0.revents
        var ready: DescriptorReadiness = []
        let ended = Int16(POLLERR | POLLHUP | POLLNVAL)
        if came & (Int16(POLLIN) | ended) != 0 { ready.insert(.readable) }
        if came & (Int16(POLLOUT) | ended) != 0 { ready.insert(.writable) }
        return ready
    }
}
