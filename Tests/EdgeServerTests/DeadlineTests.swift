// Deadlines are absolute: what a client sends or reads in drops does not put them off.
import LinuxIO
import Telemetry
import Testing

@testable import EdgeServer

@Suite(.serialized) struct DeadlineTests {
    private func deadline(_ driven: DrivenLoop) -> Int64 {
        driven.loop.slab[0].pointee.deadline
    }

    /// Sends something and waits until the loop has it.
    private func send(
        _ text: String, _ client: RawClient, _ driven: DrivenLoop
    ) throws {
        let before = driven.edge.counters.total(.bytesReceived)
        try client.send(text)
        try driven.turn { _ in driven.edge.counters.total(.bytesReceived) > before }
    }

    @Test("A new connection's first head has its time from the accept, byte by byte")
    func firstHead() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let client = try driven.admit()
        let accepted = deadline(driven)
        for byte in "GET /healthz HTTP/1.1\r\nHost: a\r\n\r" {
            try send(String(byte), client, driven)
            #expect(deadline(driven) == accepted)
        }
        let now = driven.loop.now
        #expect(accepted <= now + EdgeLimits().headerTimeoutMicroseconds)
        try send("\n", client, driven)
        #expect(try client.response().status == 200)
        let idle = driven.loop.now + EdgeLimits().idleTimeoutMicroseconds
        #expect(deadline(driven) == idle)
    }

    @Test("A later head has its time from its first byte, not from each")
    func laterHead() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let client = try driven.admit(get("/healthz") + "G")
        let begun = deadline(driven)
        for byte in "ET /healthz HTTP/1.1\r\nHost: a\r\n\r" {
            try send(String(byte), client, driven)
            #expect(deadline(driven) == begun)
        }
        try send("\nG", client, driven)
        #expect(deadline(driven) > begun)
    }

    @Test(
        "A body has its time from the end of its head, not from each byte",
        arguments: [false, true])
    func body(isChunked: Bool) throws {
        let driven = try DrivenLoop(EdgeLimits())
        let framing = isChunked ? "Transfer-Encoding: chunked" : "Content-Length: 100"
        let client = try driven.admit(
            "POST /postback HTTP/1.1\r\nHost: a\r\n\(framing)\r\n\r\n" + (isChunked ? "64\r\n" : "")
        )
        try driven.turn { $0.slab[0].pointee.phase == .body }
        let begun = deadline(driven)
        for _ in 0..<99 {
            try send("x", client, driven)
            #expect(deadline(driven) == begun)
        }
    }

    @Test("A slow head and a slow body are 408, a silent connection is closed without a word")
    func expiry() throws {
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 150_000
        let driven = try DrivenLoop(limits)
        let clients = [
            try driven.admit("GET /"),
            try driven.admit("POST /postback HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"),
            try driven.admit(),
        ]
        try driven.turn { _ in driven.edge.counters.total(.connectionsTimedOut) == 3 }
        #expect(try clients[0].response().status == 408)
        #expect(try clients[1].response().status == 408)
        #expect(try clients[2].isClosed())
    }

    @Test("A reader earns time by what it reads, a drop of it for a drop, and never beyond idle")
    func reading() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let client = try driven.admit()
        client.shrinkWindow(bytes: 256 << 10)
        for _ in 0..<200 where driven.loop.slab[0].pointee.phase != .sending {
            for _ in 0..<100 { try client.send(get("/t.js")) }
            driven.loop.turn(milliseconds: 5)
        }
        let phase = driven.loop.slab[0].pointee.phase
        try #require(phase == .sending)
        let idle = EdgeLimits().idleTimeoutMicroseconds
        let begun = deadline(driven)
        let sentBefore = driven.edge.counters.total(.bytesSent)
        var heard = 0
        for _ in 0..<2000 where driven.edge.counters.total(.bytesSent) == sentBefore {
            heard += try client.skip(65_536)
            driven.loop.turn(milliseconds: 1)
        }
        let taken = driven.edge.counters.total(.bytesSent) - sentBefore
        try #require(taken > 0 && heard > 0)
        let now = driven.loop.now
        let later = deadline(driven)
        #expect(later <= begun + Int64(taken) * 1_000_000 / Limits.readBytesPerSecond)
        #expect(later <= now + idle)
    }

    @Test(
        "A reader that reads nothing is closed when its credit is spent, and the kernel keeps none")
    func deafReader() throws {
        var limits = EdgeLimits()
        limits.idleTimeoutMicroseconds = 150_000
        let driven = try DrivenLoop(limits)
        let client = try driven.admit(get("/healthz"))
        client.shrinkWindow()
        for _ in 0..<200
        where driven.loop.slab.count > 0 && driven.loop.slab[0].pointee.phase != .sending {
            for _ in 0..<100 { try client.send(get("/t.js")) }
            driven.loop.turn(milliseconds: 1)
        }
        try driven.turn { _ in driven.edge.counters.total(.connectionsTimedOut) == 1 }
        let left = driven.loop.slab.count
        let used = driven.loop.pool.usedBytes
        #expect(left == 0 && used == 0)
    }

    @Test("Lingering ends after its bytes or its time, whatever still comes")
    func lingering() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let client = try driven.admit("BAD\r\n\r\n")
        #expect(try client.response().status == 400)
        let phase = driven.loop.slab[0].pointee.phase
        try #require(phase == .lingering)
        let begun = deadline(driven)
        let now = driven.loop.now
        #expect(begun <= now + Limits.lingerMicroseconds)
        let kibibyte = String(repeating: "x", count: 1024)
        for _ in 0..<(Limits.lingerBytes / 1024) {
            try send(kibibyte, client, driven)
            #expect(deadline(driven) == begun)
        }
        let open = driven.loop.slab.count
        #expect(open == 1)
        // One past it.
        try client.send("x")
        try driven.turn { $0.slab.count == 0 }
    }

    @Test("A turn ends so many connections at most; the next goes on at once")
    func manyAtOnce() throws {
        CurrentProcess.raiseDescriptorLimit()
        var limits = EdgeLimits()
        limits.headerTimeoutMicroseconds = 300_000
        limits.connectionsPerAddress = 10_000
        let driven = try DrivenLoop(limits)
        var clients: [RawClient] = []
        for _ in 0..<(2 * Limits.deadlinesPerTurn + 10) { clients.append(try driven.edge.client()) }
        try driven.turn { _ in driven.edge.counters.total(.connectionsAccepted) == clients.count }
        var most = 0
        for _ in 0..<1000
        where driven.edge.counters.total(.connectionsTimedOut) < clients.count {
            let before = driven.edge.counters.total(.connectionsTimedOut)
            driven.loop.turn(milliseconds: driven.loop.hasMoreDue ? 0 : 50)
            most = max(most, driven.edge.counters.total(.connectionsTimedOut) - before)
        }
        #expect(most <= Limits.deadlinesPerTurn)
        let isOver = driven.loop.slab.count == 0
        #expect(isOver)
    }
}

