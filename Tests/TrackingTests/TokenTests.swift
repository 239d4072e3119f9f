// Click IDs, their minting and their tokens: the published vectors, the refusals.
import Testing
import Tracking

private let key = SipHashKey(first: 0x0706_0504_0302_0100, second: 0x0f0e_0d0c_0b0a_0908)

private func bytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    Array(text.utf8).withUnsafeBytes(body)
}

@Suite("Click tokens")
struct TokenTests {
    @Test("SipHash-2-4 gives the paper's value and the reference's first vectors")
    func sipHashVectors() {
        let message = [UInt8](0..<15)
        #expect(message.withUnsafeBytes { SipHash24.hash($0, key: key) } == 0xa129_ca61_49be_45e5)
        #expect([UInt8]().withUnsafeBytes { SipHash24.hash($0, key: key) } == 0x726f_db47_dd0e_0e31)
        #expect(
            [UInt8](0..<8).withUnsafeBytes { SipHash24.hash($0, key: key) } == 0x93f5_f579_9a93_2462
        )
    }

    @Test("A tag is the hash of the ID's big-endian bytes and the merchant's")
    func tagBytes() throws {
        let id = try #require(ClickID(rawValue: 0x0123_4567_89ab_cdef))
        let merchant = try #require(EntityID("00112233-4455-6677-8899-aabbccddeeff"))
        let message: [UInt8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef] + merchant.bytes
        let hash = message.withUnsafeBytes { SipHash24.hash($0, key: key) }
        #expect(ClickToken.tag(of: id, merchant: merchant, key: key) == hash)
    }

    @Test("A token is 22 characters and comes back for its merchant only")
    func roundTrip() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let id = try #require(
                ClickID(rawValue: UInt64.random(in: 0...UInt64.max >> 1, using: &random)))
            let merchant = EntityID(high: random.next(), low: random.next())
            let text = ClickToken.text(id, merchant: merchant, key: key)
            #expect(text.utf8.count == 22)
            let other = SipHashKey(first: 1, second: 2)
            #expect(
                bytes(text) { ClickToken.verify($0, merchant: merchant, keys: [other, key]) } == id)
            #expect(bytes(text) { ClickToken.verify($0, merchant: merchant, keys: [other]) } == nil)
            let stranger = EntityID(high: merchant.high ^ 1, low: merchant.low)
            #expect(bytes(text) { ClickToken.verify($0, merchant: stranger, keys: [key]) } == nil)
        }
    }

    @Test("Every change of one character is refused, spare bits too")
    func everyChange() throws {
        let id = ClickID(millisecondsSinceEpoch: 91_234_567_890, ring: 33, sequence: 7)
        let merchant = EntityID(high: 5, low: 6)
        let token = Array(ClickToken.text(id, merchant: merchant, key: key).utf8)
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \u{0}".utf8)
        for index in 0..<22 {
            for letter in alphabet where letter != token[index] {
                var forged = token
                forged[index] = letter
                let answer = forged.withUnsafeBytes {
                    ClickToken.verify($0, merchant: merchant, keys: [key])
                }
                #expect(answer == nil, "\(String(decoding: forged, as: UTF8.self))")
            }
        }
        for wrong in [0, 21, 23] {
            let text = Array((token + token).prefix(wrong))
            #expect(text.withUnsafeBytes { ClickToken.parse($0) } == nil)
        }
    }

    @Test("Parts of an ID come back, at their limits too")
    func parts() {
        let id = ClickID(
            millisecondsSinceEpoch: ClickID.maximumMilliseconds, ring: 4095, sequence: 1023)
        #expect(id.rawValue == UInt64(Int64.max))
        #expect(id.ring == 4095 && id.sequence == 1023)
        #expect(ClickID(rawValue: 1 << 63) == nil)
        let first = ClickID(millisecondsSinceEpoch: 0, ring: 0, sequence: 0)
        #expect(first.clickedAt.description == "2024-01-01T00:00:00.000000Z")
    }

    @Test("A minter rises through a standing, stepping and racing clock")
    func minting() {
        let start: Int64 = 1_800_000_000_000
        var minter = ClickIDMinter(
            ring: 65, floorMilliseconds: start, leaseMilliseconds: start + 10_000)
        var last: UInt64 = 0
        for step in 0..<20_000 {
            let now =
                step < 5000 ? start : step < 10_000 ? start - 3_600_000 : start + Int64(step / 7)
            guard let id = minter.mint(atMilliseconds: now) else {
                Issue.record("none at step \(step)")
                return
            }
            #expect(id.rawValue > last && id.ring == 65)
            #expect(id.clickedAt.milliseconds > start)
            last = id.rawValue
        }
    }

    @Test("The clock is held before the lease's end, and no identity reaches it")
    func lease() {
        let lease: Int64 = 1_800_000_000_000
        let reserve: Int64 = 3
        let floor = lease - 1000
        func first(at now: Int64) -> ClickID? {
            var minter = ClickIDMinter(
                ring: 7, floorMilliseconds: floor, leaseMilliseconds: lease,
                reserveMilliseconds: reserve)
            return minter.mint(atMilliseconds: now)
        }
        // One before where the clock is held, there, behind it; before the lease, at it, behind it.
        for (now, stamped) in [
            (lease - reserve - 1, lease - reserve - 1), (lease - reserve, lease - reserve),
            (lease - reserve + 1, lease - reserve), (lease - 1, lease - reserve),
            (lease, lease - reserve), (lease + 1, lease - reserve), (.max, lease - reserve),
        ] {
            #expect(first(at: now)?.clickedAt.milliseconds == stamped, "\(now - lease)")
        }
        var minter = ClickIDMinter(
            ring: 7, floorMilliseconds: floor, leaseMilliseconds: lease,
            reserveMilliseconds: reserve)
        let held = Int(reserve) * Int(ClickID.perMillisecond)
        var last: ClickID?
        for number in 0..<held {
            #expect(
                minter.oldestMilliseconds(atMilliseconds: lease + 9) == lease - reserve
                    + Int64(number / 1024))
            last = minter.mint(atMilliseconds: lease + 9)
            #expect(last != nil, "\(number)")
        }
        #expect(last?.clickedAt.milliseconds == lease - 1 && last?.sequence == 1023)
        // One past the last, as often as it is asked for.
        for _ in 0..<3 { #expect(minter.mint(atMilliseconds: lease + 9) == nil) }
        #expect(minter.latestMilliseconds == lease)
        // One millisecond more of lease is 1,024 identities more; a longer one lets the clock go on.
        minter.extend(leaseMilliseconds: lease + 1)
        for _ in 0..<1024 { last = minter.mint(atMilliseconds: lease + 9) }
        #expect(last?.clickedAt.milliseconds == lease && last?.sequence == 1023)
        #expect(minter.mint(atMilliseconds: lease + 9) == nil)
        minter.extend(leaseMilliseconds: lease + 9 + reserve)
        #expect(minter.mint(atMilliseconds: lease + 9)?.clickedAt.milliseconds == lease + 9)
    }

    @Test("A floor at the lease leaves no identity until the lease is renewed")
    func floorAtLease() {
        let lease: Int64 = 1_800_000_000_000
        for (floor, isThere) in [(lease - 2, true), (lease - 1, false), (lease, false)] {
            var minter = ClickIDMinter(
                ring: 7, floorMilliseconds: floor, leaseMilliseconds: lease)
            #expect((minter.mint(atMilliseconds: lease) != nil) == isThere, "\(floor - lease)")
        }
    }

    @Test("No identity lies before the time that was promised, whatever clock and lease do")
    func oldest() {
        var random = SystemRandomNumberGenerator()
        let start: Int64 = 1_800_000_000_000
        for _ in 0..<200 {
            var lease = start + Int64.random(in: 0...3000, using: &random)
            var now = start + Int64.random(in: -5000...5000, using: &random)
            var minter = ClickIDMinter(
                ring: 7, floorMilliseconds: start, leaseMilliseconds: lease,
                reserveMilliseconds: Int64.random(in: 0...600, using: &random))
            var promised = Int64.min
            for _ in 0..<200 {
                now += Int64.random(in: 0...40, using: &random)
                if Int.random(in: 0..<30, using: &random) == 0 {
                    lease = max(lease, now + Int64.random(in: -100...3000, using: &random))
                    minter.extend(leaseMilliseconds: lease)
                }
                promised = max(promised, minter.oldestMilliseconds(atMilliseconds: now))
                #expect(promised <= now)
                guard let id = minter.mint(atMilliseconds: now) else { continue }
                #expect(id.clickedAt.milliseconds >= promised)
                #expect(id.clickedAt.milliseconds < lease)
            }
        }
    }

    @Test("A minter beyond its last millisecond does not trap")
    func minterAtTheEnd() {
        var minter = ClickIDMinter(
            ring: 1, floorMilliseconds: .max / 2, leaseMilliseconds: .max)
        for number in 0..<1024 {
            #expect(minter.mint(atMilliseconds: .max / 2)?.sequence == UInt16(number))
        }
        #expect(minter.mint(atMilliseconds: .max / 2) == nil)
        #expect(minter.mint(atMilliseconds: .min) == nil)
    }
}
