// The table against a dictionary, its overlay, and what a damaged snapshot can do: nothing.
import Testing
import Tracking
import Workbench

@testable import EdgeCore

@Suite("Link tables")
struct LinkTableTests {
    private func find(_ table: LinkTable, _ domain: String, _ slug: String) -> EntityID? {
        Array(domain.utf8).withUnsafeBytes { domain in
            Array(slug.utf8).withUnsafeBytes { table.find(domain: domain, slug: $0)?.id }
        }
    }

    private func definition(_ number: Int, domain: String, slug: String) -> LinkDefinition {
        LinkDefinition(
            id: EntityID(high: 1, low: UInt64(number)),
            merchantID: EntityID(high: 2, low: UInt64(number % 7)),
            influencerID: EntityID(high: 3, low: UInt64(number % 11)), domain: Array(domain.utf8),
            slug: Array(slug.utf8), destination: Array("https://s.example/\(number)".utf8))
    }

    @Test("A table answers like a dictionary", arguments: [0, 1, 2, 7, 8, 100, 3000])
    func model(_ count: Int) {
        var random = SeededGenerator(seed: UInt64(count) + 17)
        var model: [String: EntityID] = [:]
        var links: [LinkDefinition] = []
        var duplicates = 0
        for number in 0..<count {
            let domain = ["", "a.example", "b.example"].randomElement(using: &random) ?? ""
            let slug = "s\(Int.random(in: 0...(count * 2), using: &random))"
            let link = definition(number, domain: domain, slug: slug)
            if model["\(domain)/\(slug)"] == nil {
                model["\(domain)/\(slug)"] = link.id
            } else {
                duplicates += 1
            }
            links.append(link)
        }
        let (table, rejected) = LinkTable.build(
            links: links, merchants: [], domains: [], seed: EdgeFixture.seed)
        #expect(rejected.count == duplicates && table.count == model.count)
        #expect(table.passesFullCheck())
        for domain in ["", "a.example", "b.example", "c.example"] {
            for number in 0...(count * 2 + 1) {
                #expect(find(table, domain, "s\(number)") == model["\(domain)/s\(number)"])
            }
        }
    }

