// Who gets in and who gives way at each limit, one past it included: real sockets, a loop that the
// test turns by hand.
import LinuxIO
import RingLog
import Telemetry
import Testing
import Tracking

@testable import EdgeServer

/// A loop of one edge, turned by the test.
final class DrivenLoop {
    let edge: EdgeFixture
    var loop: EventLoop

    init(_ limits: EdgeLimits) throws {
        edge = try EdgeFixture(limits: limits)
        var made = try edge.server.makeLoop(0)
        try made.begin()
        loop = made
    }

    deinit { edge.store.stopSpooler() }

    /// Turns until something is so.
    func turn(until isSo: (borrowing EventLoop) -> Bool) throws {
        for _ in 0..<4000 {
            if isSo(loop) { return }
            loop.turn(milliseconds: 5)
        }
        throw FixtureError(description: "it did not come to be")
    }

    /// Lets in a client, and sees what it sent.
    func admit(_ sending: String = "", from source: String? = nil) throws -> RawClient {
        let client = try edge.client(from: source)
        if !sending.isEmpty { try client.send(sending) }
        let seen = outcomes
        try turn { _ in
            edge.counters.total(.connectionsAccepted) > seen.accepted
                || edge.counters.total(.connectionsRefused) > seen.refused
        }
        // What was sent was there before the connection was.
        loop.turn(milliseconds: 0)
        return client
    }

    /// Lets in a client and has it answered; it is idle then.
    func admitIdle(from source: String? = nil) throws -> RawClient {
        let client = try admit(get("/healthz"), from: source)
        #expect(try client.response().status == 200)
        return client
    }

    /// Asks over an open connection.
    func ask(_ client: RawClient, _ request: String = get("/healthz")) throws -> Int {
        let before = edge.counters.total(.bytesSent)
        try client.send(request)
        try turn { _ in edge.counters.total(.bytesSent) > before }
        return try client.response().status
    }

    /// A conversion whose answer waits for a disk that never syncs.
    func admitParked(_ order: String, from source: String? = nil) throws -> RawClient {
        let query =
            "merchant_id=\(Known.merchant)&token=\(Known.postbackToken)&order_id=\(order)&amount=1.00"
        let before = edge.counters.total(.conversionsRecorded)
        let client = try admit(get("/postback?\(query)"), from: source)
        try turn { _ in edge.counters.total(.conversionsRecorded) > before }
        return client
    }

    /// Lets the disk have what is in the ring, and turns until nobody waits for it any more.
    func answerParked() throws {
        try edge.store.startSpooler()
        try turn { loop in
            for index in 0..<loop.slab.highWater where loop.slab[index].pointee.phase == .parked {
                return false
            }
            return true
        }
    }

    var outcomes: (accepted: Int, refused: Int) {
        (
            edge.counters.total(.connectionsAccepted), edge.counters.total(.connectionsRefused)
        )
    }
    var givenWay: Int { edge.counters.total(.connectionsGivenWay) }
    var refused: Int { edge.counters.total(.connectionsRefused) }
}

private let halfHead = "GET /healthz HTTP/1.1\r\nHo"
private let halfBody =
    "POST /postback HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab"

@Suite(.serialized) struct ConnectionLimitTests {
    private func limits(_ connections: Int) -> EdgeLimits {
        var limits = EdgeLimits()
        limits.connections = connections
        return limits
    }

    @Test("At the limit nobody gives way; one past it the oldest idle connection does")
    func oldestIdle() throws {
        let driven = try DrivenLoop(limits(2))
        let first = try driven.admitIdle()
        let second = try driven.admitIdle()
        #expect(driven.givenWay == 0)
        let third = try driven.admitIdle()
        #expect(driven.givenWay == 1 && driven.refused == 0)
        #expect(try first.isClosed())
        #expect(try driven.ask(second) == 200)
        #expect(try driven.ask(third) == 200)
        #expect(driven.edge.server.connectionCount == 2)
    }

