// The flusher's pure parts: attempts and bisection, watermark, uniqueness, claims of a node.
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher decisions")
struct FlusherDecisionTests {
    /// Drives a machine over rows of which some are poisoned; what was quarantined and how often
    /// the database was asked.
    private func drive(
        rows: Int, poisoned: Set<Int>, _ machine: inout FlushMachine
    ) -> (written: [Int], aside: [Int], attempts: Int, drifted: Bool) {
        var written: [Int] = []
        var aside: [Int] = []
        var attempts = 0
        var position = 0
        var action = machine.begin(records: rows)
        while true {
            switch action {
            case .attempt(let count):
                attempts += 1
                let range = position..<position + count
                if range.contains(where: poisoned.contains) {
                    action = machine.event(.poisoned)
                } else {
                    written += range
                    position += count
                    action = machine.event(.committed)
                }
            case .quarantine:
                aside.append(position)
                position += 1
                action = machine.event(.committed)
            case .drift: return (written, aside, attempts, true)
            case .done: return (written, aside, attempts, false)
            case .readCursor, .backOff:
                Issue.record("no such fault was scripted")
                return (written, aside, attempts, false)
            }
        }
    }

    @Test("One poisoned row is found in a logarithm of attempts and the rest is written in order")
    func bisects() {
        for poison in [0, 1, 499, 998, 999] {
            var machine = FlushMachine()
            let result = drive(rows: 1000, poisoned: [poison], &machine)
            #expect(result.aside == [poison])
            #expect(result.written == (0..<1000).filter { $0 != poison })
            #expect(result.attempts <= 22)
            #expect(!result.drifted)
        }
    }

    @Test("Rows are neither lost nor doubled, whichever are poisoned", arguments: 0..<50)
    func bisectsRandomly(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        let rows = Int.random(in: 1...400, using: &random)
        let wanted = Int.random(in: 0...FlusherLimits.poisonAllowance, using: &random)
        let poisoned = Set((0..<wanted).map { _ in Int.random(in: 0..<rows, using: &random) })
        var machine = FlushMachine()
        let result = drive(rows: rows, poisoned: poisoned, &machine)
        #expect(result.aside == poisoned.sorted())
        #expect((result.written + result.aside).sorted() == Array(0..<rows))
    }

    @Test("A flood of refusals is drift: the lane stops instead of emptying itself into quarantine")
    func driftStops() {
        var machine = FlushMachine()
        let result = drive(rows: 1000, poisoned: Set(0..<1000), &machine)
        #expect(result.drifted)
        #expect(result.aside.count == FlusherLimits.poisonAllowance)
        #expect(result.written.isEmpty)
    }

    @Test("One per cent of refusals is quarantined, two per cent is drift")
    func onePerCent() {
        var machine = FlushMachine()
        for _ in 0..<20 { _ = drive(rows: 1000, poisoned: [], &machine) }
        let allowed = machine.budget.left
        #expect(allowed == min(FlusherLimits.maximumPoisonAllowance, 205))
        let one = drive(rows: 1000, poisoned: Set(stride(from: 0, to: 1000, by: 100)), &machine)
        #expect(!one.drifted)
        var fresh = FlushMachine()
        let two = drive(rows: 1000, poisoned: Set(stride(from: 0, to: 1000, by: 50)), &fresh)
        #expect(two.drifted)
    }

    @Test("After a lost COMMIT only the cursor tells what happened")
    func unknownOutcome() {
        var committed = FlushMachine()
        same(committed.begin(records: 10), .attempt(count: 10))
        same(committed.event(.outcomeUnknown), .backOff)
        same(committed.resolve(next: 11, old: 1, new: 11), .committed)
        same(committed.next(), .done)

        var lost = FlushMachine()
        _ = lost.begin(records: 10)
        _ = lost.event(.outcomeUnknown)
        same(lost.resolve(next: 1, old: 1, new: 11), .again)
        same(lost.next(), .attempt(count: 10))

        var stolen = FlushMachine()
        _ = stolen.begin(records: 10)
        _ = stolen.event(.cursorMoved)
        same(stolen.resolve(next: 5, old: 1, new: 11), .moved(to: 5))
        #expect(stolen.remaining == 0)
    }

    @Test(
        "What takes too long is tried in halves; a single row that does is the database's trouble")
    func tooSlow() {
        var machine = FlushMachine()
        _ = machine.begin(records: 8)
        same(machine.event(.tooSlow), .attempt(count: 4))
        same(machine.event(.tooSlow), .attempt(count: 2))
        same(machine.event(.tooSlow), .attempt(count: 1))
        same(machine.event(.tooSlow), .backOff)
        same(machine.next(), .attempt(count: 1))
        same(machine.event(.committed), .attempt(count: 2))
    }

    @Test("Class 40 is repeated a few times, then the connection is given up")
    func serialization() {
        var machine = FlushMachine()
        _ = machine.begin(records: 3)
        for _ in 0..<FlusherLimits.maximumRetries {
            same(machine.event(.serialization), .attempt(count: 3))
        }
        same(machine.event(.serialization), .backOff)
    }

