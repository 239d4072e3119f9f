// Ending what a connection waits for from another thread: a process that ends must not wait for a
// server that does not answer.
public import LinuxIO
internal import Synchronization

/// A wish to go, raised once; whoever waits for a server with it gives up at once.
public final class Interruption: Sendable {
    private let event: EventDescriptor
    private let raised = Atomic<Bool>(false)

    /// Not raised.
    /// - Throws: ``Errno`` when the process has no descriptor left.
    public init() throws(Errno) { event = try EventDescriptor() }

    /// Ends every wait, now and from here on; from any thread.
    public func raise() {
        raised.store(true, ordering: .releasing)
        // Never cleared: every later wait sees it too.
        event.signal()
    }

    /// Whether it has been raised.
    public var isRaised: Bool { raised.load(ordering: .acquiring) }

    /// Readable once it is raised.
    var descriptor: CInt { event.descriptor.rawValue }
}
