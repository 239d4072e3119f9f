// Connecting on a thread of its own, so that the caller can leave: libpq resolves names and tries
// one address after the other without a way to be called back.
internal import CLibPQ
internal import LinuxIO
internal import Synchronization

/// One PQconnectdbParams, and who owns what comes of it.
///
/// `@unchecked Sendable`: the handle changes hands under the lock, once.
final class ConnectAttempt: @unchecked Sendable {
    private struct State {
        var handle: OpaquePointer?
        var isOver = false
        var isAbandoned = false
    }

    private let options: [(String, String)]
    // Not a Mutex's value: a pointer of C's is not Sendable; the lock is what orders its uses.
    private let lock = Mutex(())
    private var state = State()
    private let over: EventDescriptor

    private init(_ options: [(String, String)]) throws(Errno) {
        self.options = options
        over = try EventDescriptor()
    }

    /// Connects; nil when `interruption` was raised first, or without memory or threads.
    static func run(
        _ options: [(String, String)], _ interruption: Interruption
    ) -> OpaquePointer? {
        do throws(Errno) {
            let attempt = try ConnectAttempt(options)
            try Thread.start(name: "connect", stackBytes: Limits.stackBytes) { attempt.connect() }
                .detach()
            return attempt.wait(interruption)
        } catch {
            return nil
        }
    }

    private enum Limits {
        /// Bytes of the thread's stack: name resolution takes buffers on it.
        static let stackBytes = 1 << 20
    }

    private func connect() {
        let made = Connection.connect(options)
        let isUnwanted = lock.withLock { _ in
            state.isOver = true
            if !state.isAbandoned { state.handle = made }
            return state.isAbandoned
        }
        if isUnwanted, let made { PQfinish(made) }
        over.signal()
    }

    private func wait(_ interruption: Interruption) -> OpaquePointer? {
        while !interruption.isRaised {
            _ = DescriptorReadiness.wait(
                over.descriptor.rawValue, for: .readable, orReadable: interruption.descriptor,
                milliseconds: -1)
            let (isOver, handle) = lock.withLock { _ in (state.isOver, state.handle) }
            if isOver, !interruption.isRaised { return handle }
        }
        let handle = lock.withLock { _ in
            state.isAbandoned = true
            defer { state.handle = nil }
            return state.handle
        }
        if let handle { PQfinish(handle) }
        return nil
    }
}
