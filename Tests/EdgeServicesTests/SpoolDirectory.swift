// Ring and spool in throw-away directories, with a clock of their own, for a flusher without threads.
import LinuxIO
import Synchronization
import Testing
import Tracking

@testable import EdgeServices
@testable import RingLog

/// A clock that moves only when it is told to.
final class SpoolClock: Sendable {
    private let now: Mutex<Int64>
    init(_ start: Int64 = SystemClock.wallMicroseconds()) { now = Mutex(start) }
    var microseconds: Int64 { now.withLock { $0 } }
    func advance(_ microseconds: Int64) { now.withLock { $0 += microseconds } }
}

/// Ring and spool directories that vanish with their owner.
final class SpoolDirectory {
    let root: String
    let clock: SpoolClock
    var bootID = EntityID(high: 1, low: 2)

    init(clock: SpoolClock = SpoolClock()) throws {
        self.clock = clock
        root = "/dev/shm/clickd-flush-\(SystemClock.monotonicNanoseconds())"
        try FileSystem.makeDirectories(root)
    }

    deinit { try? FileSystem.removeTree(root) }

    /// The files of ring and spool as they are, by their paths.
    func copy() throws -> [String: [UInt8]] {
        var files: [String: [UInt8]] = [:]
        for part in ["ring", "spool"] {
            for name in try FileSystem.list("\(root)/\(part)") {
                files["\(part)/\(name)"] = try FileSystem.read("\(root)/\(part)/\(name)")
            }
        }
        return files
    }

    /// Puts a copy in the place of what is there.
    func restore(_ files: [String: [UInt8]]) throws {
        for part in ["ring", "spool"] {
            try FileSystem.removeTree("\(root)/\(part)")
            try FileSystem.makeDirectories("\(root)/\(part)")
        }
        for (path, bytes) in files {
            try bytes.withUnsafeBytes { try FileSystem.replace("\(root)/\(path)", with: $0) }
        }
    }

    /// Opens the store; nothing is spooled before `turnSpooler()`.
    func open(
        workers: Int = 1, ringBytes: Int = 262_144, segmentBytes: Int = 139_264,
        segments: Int = 40, retain: Int64 = 60_000_000
    ) throws -> RingLogStore {
        try RingLogStore(
            node: 0, workers: workers,
            ring: RingOptions(directory: "\(root)/ring", bytes: ringBytes),
            spool: SpoolOptions(
                directory: "\(root)/spool", segmentBytes: segmentBytes,
                quotaBytes: segments * segmentBytes, syncMicroseconds: 100_000,
                retainMicroseconds: retain),
            files: KernelFiles(), clock: { [clock] in clock.microseconds },
            host: HostIdentity(bootID: bootID, machine: "test-machine"))
    }
}

/// A ring of real files that is fed clicks and spooled step by step.
final class SpoolFeed {
    let spool: SpoolDirectory
    let store: RingLogStore
    let ring: SpoolRing
    private var appender: RingAppender
    private var maker = ClickMaker()

    init() throws {
        spool = try SpoolDirectory()
        store = try spool.open()
        ring = SpoolRing(store.rings[0])
        appender = store.appender(worker: 0)
    }

    /// Appends clicks and makes them durable.
    func append(_ count: Int) throws {
        for index in 0..<count {
            let isTaken = appender.append(.click, maker.make().bytes) != nil
            try #require(isTaken)
            if index % 50 == 49 { store.turnSpooler() }
        }
        store.turnSpooler()
    }
}

extension RingAppender {
    /// Appends one record; its sequence, nil when there is no room.
    mutating func append(_ kind: RecordKind, _ bytes: [UInt8]) -> UInt64? {
        guard
            let room = reserve(bytes: bytes.count, priority: kind == .click ? .click : .conversion)
        else { return nil }
        room.copyBytes(from: bytes)
        return commit(bytes: bytes.count, kind: kind.rawValue).sequence
    }
}
