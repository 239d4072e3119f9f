// How much one call of the kernel moves, and what becomes of the memory that the tailer reads into.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Chunks of the spool")
struct ChunkTests {
    private static let count = 40_000

    @Test("No read or write is longer than one call may take, neither of segments in the making")
    func callBytes() throws {
        let directories = TestDirectories()
        let store = try filled(directories)
        defer { store.abandon() }
        var reading = store.rings[0].makeTailer(from: 1)
        while reading.next() != nil {}
        #expect(directories.disk.longestCall == RingLogLimits.callBytes)
    }

    @Test("A batch's payloads stay what they are while later ones are read")
    func batch() throws {
        let store = try filled(TestDirectories())
        defer { store.abandon() }
        var reading = store.rings[0].makeTailer(from: 1)
        var batch: [SpoolRecord] = []
        for round in 0..<10 {
            batch += read(ChunkTests.count / 10, &reading)
            // The first half again, as after a failed attempt, then it goes.
            let same = batch.allSatisfy { $0.payload.elementsEqual(payload($0.sequence, 240)) }
            #expect(same, "round \(round)")
            let half = batch.count / 2
            reading.releaseBatch(through: batch[half - 1].sequence)
            batch.removeFirst(half)
        }
        let isAtEnd = reading.next() == nil
        #expect(isAtEnd)
    }

    @Test("Whole chunks are kept for the next reads, a named number and not one more")
    func shelf() throws {
        let store = try filled(TestDirectories())
        defer { store.abandon() }
        var reading = store.rings[0].makeTailer(from: 1)
        while reading.next() != nil {}
        let none = reading.shelf.count
        #expect(none == 0)
        reading.releaseBatch()
        // 40,000 records of 256 bytes are 78 chunks.
        let kept = reading.shelf.count
        #expect(kept == RingLogLimits.sparedChunks)
        reading.seek(to: 1)
        _ = read(4096, &reading)
        let left = reading.shelf.count
        #expect(left < kept)
        reading.releaseBatch()
        // The one that is being read is not given back yet.
        let again = reading.shelf.count
        #expect(again == kept - 1)
        // Whoever has caught up and holds nothing keeps nothing.
        while reading.next() != nil {}
        reading.releaseBatch()
        let held = reading.shelf.count
        _ = reading.next() == nil
        let caughtUp = reading.shelf.count
        #expect(held > 0 && caughtUp == 0)
    }

    @Test("Few records take no whole chunk, and leave none behind")
    func few() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        appender.appendNumbered(10)
        store.turnSpooler()
        var reading = store.rings[0].makeTailer(from: 1)
        _ = read(10, &reading)
        reading.releaseBatch()
        reading.seek(to: 1)  // Lets go of the chunk that was being read.
        let none = reading.shelf.count
        #expect(none == 0)
    }

    /// The next records, so many.
    private func read(_ count: Int, _ tailer: inout SpoolTailer) -> [SpoolRecord] {
        var records: [SpoolRecord] = []
        while records.count < count, let record = tailer.next() { records.append(record) }
        #expect(records.count == count)
        return records
    }

    /// A store that has spooled ``count`` records.
    private func filled(_ directories: TestDirectories) throws -> RingLogStore {
        let store = try directories.open(ringBytes: 16 << 20, segmentBytes: 4 << 20, segments: 10)
        var appender = store.appender(worker: 0)
        appender.appendNumbered(ChunkTests.count)
        store.turnSpooler()
        return store
    }
}