@Suite(.serialized) struct DescriptorTests {
    @Test("Without a descriptor left a newcomer is closed at once, and later ones are served")
    func exhausted() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let open = try driven.admitIdle()
        let clients = [try driven.edge.client(), try driven.edge.client()]
        // The next free number, and nothing above it.
        let next = try FileDescriptor.open("/dev/null", .read).rawValue
        let old = CurrentProcess.setDescriptorLimit(Int(next))
        defer { CurrentProcess.setDescriptorLimit(old) }
        #expect(throws: Errno.self) { _ = try FileDescriptor.open("/dev/null", .read) }
        try driven.turn { _ in driven.refused == 2 }
        for client in clients { #expect(try client.isClosed()) }
        let isPaused = driven.loop.listeners.isPaused
        #expect(!isPaused)
        // Nobody waits any more: a turn has nothing to do.
        driven.loop.turn(milliseconds: 0)
        #expect(driven.refused == 2)
        #expect(try driven.ask(open) == 200)
        CurrentProcess.setDescriptorLimit(old)
        _ = try driven.admitIdle()
    }

    @Test("What a failed accept means: go on, shed, or wait a second; never spin")
    func failures() {
        #expect(AcceptFailure(.wouldBlock) == .nobodyWaits)
        for error in [Errno.connectionAborted, .protocolError, .notPermitted, .interrupted] {
            #expect(AcceptFailure(error) == .oneConnection)
        }
        #expect(AcceptFailure(.tooManyDescriptors) == .noDescriptor)
        #expect(AcceptFailure(.tooManyFilesInSystem) == .noDescriptor)
        for error in [Errno.noMemory, .noBuffers, .invalidArgument] {
            #expect(AcceptFailure(error) == .noMemory)
        }
    }

    @Test("Paused listeners come back within a second or two, with who waited meanwhile")
    func pause() throws {
        let driven = try DrivenLoop(EdgeLimits())
        driven.loop.pauseListeners()
        let client = try driven.edge.client()
        try client.send(get("/healthz"))
        driven.loop.turn(milliseconds: 0)
        #expect(driven.edge.counters.total(.connectionsAccepted) == 0)
        try driven.turn { !$0.listeners.isPaused }
        try driven.turn { _ in driven.edge.counters.total(.requestsOther) == 1 }
        #expect(try client.response().status == 200)
    }

    @Test("A client that resets its connection in the middle of its answers ends nothing else")
    func reset() throws {
        let driven = try DrivenLoop(EdgeLimits())
        let open = try driven.admitIdle()
        do {
            let client = try driven.admit(get("/healthz"))
            for _ in 0..<200 { try client.send(get("/t.js")) }
            client.resetAtClose()
        }
        try driven.turn { $0.slab.count == 1 }
        #expect(try driven.ask(open) == 200)
    }
}
