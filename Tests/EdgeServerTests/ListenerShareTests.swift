// Which loop takes a new connection: the one whose socket it came to, unless that has more or stands.
import LinuxIO
import Testing
import Tracking

@testable import EdgeServer

@Suite(.serialized) struct ListenerShareTests {
    /// Two loops that turn only when they are told to.
    private final class TwoLoops {
        let edge: EdgeFixture
        var first: EventLoop
        var second: EventLoop

        init() throws {
            edge = try EdgeFixture(workers: 2, publishing: false)
            var one = try edge.server.makeLoop(0)
            var two = try edge.server.makeLoop(1)
            try one.begin()  // It waits for the other one no longer than a second.
            try two.begin()
            first = one
            second = two
        }

        /// Lets so many clients come while only the first loop is awake.
        func connect(_ count: Int) throws -> [RawClient] {
            try (0..<count).map { _ in
                let client = try edge.client()
                first.turn(milliseconds: 0)
                return client
            }
        }

        func turnBoth() {
            for _ in 0..<4 {
                first.turn(milliseconds: 0)
                second.turn(milliseconds: 0)
            }
        }

        var counts: [Int] { [first.slab.count, second.slab.count] }
    }

    @Test("The loop that is awake leaves the other's connections to it")
    func burst() throws {
        let loops = try TwoLoops()
        let clients = try loops.connect(32)
        let early = loops.counts
        #expect(early[0] > 0 && early[1] == 0)
        #expect(early[0] < 32, "the first loop took all")
        loops.turnBoth()
        let late = loops.counts
        #expect(late[0] == early[0] && late[0] + late[1] == 32)
        withExtendedLifetime(clients) {}
    }

    @Test("Of a loop that has more connections it takes as many as leave it with fewer")
    func fewer() throws {
        let loops = try TwoLoops()
        loops.edge.server.shared.pulses[1].rest(connections: 8)
        let clients = try loops.connect(64)
        let early = loops.counts
        #expect(early[0] >= 8 && early[0] < 64 && early[1] == 0)
        loops.turnBoth()
        let late = loops.counts
        #expect(late[0] + late[1] == 64)
        loops.edge.server.shared.pulses[1].rest(connections: 1000)
        let others = try loops.connect(16)
        #expect(loops.counts[0] == late[0] + 16)
        withExtendedLifetime((clients, others)) {}
    }

    @Test("Of a loop that stands still another takes everything")
    func standing() throws {
        let loops = try TwoLoops()
        let now = SystemClock.monotonicNanoseconds() / 1000
        loops.edge.server.shared.pulses[1].work(now - Limits.standstillMicroseconds)
        let clients = try loops.connect(32)
        #expect(loops.counts == [32, 0])
        withExtendedLifetime(clients) {}
    }
}