    @Test("A link's facts come back as they were given")
    func facts() throws {
        var link = definition(1, domain: "A.Example.", slug: "x")
        link.status = .paused
        link.redirectStatus = 308
        link.forwardsQuery = true
        link.startsAt = Timestamp(microseconds: -5)
        link.expiresAt = Timestamp(microseconds: 7)
        link.expiredURL = Array("https://e.example/".utf8)
        link.fallbackURL = Array("https://f.example/{slug}".utf8)
        let (table, rejected) = LinkTable.build(
            links: [link], merchants: [], domains: [], seed: EdgeFixture.seed)
        #expect(rejected.isEmpty)
        let slug: [UInt8] = [0x78]
        let view = try #require(
            Array("a.example".utf8).withUnsafeBytes { domain in
                slug.withUnsafeBytes { table.find(domain: domain, slug: $0) }
            })
        #expect(view.id == link.id && view.merchantID == link.merchantID)
        #expect(view.influencerID == link.influencerID && view.status == .paused)
        #expect(view.redirectStatus == 308 && view.forwardsQuery)
        #expect(view.startsAt == link.startsAt && view.expiresAt == link.expiresAt)
        #expect(view.destination == link.destination && view.expiredURL == link.expiredURL)
        #expect(view.fallbackURL == link.fallbackURL)
    }

    @Test("What cannot be served is rejected with its reason")
    func rejections() {
        func reason(_ change: (inout LinkDefinition) -> Void) -> String? {
            var link = definition(1, domain: "", slug: "x")
            change(&link)
            let (table, rejected) = LinkTable.build(
                links: [link], merchants: [], domains: [], seed: EdgeFixture.seed)
            #expect(table.count == 1 - rejected.count && table.passesFullCheck())
            #expect(rejected.allSatisfy { $0.0 == link.id })
            return rejected.first?.1
        }
        #expect(reason { _ in } == nil)
        #expect(reason { $0.slug = [] }?.contains("slug") == true)
        #expect(reason { $0.slug = Array("a/b".utf8) }?.contains("slug") == true)
        #expect(reason { $0.slug = [UInt8](repeating: 0x61, count: 129) }?.contains("slug") == true)
        #expect(reason { $0.slug = [UInt8](repeating: 0x61, count: 128) } == nil)
        #expect(reason { $0.slug = Array("healthz".utf8) }?.contains("reserved") == true)
        #expect(reason { $0.domain = Array("a b".utf8) }?.contains("domain") == true)
        #expect(reason { $0.redirectStatus = 303 }?.contains("redirect_status") == true)
        #expect(reason { $0.destination = [] }?.contains("destination_url") == true)
        #expect(reason { $0.fallbackURL = Array("x".utf8) }?.contains("fallback_url") == true)
        #expect(reason { $0.expiredURL = Array("x".utf8) }?.contains("expired_url") == true)
        #expect(reason { $0.expiredURL = [] } == nil)
    }

    @Test("An overlay changes, adds and hides links of the table below")
    func overlay() throws {
        var edge = EdgeFixture()
        var broken = EdgeFixture.link("nowhere", slug: "broken")
        broken.domain = Array("own.example".utf8)
        let (overlay, rejected) = LinkTable.build(
            links: [
                EdgeFixture.link("https://new.example/"), broken,
                EdgeFixture.link("https://added.example/", slug: "added"),
            ],
            merchants: [],
            domains: [DomainDefinition(name: Array("own.example".utf8), defaultURL: nil)],
            removed: [
                LinkKey(domain: [], slug: Array("gone".utf8)),
                LinkKey(domain: [], slug: Array("added".utf8)),
                LinkKey(domain: Array("own.example".utf8), slug: Array("both".utf8)),
            ], isOverlay: true, seed: SipHashKey(first: 8, second: 8))
        #expect(rejected.count == 1 && overlay.count == 2 && overlay.passesFullCheck())
        edge.load(
            [
                EdgeFixture.link("https://old.example/"),
                EdgeFixture.link("https://kept.example/", slug: "kept"),
                EdgeFixture.link("https://gone.example/", slug: "gone"),
                EdgeFixture.link("https://broken.example/", slug: "broken", domain: "own.example"),
                EdgeFixture.link("https://both-own.example/", slug: "both", domain: "own.example"),
                EdgeFixture.link("https://both-any.example/", slug: "both"),
            ], overlay: overlay)
        func host(_ target: String) -> String? {
            edge.send(target, host: "own.example").location.map {
                String($0.dropFirst(8).prefix { $0 != "/" })
            }
        }
        #expect(host("/a") == "new.example")
        #expect(host("/kept") == "kept.example")
        #expect(host("/added") == "added.example")
        #expect(host("/gone") == nil)
        #expect(host("/broken") == nil)
        #expect(host("/both") == "both-any.example")
    }

    @Test("A snapshot is the same table, wherever its bytes lie")
    func snapshot() throws {
        let (table, _) = LinkTable.build(
            links: (0..<50).map { definition($0, domain: "", slug: "s\($0)") }, merchants: [],
            domains: [], seed: EdgeFixture.seed)
        var copy = [0, 0, 0] + table.withBytes { Array($0) } + [1, 2, 3]
        copy.withUnsafeMutableBytes { bytes in
            let moved = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[3...])
            guard let read = LinkTable(snapshot: moved) else {
                Issue.record("the copy is no table")
                return
            }
            #expect(read.count == 50 && read.passesFullCheck())
            #expect(read.bytes.count == table.bytes.count)
            #expect(find(read, "", "s49") == EntityID(high: 1, low: 49))
        }
    }

    /// A table with everything in it, small enough to be broken byte by byte.
    private func specimen() -> [UInt8] {
        let links = (0..<6).map { number in
            EdgeFixture.link(
                "https://s.example/{sub1}?x={utm_x}#f", slug: "s\(number)",
                domain: number % 2 == 0 ? "" : "go.example"
            ) {
                $0.id = EntityID(high: 9, low: UInt64(number))
                $0.forwardsQuery = true
                $0.expiresAt = Timestamp(microseconds: EdgeFixture.now + (number == 5 ? -1 : 1))
                $0.expiredURL = Array("https://e.example/{slug}".utf8)
                $0.fallbackURL = Array("https://f.example/".utf8)
            }
        }
        let domains = [
            DomainDefinition(
                name: Array("go.example".utf8), defaultURL: Array("https://d.example/".utf8))
        ]
        let (table, rejected) = LinkTable.build(
            links: links, merchants: [], domains: domains, seed: EdgeFixture.seed)
        #expect(rejected.isEmpty)
        return table.withBytes { Array($0) }
    }

    /// Asks a table everything, through the engine too.
    private func exercise(_ bytes: [UInt8]) -> Bool? {
        bytes.withUnsafeBytes { raw -> Bool? in
            guard let table = LinkTable(snapshot: raw) else { return nil }
            let isSound = table.passesFullCheck()
            for number in 0..<6 {
                _ = find(table, "", "s\(number)")
                _ = find(table, "go.example", "s\(number)")
            }
            var edge = EdgeFixture()
            edge.tables = EdgeTables(
                links: table, overlay: table, merchants: MerchantDirectory([]),
                visitorKeys: VisitorKeys(), merchantsAsOf: nil)
            for target in ["/s0?sub1=x&y=z", "/s1", "/s5", "/none"] {
                let reply = edge.send(target)
                #expect([302, 301, 307, 308, 404, 410].contains(reply.status))
                let isClean = reply.text.utf8.allSatisfy {
                    $0 == 13 || $0 == 10 || $0 >= 32 && $0 < 127
                }
                #expect(isClean)
            }
            edge.tables = nil
            return isSound
        }
    }

    /// Makes a damaged header pass for a whole one, so that what lies behind it is reached.
    private func resealed(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count >= 192 else { return bytes }
        var copy = bytes
        let sum = copy[..<184].withUnsafeBytes { TableChecksum.of($0) }
        withUnsafeBytes(of: sum.littleEndian) { copy.replaceSubrange(184..<192, with: $0) }
        return copy
    }

    @Test("Flipped bytes never crash a look-up, and the full check sees each of them")
    func flips() {
        let whole = specimen()
        #expect(exercise(whole) == true)
        var random = SeededGenerator(seed: 4)
        for index in whole.indices {
            var broken = whole
            broken[index] ^= 1 << UInt8.random(in: 0...7, using: &random)
            #expect(exercise(broken) != true, "byte \(index)")
        }
        for index in 0..<184 {
            for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
                var broken = whole
                broken[index] = value
                _ = exercise(resealed(broken))
            }
        }
        for _ in 0..<500 {
            var broken = whole
            for _ in 0..<20 {
                let index = Int.random(in: 48..<whole.count, using: &random)
                broken[index] = UInt8.random(in: 0...255, using: &random)
            }
            _ = exercise(resealed(broken))
        }
    }

    @Test("A truncated snapshot is none")
    func truncated() {
        let whole = specimen()
        for count in 0..<whole.count { #expect(exercise(Array(whole[..<count])) == nil) }
        #expect(exercise([UInt8](repeating: 0, count: 4096)) == nil)
    }
}
