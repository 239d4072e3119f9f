// Who gives way: the order by age, against a slow model of it.
import LinuxIO
import Testing
import Tracking

@testable import EdgeServer

/// What the order is meant to be: a list, searched from its start.
private struct SlowOrder {
    struct Member {
        var index: Int
        var address: PeerAddress?
        var kind = YieldClass.kept
        var since: UInt32 = 0
        /// Raised at each move, so that of two with the same time the earlier comes first.
        var turn = 0
    }
    var members: [Int: Member] = [:]
    private var turns = 0

    mutating func place(_ index: Int, _ kind: YieldClass, since: UInt32) {
        guard let old = members[index], old.kind != kind || old.since != since && kind != .kept
        else { return }
        turns += 1
        members[index]?.kind = kind
        members[index]?.since = since
        members[index]?.turn = turns
    }

    func first(_ kind: YieldClass, besides: Int? = nil, of address: PeerAddress? = nil) -> Member? {
        members.values
            .filter { $0.kind == kind && $0.index != besides }
            .filter { address == nil || $0.address == address }
            .min { $0.turn < $1.turn }
    }

    func first(of address: PeerAddress? = nil) -> Int? {
        let classes: [YieldClass] = [.silent, .unfinished, .leaving, .greeting]
        let heads = classes.compactMap { first($0, of: address) }
        // Of equal times the earlier class.
        var best: Member?
        for head in heads where best == nil || head.since < (best?.since ?? 0) { best = head }
        return best?.index ?? first(.idle, of: address)?.index
    }
}

@Suite struct YieldOrderTests {
    private static let key = SipHashKey(first: 5, second: 6)

    private func address(_ number: Int) -> PeerAddress {
        // Some IPv6 ones share the first half with IPv4 ones and must not be taken for them.
        PeerAddress(high: UInt64(number / 2) << 32, low: 0, isIPv6: number % 2 == 1)
    }

    @Test("Random connections give way in the order of a slow model", arguments: 0..<6)
    func model(seed: UInt64) {
        var random = Random(state: seed &* 0x9E37_79B9_7F4A_7C15 | 1)
        let capacity = 24
        var order = YieldOrder(capacity: capacity, key: YieldOrderTests.key)
        var slow = SlowOrder()
        var clock: UInt32 = 0
        for step in 0..<1000 {
            if random.below(3) == 0 { clock += 1 }
            let index = random.below(capacity)
            if slow.members[index] == nil {
                order.add(index)
                let peer = random.below(8) == 0 ? nil : address(random.below(6))
                if let peer { order.join(index, peer) }
                slow.members[index] = SlowOrder.Member(index: index, address: peer)
            } else if random.below(8) == 0 {
                order.remove(index)
                slow.members[index] = nil
            } else if let kind = YieldClass.allCases.randomElement(using: &random) {
                order.place(index, kind, since: clock)
                slow.place(index, kind, since: clock)
            }
            let chosen = order.first()
            #expect(chosen == slow.first(), "seed \(seed), step \(step)")
            for number in 0..<6 {
                let peer = address(number)
                let ofPeer = order.first(of: peer)
                let count = order.count(of: peer)
                #expect(ofPeer == slow.first(of: peer), "seed \(seed), step \(step)")
                #expect(count == slow.members.values.filter { $0.address == peer }.count)
            }
            for kind in YieldClass.allCases {
                let first = order.first(kind, besides: index)
                let expected =
                    kind == .kept ? nil : slow.first(kind, besides: index)?.index
                #expect(first == expected, "seed \(seed), step \(step), \(kind)")
            }
        }
    }

    @Test(
        "Every connection of a full loop may be of another address, and all their places come back")
    func manyAddresses() {
        let capacity = 5000
        var order = YieldOrder(capacity: capacity, key: YieldOrderTests.key)
        for _ in 0..<3 {
            for index in 0..<capacity {
                order.add(index)
                order.join(index, PeerAddress(high: UInt64(index), low: 0, isIPv6: true))
                order.place(index, .idle, since: UInt32(index))
            }
            var given: [Int] = []
            while let index = order.first() {
                given.append(index)
                order.remove(index)
            }
            #expect(given == Array(0..<capacity))
        }
    }

    @Test("Whose answer is awaited or being read never gives way")
    func kept() {
        var order = YieldOrder(capacity: 2, key: YieldOrderTests.key)
        let peer = address(0)
        order.add(0)
        order.join(0, peer)
        order.place(0, .idle, since: 1)
        order.place(0, .kept, since: 1)
        let first = order.first()
        let ofPeer = order.first(of: peer)
        #expect(first == nil && ofPeer == nil)
        order.place(0, .unfinished, since: 2)
        let unfinished = order.first()
        #expect(unfinished == 0)
    }
}

/// A small generator whose every run is the same.
struct Random: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func below(_ limit: Int) -> Int { Int(next() >> 33) % limit }
}
