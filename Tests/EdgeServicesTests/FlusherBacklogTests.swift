// The flusher in a backlog: reading ahead, commits that share one wait for the disk, and what a fault
// leaves of both.
import Testing
import Tracking

@testable import EdgeServices

@Suite("Flusher in a backlog")
struct FlusherBacklogTests {
    @Test("While the server is busy the next batch is read, and never more than that")
    func readsAhead() throws {
        let ring = FakeRing()
        let database = FakeDatabase()
        let loop = makeLoop([ring], database, FakeTime(), batchRows: 10)
        _ = loop.round(atOnce: false)
        for _ in 0..<95 { ring.append(.click, [1]) }
        let clicks = try #require(loop.lanes.first { $0.id.stream == .clicks })
        var waiting: [Int] = []
        database.onCommit = { _ in waiting.append(clicks.records.count) }
        for _ in 0..<9 { #expect(loop.round(atOnce: false)) }
        #expect(waiting == [21, 21, 21, 21, 21, 21, 21, 21, 15])
        #expect(database.contents.rows[clicks.id] == Array(1...90))
        #expect(!loop.round(atOnce: true))
        #expect(database.contents.rows[clicks.id] == Array(1...95))
        #expect(clicks.records.isEmpty)
    }

    @Test("In a backlog one commit in some waits for the disk, and only it is called flushed")
    func groupsCommits() throws {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time, batchRows: 10)
        _ = loop.round(atOnce: false)
        time.advance(milliseconds: 3000)
        for _ in 0..<204 { ring.append(.click, [1]) }
        let clicks = lane(ring, .clicks)
        var moves: [CursorMove] = []
        database.onCommit = { moves.append($0) }
        var flushed: [UInt64] = []
        for _ in 0..<21 {
            _ = loop.round(atOnce: false)
            flushed.append(ring.flushed[.clicks] ?? 0)
            #expect(loop.status.clicksFlushed == flushed.last)
            #expect(loop.isFlushed(through: loop.heads) == (flushed.last == 204))
        }
        let every = FlusherLimits.batchesPerSync
        #expect(
            moves.prefix(21).map { $0.isDurable } == (1...21).map { $0 % every == 0 || $0 > 20 })
        #expect(moves.allSatisfy { $0.isDurable || $0.watermark == nil })
        #expect(flushed == (1...21).map { $0 > 20 ? 204 : UInt64($0 / every * every * 10) })
        #expect(database.contents.rows[clicks] == Array(1...204))
    }

    @Test("A server that dies in a backlog takes rows and cursor back; both come again in order")
    func crashInBacklog() throws {
        for crashAt in 1...12 {
            let ring = FakeRing()
            let database = FakeDatabase()
            let time = FakeTime()
            let loop = makeLoop([ring], database, time, batchRows: 10)
            _ = loop.round(atOnce: false)
            for _ in 0..<150 { ring.append(.click, [1]) }
            for _ in 0..<crashAt { _ = loop.round(atOnce: false) }
            database.crash()
            for _ in 0..<40 {
                _ = loop.round(atOnce: true)
                time.advance(milliseconds: 500)
            }
            #expect(database.contents.rows[lane(ring, .clicks)] == Array(1...150))
            #expect(loop.status.clicksFlushed == 150)
            #expect(loop.isFlushed(through: loop.heads))
        }
    }

    @Test("A batch that fails keeps what was read behind it, in order")
    func failureWithNextBatchRead() {
        let faults: [FakeDatabase.Fault] = [
            .away, .serialization, .tooSlow, .lostBeforeCommit, .lostAfterCommit, .crash,
        ]
        for fault in faults {
            for place in 0..<4 {
                let ring = FakeRing()
                let database = FakeDatabase()
                let time = FakeTime()
                let loop = makeLoop([ring], database, time, batchRows: 10)
                _ = loop.round(atOnce: false)
                for _ in 0..<38 { ring.append(.click, [1]) }
                database.poisoned = [17]
                database.faults = Array(repeating: .none, count: place) + [fault]
                for _ in 0..<40 {
                    _ = loop.round(atOnce: true)
                    time.advance(milliseconds: 500)
                }
                let rows = database.contents.rows[lane(ring, .clicks)]
                #expect(rows == Array(1...16) + Array(18...38), "\(fault) at \(place)")
                #expect(database.contents.quarantined[lane(ring, .clicks)] == [17])
            }
        }
    }

    @Test("A loss met while reading ahead is recorded before the cursor passes over it")
    func lossWhileReadingAhead() {
        let ring = FakeRing()
        let database = FakeDatabase()
        let time = FakeTime()
        let loop = makeLoop([ring], database, time, batchRows: 10)
        _ = loop.round(atOnce: false)
        for _ in 0..<12 { ring.append(.click, [1]) }
        ring.missing = [11, 12]
        database.onCommit = { move in
            let known = database.contents.gaps.contains { $0.lane.stream == .clicks }
            #expect(move.new <= 11 || known)
        }
        database.faults = [.serialization]
        for _ in 0..<5 { _ = loop.round(atOnce: true) }
        #expect(loop.isFlushed(through: loop.heads))
        #expect(database.contents.gaps.filter { $0.lane.stream == .clicks }.count == 2)
    }
}
