// The flusher's rounds against rings and a database in memory, with every fault at every place.
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher rounds")
struct FlusherLoopTests {
    @Test("Each stream goes to its own cursor, and both cursors reach the head")
    func streams() {
        let ring = FakeRing()
        for index in 0..<25 { ring.append(index % 5 == 0 ? .conversion : .click, [1]) }
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        for _ in 0..<4 { _ = loop.round(atOnce: true) }
        #expect(loop.isFlushed(through: loop.heads))
        let clicks = lane(ring, .clicks)
        let conversions = lane(ring, .conversions)
        #expect(database.contents.rows[clicks]?.count == 20)
        #expect(database.contents.rows[conversions] == [1, 6, 11, 16, 21])
        #expect(database.contents.cursors[clicks]?.nextSequence == 26)
        #expect(database.contents.cursors[conversions]?.nextSequence == 26)
        #expect(ring.flushed[.clicks] == 25)
        #expect(ring.flushed[.conversions] == 25)
        #expect(loop.status.clicksFlushed == 20)
        #expect(loop.status.conversionsFlushed == 5)
        #expect(loop.status.pending == 0)
    }

    @Test("A ring that was retired does not hold back the flush of its number's next ring")
    func successor() {
        let retired = FakeRing(ringUUID: EntityID(high: 7, low: 1))
        retired.isRetired = true
        for _ in 0..<9 { retired.append(.click, [1]) }
        let ring = FakeRing(ringUUID: EntityID(high: 7, low: 2))
        for _ in 0..<2 { ring.append(.click, [1]) }
        let loop = makeLoop([ring, retired], FakeDatabase(), FakeTime())
        for _ in 0..<4 { _ = loop.round(atOnce: true) }
        #expect(loop.isFlushed(through: loop.heads))
        #expect(loop.status.pending == 0)
    }

    @Test("A small batch waits for its delay, a full one and a flush do not")
    func delay() {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        _ = loop.round(atOnce: false)
        ring.append(.click, [1])
        _ = loop.round(atOnce: false)
        #expect(database.contents.rows[lane(ring, .clicks)] == nil)
        time.advance(milliseconds: 199)
        _ = loop.round(atOnce: false)
        #expect(database.contents.rows[lane(ring, .clicks)] == nil)
        time.advance(milliseconds: 1)
        _ = loop.round(atOnce: false)
        #expect(database.contents.rows[lane(ring, .clicks)] == [1])
        for _ in 0..<10 { ring.append(.click, [1]) }
        #expect(loop.round(atOnce: false))
        #expect(database.contents.rows[lane(ring, .clicks)]?.count == 11)
        ring.append(.click, [1])
        _ = loop.round(atOnce: true)
        #expect(database.contents.rows[lane(ring, .clicks)]?.count == 12)
    }

