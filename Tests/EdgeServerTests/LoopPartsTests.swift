// The parts of a loop that do no I/O: deadlines, connections, buffers, parked answers, clock.
import LinuxIO
import Synchronization
import Testing
import Tracking

@testable import EdgeServer

@Suite struct TimerWheelTests {
    @Test("A deadline comes in the first tick after it, not before")
    func expires() {
        var wheel = TimerWheel(capacity: 10, now: 0)
        wheel.schedule(3, at: 1_000_000)
        let early = wheel.next(by: 1_000_000)
        #expect(early == nil)
        let due = wheel.next(by: 1_000_000 + TimerWheel.tickMicroseconds)
        #expect(due == 3)
        let late = wheel.next(by: 9_000_000)
        #expect(late == nil)
    }

    @Test("Every distance comes due within a tick, or earlier to be looked at again")
    func distances() {
        for distance in stride(from: Int64(0), to: 40_000_000, by: 37_911) {
            let start: Int64 = 77_777_777
            var wheel = TimerWheel(capacity: 1, now: start)
            let deadline = start + distance
            wheel.schedule(0, at: deadline)
            var now = start
            var cameAt: Int64?
            while cameAt == nil, now < start + 60_000_000 {
                now += TimerWheel.tickMicroseconds
                guard wheel.next(by: now) != nil else { continue }
                if now >= deadline { cameAt = now } else { wheel.schedule(0, at: deadline) }
            }
            #expect(cameAt.map { $0 - deadline <= 2 * TimerWheel.tickMicroseconds } == true)
        }
    }

    @Test("An earlier deadline replaces a later one; a later one is left to the callback")
    func moves() {
        var wheel = TimerWheel(capacity: 10, now: 0)
        wheel.schedule(1, at: 10_000_000)
        wheel.schedule(1, at: 1_000_000)
        wheel.schedule(1, at: 5_000_000)
        let first = wheel.next(by: 1_500_000)
        let second = wheel.next(by: 20_000_000)
        #expect(first == 1)
        #expect(second == nil)
    }

    @Test("Cancelled entries do not come, their neighbours do")
    func cancels() {
        var wheel = TimerWheel(capacity: 10, now: 0)
        for index in 0..<6 { wheel.schedule(index, at: 1_000_000) }
        for index in [0, 3, 5] { wheel.cancel(index) }
        wheel.cancel(9)
        var came: Set<Int> = []
        while let index = wheel.next(by: 2_000_000) { came.insert(index) }
        #expect(came == [1, 2, 4])
    }
}

@Suite struct ConnectionSlabTests {
    @Test("An event of a closed connection is not taken for one of its successor")
    func generations() {
        var slab = ConnectionSlab(capacity: 2)
        let first = slab.take(descriptor: 7, peer: PeerAddress())
        let stale = slab.data(0)
        let before = slab.index(stale)
        slab.give(0)
        let between = slab.index(stale)
        let second = slab.take(descriptor: 7, peer: PeerAddress())
        let after = slab.index(stale)
        let fresh = slab.index(slab.data(0))
        let name = slab.data(0)
        #expect(first == 0 && second == 0)
        #expect(before == 0 && between == nil && after == nil && fresh == 0)
        #expect(name >> 32 != 0)
    }

    @Test("The slab is full at its capacity and has room again after a close")
    func capacity() {
        var slab = ConnectionSlab(capacity: 2)
        let taken = [1, 2, 3].map { slab.take(descriptor: $0, peer: PeerAddress()) }
        slab.give(0)
        let again = slab.take(descriptor: 3, peer: PeerAddress())
        let count = slab.count
        #expect(taken == [0, 1, nil])
        #expect(again == 0)
        #expect(count == 2)
    }

    @Test("A connection's struct is small: 100,000 of them are a few megabytes")
    func size() {
        #expect(MemoryLayout<Connection>.stride <= 192)
    }
}

@Suite struct BlockPoolTests {
    @Test("The budget holds for both sizes together, and given blocks count no more")
    func budget() throws {
        var pool = BlockPool(smallBytes: 100, largeBytes: 300, budgetBytes: 450)
        guard let large = pool.take(.large, of: .answer),
            let small = pool.take(.small, of: .answer)
        else {
            throw FixtureError(description: "no blocks")
        }
        let beyond = pool.take(.small, of: .answer)
        #expect(beyond == nil)
        pool.give(small, .small)
        let used = pool.usedBytes
        #expect(used == 300)
        let again = pool.take(.small, of: .answer)
        #expect(again == small)
        pool.give(small, .small)
        pool.give(large, .large)
        let rest = pool.usedBytes
        #expect(rest == 0)
    }

