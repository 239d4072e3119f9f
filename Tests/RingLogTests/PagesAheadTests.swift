// What of a ring the process has in its page table, as /proc/self/pagemap tells it.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Pages ahead of a loop")
struct PagesAheadTests {
    private static let pageBytes = 4096
    private static let slotsPerPage = UInt64(pageBytes / RingLogLimits.slotBytes)
    private static let aheadPages = RingLogLimits.pagesAheadBytes / pageBytes

    @Test("An idle loop's ring is not charged to the process, wherever its head stands")
    func idle() throws {
        let directories = TestDirectories()
        for head in [UInt64(0), 123 * PagesAheadTests.slotsPerPage] {
            let memory = try ring(directories, pages: 2048, head: head)
            var pages = PagesAhead(memory)
            for _ in 0..<10 { pages.follow() }
            #expect(try presentPages(memory) == [])
        }
    }

    @Test("From the first record on, four megabytes before the head are there, and no more")
    func ahead() throws {
        let memory = try ring(TestDirectories(), pages: 2048, head: 0)
        var pages = PagesAhead(memory)
        memory.headSlot.store(4)
        pages.follow()
        // Four slots into page 0, so four slots into the last.
        #expect(try presentPages(memory) == Array(0...PagesAheadTests.aheadPages))
        memory.headSlot.store(4 + 100 * PagesAheadTests.slotsPerPage)
        pages.follow()
        #expect(try presentPages(memory) == Array(0...PagesAheadTests.aheadPages + 100))
    }

    @Test("A head beyond the pages, as of a loop that outran the spooler, is caught up with")
    func outrun() throws {
        let memory = try ring(TestDirectories(), pages: 4096, head: 0)
        var pages = PagesAhead(memory)
        let first = 2000 * PagesAheadTests.slotsPerPage
        memory.headSlot.store(first)
        pages.follow()
        #expect(try presentPages(memory) == Array(2000..<2000 + PagesAheadTests.aheadPages))
    }

    @Test("The lap goes over the body's end to where it began, and ends there")
    func lap() throws {
        let start = 1500 * PagesAheadTests.slotsPerPage
        let memory = try ring(TestDirectories(), pages: 2048, head: start)
        var pages = PagesAhead(memory)
        memory.headSlot.store(start + 1)
        pages.follow()
        #expect(
            try presentPages(memory)
                == Array(0...(1500 + PagesAheadTests.aheadPages - 2048)) + Array(1500..<2048))
        for page in stride(from: 500, through: 2000, by: 500) {
            memory.headSlot.store(start + UInt64(page) * PagesAheadTests.slotsPerPage)
            pages.follow()
        }
        #expect(try presentPages(memory) == Array(0..<2048))
        // Far past the lap: nothing more to do, and nothing that could go wrong.
        memory.headSlot.store(start + 7 * memory.slotCount + 5)
        pages.follow()
        #expect(try presentPages(memory) == Array(0..<2048))
    }

    @Test("A ring smaller than the distance is made ready once, whole")
    func small() throws {
        let memory = try ring(TestDirectories(), pages: 64, head: 0)
        var pages = PagesAhead(memory)
        memory.headSlot.store(1)
        pages.follow()
        #expect(try presentPages(memory) == Array(0..<64))
    }

    @Test("The spooler's turn makes the pages ahead")
    func bySpooler() throws {
        let directories = TestDirectories()
        let store = try directories.open(ringBytes: 8 << 20)
        defer { store.abandon() }
        let memory = store.spooler.drains[0].memory
        var appender = store.appender(worker: 0)
        appender.appendNumbered(1)
        store.turnSpooler()
        let present = try presentPages(memory)
        #expect(present.count >= PagesAheadTests.aheadPages, "\(present.count)")
    }

    /// A new ring, mapped afresh, so that what made it has left no page behind.
    private func ring(
        _ directories: TestDirectories, pages: Int, head: UInt64
    ) throws -> RingMemory {
        try FileSystem.makeDirectories(directories.ring)
        let path = "\(directories.ring)/pages-\(pages)-\(head).ring"
        let id = EntityID(high: 3, low: 4)
        let header = RingHeader(
            ringUUID: id, nonce: id, spoolUUID: id, bootID: id,
            bodyBytes: pages * PagesAheadTests.pageBytes, createdMicroseconds: 1, ringID: 7, node: 3
        )
        let memory = try RingMemory.create(path, header: header)
        memory.headSlot.store(head)
        return memory
    }

    /// The pages of the body, counted from 0, that the process's page table holds (proc(5), bit 63 of an
    /// entry of pagemap).
    private func presentPages(_ memory: RingMemory) throws -> [Int] {
        let map = try FileDescriptor.open("/proc/self/pagemap", .read)
        let count = Int(memory.slotCount / PagesAheadTests.slotsPerPage)
        let first = Int(bitPattern: memory.body) / PagesAheadTests.pageBytes
        var entries = [UInt64](repeating: 0, count: count)
        let read = try entries.withUnsafeMutableBytes { try map.read(into: $0, at: first * 8) }
        #expect(read == count * 8)
        return (0..<count).filter { entries[$0] >> 63 == 1 }
    }
}