    @Test(
        "The watermark moves within 5 s without any traffic, and never past what is not committed")
    func watermark() throws {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        ring.promise = { Timestamp(microseconds: time.wall) }
        let loop = makeLoop([ring], database, time)
        var last: Timestamp?
        for _ in 0..<5 {
            for _ in 0..<20 {
                _ = loop.round(atOnce: false)
                time.advance(milliseconds: 250)
            }
            let mark = try #require(database.contents.watermarks[lane(ring, .clicks)])
            if let last { #expect(mark > last) }
            #expect(mark.microseconds <= time.wall)
            #expect(mark.microseconds > time.wall - 5_000_000)
            last = mark
        }
        // A row that cannot be written holds the watermark.
        database.isUp = false
        ring.append(.click, [1])
        let appended = time.wall
        for _ in 0..<50 {
            _ = loop.round(atOnce: false)
            time.advance(milliseconds: 250)
        }
        let held = try #require(database.contents.watermarks[lane(ring, .clicks)])
        #expect(held.microseconds <= appended)
        #expect(!loop.status.isConnected)
        #expect(loop.status.pendingClicks == 1)
        database.isUp = true
        for _ in 0..<50 {
            _ = loop.round(atOnce: false)
            time.advance(milliseconds: 250)
        }
        #expect(database.contents.rows[lane(ring, .clicks)] == [1])
        let moved = try #require(database.contents.watermarks[lane(ring, .clicks)])
        #expect(moved.microseconds > appended)
    }

    @Test("A higher epoch fences: nothing is written any more, and the status says so")
    func fenced() {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        _ = loop.round(atOnce: true)
        for lane in loop.lanes {
            database.contents.cursors[lane.id] = CursorState(nextSequence: 1, epoch: 9)
        }
        ring.append(.click, [1])
        for _ in 0..<10 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 3000)
        }
        #expect(database.contents.rows.isEmpty)
        guard case .fenced = loop.status.claim else {
            Issue.record("the claim is \(loop.status.claim)")
            return
        }
        #expect(!loop.status.isConnected)
    }

    @Test("A node that is another's is refused, again and again, until it is ours")
    func refused() {
        let ring = FakeRing()
        ring.append(.click, [1])
        let database = FakeDatabase()
        database.claim = .refused("node id 0 belongs to another spool")
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        for _ in 0..<100 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 100)
        }
        #expect(loop.status.claim == .refused("node id 0 belongs to another spool"))
        #expect(loop.status.lastError.contains("another spool"))
        #expect(database.contents.rows.isEmpty)
        #expect(database.opens < 20)
        database.claim = .claimed
        time.advance(milliseconds: 6000)
        _ = loop.round(atOnce: true)
        _ = loop.round(atOnce: true)
        #expect(loop.status.claim == .claimed)
        #expect(database.contents.rows[lane(ring, .clicks)] == [1])
    }

    @Test("A failover takes rows and cursor back together, and they are written again")
    func failover() {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        for _ in 0..<5 { ring.append(.click, [1]) }
        for _ in 0..<2 { _ = loop.round(atOnce: true) }
        let before = database.contents
        for _ in 0..<5 { ring.append(.click, [1]) }
        _ = loop.round(atOnce: true)
        #expect(database.contents.rows[lane(ring, .clicks)]?.count == 10)
        database.contents = before
        ring.append(.click, [1])
        for _ in 0..<5 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 3000)
        }
        #expect(database.contents.rows[lane(ring, .clicks)] == Array(1...11))
        database.contents = FakeDatabase.Contents()  // The cursors' rows are gone too.
        for _ in 0..<5 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 3000)
        }
        #expect(database.contents.rows[lane(ring, .clicks)] == Array(1...11))
    }

    @Test("Losses become gaps before the cursor passes over them, and retired rings are closed")
    func gapsAndRetirement() {
        let ring = FakeRing()
        ring.isRetired = true
        for _ in 0..<6 { ring.append(.click, [1]) }
        ring.missing = [3]
        ring.recoveredLosses = [LostRecords(first: 100, last: 120, cause: "ring_missing")]
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time)
        for _ in 0..<5 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 3000)
        }
        #expect(database.contents.rows[lane(ring, .clicks)] == [1, 2, 4, 5, 6])
        let clickGaps = database.contents.gaps.filter { $0.lane.stream == .clicks }
        #expect(clickGaps.map { $0.first } == [100, 3])
        #expect(database.contents.retired.count == 2)
    }

    @Test(
        "Losses beyond the limit wait in the ring: none is dropped, and each precedes its cursor",
        arguments: [true, false])
    func manyLosses(_ isUpFirst: Bool) {
        let ring = FakeRing()
        let limit = FlusherLimits.maximumPendingGaps
        // Every second record is lost: one gap more than may be held, and as many again.
        let losses = 2 * limit + 1
        for _ in 0..<2 * losses { ring.append(.click, [1]) }
        ring.missing = Set((1...UInt64(losses)).map { 2 * $0 })
        let database = FakeDatabase()
        database.isUp = isUpFirst
        let time = FakeTime()
        let loop = makeLoop([ring], database, time, batchRows: 10_000)
        var most = 0
        database.onCommit = { move in
            let known = database.contents.gaps.filter { $0.lane == move.lane }.map { $0.first }
            let passed = ring.missing.filter { $0 < move.new }
            #expect(passed.isSubset(of: known))
        }
        for round in 0..<200 {
            _ = loop.round(atOnce: false)
            most = max(most, loop.gaps.count)
            time.advance(milliseconds: 50)
            if round == 20 { database.isUp = true }
            // Away again in the middle, and back.
            if round == 24 { database.isUp = false }
            if round == 30 { database.isUp = true }
        }
        #expect(most <= limit && most > limit / 2)
        let clicks = lane(ring, .clicks)
        let recorded = database.contents.gaps.filter { $0.lane == clicks }.map { $0.first }
        #expect(Set(recorded) == ring.missing && recorded.count == losses)
        #expect(database.contents.rows[clicks]?.count == losses)
        #expect(loop.isFlushed(through: loop.heads))
    }

    @Test("A gap is told again until its cursor has passed; one behind the end always")
    func gapBook() {
        let lane = LaneID(ring: 1, ringUUID: .zero, stream: .clicks)
        func loss(_ number: UInt64) -> LostRecords {
            LostRecords(first: number, last: number, cause: "test")
        }
        let behind = IngestGap(loss(900), in: lane)
        var book = GapBook(lasting: [behind])
        let limit = FlusherLimits.maximumPendingGaps
        let step = FlusherLimits.lossesPerGather
        same(book.due, [behind])
        for start in stride(from: 0, to: limit, by: step) {
            #expect(book.hasRoom)
            book.note((start..<start + step).map { loss(UInt64($0) + 1) }, in: lane)
            book.note([loss(UInt64(start) + 1)], in: lane)  // Read again: the same gap.
        }
        #expect(!book.hasRoom && book.count == limit)
        book.written()
        #expect(!book.isDue && !book.hasRoom)
        book.passed(lane, next: 1)
        #expect(book.count == limit)
        book.passed(LaneID(ring: 1, ringUUID: .zero, stream: .conversions), next: .max)
        #expect(book.count == limit)
        book.passed(lane, next: UInt64(step) + 1)
        #expect(book.hasRoom && book.count == limit - step)
        book.tellAgain()
        #expect(book.due.count == limit - step + 1 && book.due.first == behind)
        book.written()
        book.passed(lane, next: .max)
        book.tellAgain()
        same(book.due, [behind])
    }

    @Test("Drift in one lane leaves the others alone, and is seen")
    func drift() {
        let bad = FakeRing(ringID: 0)
        let good = FakeRing(ringID: 1)
        let database = FakeDatabase()
        for _ in 0..<30 { bad.append(.click, [1]) }
        for _ in 0..<5 { good.append(.conversion, [1]) }
        database.poisoned = Set(6...40)
        let time = FakeTime()
        let loop = makeLoop([bad, good], database, time)
        for _ in 0..<20 {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 100)
        }
        #expect(loop.status.driftingLanes == 1)
        #expect(loop.status.lastError.contains("poison"))
        #expect(
            database.contents.quarantined[lane(bad, .clicks)]?.count
                == FlusherLimits.poisonAllowance)
        #expect(database.contents.rows[lane(good, .conversions)]?.count == 5)
        database.poisoned = []  // The schema was put right.
        time.advance(milliseconds: 31_000)
        for _ in 0..<10 { _ = loop.round(atOnce: true) }
        #expect(loop.status.driftingLanes == 0)
        #expect(loop.isFlushed(through: loop.heads))
    }

    @Test("Every record arrives once, whatever fails and whenever", arguments: 0..<300)
    func exactlyOnce(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let rings = (0..<2).map { FakeRing(ringID: UInt16($0)) }
        let database = FakeDatabase()
        let time = FakeTime()
        var loop = makeLoop(
            rings, database, time, batchRows: Int.random(in: 1...12, using: &random))
        for _ in 0..<60 {
            for ring in rings {
                // Now and then a backlog of several batches.
                let most = Int.random(in: 0..<8, using: &random) == 0 ? 80 : 6
                for _ in 0..<Int.random(in: 0...most, using: &random) {
                    ring.append(
                        Int.random(in: 0..<4, using: &random) == 0 ? .conversion : .click, [1])
                }
            }
            let faults: [FakeDatabase.Fault] = [
                .none, .none, .none, .away, .serialization, .tooSlow, .lostBeforeCommit,
                .lostAfterCommit, .crash,
            ]
            if database.faults.isEmpty {
                database.faults = (0..<3).compactMap { _ in faults.randomElement(using: &random) }
            }
            database.isUp = Int.random(in: 0..<6, using: &random) > 0
            database.glances = Int.random(in: 0...3, using: &random)
            if Int.random(in: 0..<10, using: &random) == 0 { database.crash() }
            if Int.random(in: 0..<40, using: &random) == 0, let head = rings.first?.headSequence {
                database.poisoned = [head + 1]
            }
            _ = loop.round(atOnce: Int.random(in: 0..<2, using: &random) == 0)
            for lane in loop.lanes {
                let synced = database.synced.cursors[lane.id]?.nextSequence ?? 1
                // What a crash takes back is not called flushed.
                #expect(lane.durableCursor <= synced)
                #expect((lane.ring as? FakeRing)?.flushed[lane.id.stream] ?? 0 < synced)
            }
            time.advance(milliseconds: Int64.random(in: 0...900, using: &random))
            if Int.random(in: 0..<15, using: &random) == 0 {
                for ring in rings { ring.epoch += 1 }  // The process died and came back.
                database.close()
                loop = makeLoop(rings, database, time, batchRows: 5)
            }
        }
        database.isUp = true
        database.faults = []
        for _ in 0..<200 where !loop.isFlushed(through: loop.heads) {
            _ = loop.round(atOnce: true)
            time.advance(milliseconds: 6000)
        }
        for ring in rings {
            for stream in RecordStream.allCases {
                let lane = lane(ring, stream)
                let wanted = ring.entries.filter {
                    ($0.kind == RecordKind.click.rawValue) == (stream == .clicks)
                }.map { $0.sequence }
                let arrived =
                    (database.contents.rows[lane] ?? [])
                    + (database.contents.quarantined[lane] ?? [])
                #expect(arrived.sorted() == wanted, "ring \(ring.ringID), \(stream)")
                #expect(database.contents.cursors[lane]?.nextSequence == ring.headSequence + 1)
            }
        }
    }
}
