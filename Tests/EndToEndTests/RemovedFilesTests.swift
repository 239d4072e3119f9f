// Somebody deletes the files of a running daemon: it says so, promises nothing it cannot keep, and loses
// nothing while it lives.
import LinuxIO
import Testing
import Tracking
import Workbench

@Suite("Files removed under a running daemon", .serialized)
struct RemovedFilesTests {
    @Test(
        "A ring's file is warned of; a spool's is durability lost, and all is flushed all the same")
    func removed() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            try stack.awaitSnapshot()
            let key = try stack.signedPosts()
            try stack.setDatabase(away: true)
            for _ in 0..<20 { _ = try stack.click() }
            #expect(try stack.send(key("before")).status == 200)
            #expect(!(try stack.ask("/readyz").text.contains("removed")))

            try remove(stack.ringDirectory, stack)
            let ring = try ready(stack, saying: "ring")
            #expect(ring.status == 200, "\(ring.text)")
            #expect(ring.text.contains("a crash would lose what is in it"), "\(ring.text)")
            _ = try stack.click()
            #expect(try stack.send(key("ringless")).status == 200)
            #expect(!stack.log.contains("lasts as long as this process"))

            try remove("\(stack.directory)/spool", stack)
            try stack.expectDurabilityLost()
            let spool = try ready(stack, saying: "segment was removed while in use")
            #expect(spool.status == 503 && spool.text.contains("/identity was removed"))
            #expect(stack.log.contains("have it flushed"), "\(stack.tail("clickd"))")
            let refused = try stack.send(key("after"))
            #expect(refused.status == 503 && refused.header("retry-after") != nil)
            _ = try stack.click()

            try stack.setDatabase(away: false)
            try stack.flushAll()
            #expect(try stack.count("SELECT count(*) FROM clicks_logs") == 22)
            #expect(
                try stack.count("SELECT count(*) FROM sales WHERE order_id <> 'after'") == 2)
        }
    }

    private func remove(_ directory: String, _ stack: ServiceStack) throws {
        for name in try FileSystem.list(directory) {
            try FileSystem.remove("\(directory)/\(name)")
        }
    }

    /// What `/readyz` answers once it speaks of a matter.
    private func ready(_ stack: ServiceStack, saying text: String) throws -> ProbeResponse {
        for _ in 0..<100 where try !stack.ask("/readyz").text.contains(text) {
            Thread.sleep(microseconds: 50_000)
        }
        return try stack.ask("/readyz")
    }
}

extension ServiceStack {
    /// All that the edge has said.
    fileprivate var log: String {
        let bytes = (try? FileSystem.read("\(directory)/log/clickd.log")) ?? []
        return String(decoding: bytes, as: UTF8.self)
    }
}
