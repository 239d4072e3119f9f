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
    /// - Parameter milliseconds: The limit; negative waits for ever.
    /// - Note: An interruption may end the wait early with an empty answer: callers loop to a deadline.
    public static func wait(
        _ descriptor: CInt, for wanted: DescriptorReadiness, milliseconds: Int
    ) -> DescriptorReadiness {
        var events: Int16 = 0
        if wanted.contains(.readable) { events |= Int16(POLLIN) }
        if wanted.contains(.writable) { events |= Int16(POLLOUT) }
        var entry = pollfd(fd: descriptor, events: events, revents: 0)
        guard poll(&entry, 1, Int32(clamping: milliseconds)) > 0 else { return [] }
        var ready: DescriptorReadiness = []
        let ended = Int16(POLLERR | POLLHUP | POLLNVAL)
        if entry.revents & (Int16(POLLIN) | ended) != 0 { ready.insert(.readable) }
        if entry.revents & (Int16(POLLOUT) | ended) != 0 { ready.insert(.writable) }
        return ready
    }
}
