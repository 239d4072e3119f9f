// The limits, and what happens one past them.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Limits of ring and spool")
struct LimitTests {
    @Test("The largest record passes, one byte more is refused")
    func largestRecord() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        let most = RingAppender.maximumRecordBytes
        #expect(most == 2047 * 64 - 16)
        let over = appender.reserve(bytes: most + 1, priority: .conversion)
        #expect(over == nil)
        let negative = appender.reserve(bytes: -1, priority: .conversion)
        #expect(negative == nil)
        let content = payload(9, most)
        for expected in 1...5 as ClosedRange<UInt64> {  // Five times: wraps the ring's end.
            let sequence = appender.append(content, kind: 2, priority: .conversion)
            #expect(sequence == expected)
            store.turnSpooler()
        }
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.count == 5 && gaps.isEmpty)
        #expect(records.allSatisfy { $0.payload == content })
    }

    @Test("A full ring refuses clicks, leaves its last tenth to conversions, and drains")
    func conversionsTenth() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        var clicks = 0
        while appender.append(payload(1, 48)) != nil { clicks += 1 }
        #expect(clicks == 4096 - 409)
        var conversions = 0
        while appender.append(payload(1, 48), kind: 2, priority: .conversion) != nil {
            conversions += 1
        }
        #expect(conversions == 409)
        #expect(store.rings[0].ringUsedBytes == store.rings[0].ringBytes)
        store.turnSpooler()
        #expect(store.rings[0].ringUsedBytes == 0)
        let again = appender.append(payload(1, 48))
        #expect(again == 4097)
    }

    @Test("Many short lives do not fill the quota with segments that hold next to nothing")
    func shortLives() throws {
        let directories = TestDirectories()
        for life in 0..<30 {
            let store = try directories.open(segments: 6)
            var appender = store.appender(worker: 0)
            for _ in 0..<3 { _ = appender.append(payload(UInt64(life), 1000)) }
            store.turnSpooler()
            #expect(store.rings[0].ringUsedBytes == 0, "life \(life): the ring keeps its records")
            store.abandon()
        }
        let store = try directories.open(segments: 6)
        defer { store.abandon() }
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.map(\.sequence) == Array(1...90) && gaps.isEmpty)
        let bytes = try directories.files(directories.spool, ".segment").map {
            try FileSystem.status($0).bytes
        }
        #expect(bytes.reduce(0, +) < 6 * 139_264)
    }

    @Test(
        "At the quota the ring fills; a waiting conversion may use the last tenth; flushed yields")
    func quota() throws {
        let directories = TestDirectories()
        let store = try directories.open(segments: 4)
        defer { store.abandon() }
        let ring = store.rings[0]
        var appender = store.appender(worker: 0)
        let click = payload(1, 1000)
        for _ in 0..<10 {
            while appender.append(click) != nil {}
            store.turnSpooler()
        }
        // Three of four segments hold clicks, the ring is full to nine tenths.
        #expect(try directories.files(directories.spool, ".segment").count <= 4)
        #expect(ring.ringUsedBytes > ring.ringBytes * 8 / 10)
        let refused = appender.append(click)
        #expect(refused == nil)
        let durableBefore = ring.durableSequence
        let conversion = appender.append(payload(2, 100), kind: 2, priority: .conversion)
        try #require(conversion != nil)
        appender.requestSync()
        store.turnSpooler()
        #expect(ring.durableSequence > durableBefore)
        let held = appender.append(click)
        #expect(held == nil, "clicks wait while the last tenth is in use")
        let read = readAll(ring)
        #expect(read.gaps.isEmpty && UInt64(read.records.count) == ring.durableSequence)
        ring.setFlushed(.clicks, through: ring.durableSequence)
        ring.setFlushed(.conversions, through: ring.durableSequence)
        store.turnSpooler()
        store.turnSpooler()
        #expect(ring.durableSequence == ring.headSequence)
        let back = appender.append(click)
        #expect(back != nil)
        #expect(try directories.files(directories.spool, ".segment").count <= 4)
    }

    @Test("A tailer holds so many gaps; it goes on once they are taken, and misses none")
    func gaps() throws {
        let directories = TestDirectories()
        let limit = RingLogLimits.tailerGaps
        let store = try directories.open()
        var appender = store.appender(worker: 0)
        appender.appendNumbered(2 * limit + 3)
        store.turnSpooler()
        store.abandon()
        let segment = try #require(
            try directories.files(directories.spool, ".segment").first { $0.contains("ring-") })
        // Every second record of 256 bytes, one more than the limit, by its sequence.
        for gap in 0...limit { try directories.flip(segment, at: 4096 + 256 * (2 * gap + 1) + 8) }
        let again = try directories.open()
        defer { again.abandon() }
        for kinds in [UInt16.max, 1 << 2] {
            var tailer = again.rings[0].makeTailer(from: 1, kinds: kinds)
            var read = 0
            while tailer.next() != nil { read += 1 }
            let first = tailer.takeGaps()
            #expect(first.count == limit && first.last?.firstSequence == UInt64(2 * limit))
            while tailer.next() != nil { read += 1 }
            #expect(tailer.takeGaps().map(\.firstSequence) == [UInt64(2 * limit + 2)])
            #expect(read == (kinds == .max ? limit + 2 : 0), "every other record")
        }
    }

    @Test("Flushed segments are kept for a time, then used again, and the log goes on")
    func recycling() throws {
        let directories = TestDirectories()
        let store = try directories.open(retain: 60_000_000)
        defer { store.abandon() }
        let ring = store.rings[0]
        var appender = store.appender(worker: 0)
        for _ in 0..<6 {
            appender.appendNumbered(500)
            store.turnSpooler()
        }
        #expect(ring.segments.count >= 5)
        ring.setFlushed(.clicks, through: ring.durableSequence)
        directories.clock.advance(2_000_000)
        store.turnSpooler()
        #expect(ring.segments.count >= 5, "conversions have not been flushed")
        ring.setFlushed(.conversions, through: ring.durableSequence)
        directories.clock.advance(2_000_000)
        store.turnSpooler()
        directories.clock.advance(59_000_000)
        store.turnSpooler()
        #expect(readAll(ring).records.count == 3000, "kept for a failover")
        directories.clock.advance(2_000_000)
        store.turnSpooler()
        #expect(ring.segments.count == 1)
        let late = readAll(ring)
        #expect(late.gaps.first?.cause == .segmentMissing)
        let files = try directories.files(directories.spool, ".segment").count
        for _ in 0..<4 {
            appender.appendNumbered(500)
            store.turnSpooler()
        }
        #expect(try directories.files(directories.spool, ".segment").count <= files + 4)
        let (records, gaps) = readAll(ring, from: 3001)
        #expect(records.map(\.sequence) == Array(3001...5000) && gaps.isEmpty)
        #expect(records.allSatisfy { $0.payload == payload($0.sequence, 240) })
    }

    @Test(
        "Impossible options are refused as configuration",
        arguments: [
            (128, 1, 262_144, 4), (0, 0, 262_144, 4), (0, 33, 262_144, 64),
            (0, 1, 200_000, 4), (0, 1, 262_144, 1),
        ])
    func options(_ node: Int, _ workers: Int, _ ringBytes: Int, _ segments: Int) {
        let directories = TestDirectories()
        let error = #expect(throws: RingLogError.self) {
            try directories.open(
                node: UInt8(node), workers: workers, ringBytes: ringBytes, segments: segments)
        }
        #expect(error?.exitCode == 78)
    }

    @Test("A file system too small for the rings is refused with advice")
    func tooSmall() throws {
        let directories = TestDirectories()
        let error = #expect(throws: RingLogError.self) {
            try directories.open(workers: 32, ringBytes: 1 << 34, segments: 64)
        }
        #expect(error?.exitCode == 73)
        #expect(error?.message.contains("--shm-size") == true)
        #expect(try directories.files(directories.ring, ".new").isEmpty)
    }
}
