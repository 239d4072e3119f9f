// Makes segment files ahead of need on a thread of its own: allocating, zero-filling and syncing one
// takes longer than a busy ring lasts.
internal import LinuxIO
internal import Synchronization

/// A file that is ready for its first record.
struct PreparedFile: Sendable {
    let file: any SpoolFile
    let path: String
}

/// Makes files, on whichever thread asks.
final class SegmentMaker: Sendable {
    private let directory: String
    private let files: any SpoolFileSystem
    private let segmentBytes: Int
    /// No two makers of a directory's life give the same name.
    private let prefix = Randomness.bytes(4).map { String($0, radix: 16) }.joined()
    private let count = Atomic<Int>(0)
    private let metFullDisk = Atomic<Bool>(false)

    init(directory: String, files: any SpoolFileSystem, segmentBytes: Int) {
        self.directory = directory
        self.files = files
        self.segmentBytes = segmentBytes
    }

    /// Whether the disk was full when a file was last to be made.
    var hasMetFullDisk: Bool { metFullDisk.load(ordering: .relaxed) }

    /// A new file, allocated and zero-filled, so that later writes meet neither a full disk nor
    /// blocks that must first be converted; data and name are durable.
    func make() throws(Errno) -> PreparedFile {
        let number = count.add(1, ordering: .relaxed).newValue
        let path = "\(directory)/free-\(prefix)-\(number).segment"
        do {
            let file = try files.open(path, create: true)
            try file.allocate(segmentBytes)
            let zeros = UnsafeMutableRawBufferPointer.allocate(
                byteCount: min(RingLogLimits.callBytes, segmentBytes), alignment: 4096)
            defer { zeros.deallocate() }
            // Segments are whole pages.
            zeros.initializeMemory(as: UInt64.self, repeating: 0)
            var offset = 0
            while offset < segmentBytes {
                let count = min(zeros.count, segmentBytes - offset)
                try file.write(UnsafeRawBufferPointer(rebasing: zeros[..<count]), at: offset)
                offset += count
            }
            try file.sync()
            try files.syncDirectory(directory)
            metFullDisk.store(false, ordering: .relaxed)
            return PreparedFile(file: file, path: path)
        } catch {
            if error.isFull { metFullDisk.store(true, ordering: .relaxed) }
            try? files.remove(path)
            throw error
        }
    }
}

/// Keeps a few files ready, on its own thread.
final class SegmentPreparer: Sendable {
    private struct State {
        var ready: [PreparedFile] = []
        var wanted = 0
        var isMaking = false
        var isStopped = false
    }

    private let maker: SegmentMaker
    private let state = Mutex(State())
    private let asked: EventDescriptor
    private let made: EventDescriptor
    /// The longest that anybody sleeps without being told.
    private static let waitMilliseconds = 1000

    init(_ maker: SegmentMaker) throws(Errno) {
        self.maker = maker
        asked = try EventDescriptor()
        made = try EventDescriptor()
    }

    /// The thread's body.
    func run() {
        while true {
            let mayMake = state.withLock { state in
                state.isMaking = !state.isStopped && state.ready.count < state.wanted
                return state.isStopped ? nil : state.isMaking
            }
            guard let mayMake else { return }
            guard mayMake else {
                asked.wait(milliseconds: SegmentPreparer.waitMilliseconds)
                continue
            }
            let file = try? maker.make()
            state.withLock { state in
                if let file { state.ready.append(file) } else { state.wanted = 0 }
                state.isMaking = false
            }
            made.signal()
        }
    }

    /// Ends the thread; what is ready stays on disk for the next start.
    func stop() {
        state.withLock { $0.isStopped = true }
        asked.signal()
    }

    /// How many files should lie ready; those that could not be made are asked for again by this.
    func want(_ count: Int) {
        let isMore = state.withLock { state in
            state.wanted = count
            return state.ready.count < count && !state.isMaking
        }
        if isMore { asked.signal() }
    }

    var readyCount: Int { state.withLock { $0.ready.count } }

    /// A ready file; waits for one that is being made; nil when none is.
    func take() -> PreparedFile? {
        while true {
            let (file, isMaking) = state.withLock { state in
                (state.ready.popLast(), state.isMaking)
            }
            if let file { return file }
            guard isMaking else { return nil }
            made.wait(milliseconds: 10)
        }
    }
}
