// How long a disk takes to make a small write durable, measured beside whatever else uses it.
public import LinuxIO
internal import Synchronization

/// A thread that writes and syncs a file of its own again and again.
public final class SyncProbe: Sendable {
    private enum Limits {
        /// The pause between two syncs.
        static let pauseMicroseconds: Int64 = 5000
        /// How often the end is looked for while the last sync goes on.
        static let lookMicroseconds: Int64 = 1000
    }

    private let slowest = Atomic<Int64>(0)
    private let since = Atomic<Int64>(0)
    private let stopping = Atomic<Bool>(false)
    private let isRunning = Atomic<Bool>(true)

    /// Starts on a file, which is made.
    public init(_ path: String) throws(Errno) {
        try Thread.start(name: "sync-probe") { [self] in
            measure(path)
            isRunning.store(false, ordering: .releasing)
        }.detach()
    }

    private static func now() -> Int64 { SystemClock.monotonicNanoseconds() / 1000 }

    /// The longest sync so far, the one that is under way included, microseconds.
    public var slowestMicroseconds: Int64 {
        let begun = since.load(ordering: .relaxed)
        let waiting = begun == 0 ? 0 : SyncProbe.now() - begun
        return max(waiting, slowest.load(ordering: .relaxed))
    }

    /// Ends the thread and lets the file go.
    public func stop() {
        stopping.store(true, ordering: .relaxed)
        while isRunning.load(ordering: .acquiring) {
            Thread.sleep(microseconds: Limits.lookMicroseconds)
        }
    }

    private func measure(_ path: String) {
        guard let file = try? FileDescriptor.open(path, [.readWrite, .create]) else { return }
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { block.deallocate() }
        block.initializeMemory(as: UInt8.self, repeating: 1)
        while !stopping.load(ordering: .relaxed) {
            let begun = SyncProbe.now()
            since.store(begun, ordering: .relaxed)
            guard (try? file.writeAll(UnsafeRawBufferPointer(block), at: 0)) != nil,
                (try? file.syncData()) != nil
            else { return }
            since.store(0, ordering: .relaxed)
            slowest.max(SyncProbe.now() - begun, ordering: .relaxed)
            Thread.sleep(microseconds: Limits.pauseMicroseconds)
        }
    }
}
