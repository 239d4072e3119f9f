// A store in throw-away directories, with small limits, its own clock and a disk that can lie.
import LinuxIO
import Synchronization
import Testing
import Tracking
import Workbench

@testable import RingLog

/// A clock that moves only when it is told to.
final class TestClock: Sendable {
    private let now = Mutex<Int64>(1_800_000_000_000_000)
    var microseconds: Int64 { now.withLock { $0 } }
    func advance(_ microseconds: Int64) { now.withLock { $0 += microseconds } }
}

/// Ring and spool directories that vanish with their owner.
final class TestDirectories {
    let root: String
    var ring: String { "\(root)/ring" }
    var spool: String { "\(root)/spool" }
    let clock = TestClock()
    let disk = FaultyDisk()
    var bootID = EntityID(high: 1, low: 2)
    var machine = "test-machine"
    var tellsPlaces = false
    /// What is made of a doubtful wall clock.
    var judge: RingLogStore.ClockJudge = { wall, _ in wall }

    init() {
        let name = Randomness.bytes(8).map { String($0, radix: 16) }.joined()
        root = "/dev/shm/ringlog-test-\(name)"
    }

    deinit { try? FileSystem.removeTree(root) }

    func open(
        node: UInt8 = 3, workers: Int = 1, ringBytes: Int = 262_144,
        segmentBytes: Int = 139_264, segments: Int = 40, retain: Int64 = 60_000_000
    ) throws -> RingLogStore {
        try RingLogStore(
            node: node, workers: workers, ring: RingOptions(directory: ring, bytes: ringBytes),
            spool: SpoolOptions(
                directory: spool, segmentBytes: segmentBytes,
                quotaBytes: segments * segmentBytes, syncMicroseconds: 100_000,
                retainMicroseconds: retain),
            files: disk, clock: { [clock] in clock.microseconds },
            host: HostIdentity(bootID: bootID, machine: machine, tellsPlaces: tellsPlaces),
            judge: judge)
    }

    func files(_ directory: String, _ suffix: String) throws -> [String] {
        try FileSystem.list(directory).filter { $0.hasSuffix(suffix) }.map { "\(directory)/\($0)" }
    }

    /// Writes bytes over a file's.
    func overwrite(_ path: String, at offset: Int, with bytes: [UInt8]) throws {
        let file = try FileDescriptor.open(path, .readWrite)
        try bytes.withUnsafeBufferPointer { (bytes) throws(Errno) in
            try file.writeAll(UnsafeRawBufferPointer(bytes), at: offset)
        }
    }

    /// Flips one bit of a file.
    func flip(_ path: String, at offset: Int, bit: UInt8 = 0) throws {
        let file = try FileDescriptor.open(path, .readWrite)
        let byte = UnsafeMutableRawBufferPointer.allocate(byteCount: 1, alignment: 1)
        defer { byte.deallocate() }
        _ = try file.read(into: byte, at: offset)
        byte[0] ^= 1 << bit
        try file.writeAll(UnsafeRawBufferPointer(byte), at: offset)
    }
}

/// The kernel's files, until it is told to fail.
final class FaultyDisk: SpoolFileSystem {
    enum Fault: Equatable { case none, failSync, failWrite, full }
    private let state = Mutex<(fault: Fault, syncs: Int, longest: Int)>((.none, 0, 0))
    private let kernel = KernelFiles()
    var fault: Fault {
        get { state.withLock { $0.fault } }
        set { state.withLock { $0.fault = newValue } }
    }
    /// Successful and failed syncs of data.
    var syncs: Int { state.withLock { $0.syncs } }
    /// Bytes of the longest single read or write so far.
    var longestCall: Int { state.withLock { $0.longest } }

    private final class File: SpoolFile {
        let file: any SpoolFile
        let disk: FaultyDisk
        init(_ file: any SpoolFile, _ disk: FaultyDisk) {
            self.file = file
            self.disk = disk
        }
        func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(Errno) -> Int {
            disk.state.withLock { $0.longest = max($0.longest, bytes.count) }
            return try file.read(into: bytes, at: offset)
        }
        func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Errno) {
            disk.state.withLock { $0.longest = max($0.longest, bytes.count) }
            if disk.fault == .failWrite { throw .inputOutput }
            try file.write(bytes, at: offset)
        }
        func syncData() throws(Errno) {
            disk.state.withLock { $0.syncs += 1 }
            if disk.fault == .failSync { throw .inputOutput }
            try file.syncData()
        }
        func sync() throws(Errno) { try file.sync() }
        func allocate(_ bytes: Int) throws(Errno) {
            if disk.fault == .full { throw .noSpace }
            try file.allocate(bytes)
        }
        func truncate(to bytes: Int) throws(Errno) { try file.truncate(to: bytes) }
        func status() throws(Errno) -> FileStatus { try file.status() }
    }

    func open(_ path: String, create: Bool) throws(Errno) -> any SpoolFile {
        File(try kernel.open(path, create: create), self)
    }
    func list(_ path: String) throws(Errno) -> [String] { try kernel.list(path) }
    func rename(_ old: String, to new: String) throws(Errno) { try kernel.rename(old, to: new) }
    func remove(_ path: String) throws(Errno) { try kernel.remove(path) }
    func syncDirectory(_ path: String) throws(Errno) { try kernel.syncDirectory(path) }
}

/// A payload that tells its own sequence and length.
func payload(_ number: UInt64, _ bytes: Int) -> [UInt8] {
    var generator = SeededGenerator(seed: number)
    var result: [UInt8] = []
    while result.count < bytes {
        withUnsafeBytes(of: generator.next()) { result.append(contentsOf: $0) }
    }
    return Array(result.prefix(bytes))
}

extension RingAppender {
    /// Reserves, fills and commits; nil when there is no room.
    mutating func append(
        _ bytes: [UInt8], kind: UInt8 = 1, priority: AppendPriority = .click
    ) -> UInt64? {
        guard let room = reserve(bytes: bytes.count, priority: priority) else { return nil }
        room.copyBytes(from: bytes)
        return commit(bytes: bytes.count, kind: kind).sequence
    }

    /// Appends records whose payloads ``payload(_:_:)`` makes of their sequences.
    mutating func appendNumbered(_ count: Int, bytes: Int = 240) {
        for _ in 0..<count where append(payload(lastSequence + 1, bytes)) == nil {
            Issue.record("the ring is full at \(lastSequence)")
            return
        }
    }
}

/// Everything that a tailer gives from a sequence on.
func readAll(_ ring: RingHandle, from first: UInt64 = 1) -> (
    records: [(sequence: UInt64, kind: UInt8, payload: [UInt8])], gaps: [RingGap]
) {
    var tailer = ring.makeTailer(from: first)
    var records: [(UInt64, UInt8, [UInt8])] = []
    while let record = tailer.next() {
        records.append((record.sequence, record.kind, Array(record.payload)))
    }
    return (records, tailer.takeGaps())
}
