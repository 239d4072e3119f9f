// A full house whose idle connections are another loop's: the newcomer is served, that loop gives way.
import LinuxIO
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

@Suite(.serialized) struct GivingWayTests {
    private func limits(_ connections: Int) -> EdgeLimits {
        var limits = EdgeLimits()
        limits.connections = connections
        return limits
    }

    /// Opens connections while one loop stands still, so that they are the other one's.
    private func fill(
        _ edge: EdgeFixture, holding loop: Int, _ count: Int
    ) throws -> [RawClient] {
        edge.server.shared.hold(loop)
        defer { edge.server.shared.hold(-1) }
        for _ in 0..<5000 where edge.server.silentLoops.isEmpty {
            Thread.sleep(microseconds: 1000)
        }
        try #require(edge.server.silentLoops.map(\.loop) == [loop])
        return try (0..<count).map { _ in
            let client = try edge.client()
            #expect(try client.ask(get("/healthz")).status == 200)
            return client
        }
    }

    private func wait(until condition: () -> Bool) {
        for _ in 0..<5000 where !condition() { Thread.sleep(microseconds: 1000) }
    }

    @Test("A newcomer of a loop with nobody to give way takes the place of another loop's oldest")
    func otherLoop() throws {
        let edge = try EdgeFixture(limits: limits(4), workers: 2, publishing: false)
        try edge.run { (edge) throws in
            let idle = try fill(edge, holding: 1, 4)
            #expect(edge.server.connectionCount == 4)
            let newcomers = try fill(edge, holding: 0, 2)
            #expect(edge.counters.total(.connectionsRefused) == 0)
            wait { edge.server.connectionCount == 4 }
            #expect(edge.server.connectionCount == 4)
            #expect(edge.counters.total(.connectionsGivenWay) == 2)
            for client in idle[..<2] { #expect(try client.isClosed()) }
            for client in idle[2...] + newcomers {
                #expect(try client.ask(get("/healthz")).status == 200)
            }
        }
    }

    @Test("Where the other loop is owed more than it has, one more is refused")
    func nothingLeft() throws {
        let edge = try EdgeFixture(limits: limits(2), workers: 2, publishing: false)
        try edge.run { (edge) throws in
            _ = try fill(edge, holding: 1, 2)
            // While loop 0 stands still it gives nothing up: two may come, and be idle themselves.
            edge.server.shared.hold(0)
            defer { edge.server.shared.hold(-1) }
            wait { !edge.server.silentLoops.isEmpty }
            let first = try edge.client()
            #expect(try first.ask(get("/healthz")).status == 200)
            let second = try edge.client()
            #expect(try second.ask(get("/healthz")).status == 200)
            // From here on the newcomers' own loop has somebody to give way.
            let third = try edge.client()
            #expect(try third.ask(get("/healthz")).status == 200)
            #expect(try first.isClosed() || second.isClosed())
            #expect(edge.counters.total(.connectionsRefused) == 0)
        }
    }

    @Test("No more is lent than the limit, and nothing by a loop that has nothing")
    func bounds() throws {
        let edge = try EdgeFixture(limits: limits(1), workers: 3, publishing: false)
        let shared = edge.server.shared
        #expect(shared.enter() && !shared.enter())
        func lend(before rank: UInt64 = .max) -> Bool {
            shared.enterOverdrawn(besides: 0, before: rank)
        }
        #expect(!lend())
        #expect(shared.connectionCount == 1)
        shared.givingWay[0].offer(1000, rank: 0)
        #expect(!lend())
        // The one of the lower rank goes first, and none that is not before the loop's own.
        shared.givingWay[1].offer(1000, rank: 7)
        shared.givingWay[2].offer(3, rank: 5)
        #expect(!lend(before: 5))
        for _ in 0..<3 { #expect(lend(before: 6)) }
        #expect(!lend(before: 6))
        #expect(shared.givingWay[2].take() == 3 && shared.givingWay[2].take() == 0)
        shared.givingWay[2].offer(0, rank: .max)
        for _ in 3..<Limits.overdrawnConnections { #expect(lend()) }
        #expect(!lend())
        #expect(shared.connectionCount == 1 + Limits.overdrawnConnections)
        // Who replaces one of the newcomers overdraws nothing.
        shared.leave()
        #expect(shared.enter() && !shared.enter())
        #expect(shared.givingWay[1].take() == Limits.overdrawnConnections - 3)
        shared.settle()
        #expect(lend() && !lend())
    }

    @Test("The order knows how many may give way")
    func count() {
        var order = YieldOrder(capacity: 4, key: .init(first: 1, second: 2))
        for index in 0..<3 { order.add(index) }
        #expect(order.count == 0)
        order.place(0, .idle, since: 1)
        order.place(1, .silent, since: 1)
        order.place(1, .unfinished, since: 2)
        order.place(2, .kept, since: 0)
        #expect(order.count == 2 && order.firstRank == 2)
        order.place(0, .kept, since: 0)
        #expect(order.count == 1)
        order.place(0, .idle, since: 9)
        order.place(1, .kept, since: 0)
        #expect(order.firstRank == (1 << 32) + 9)
        for index in 0..<3 { order.remove(index) }
        #expect(order.count == 0 && order.firstRank == .max)
    }
}
