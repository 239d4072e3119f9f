// A disk that fails or is full.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("A disk that lies")
struct DiskErrorTests {
    @Test(
        "The first error is latched; the tail goes to a new file from the ring",
        arguments: [FaultyDisk.Fault.failSync, .failWrite])
    func latched(_ fault: FaultyDisk.Fault) throws {
        let directories = TestDirectories()
        let store = try directories.open()
        let ring = store.rings[0]
        var appender = store.appender(worker: 0)
        appender.appendNumbered(10)
        store.turnSpooler()
        #expect(ring.durableSequence == 10)
        directories.disk.fault = fault
        appender.appendNumbered(10)
        appender.requestSync()
        store.turnSpooler()
        #expect(store.durabilityLost)
        let isLost = appender.durabilityLost
        #expect(isLost)
        #expect(ring.durableSequence == 10 && ring.spooledSequence == 10)
        #expect(ring.ringUsedBytes == 10 * 256)
        let suspect = ring.segments[0]
        directories.disk.fault = .none
        store.turnSpooler()
        #expect(store.durabilityLost, "a later success proves nothing")
        #expect(ring.durableSequence == 20)
        #expect(ring.segments.count == 2 && ring.segments[0] === suspect)
        #expect(suspect.lastSequence == 10)
        #expect(readAll(ring).records.map(\.sequence) == Array(1...20))
        store.abandon()
        let again = try directories.open()
        defer { again.abandon() }
        let (records, gaps) = readAll(again.rings[0])
        #expect(records.map(\.sequence) == Array(1...20) && gaps.isEmpty)
    }

    @Test("A full disk fills the ring, is no lost durability, and ends when there is room")
    func full() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        directories.disk.fault = .full
        appender.appendNumbered(100)
        store.turnSpooler()
        #expect(!store.durabilityLost)
        #expect(store.rings[0].durableSequence == 0)
        #expect(store.rings[0].ringUsedBytes == 25_600)
        directories.disk.fault = .none
        directories.clock.advance(2_000_000)
        store.turnSpooler()
        #expect(store.rings[0].durableSequence == 100)
    }

    @Test("On a full disk flushed segments yield before their time, and nothing is dropped")
    func fullOfFlushed() throws {
        let directories = TestDirectories()
        let store = try directories.open(ringBytes: 262_144, segmentBytes: 139_264)
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        let ring = store.rings[0]
        for round in 0..<12 {
            if round == 3 { directories.disk.fault = .full }  // Three segments lie there, flushed.
            appender.appendNumbered(500)
            store.turnSpooler()
            #expect(ring.durableSequence == ring.headSequence, "round \(round)")
            for stream in RecordStream.allCases {
                ring.setFlushed(stream, through: ring.durableSequence)
            }
        }
        #expect(!store.durabilityLost)
        // Unflushed ones do not: then the ring fills, as ever.
        appender.appendNumbered(500)
        store.turnSpooler()
        appender.appendNumbered(500)
        store.turnSpooler()
        appender.appendNumbered(500)
        store.turnSpooler()
        #expect(ring.durableSequence < ring.headSequence && !store.durabilityLost)
        directories.disk.fault = .none
        directories.clock.advance(2_000_000)
        store.turnSpooler()
        #expect(ring.durableSequence == ring.headSequence)
    }

    @Test("What waits at a start is as old as the start at least")
    func ageAfterStart() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        var appender = first.appender(worker: 0)
        appender.appendNumbered(5)
        first.abandon()
        directories.disk.fault = .full
        let store = try directories.open()
        defer { store.abandon() }
        directories.clock.advance(7_000_000)
        let age = store.rings[0].oldestUnflushedMicroseconds(now: directories.clock.microseconds)
        #expect(age >= 7_000_000)
    }

    @Test("Nothing new is no sync")
    func idle() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        appender.appendNumbered(1)
        store.turnSpooler()
        let syncs = directories.disk.syncs
        for _ in 0..<10 { store.turnSpooler() }
        #expect(directories.disk.syncs == syncs)
    }

    @Test("The age of the oldest unflushed record grows until it is flushed")
    func age() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        let ring = store.rings[0]
        var appender = store.appender(worker: 0)
        store.turnSpooler()
        #expect(ring.oldestUnflushedMicroseconds(now: directories.clock.microseconds) == 0)
        appender.appendNumbered(1)
        directories.clock.advance(100_000)
        store.turnSpooler()
        directories.clock.advance(5_000_000)
        #expect(ring.oldestUnflushedMicroseconds(now: directories.clock.microseconds) == 5_100_000)
        ring.setFlushed(.clicks, through: 1)
        ring.setFlushed(.conversions, through: 1)
        #expect(ring.oldestUnflushedMicroseconds(now: directories.clock.microseconds) == 0)
        #expect(ring.durableMark.sequence == 1)
    }
}
