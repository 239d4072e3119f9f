// The everyday life of a store: append, spool, read, stop, open again.
import LinuxIO
import Synchronization
import Testing
import Tracking

@testable import RingLog

@Suite("A ring log store")
struct StoreTests {
    @Test("What is appended is read back in order once it is durable, and not before")
    func roundTrip() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        let ring = store.rings[0]
        #expect(ring.ringID == 96)
        for number in 1...500 as ClosedRange<UInt64> {
            let sequence = appender.append(payload(number, Int(number) % 300), kind: 2)
            #expect(sequence == number)
        }
        #expect(readAll(ring).records.isEmpty)
        #expect(ring.headSequence == 500 && ring.durableSequence == 0)
        store.turnSpooler()
        #expect(ring.spooledSequence == 500 && ring.durableSequence == 500)
        #expect(ring.ringUsedBytes == 0)
        let (records, gaps) = readAll(ring)
        #expect(records.count == 500 && gaps.isEmpty)
        for (index, record) in records.enumerated() {
            let number = UInt64(index + 1)
            #expect(record.sequence == number && record.kind == 2)
            #expect(record.payload == payload(number, Int(number) % 300))
        }
    }

    @Test("After a clean stop and a start the ring goes on where it was, under a higher epoch")
    func cleanRestart() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        var appender = first.appender(worker: 0)
        appender.appendNumbered(10)
        #expect(first.isClaimed == false)
        try first.markClaimed()
        first.stopSpooler()
        first.abandon()
        let second = try directories.open()
        defer { second.abandon() }
        #expect(second.isClaimed)
        #expect(second.spoolUUID == first.spoolUUID)
        #expect(second.rings.count == 1)
        #expect(second.rings[0].ringUUID == first.rings[0].ringUUID)
        #expect(second.rings[0].epoch == first.rings[0].epoch + 1)
        #expect(second.rings[0].durableSequence == 10)
        var again = second.appender(worker: 0)
        let next = again.append(payload(11, 5))
        #expect(next == 11)
        second.turnSpooler()
        let (records, gaps) = readAll(second.rings[0])
        #expect(records.map(\.sequence) == Array(1...11) && gaps.isEmpty)
    }

    @Test("A process that dies before the spooler's turn loses nothing")
    func killedProcess() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        var appender = first.appender(worker: 0)
        appender.appendNumbered(100)
        first.turnSpooler()
        appender.appendNumbered(77)
        _ = appender.reserve(bytes: 100, priority: .click)
        first.abandon()
        let second = try directories.open()
        defer { second.abandon() }
        let ring = second.rings[0]
        #expect(ring.recoveredGaps.isEmpty)
        #expect(ring.durableSequence == 177)
        let (records, gaps) = readAll(ring)
        #expect(records.map(\.sequence) == Array(1...177) && gaps.isEmpty)
        for record in records { #expect(record.payload == payload(record.sequence, 240)) }
    }

    @Test("The spooler's thread answers a request and stops with everything synced")
    func thread() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        try store.startSpooler()
        var appender = store.appender(worker: 0)
        appender.appendNumbered(3)
        appender.requestSync()
        let event = EventWait(appender.durableEventDescriptor)
        while appender.durableSequence < 3 { event.wait() }
        appender.clearDurableEvent()
        appender.appendNumbered(2)
        store.stopSpooler()
        #expect(store.rings[0].durableSequence == 5)
        store.abandon()
    }

    @Test("A sequence that is published is of a record that the published position covers")
    func publishingOrder() throws {
        let directories = TestDirectories()
        let store = try directories.open(segments: 8)
        defer { store.abandon() }
        let memory = try #require(store.rings[0].memory)
        var appender = store.appender(worker: 0)
        let bytes = payload(1, 40)  // One slot.
        let isDone = Atomic<Bool>(false)
        let uncovered = Atomic<Int>(0)
        let looks = Atomic<Int>(0)
        let reader = try Thread.start(name: "reader") {
            while !isDone.load(ordering: .acquiring) {
                let sequence = memory.headSequence.acquire()
                let slot = memory.headSlot.acquire()
                if sequence > slot { uncovered.add(1, ordering: .relaxed) }
                looks.add(1, ordering: .relaxed)
            }
        }
        // The ring's own positions are moved along, so that it never fills.
        for _ in 0..<3_000_000 where appender.append(bytes) == nil {
            memory.tailSlot.publish(memory.headSlot.load())
            _ = appender.append(bytes)
        }
        isDone.store(true, ordering: .releasing)
        reader.join()
        #expect(looks.load(ordering: .relaxed) > 1000 && uncovered.load(ordering: .relaxed) == 0)
    }
}

/// Waits for a descriptor to become readable.
struct EventWait: ~Copyable {
    private let epoll: Epoll?
    private let list = Epoll.EventList(capacity: 1)
    init(_ fd: CInt) {
        epoll = try? Epoll()
        try? epoll?.add(fd, .readable, data: 0)
    }
    func wait() { _ = epoll?.wait(list, milliseconds: 1000) }
}