    @Test("Requests leave the last eighth of the budget to answers, to the byte")
    func reserve() throws {
        var pool = BlockPool(smallBytes: 100, largeBytes: 300, budgetBytes: 800)
        var taken: [UnsafeMutableRawPointer] = []
        while let block = pool.take(.small, of: .request) { taken.append(block) }
        #expect(taken.count == 7)
        guard let answer = pool.take(.small, of: .answer) else {
            throw FixtureError(description: "no block")
        }
        taken.append(answer)
        let beyond = pool.take(.small, of: .answer)
        #expect(beyond == nil)
        for block in taken { pool.give(block, .small) }
    }
}

@Suite struct ParkedQueueTests {
    @Test("Answers are released in order, up to the durable sequence, round the ring's end")
    func order() {
        var queue = ParkedQueue(capacity: 4)
        var released: [UInt64] = []
        for sequence in UInt64(1)...20 {
            queue.append(ParkedQueue.Entry(connection: sequence, sequence: sequence))
            if queue.isFull {
                let none = queue.next(durable: 0)
                #expect(none == nil)
                while let entry = queue.next(durable: sequence - 1) {
                    released.append(entry.connection)
                }
            }
        }
        let count = UInt64(queue.count)
        #expect(released == Array(1...20 - count))
        #expect(count > 0)
    }
}

@Suite struct SliceTests {
    @Test(
        "A thread that asks to be woken soon has the shortest slice, and the others keep theirs",
        .enabled(if: SliceTests.isAdjustable(), "needs Linux 6.12 and the scheduler's statistics"))
    func shortest() throws {
        let before = try #require(SliceTests.slice())
        let seen = Seen()
        try Thread.start(name: "soon") {
            Thread.wakeSoon()
            seen.slice.store(SliceTests.slice() ?? -1, ordering: .relaxed)
        }.join()
        #expect(seen.slice.load(ordering: .relaxed) == 100_000)
        #expect(SliceTests.slice() == before && before > 100_000)
    }

    private final class Seen: Sendable {
        let slice = Atomic<Int>(0)
    }

    /// Whether the kernel lets a thread choose its slice, and tells it.
    static func isAdjustable() -> Bool {
        guard let bytes = try? FileSystem.read("/proc/sys/kernel/osrelease") else { return false }
        let numbers = String(decoding: bytes, as: UTF8.self).split(separator: ".").prefix(2)
            .compactMap { Int($0) }
        return slice() != nil && numbers.count == 2
            && (numbers[0] > 6 || (numbers[0] == 6 && numbers[1] >= 12))
    }

    /// The calling thread's slice in nanoseconds, as the kernel tells it; nil when it does not.
    static func slice() -> Int? {
        guard let bytes = try? FileSystem.read("/proc/thread-self/sched"),
            let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first(where: {
                $0.hasPrefix("se.slice")
            })
        else { return nil }
        return line.split(whereSeparator: { " :".contains($0) }).last.flatMap { Int($0) }
    }
}

@Suite struct AddressCountsTests {
    @Test("An address has its limit and not one more; others are not touched by it")
    func limit() throws {
        let counts = try AddressCounts(limit: 3, key: SipHashKey(first: 1, second: 2))
        let one = PeerAddress(high: 1 << 32, low: 0, isIPv6: false)
        let other = PeerAddress(high: 2 << 32, low: 0, isIPv6: false)
        for _ in 0..<3 { #expect(counts.enter(one)) }
        #expect(!counts.enter(one))
        #expect(counts.enter(other))
        counts.leave(one)
        #expect(counts.enter(one))
        #expect(!counts.enter(one))
    }

    @Test("An IPv6 client is its /64")
    func prefix() throws {
        let counts = try AddressCounts(limit: 1, key: SipHashKey(first: 1, second: 2))
        #expect(counts.enter(PeerAddress(high: 5, low: 1, isIPv6: true)))
        #expect(!counts.enter(PeerAddress(high: 5, low: 2, isIPv6: true)))
        #expect(counts.enter(PeerAddress(high: 6, low: 2, isIPv6: true)))
    }
}

@Suite struct CarriedClockTests {
    @Test("A step of the wall clock is followed slowly, never backwards, and counted once")
    func slews() {
        var clock = CarriedClock(wall: 1_000_000_000, boot: 500)
        var boot: Int64 = 500
        var last = clock.now(boot: boot)
        for second in 1...100 {
            boot += 1_000_000
            #expect(clock.isDue(boot: boot))
            // An hour back.
            let wall = 1_000_000_000 + Int64(second) * 1_000_000 - 3_600_000_000
            clock.correct(wall: wall, boot: boot)
            let now = clock.now(boot: boot)
            #expect(now > last)
            #expect(now - last >= 1_000_000 - CarriedClock.slewPerSecond)
            last = now
        }
        #expect(clock.steps == 1)
    }

    @Test("A small difference is made good at once")
    func drift() {
        var clock = CarriedClock(wall: 0, boot: 0)
        clock.correct(wall: 1_010_000, boot: 1_000_000)
        #expect(clock.now(boot: 1_000_000) == 1_010_000)
        #expect(clock.steps == 0)
    }
}
