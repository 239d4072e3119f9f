// Publication: loops see a whole generation, and old ones go when no loop can see them.
import EdgeCore
import LinuxIO
import Synchronization
import Testing
import Tracking

@Suite("Publication of tables")
struct EdgeDirectoryTests {
    private final class Counter: Sendable {
        let released = Atomic<Int>(0)
    }

    /// Tables over a copy of a snapshot that says when it is let go.
    private func tables(_ counter: Counter) throws -> EdgeTables {
        let (table, _) = LinkTable.build(
            links: [EdgeFixture.link("https://s.example/")], merchants: [], domains: [],
            seed: EdgeFixture.seed)
        let copy = UnsafeMutableRawBufferPointer.allocate(
            byteCount: table.bytes.count, alignment: 8)
        table.withBytes { copy.copyMemory(from: $0) }
        let address = UInt(bitPattern: copy.baseAddress)
        let count = copy.count
        let owned = try #require(
            LinkTable(snapshot: UnsafeRawBufferPointer(copy)) {
                // Freed memory must not be read by a loop: make a late reader fail loudly.
                guard let base = UnsafeMutableRawPointer(bitPattern: address) else { return }
                base.initializeMemory(as: UInt8.self, repeating: 0xFF, count: count)
                base.deallocate()
                counter.released.add(1, ordering: .sequentiallyConsistent)
            })
        return EdgeTables(
            links: owned, overlay: nil, merchants: MerchantDirectory([]),
            visitorKeys: VisitorKeys(), merchantsAsOf: nil)
    }

    @Test("Nothing is seen before the first publication")
    func empty() {
        let directory = EdgeDirectory(loops: 1)
        #expect(directory.reader(loop: 0).enter() == nil)
        directory.reader(loop: 0).leave()
        #expect(directory.current == nil)
    }

    @Test("A generation lives as long as a loop is in it")
    func reclamation() throws {
        let counter = Counter()
        let directory = EdgeDirectory(loops: 2)
        directory.publish(try tables(counter))
        #expect(directory.reader(loop: 0).enter() != nil)
        directory.publish(try tables(counter))
        #expect(counter.released.load(ordering: .relaxed) == 0)
        #expect(directory.reader(loop: 1).enter() != nil)
        directory.reader(loop: 0).leave()
        #expect(directory.reclaim() == 0)
        #expect(counter.released.load(ordering: .relaxed) == 1)
        directory.publish(try tables(counter))
        #expect(directory.reclaim() == 1)
        directory.reader(loop: 1).leave()
        #expect(directory.reclaim() == 0)
        #expect(counter.released.load(ordering: .relaxed) == 2)
    }

    /// What the readers and the publisher of the race share.
    private final class Race: Sendable {
        let directory = EdgeDirectory(loops: 2)
        let isOver = Atomic<Bool>(false)
        let answers = Atomic<Int>(0)
        let failures = Atomic<Int>(0)

        /// Answers one request again and again, entering anew for each.
        func run(loop: Int) {
            let request = Array("GET /a HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
            var head = RequestHead()
            var fixture = EdgeFixture()
            var response = [UInt8](repeating: 0, count: ClickEngine.maximumResponseBytes)
            _ = request.withUnsafeBytes { RequestParser.parse($0, limit: 4096, into: &head) }
            while !isOver.load(ordering: .relaxed) {
                let answer = request.withUnsafeBytes { bytes in
                    response.withUnsafeMutableBytes { response in
                        let view = directory.reader(loop: loop).enter()
                        defer { directory.reader(loop: loop).leave() }
                        return fixture.engine.answer(
                            &head, bytes, client: fixture.client, place: ClickPlace(),
                            clock: fixture.clock, tables: view, record: nil, response: response)
                    }
                }
                answers.add(1, ordering: .relaxed)
                if answer.outcome != .redirected { failures.add(1, ordering: .relaxed) }
            }
        }
    }

    @Test("Loops that answer while tables change never see a freed one")
    func race() throws {
        let counter = Counter()
        let race = Race()
        race.directory.publish(try tables(counter))
        let first = try Thread.start(name: "loop-0") { race.run(loop: 0) }
        let second = try Thread.start(name: "loop-1") { race.run(loop: 1) }
        var generations = 0
        while generations < 300 || race.answers.load(ordering: .relaxed) < 1000 {
            race.directory.publish(try tables(counter))
            generations += 1
        }
        race.isOver.store(true, ordering: .relaxed)
        first.join()
        second.join()
        #expect(race.failures.load(ordering: .relaxed) == 0)
        #expect(race.directory.reclaim() == 0)
        #expect(counter.released.load(ordering: .sequentiallyConsistent) == generations)
    }
}
