// The memory of links in ranges, and the turn of the ranges, against simple models.
import EdgeCore
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite struct LinkMarksTests {
    private func mark(_ value: UInt64) -> LinkMark {
        LinkMark(keyHash: value, rowHash: value &* 31)
    }

    @Test(
        "Every link is in exactly one range, whatever comes and goes",
        arguments: [0, 1, 7, 8, 9, 40])
    func ranges(loaded: Int) {
        var random = SeededGenerator(seed: UInt64(loaded) + 1)
        var marks = LinkMarks(rangeRows: 8)
        var model: [EntityID: LinkMark] = [:]
        for number in 0..<loaded {
            let id = EntityID(high: UInt64(number) * 10, low: 5)
            marks.append(id, mark(UInt64(number)))
            model[id] = mark(UInt64(number))
        }
        #expect(marks.rangeCount == max(1, (loaded + 7) / 8))
        for step in 0..<300 {
            let id = EntityID(high: UInt64.random(in: 0..<450, using: &random), low: 5)
            let value = step % 3 == 0 ? nil : mark(random.next())
            marks[id] = value
            model[id] = value
            #expect(marks[id] == value)
            #expect(marks.count == model.count)
        }
        var seen: Set<EntityID> = []
        for range in 0..<marks.rangeCount {
            let (from, to) = marks.bounds(of: range)
            let expected = model.filter { id, _ in id >= from && to.map { id < $0 } ?? true }
            #expect(marks.ids(of: range) == Set(expected.keys))
            let sum = marks.sum(of: range)
            #expect(sum.count == Int64(expected.count))
            #expect(sum.rows == expected.values.reduce(0) { $0 ^ $1.rowHash })
            if range > 0 { #expect(marks.thresholds[range - 1] == from) }
            #expect(seen.isDisjoint(with: expected.keys))
            seen.formUnion(expected.keys)
        }
        #expect(seen == Set(model.keys))
    }

    @Test("A link that comes out of order is remembered")
    func unsorted() {
        var marks = LinkMarks(rangeRows: 8)
        for high in [UInt64(5), 3, 5] { marks.append(EntityID(high: high, low: 0), mark(high)) }
        #expect(marks.count == 2)
        #expect(marks.ids(of: 0).count == 2)
    }

    @Test(
        "A pass reads every page once, the last stretch without an end, and asks for what differs")
    func passes() {
        let second: Int64 = 1_000_000_000
        var comparison = LinkComparison(interval: 20 * second, now: 0)
        #expect(comparison.next(20 * second - 1) == .rest)
        #expect(comparison.next(20 * second) == .begin)
        let size = LinkComparison.chunkPages
        comparison.begin(20 * second, pages: 2 * size + 1, ranges: 3)
        let truth = [LinkSum(count: 2, rows: 6), LinkSum(count: 1, rows: 5), LinkSum()]
        let parts: [(Int64, Int64?, [(Int, LinkSum)])] = [
            (0, size, [(0, LinkSum(count: 1, rows: 4)), (1, LinkSum(count: 1, rows: 5))]),
            (size, 2 * size, [(0, LinkSum(count: 1, rows: 2))]),
            // A range that nobody asked for is no reason to fall over.
            (2 * size, nil, [(3, LinkSum(count: 1, rows: 9)), (-1, LinkSum())]),
        ]
        func read(_ known: [LinkSum]) {
            for (from, to, sums) in parts {
                #expect(comparison.next(21 * second) == .read(from: from, to: to))
                for (range, sum) in sums { comparison.add(sum, range: range) }
                comparison.advance { known[$0] }
            }
        }
        read(truth)
        #expect(comparison.next(22 * second) == .rest)
        #expect(comparison.next(40 * second) == .begin)
        comparison.begin(40 * second, pages: 2 * size + 1, ranges: 3)
        read([truth[0], LinkSum(count: 1, rows: 7), LinkSum(count: 1, rows: 1)])
        #expect(comparison.next(41 * second) == .verify(range: 1))
        comparison.clear()
        #expect(comparison.next(41 * second) == .verify(range: 2))
        comparison.clear()
        #expect(comparison.next(41 * second) == .rest)
        // A lost connection's sums are worth nothing.
        comparison.begin(60 * second, pages: 1, ranges: 1)
        comparison.add(LinkSum(count: 7, rows: 7), range: 0)
        comparison.abandon()
        #expect(comparison.next(61 * second) == .rest)
        comparison.begin(80 * second, pages: 0, ranges: 1)
        #expect(comparison.next(81 * second) == .read(from: 0, to: nil))
        comparison.advance { _ in LinkSum() }
        #expect(comparison.next(81 * second) == .rest)
        let slowest = LinkComparison(interval: .max, now: 0)
        #expect(slowest.next(LinkComparison.longestInterval) == .begin)
    }

    @Test("A link's trace leads back to its key, in every domain, and nobody else's does")
    func keys() throws {
        let seed = SipHashKey(first: 7, second: 9)
        var links: [LinkDefinition] = []
        for number in 0..<500 {
            let domain = number % 3 == 0 ? "" : "d\(number % 3).example"
            links.append(
                LinkDefinition(
                    id: EntityID(high: 1, low: UInt64(number)),
                    merchantID: EntityID(high: 2, low: 2),
                    influencerID: EntityID(high: 3, low: 3), domain: Array(domain.utf8),
                    slug: Array("s\(number / 2)".utf8),
                    destination: Array("https://shop.example/".utf8)))
        }
        let (table, rejected) = LinkTable.build(
            links: links, merchants: [], domains: [], seed: seed)
        #expect(rejected.isEmpty)
        for link in links {
            let trace = LinkKey.trace(
                domain: link.domain, slug: link.slug, seed: seed)
            let key = LinkKey(domain: link.domain, slug: link.slug)
            #expect(table.key(of: link.id, trace: trace) == key)
            #expect(table.key(of: EntityID(high: 9, low: 9), trace: trace) == nil)
        }
    }
}
