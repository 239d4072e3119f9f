// Waiting for descriptors: epoll, eventfd, poll.
internal import CLinux
internal import Glibc

/// A counter that wakes whoever polls it, from any thread.
public struct EventDescriptor: ~Copyable, Sendable {
    /// The descriptor, for polling.
    public let descriptor: FileDescriptor

    /// A non-blocking counter at zero.
    public init() throws(Errno) {
        descriptor = FileDescriptor(
            owning: try retrying { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
    }

    /// Wakes the waiter; a full counter is awake already.
    public func signal() {
        var one: UInt64 = 1
        _ = Glibc.write(descriptor.rawValue, &one, 8)
    }

    /// Resets the counter; whether it had been signalled.
    @discardableResult public func clear() -> Bool {
        var value: UInt64 = 0
        return Glibc.read(descriptor.rawValue, &value, 8) == 8
    }

    /// Waits until it is signalled or the time is over, and resets it; whether it was signalled.
    @discardableResult public func wait(milliseconds: Int) -> Bool {
        var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, Int32(clamping: milliseconds))
        return clear()
    }
}

/// An epoll instance, level-triggered but for what is watched with ``Events/edge``.
public struct Epoll: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// What is waited for and what came, as in epoll_ctl(2).
    public struct Events: OptionSet, Sendable, BitwiseCopyable {
        /// The bits of the kernel.
        public let rawValue: UInt32
        /// Events by their bits.
        @inline(__always) public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Readable (`EPOLLIN`).
        public static var readable: Events { Events(rawValue: 0x001) }
        /// Writable (`EPOLLOUT`).
        public static var writable: Events { Events(rawValue: 0x004) }
        /// An error (`EPOLLERR`).
        public static var error: Events { Events(rawValue: 0x008) }
        /// Both ways closed (`EPOLLHUP`).
        public static var hangUp: Events { Events(rawValue: 0x010) }
        /// The peer will send no more (`EPOLLRDHUP`).
        public static var readHangUp: Events { Events(rawValue: 0x2000) }
        /// Once for what has come, not again while it lies there (`EPOLLET`).
        public static var edge: Events { Events(rawValue: 1 << 31) }
        /// One waiter is woken, not all (`EPOLLEXCLUSIVE`).
        public static var exclusive: Events { Events(rawValue: 1 << 28) }
    }

    /// A new instance.
    public init() throws(Errno) {
        descriptor = FileDescriptor(owning: try retrying { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    }

    /// Begins to watch a descriptor; `data` comes back with each of its events.
    public func add(_ fd: CInt, _ events: Events, data: UInt64) throws(Errno) {
        _ = try retrying {
            clinux_epoll_ctl(descriptor.rawValue, EPOLL_CTL_ADD, fd, events.rawValue, data)
        }
    }
    /// Changes what is watched for.
    public func modify(_ fd: CInt, _ events: Events, data: UInt64) throws(Errno) {
        _ = try retrying {
            clinux_epoll_ctl(descriptor.rawValue, EPOLL_CTL_MOD, fd, events.rawValue, data)
        }
    }
    /// Stops watching a descriptor (closing it does so too).
    public func remove(_ fd: CInt) throws(Errno) {
        _ = try retrying { clinux_epoll_ctl(descriptor.rawValue, EPOLL_CTL_DEL, fd, 0, 0) }
    }

    /// A fixed buffer of events.
    public struct EventList: ~Copyable {
        fileprivate let storage: UnsafeMutablePointer<epoll_event>
        /// Events that one wait can give.
        public let capacity: Int
        /// Room for so many events.
        public init(capacity: Int) {
            self.capacity = capacity
            storage = .allocate(capacity: capacity)
            storage.initialize(repeating: epoll_event(), count: capacity)
        }
        deinit { storage.deallocate() }
        /// The data of the event at an index below the last wait's count.
        @inline(__always) public func data(_ index: Int) -> UInt64 {
            clinux_epoll_data(storage + index)
        }
        /// What came at an index below the last wait's count.
        @inline(__always) public func events(_ index: Int) -> Events {
            Events(rawValue: clinux_epoll_events(storage + index))
        }
    }

    /// Waits for events, -1 for ever, and gives how many came; an interruption counts as none.
    @inline(__always) public func wait(_ list: borrowing EventList, milliseconds: Int32) -> Int {
        let count = clinux_epoll_wait_milliseconds(
            descriptor.rawValue, list.storage, Int32(list.capacity), milliseconds)
        return count < 0 ? 0 : Int(count)
    }

    /// The same with a limit finer than a millisecond.
    public func wait(_ list: borrowing EventList, microseconds: Int64) -> Int {
        let count = clinux_epoll_wait(
            descriptor.rawValue, list.storage, Int32(list.capacity), microseconds)
        return count < 0 ? 0 : Int(count)
    }
}