    @Test(
        "A connection whose request is not whole gives way before any idle one",
        arguments: ["", halfHead, halfBody])
    func unfinishedFirst(sent: String) throws {
        let driven = try DrivenLoop(limits(2))
        let idle = try driven.admitIdle()
        let unfinished = try driven.admit(sent)
        let newcomer = try driven.admitIdle()
        #expect(driven.givenWay == 1 && driven.refused == 0)
        #expect(try unfinished.isClosed())
        #expect(try driven.ask(idle) == 200)
        #expect(try driven.ask(newcomer) == 200)
    }

    @Test("Of several unfinished ones the oldest gives way, wherever its request has got to")
    func oldestUnfinished() throws {
        let driven = try DrivenLoop(limits(3))
        let clients = [
            try driven.admit(halfHead), try driven.admit(halfBody), try driven.admit(halfHead),
        ]
        // More of a request does not make it younger.
        try clients[0].send("st: ")
        driven.loop.turn(milliseconds: 5)
        _ = try driven.admitIdle()
        #expect(driven.givenWay == 1)
        #expect(try clients[0].isClosed())
        try clients[2].send("st: a\r\n\r\n")
        try driven.turn { _ in driven.edge.counters.total(.requestsOther) == 2 }
        #expect(try clients[2].response().status == 200)
    }

    @Test("A connection that has had its last answer gives way before an idle one")
    func leaving() throws {
        let driven = try DrivenLoop(limits(2))
        let idle = try driven.admitIdle()
        let leaving = try driven.admit("BAD\r\n\r\n")
        #expect(try leaving.response().status == 400)
        let newcomer = try driven.admitIdle()
        #expect(driven.givenWay == 1 && driven.refused == 0)
        #expect(try driven.ask(idle) == 200)
        #expect(try driven.ask(newcomer) == 200)
    }

    @Test(
        "A parked conversion never gives way: the newcomer is refused, and the answer still comes")
    func parked() throws {
        let driven = try DrivenLoop(limits(1))
        let parked = try driven.admitParked("A1")
        let newcomer = try driven.admit(get("/healthz"))
        #expect(driven.givenWay == 0 && driven.refused == 1)
        let refusal = try newcomer.response()
        #expect(refusal.status == 503 && refusal.header("retry-after") != nil)
        #expect(try newcomer.isClosed())
        try driven.answerParked()
        #expect(try parked.response().status == 200)
    }

    @Test("Who is being sent an answer never gives way")
    func sending() throws {
        let driven = try DrivenLoop(limits(1))
        let reader = try driven.admit()
        reader.shrinkWindow()
        var asked = 0
        while driven.loop.slab[0].pointee.phase != .sending, asked < 20_000 {
            for _ in 0..<100 { try reader.send(get("/t.js")) }
            asked += 100
            driven.loop.turn(milliseconds: 5)
        }
        let phase = driven.loop.slab[0].pointee.phase
        try #require(phase == .sending)
        let newcomer = try driven.admit(get("/healthz"))
        #expect(driven.givenWay == 0 && driven.refused == 1)
        #expect(try newcomer.response().status == 503)
    }

    @Test("Events of a connection that gave way in the same turn are not taken for its successor's")
    func staleEvents() throws {
        let driven = try DrivenLoop(limits(1))
        var last = try driven.admitIdle()
        for _ in 0..<50 {
            let next = try driven.edge.client()
            // Both are ready when the loop looks: one with a request, one at the door.
            try last.send(get("/healthz"))
            try next.send(get("/healthz"))
            let served = driven.edge.counters.total(.requestsOther)
            try driven.turn { _ in driven.edge.counters.total(.requestsOther) > served }
            try driven.turn { _ in driven.loop.slab[0].pointee.phase == .idle }
            for _ in 0..<3 { driven.loop.turn(milliseconds: 0) }
            #expect(try next.response().status == 200)
            last = next
        }
        #expect(driven.givenWay == 50 && driven.refused == 0)
        #expect(driven.edge.server.connectionCount == 1)
    }
}

@Suite(.serialized) struct AddressLimitTests {
    private func limits(_ perAddress: Int) -> EdgeLimits {
        var limits = EdgeLimits()
        limits.connectionsPerAddress = perAddress
        return limits
    }

