// Visitors first: on a busy machine clicks wait for their flush, for a while; nobody else does.
import LinuxIO
import Testing
import Tracking

@testable import EdgeServices

@Suite("Flush on a busy machine")
struct FlusherPatienceTests {
    private let ring = FakeRing()
    private let database = FakeDatabase()
    private let time = FakeTime()
    private let patience = FlusherLimits.patienceMicroseconds / 1000

    private func appendClicks(_ count: Int) {
        var maker = ClickMaker(milliseconds: time.wall / 1000)
        for _ in 0..<count { ring.append(.click, maker.make().bytes) }
    }

    private func busyLoop(_ isBusy: @escaping () -> Bool = { true }) -> FlusherLoop {
        makeLoop([ring], database, time, isBusy: isBusy)
    }

    private var rows: Int { database.contents.rows[lane(ring, .clicks)]?.count ?? 0 }

    @Test(
        "A full batch waits while the machine is busy, until its first click is three seconds old")
    func waits() {
        let loop = busyLoop()
        appendClicks(25)
        time.advance(milliseconds: patience - 1)
        for _ in 0..<4 { #expect(!loop.round(atOnce: false)) }
        #expect(rows == 0)
        #expect(loop.status.pendingClicks == 25)
        time.advance(milliseconds: 1)
        for _ in 0..<4 { _ = loop.round(atOnce: false) }
        #expect(rows == 25)
    }

    @Test("It goes at once when the machine has time, and when somebody waits for a flush")
    func goesOn() {
        var isBusy = true
        let loop = busyLoop { isBusy }
        appendClicks(10)
        _ = loop.round(atOnce: false)
        #expect(rows == 0)
        isBusy = false
        _ = loop.round(atOnce: false)
        #expect(rows == 10)
        isBusy = true
        appendClicks(10)
        _ = loop.round(atOnce: false)
        #expect(rows == 10)
        _ = loop.round(atOnce: true)
        #expect(rows == 20)
    }

    @Test("Conversions wait for nothing but their delay")
    func conversions() {
        let loop = busyLoop()
        for _ in 0..<10 { ring.append(.conversion, [1]) }
        _ = loop.round(atOnce: false)
        #expect(database.contents.rows[lane(ring, .conversions)]?.count == 10)
    }

    @Test("A click whose time lies ahead, after a clock step, does not wait")
    func futureClick() {
        let loop = busyLoop()
        appendClicks(10)
        time.wall -= 3_600_000_000
        _ = loop.round(atOnce: false)
        #expect(rows == 10)
    }

    @Test("What follows a commit that the server's disk has yet to see does not wait")
    func owedSync() {
        let loop = busyLoop()
        appendClicks(15)
        time.advance(milliseconds: patience)
        appendClicks(20)
        for _ in 0..<8 { _ = loop.round(atOnce: false) }
        // The old ones went as full batches whose commits do not wait; the last had to.
        #expect(database.synced.rows[lane(ring, .clicks)]?.count ?? 0 >= 15)
    }

    @Test("The hot leaf is summarised after some batches, in a backlog after many more")
    func summaries() {
        let loop = makeLoop([ring], database, time)
        _ = loop.round(atOnce: false)
        for batch in 1...FlusherLimits.fullBatchesPerSummary {
            appendClicks(10)
            _ = loop.round(atOnce: true)
            loop.summarise(hasBacklog: true)
            #expect(database.summaries.count == batch / FlusherLimits.fullBatchesPerSummary)
        }
        for batch in 1...FlusherLimits.batchesPerSummary {
            appendClicks(1)
            _ = loop.round(atOnce: true)
            if batch < FlusherLimits.batchesPerSummary {
                loop.summarise(hasBacklog: true)
                #expect(database.summaries.count == 1)
            }
        }
        loop.summarise(hasBacklog: false)
        #expect(database.summaries.count == 2)
        appendClicks(1)
        _ = loop.round(atOnce: true)
        loop.summarise(hasBacklog: false)
        #expect(database.summaries.count == 2)
        time.advance(milliseconds: FlusherLimits.summaryMicroseconds / 1000)
        loop.summarise(hasBacklog: false)
        #expect(database.summaries.count == 3, "the last ones do not wait for more")
        loop.summarise(hasBacklog: false)
        #expect(database.summaries.count == 3)
    }

    @Test("Idle time is what the kernel's first line says between two looks")
    func idle() throws {
        let path = "/dev/shm/clickd-stat-\(CurrentProcess.id)"
        defer { try? FileSystem.remove(path) }
        func write(_ text: String) throws {
            try Array(text.utf8).withUnsafeBytes { try FileSystem.replace(path, with: $0) }
        }
        var load = ProcessorLoad(file: path)
        load.look(now: 0)
        #expect(load.idleThousandths == 1000, "nothing to read yet")
        try write("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 1 1 1\n")
        load.look(now: 200_000)
        #expect(load.idleThousandths == 1000, "one look tells nothing")
        try write("cpu  170 0 110 710 110 0 0 0 9 9\n")
        load.look(now: 399_999)
        #expect(load.idleThousandths == 1000, "too soon")
        load.look(now: 400_000)
        #expect(load.idleThousandths == 200)
        for broken in ["", "cpu 1 2 3", "cpu a b c d e f g h\n", "intr 1 2 3 4 5 6 7 8 9\n"] {
            try write(broken)
            load.look(now: 400_000 + Int64.random(in: 200_000...300_000))
            load = ProcessorLoad(file: path)
            load.look(now: 0)
            #expect(load.idleThousandths == 1000, "\(broken)")
        }
    }
}
