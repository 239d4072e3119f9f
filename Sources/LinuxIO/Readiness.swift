// Waiting for one descriptor, for the few places that serve a connection by a thread of its own.
internal import Glibc

extension Socket {
    /// Waits until a descriptor can be read, or the time is over; whether it can.
    ///
    /// An end or an error counts as readable: the next read tells which.
    public static func waitReadable(_ fd: CInt, milliseconds: Int) -> Bool {
        wait(fd, events: Int16(POLLIN), milliseconds: milliseconds)
    }

    /// Waits until a descriptor can be written, or the time is over; whether it can.
    public static func waitWritable(_ fd: CInt, milliseconds: Int) -> Bool {
        wait(fd, events: Int16(POLLOUT), milliseconds: milliseconds)
    }

    private static func wait(_ fd: CInt, events: Int16, milliseconds: Int) -> Bool {
        var entry = pollfd(fd: fd, events: events, revents: 0)
        return poll(&entry, 1, Int32(clamping: max(0, milliseconds))) > 0
    }
}