    @Test("One past its limit an address's own oldest gives way, not another's that is older")
    func ownOldest() throws {
        let driven = try DrivenLoop(limits(2))
        let other = try driven.admitIdle(from: "127.0.0.2")
        let first = try driven.admitIdle()
        let second = try driven.admitIdle()
        #expect(driven.givenWay == 0)
        let third = try driven.admitIdle()
        #expect(driven.givenWay == 1 && driven.refused == 0)
        #expect(try first.isClosed())
        for client in [other, second, third] { #expect(try driven.ask(client) == 200) }
    }

    @Test("Its slow ones give way before its idle ones, so that they keep nobody behind it out")
    func slowFirst() throws {
        let driven = try DrivenLoop(limits(2))
        let idle = try driven.admitIdle()
        let slow = try driven.admit(halfHead)
        let newcomer = try driven.admitIdle()
        #expect(try slow.isClosed())
        #expect(try driven.ask(idle) == 200)
        #expect(try driven.ask(newcomer) == 200)
    }

    @Test("When all of its connections wait for their answers, one more is refused; others are not")
    func allKept() throws {
        let driven = try DrivenLoop(limits(1))
        _ = try driven.admitIdle(from: "127.0.0.2")
        let parked = try driven.admitParked("A1")
        let newcomer = try driven.admit(get("/healthz"))
        #expect(driven.refused == 1 && driven.givenWay == 0)
        #expect(try newcomer.response().status == 503)
        _ = try driven.admitIdle(from: "127.0.0.3")
        #expect(driven.refused == 1)
        try driven.answerParked()
        #expect(try parked.response().status == 200)
    }

    @Test("Places come back with the connections: a thousand times the limit, one after the other")
    func comeBack() throws {
        let driven = try DrivenLoop(limits(1))
        for _ in 0..<1000 {
            let client = try driven.admit(get("/healthz", headers: "Connection: close\r\n"))
            #expect(try client.response().status == 200)
        }
        #expect(driven.givenWay == 0 && driven.refused == 0)
    }
}

@Suite(.serialized) struct BufferBudgetTests {
    /// A budget that so many unfinished heads fit into, and no more.
    private func limits(heads: Int) -> EdgeLimits {
        var limits = EdgeLimits()
        limits.headerBytes = 3072  // Blocks of 4 KiB.
        limits.bufferedBytes = (heads * 4096 * 8 + 6) / 7
        return limits
    }

