// A named thread of its own, for work that blocks or must not share.
internal import CLinux
internal import Glibc

/// A running thread; joined by its owner.
public struct Thread: ~Copyable, Sendable {
    private let handle: pthread_t

    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a thread with all signals blocked, so that only the signal descriptor sees them.
    ///
    /// - Parameters:
    ///   - name: At most 15 bytes are shown.
    ///   - stackBytes: The stack's size.
    /// - Throws: ``Errno`` when the system has no thread left.
    public static func start(
        name: String, stackBytes: Int = 1 << 20, _ run: @escaping @Sendable () -> Void
    ) throws(Errno) -> Thread {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, stackBytes)
        let body = Unmanaged.passRetained(Body(name: name, run: run))
        var handle = pthread_t()
        let error = pthread_create(
            &handle, &attributes,
            { argument in
                guard let argument else { return nil }
                let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                _ = clinux_name_thread(body.name)
                Signals.blockAll()
                body.run()
                return nil
            }, body.toOpaque())
        guard error == 0 else {
            body.release()
            throw Errno(rawValue: error)
        }
        return Thread(handle: handle)
    }

    private init(handle: pthread_t) { self.handle = handle }

    /// Waits until the thread has ended.
    public consuming func join() { pthread_join(handle, nil) }

    /// Lets the thread end by itself: nobody will join it.
    public consuming func detach() { pthread_detach(handle) }

    /// Has the calling thread give way to others that want the processor.
    ///
    /// By 0...19 above the niceness that it has; nothing takes that back.
    public static func giveWay(nice: Int32) {
        // On Linux the call is about one thread; 0 is the caller.
        let which = Int32(PRIO_PROCESS.rawValue)
        _ = setpriority(which, 0, getpriority(which, 0) + nice)
    }

    /// Has the calling thread run soon after it has woken, in short slices, at no cost to its fair share
    /// of the processor.
    ///
    /// Linux 6.12 and later; older systems go on as before.
    public static func wakeSoon() {
        let shortest: UInt64 = 100_000  // Nanoseconds; the kernel takes no less.
        _ = clinux_short_slices(shortest)
    }

    /// Sleeps the calling thread.
    public static func sleep(microseconds: Int64) {
        var wanted = timespec(
            tv_sec: Int(microseconds / 1_000_000), tv_nsec: Int(microseconds % 1_000_000) * 1000)
        var rest = timespec()
        while nanosleep(&wanted, &rest) != 0, errno == EINTR { wanted = rest }
    }
}
