// append/…-ns: what it costs a loop to put a click of 256 bytes into its ring, 100,000 times a second, while
// the spooler makes them durable and another process saturates the disk that the spool is on. The appending
// thread has the first core, everything else the second. In between it copies as many bytes into plain
// memory, which shows what of it is the machine's own part.
internal import LinuxIO
internal import RingLog
internal import Synchronization

/// Appends at a fixed rate, each timed by itself.
struct AppendBenchmark {
    /// A directory on the disk that is measured.
    let directory: String
    let seconds: Int
    private static let recordsPerSecond = 100_000
    /// With its head of 16 bytes a record of 256.
    private static let payloadBytes = 240
    private static let ringBytes = 16 << 20
    /// Nothing is flushed here, so all of it must have room.
    private static let quotaBytes = 4 << 30

    /// The lines `append/mean-ns`, `append/p99.9-ns` and `append/p99.99-ns`.
    func run() throws -> [(String, String)] {
        let rings = "/dev/shm/clickd-append-\(CurrentProcess.id)"
        defer {
            try? FileSystem.removeTree(rings)
            try? FileSystem.removeTree("\(directory)/append")
        }
        try FileSystem.makeDirectories("\(directory)/append")
        let store = try RingLogStore(
            node: 0, workers: 1,
            ring: RingOptions(directory: rings, bytes: AppendBenchmark.ringBytes),
            spool: SpoolOptions(
                directory: "\(directory)/append/spool", segmentBytes: 16 << 20,
                quotaBytes: AppendBenchmark.quotaBytes, syncMicroseconds: 100_000,
                retainMicroseconds: 900_000_000))
        try AppendBenchmark.pinSelf(core: "1")
        try store.startSpooler()
        let hog = try DiskHog.start(directory: "\(directory)/append")
        defer { hog.stop() }
        Thread.sleep(microseconds: 2_000_000)  // Until write-back has begun.
        let disk = try DiskHog.busyMilliseconds()
        let started = SystemClock.monotonicNanoseconds()
        let samples = try appendAll(store)
        let elapsed = (SystemClock.monotonicNanoseconds() - started) / 1_000_000
        let busy = try DiskHog.busyMilliseconds() - disk
        store.stopSpooler()
        guard store.rings[0].durableSequence == UInt64(samples.count) else {
            throw StackError("the spool has \(store.rings[0].durableSequence) records")
        }
        CurrentProcess.writeOutput(
            "append: \(samples.count) records in \(elapsed) ms, a disk busy for \(busy) ms of them, "
                + "median \(samples.median) ns, max \(samples.maximum) ns, two readings of the clock \(samples.readingNanoseconds) ns\n"
                + "copy of as many bytes into plain memory, in between: \(samples.control)\n")
        return samples.lines
    }

    /// What one thread measured.
    private struct Samples: Sendable {
        var histogram = LatencyHistogram()
        /// Copies of the same bytes into plain memory, for the machine's own part.
        var copies = LatencyHistogram()
        /// What two readings of the clock with nothing between them take, the median; taken off each
        /// sample.
        var readingNanoseconds: Int64 = 0
        var refused = 0

        var count: Int { histogram.count }
        var maximum: Int64 { histogram.maximum }
        var median: Int64 { histogram.percentile(partsPerMillion: 500_000) }

        var control: String {
            "median \(copies.percentile(partsPerMillion: 500_000)) ns, "
                + "mean \(copies.sum / Int64(max(1, copies.count))) ns, "
                + "p99.9 \(copies.percentile(partsPerMillion: 999_000)) ns, "
                + "p99.99 \(copies.percentile(partsPerMillion: 999_900)) ns, max \(copies.maximum) ns"
        }

        var lines: [(String, String)] {
            [
                ("append/mean-ns", "\(histogram.sum / Int64(max(1, histogram.count)))"),
                ("append/p99.9-ns", "\(histogram.percentile(partsPerMillion: 999_000))"),
                ("append/p99.99-ns", "\(histogram.percentile(partsPerMillion: 999_900))"),
            ]
        }
    }

    private final class Result: Sendable {
        let samples = Mutex(Samples())
    }

