// A steady request costs no allocation: counted by wrappers around malloc and its kin.
import CMallocCounter
import LinuxIO
import Testing

@testable import EdgeServer

@Suite(.serialized) struct AllocationTests {
    @Test("The counter sees what this thread allocates")
    func counter() {
        let before = malloc_calls()
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 1000, alignment: 64)
        memory.deallocate()
        #expect(malloc_calls() > before)
    }

    @Test("A keep-alive redirect allocates nothing, nor do pipelined ones")
    func steadyRequest() throws {
        let edge = try EdgeFixture()
        var loop = try edge.server.makeLoop(0)
        try loop.begin()
        let client = try edge.client()
        let request = get(
            "/shoes?sub1=a%20b&utm_source=news",
            headers:
                "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Language: fr-FR,fr;q=0.9\r\n"
                + "Referer: https://www.instagram.com/p/1\r\nAccept: */*\r\n")
        let pipelined = request + request + request
        var calls: UInt64 = 0
        for round in 0..<300 {
            let isPipelined = round % 2 == 1
            try client.send(isPipelined ? pipelined : request)
            let before = malloc_calls()
            loop.turn(milliseconds: 1000)
            // The first rounds accept, fill caches of the runtime and format the date.
            if round >= 100 { calls += malloc_calls() - before }
            for _ in 0..<(isPipelined ? 3 : 1) {
                #expect(try client.response().status == 302)
            }
        }
        #expect(calls == 0)
        loop.closeAll()
    }
}