    @Test("What fits stays; for one more buffer the oldest unfinished request gives way")
    func oldestGivesWay() throws {
        let driven = try DrivenLoop(limits(heads: 2))
        let silent = try driven.admit()
        let first = try driven.admit(halfHead)
        let second = try driven.admit(halfHead)
        #expect(driven.givenWay == 0)
        let third = try driven.admit(halfHead)
        #expect(driven.givenWay == 1 && driven.refused == 0)
        #expect(try first.isClosed())
        let used = driven.loop.pool.usedBytes
        #expect(used == 2 * 4096)
        for client in [second, third] { #expect(try driven.ask(client, "st: a\r\n\r\n") == 200) }
        // Who owns no buffer has none to give.
        #expect(try driven.ask(silent) == 200)
        let rest = driven.loop.pool.usedBytes
        #expect(rest == 0)
    }

    @Test("Requests that come whole need no buffer, be the budget spent")
    func wholeRequests() throws {
        let driven = try DrivenLoop(limits(heads: 1))
        let slow = try driven.admit(halfHead)
        let visitor = try driven.admit(get("/shoes"))
        #expect(try visitor.response().status == 302)
        #expect(driven.givenWay == 0)
        #expect(try driven.ask(slow, "st: a\r\n\r\n") == 200)
    }

    @Test("An answer that waits for the disk has a part of the budget that requests cannot take")
    func answersHaveTheirPart() throws {
        var limits = limits(heads: 8)  // An eighth is one block more.
        limits.commitWaitMicroseconds = 20_000_000
        let driven = try DrivenLoop(limits)
        var slow: [RawClient] = []
        for _ in 0..<8 { slow.append(try driven.admit(halfHead)) }
        let parked = try driven.admitParked("A1")
        #expect(driven.givenWay == 0 && driven.refused == 0)
        try driven.answerParked()
        #expect(try parked.response().status == 200)
    }

    /// A client that asks on and reads nothing until the edge keeps its answers.
    private func leaveUnread(_ driven: DrivenLoop) throws -> RawClient {
        let before = driven.loop.pool.usedBytes
        let client = try driven.admit()
        client.shrinkWindow()
        let batch = String(repeating: get("/t.js"), count: 20)
        for _ in 0..<200 where driven.loop.pool.usedBytes <= before {
            try client.send(batch)
            driven.loop.turn(milliseconds: 5)
        }
        return client
    }

    @Test("Who leaves his answers unread gives them up for others' bytes, the oldest first")
    func unreadGivesWay() throws {
        let driven = try DrivenLoop(limits(heads: 50))  // Two large blocks and some small ones.
        let oldest = try leaveUnread(driven)
        let second = try leaveUnread(driven)
        #expect(driven.givenWay == 0)
        let parked = try driven.admitParked("A1")
        var slow: [RawClient] = []
        while driven.givenWay == 0, slow.count < 60 { slow.append(try driven.admit(halfHead)) }
        #expect(driven.givenWay == 1 && driven.refused == 0)
        // A reset: what it never read is gone with it.
        #expect(throws: Errno.self) { for _ in 0..<1000 { _ = try oldest.skip(1 << 16) } }
        for client in slow { #expect(try driven.ask(client, "st: a\r\n\r\n") == 200) }
        try driven.answerParked()
        #expect(try parked.response().status == 200)
        let used = driven.loop.pool.usedBytes
        #expect(used > 0, "the second one's answers are still kept")
        withExtendedLifetime(second) {}
    }

    @Test(
        "However many leave their answers unread, a request in two parts and a conversion are served"
    )
    func unreadCrowd() throws {
        let driven = try DrivenLoop(limits(heads: 50))
        var crowd: [RawClient] = []
        while driven.givenWay == 0, crowd.count < 200 { crowd.append(try leaveUnread(driven)) }
        #expect(driven.givenWay > 0)
        let visitor = try driven.admit(halfHead)
        #expect(try driven.ask(visitor, "st: a\r\n\r\n") == 200)
        let parked = try driven.admitParked("A1")
        try driven.answerParked()
        #expect(try parked.response().status == 200)
        #expect(driven.refused == 0)
        withExtendedLifetime(crowd) {}
    }

    @Test("The kernel holds no more than a little of what a client does not read")
    func unsent() throws {
        let driven = try DrivenLoop(limits(heads: 50))
        let client = try leaveUnread(driven)
        let kernel = Socket.unacknowledgedBytes(driven.loop.slab[0].pointee.descriptor)
        // What was under way to the client's own buffer, and at most as much again as the limit.
        #expect(kernel < 4 * Limits.unsentBytes, "\(kernel) bytes")
        withExtendedLifetime(client) {}
    }

    @Test("Whatever clients send, a loop's buffers stay within its budget")
    func bounded() throws {
        var limits = EdgeLimits()
        limits.bufferedBytes = 512 << 10
        let driven = try DrivenLoop(limits)
        var random = Random(state: 99)
        var clients: [RawClient] = []
        var most = 0
        for round in 0..<300 {
            let sent = [halfHead, halfBody, "", get("/healthz")][random.below(4)]
            clients.append(try driven.admit(sent))
            if random.below(3) == 0 { clients.remove(at: random.below(clients.count)) }
            most = max(most, driven.loop.pool.usedBytes)
            let used = driven.loop.pool.usedBytes
            #expect(used <= limits.bufferedBytes, "round \(round)")
        }
        #expect(most > limits.bufferedBytes / 2 && driven.givenWay > 0)
        driven.loop.closeAll()
        let rest = driven.loop.pool.usedBytes
        #expect(rest == 0)
    }
}