    /// On a thread of its own, as a loop is.
    private func appendAll(_ store: RingLogStore) throws -> Samples {
        let records = seconds * AppendBenchmark.recordsPerSecond
        let result = Result()
        let thread = try Thread.start(name: "loop-append") {
            Thread.sleep(microseconds: 200_000)  // Until it has been pinned.
            var appender = store.appender(worker: 0)
            let samples = AppendBenchmark.append(records, to: &appender)
            result.samples.withLock { $0 = samples }
        }
        for id in try CPUTime.loopThreads(of: ChildProcess(id: CurrentProcess.id)) {
            try Benchmark.pin(id, isProcess: false)
        }
        thread.join()
        let samples = result.samples.withLock { $0 }
        guard samples.count == records, samples.refused == 0 else {
            throw StackError("the ring had no room for \(samples.refused) records")
        }
        return samples
    }

    private static func append(_ records: Int, to appender: inout RingAppender) -> Samples {
        var samples = Samples()
        samples.readingNanoseconds = medianReading()
        let payload = [UInt8](repeating: 0x61, count: payloadBytes)
        let interval = Int64(1_000_000_000 / recordsPerSecond)
        var control = CopyControl(ringBytes: ringBytes)
        var due = SystemClock.monotonicNanoseconds()
        for _ in 0..<records {
            due += interval
            while SystemClock.monotonicNanoseconds() < due {}
            let start = SystemClock.monotonicNanoseconds()
            if let room = appender.reserve(bytes: payloadBytes, priority: .click) {
                room.copyBytes(from: payload)
                appender.commit(bytes: payloadBytes, kind: 1)
            } else {
                samples.refused += 1
            }
            let taken = SystemClock.monotonicNanoseconds() - start
            samples.histogram.record(microseconds: taken - samples.readingNanoseconds)
            // Half an interval later, so that it stands as far from the record as the next one does.
            while SystemClock.monotonicNanoseconds() < due + interval / 2 {}
            let copied = control.copy(payload)
            samples.copies.record(microseconds: copied - samples.readingNanoseconds)
        }
        return samples
    }

    private static func medianReading() -> Int64 {
        var histogram = LatencyHistogram()
        for _ in 0..<100_000 {
            let start = SystemClock.monotonicNanoseconds()
            histogram.record(microseconds: SystemClock.monotonicNanoseconds() - start)
        }
        return histogram.percentile(partsPerMillion: 500_000)
    }

    private static func pinSelf(core: String) throws {
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", core, "\(CurrentProcess.id)"], output: "/dev/null"
        ).wait()
    }
}

/// What the machine takes for a record's bytes without a ring: a copy into memory that nobody else reads.
private struct CopyControl: ~Copyable {
    private let memory: UnsafeMutableRawBufferPointer
    private var position = 0

    init(ringBytes: Int) {
        memory = .allocate(byteCount: ringBytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 1)
    }

    deinit { memory.deallocate() }

    /// Copies a payload to the next slot; the nanoseconds that took.
    mutating func copy(_ payload: [UInt8]) -> Int64 {
        let start = SystemClock.monotonicNanoseconds()
        UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + payload.count])
            .copyBytes(from: payload)
        let taken = SystemClock.monotonicNanoseconds() - start
        position = (position + 256) % memory.count
        return taken
    }
}

/// A process that writes and syncs without end.
struct DiskHog {
    private let process: ChildProcess

    /// Starts it on the second core; it ends with its parent.
    static func start(directory: String) throws -> DiskHog {
        let write =
            "dd if=/dev/zero of=\(directory)/hog bs=4M count=64 oflag=direct conv=notrunc,fdatasync"
        return DiskHog(
            process: try ChildProcess.start(
                [
                    "setpriv", "--pdeathsig", "KILL", "taskset", "-c", "1", "sh", "-c",
                    "while \(write); do :; done",
                ], output: "/dev/null", ownSession: true))
    }

    /// Ends the shell and the dd that it has under way: a negative number is a process group's.
    func stop() {
        ChildProcess(id: -process.id).send(.kill)
        process.wait()
    }

    /// Milliseconds that the busiest disk has been at work since the boot (`/proc/diskstats`, field 13).
    static func busyMilliseconds() throws -> Int {
        let text = String(decoding: try FileSystem.read("/proc/diskstats"), as: UTF8.self)
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 12 ? Int(fields[12]) : nil
        }.max() ?? 0
    }
}