    @Test("A watermark waits for the head that was read after its clock")
    func watermark() {
        var clock = WatermarkClock()
        #expect(clock.time(through: 100) == nil)
        clock.observe(time: Timestamp(microseconds: 10_000_000), head: 7)
        #expect(clock.time(through: 6) == nil)
        clock.observe(time: Timestamp(microseconds: 20_000_000), head: 9)  // One is open: ignored.
        let reached = Timestamp(microseconds: 10_000_000)
        #expect(clock.time(through: 7) == reached)
        clock.commit(through: 7)
        #expect(clock.reached == reached)
        clock.observe(time: Timestamp(microseconds: 5_000_000), head: 7)  // The clock stepped back.
        clock.commit(through: 7)
        #expect(clock.reached == reached)
    }

    @Test("A visitor is unique once a day and link, and the same click asked again is the same")
    func uniqueVisitors() throws {
        var visitors = UniqueVisitors(
            key: SipHashKey(first: 1, second: 2), firstSlots: 4, maximumSlots: 1024)
        let link = EntityID(high: 1, low: 1)
        let other = EntityID(high: 1, low: 2)
        same(visitors.isFirst(day: 1, visitor: 9, link: link, click: 100), true)
        same(visitors.isFirst(day: 1, visitor: 9, link: link, click: 100), true)
        same(visitors.isFirst(day: 1, visitor: 9, link: link, click: 101), false)
        same(visitors.isFirst(day: 1, visitor: 9, link: other, click: 102), true)
        same(visitors.isFirst(day: 2, visitor: 9, link: link, click: 103), true)
        for visitor in 1000..<1500 {
            same(visitors.isFirst(day: 1, visitor: UInt64(visitor), link: link, click: 1), true)
        }
        same(visitors.isFirst(day: 1, visitor: 1001, link: link, click: 2), false)
    }

    @Test("A full day of visitors forgets its older half and stays within its bound")
    func uniqueVisitorsAreBounded() {
        var visitors = UniqueVisitors(
            key: SipHashKey(first: 1, second: 2), firstSlots: 4, maximumSlots: 64)
        let link = EntityID(high: 1, low: 1)
        for visitor in 1...48 {
            _ = visitors.isFirst(
                day: 1, visitor: UInt64(visitor), link: link, click: UInt64(visitor))
        }
        same(visitors.isFirst(day: 1, visitor: 1, link: link, click: 999), false)
        for visitor in 49...200 {
            _ = visitors.isFirst(
                day: 1, visitor: UInt64(visitor), link: link, click: UInt64(visitor))
        }
        same(visitors.isFirst(day: 1, visitor: 1, link: link, click: 999), true)
        same(visitors.isFirst(day: 1, visitor: 199, link: link, click: 999), false)
    }

    @Test("A node belongs to one spool, and the fleet to one key")
    func nodeClaims() {
        let mine = EntityID(high: 1, low: 1)
        let identity = NodeIdentity(node: 3, spoolUUID: mine, machine: "a", keyFingerprint: "k1")
        let row = NodeRow(
            node: 3, spoolUUID: mine, machine: "a", keyFingerprint: "old", unseenSeconds: 0)
        let friend = NodeRow(
            node: 4, spoolUUID: .zero, machine: "b", keyFingerprint: "k1", unseenSeconds: 0)
        let stranger = NodeRow(
            node: 5, spoolUUID: .zero, machine: "c", keyFingerprint: "k2", unseenSeconds: 0)
        #expect(NodeClaim.judge(identity, row: row, fleet: [friend]) == .claimed)
        guard
            case .refused(let key) = NodeClaim.judge(identity, row: row, fleet: [friend, stranger])
        else {
            Issue.record("another key was accepted")
            return
        }
        #expect(key.contains("node 5"))
        let taken = NodeRow(
            node: 3, spoolUUID: .zero, machine: "z", keyFingerprint: "k1", unseenSeconds: 0)
        guard case .refused(let spool) = NodeClaim.judge(identity, row: taken, fleet: []) else {
            Issue.record("another's node was claimed")
            return
        }
        #expect(spool.contains("node id 3") && spool.contains("machine z"))
    }

    @Test("A spool that is alive on another machine is a copy, to the second")
    func copies() {
        let mine = EntityID(high: 1, low: 1)
        let identity = NodeIdentity(node: 3, spoolUUID: mine, machine: "a", keyFingerprint: "k")
        for (machine, unseen, isFree) in [
            ("a", 0, true), ("b", 0, false), ("b", 29, false), ("b", 30, true), ("b", 31, true),
            ("b (left)", 0, true), ("a (left)", 0, true),
        ] as [(String, Int64, Bool)] {
            let row = NodeRow(
                node: 3, spoolUUID: mine, machine: machine, keyFingerprint: "k",
                unseenSeconds: unseen)
            let outcome = NodeClaim.judge(identity, row: row, fleet: [])
            #expect((outcome == .claimed) == isFree, "\(machine) \(unseen): \(outcome)")
        }
        let placed = NodeIdentity(node: 3, spoolUUID: mine, machine: "a:7", keyFingerprint: "k")
        for (machine, isFree) in [
            ("a:7", true), ("a", true), ("a:8", false), ("a:70", false), ("b:7", false),
            ("a:8 (left)", true),
        ] {
            let row = NodeRow(
                node: 3, spoolUUID: mine, machine: machine, keyFingerprint: "k", unseenSeconds: 0)
            let outcome = NodeClaim.judge(placed, row: row, fleet: [])
            #expect((outcome == .claimed) == isFree, "\(machine): \(outcome)")
        }
    }
}

/// `#expect(left == right)` for calls that change what they are called on.
func same<Value: Equatable>(
    _ left: Value, _ right: Value, _ location: SourceLocation = #_sourceLocation
) {
    #expect(left == right, sourceLocation: location)
}
