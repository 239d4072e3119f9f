// A table served before anybody has checked it: what damage does to its answers.
import Testing
import Tracking
import Workbench

@testable import EdgeCore

@Suite("Guarded tables")
struct GuardedTableTests {
    private static let targets = ["/s0?sub1=x&y=z", "/s1", "/s2", "/s3", "/none"]
    private static let hosts = ["go.example", "other.example"]

    /// A table of several blocks with everything in it.
    private func specimen(_ links: Int = 60) -> [UInt8] {
        let definitions = (0..<links).map { number in
            EdgeFixture.link(
                "https://s\(number).example/{sub1}?x={utm_x}#f", slug: "s\(number)",
                domain: number % 2 == 0 ? "" : "go.example"
            ) {
                $0.id = EntityID(high: 9, low: UInt64(number))
                $0.influencerID = EntityID(high: 8, low: UInt64(number % 5))
                $0.forwardsQuery = true
                $0.fallbackURL = Array("https://f\(number).example/".utf8)
            }
        }
        let domains = [
            DomainDefinition(
                name: Array("go.example".utf8), defaultURL: Array("https://d.example/".utf8))
        ]
        let (table, rejected) = LinkTable.build(
            links: definitions, merchants: [], domains: domains, seed: EdgeFixture.seed)
        #expect(rejected.isEmpty)
        return table.withBytes { Array($0) }
    }

    /// Every answer of a guarded table, without what changes from click to click; nil when the bytes
    /// are not taken at all.
    private func answers(_ bytes: [UInt8]) -> [String]? {
        bytes.withUnsafeBytes { raw -> [String]? in
            guard let table = LinkTable(snapshot: raw, isGuarded: true) else { return nil }
            var edge = EdgeFixture()
            edge.tables = EdgeTables(
                links: table, overlay: nil, merchants: MerchantDirectory([]),
                visitorKeys: VisitorKeys(), merchantsAsOf: nil)
            defer { edge.tables = nil }
            var answers: [String] = []
            for host in GuardedTableTests.hosts {
                for target in GuardedTableTests.targets {
                    let reply = edge.send(target, host: host)
                    let place = reply.location?.split(separator: "click_id=").first
                    answers.append("\(reply.status) \(place ?? "")")
                }
            }
            return answers
        }
    }

    @Test("A whole table answers alike, guarded or not")
    func whole() throws {
        let bytes = specimen()
        let guarded = try #require(answers(bytes))
        #expect(guarded.first?.hasPrefix("302 https://s0.example/x?x=&y=z&") == true)
        #expect(guarded[3].hasPrefix("302 https://s3.example/"))
        #expect(guarded[4] == "302 https://d.example/")
        #expect(guarded.last == "404 ")
        bytes.withUnsafeBytes { raw in
            for number in 0..<60 {
                let slug = Array("s\(number)".utf8)
                let domain = Array((number % 2 == 0 ? "" : "go.example").utf8)
                let found = domain.withUnsafeBytes { domain in
                    slug.withUnsafeBytes { slug in
                        LinkTable(snapshot: raw, isGuarded: true)?
                            .find(domain: domain, slug: slug)?.id
                    }
                }
                #expect(found == EntityID(high: 9, low: UInt64(number)))
            }
        }
    }

    @Test("A flipped bit is never another answer: it is the right one, 503, or no table")
    func flips() throws {
        let small = try flip(specimen(8), step: 1)
        #expect(small.refused > 0)
        // Both happen: links in damaged blocks, and damage where every look-up reads.
        let large = try flip(specimen(400), step: 13)
        #expect(large.unavailable > 0 && large.refused > 0)
    }

    /// Flips a bit of each `step`th byte; how many answers were 503, and how many tables none.
    private func flip(_ bytes: [UInt8], step: Int) throws -> (unavailable: Int, refused: Int) {
        let right = try #require(answers(bytes))
        var unavailable = 0
        var refused = 0
        for index in stride(from: 0, to: bytes.count, by: step) {
            var broken = bytes
            broken[index] ^= 1 << UInt8(index % 8)
            guard let found = answers(broken) else {
                refused += 1
                continue
            }
            for (answer, wanted) in zip(found, right) where answer != wanted {
                #expect(answer == "503 ", "byte \(index)")
                unavailable += 1
            }
        }
        return (unavailable, refused)
    }

    @Test("Several flipped bytes at once are no other answer either")
    func manyFlips() throws {
        let bytes = specimen()
        let right = try #require(answers(bytes))
        var random = SeededGenerator(seed: 11)
        for _ in 0..<300 {
            var broken = bytes
            for _ in 0..<20 {
                let index = 192 + Int(random.next() % UInt64(bytes.count - 192))
                broken[index] = UInt8(truncatingIfNeeded: random.next())
            }
            guard let found = answers(broken) else { continue }
            for (answer, wanted) in zip(found, right) where answer != wanted {
                #expect(answer == "503 ")
            }
        }
    }

    @Test("A table cut anywhere is none")
    func truncated() {
        let bytes = specimen(6)
        for count in 0..<bytes.count { #expect(answers(Array(bytes[..<count])) == nil) }
    }

    @Test("A table of the version before is read, but cannot be guarded")
    func previousVersion() throws {
        var bytes = specimen()
        let sums = Int(
            bytes.withUnsafeBytes {
                $0.loadUnaligned(
                    fromByteOffset: LinkTableLayout.blockSumsOffset + 8, as: UInt64.self)
            })
        bytes.removeSubrange(sums...)
        func store(_ number: UInt64, _ offset: Int) {
            withUnsafeBytes(of: number.littleEndian) {
                bytes.replaceSubrange(offset..<offset + 8, with: $0)
            }
        }
        store(192 << 32 | 1, 8)
        store(UInt64(bytes.count), 16)
        store(0, LinkTableLayout.blockSumsOffset)
        store(0, LinkTableLayout.blockSumsOffset + 8)
        store(bytes[192...].withUnsafeBytes { TableChecksum.of($0) }, 24)
        store(bytes[..<184].withUnsafeBytes { TableChecksum.of($0) }, 184)
        #expect(answers(bytes) == nil)
        bytes.withUnsafeBytes { raw in
            let table = LinkTable(snapshot: raw)
            #expect(table?.count == 60 && table?.passesFullCheck() == true)
        }
        bytes[bytes.count - 1] ^= 1
        bytes.withUnsafeBytes { raw in
            #expect(LinkTable(snapshot: raw)?.passesFullCheck() == false)
        }
    }

    @Test("A full check that is told to end has failed")
    func obsolete() {
        specimen().withUnsafeBytes { raw in
            let table = LinkTable(snapshot: raw)
            #expect(table?.passesFullCheck(unless: { true }) == false)
            #expect(table?.passesFullCheck(unless: { false }) == true)
        }
    }
}
