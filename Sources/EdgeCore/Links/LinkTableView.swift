// Reading a link table in place: plain pointers, every step bounds-checked, so that not even a
// hostile snapshot can lead outside its bytes. The layout is docs/formats/link-table.md.
internal import Tracking

/// Where things lie in a table's bytes.
enum LinkTableLayout {
    /// `CLKLINKS`, little-endian.
    static let magic: UInt64 = 0x534B_4E49_4C4B_4C43
    static let version: UInt32 = 2
    /// The version before: without checksums of blocks.
    static let previousVersion: UInt32 = 1
    static let headerBytes = 192
    static let checksumOffset = 24
    static let headerChecksumOffset = 184
    static let blockSumsOffset = 152
    /// Bytes that one block's checksum covers; blocks begin at multiples of it.
    static let blockBytes = 4096
    static let blockSumBytes = 8
    static let merchantBytes = 64
    static let influencerBytes = 16
    static let domainBytes = 24
    static let slotBytes = 8
    static let domainSlotBytes = 4
    /// Bytes of a record before its slug.
    static let recordBytes = 29
    /// Low bits of a slot: the record's offset plus one.
    static let slotOffsetMask: UInt64 = (1 << 40) - 1
}

extension LinkTableLayout {
    /// Blocks of a table whose checksums begin at an offset.
    static func blocks(before offset: Int) -> Int { (offset + blockBytes - 1) / blockBytes }

    /// The bytes of a block; the first begins behind the header.
    @inline(__always) static func block(_ index: Int, end: Int) -> Range<Int> {
        let start = max(index &* blockBytes, headerBytes)
        return start..<max(start, min((index &+ 1) &* blockBytes, end))
    }
}

/// Facts of a link that are a bit or two each.
struct LinkFlags: OptionSet {
    let rawValue: UInt16
    init(rawValue: UInt16) { self.rawValue = rawValue }
    static let paused = LinkFlags(rawValue: 1)
    static let archived = LinkFlags(rawValue: 2)
    // Bits 2 and 3: the redirect status, an index into 302, 301, 307, 308.
    static let forwardsQuery = LinkFlags(rawValue: 16)
    static let hasStart = LinkFlags(rawValue: 32)
    static let hasExpiry = LinkFlags(rawValue: 64)
    static let hasExpiredURL = LinkFlags(rawValue: 128)
    static let hasFallbackURL = LinkFlags(rawValue: 256)
    static let removed = LinkFlags(rawValue: 512)

    var redirectStatus: UInt16 {
        switch rawValue >> 2 & 3 {
        case 1: 301
        case 2: 307
        case 3: 308
        default: 302
        }
    }

    static func redirect(_ status: UInt16) -> LinkFlags? {
        switch status {
        case 302: LinkFlags(rawValue: 0)
        case 301: LinkFlags(rawValue: 4)
        case 307: LinkFlags(rawValue: 8)
        case 308: LinkFlags(rawValue: 12)
        default: nil
        }
    }
}

/// What a look-up finds.
enum LinkLookup {
    case absent
    /// The key is hidden: the table below must not be asked.
    case removed
    case link(LinkView)
    /// The bytes that would tell are damaged: nobody knows.
    case damaged
}

/// A table's bytes with the header taken apart.
struct LinkTableView {
    let base: UnsafeRawPointer
    let totalBytes: Int
    let seed: SipHashKey
    let linkCount: Int
    let slotCount: Int
    let slots: Int
    let merchantCount: Int
    let merchants: Int
    let influencerCount: Int
    let influencers: Int
    let domainCount: Int
    let domains: Int
    let domainSlotCount: Int
    let domainSlots: Int
    let records: Int
    let recordsBytes: Int
    /// Checksums of blocks; none in a table of the version before.
    let blockSumCount: Int
    let blockSums: Int
    /// Whether each look-up verifies the blocks that it reads: the bytes are a file's that nobody
    /// has checked as a whole.
    private(set) var isGuarded = false

    /// Reads a header; nil unless it is whole, of a known version, and every section lies in the
    /// bytes.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count >= LinkTableLayout.headerBytes else {
            return nil
        }
        func word(_ offset: Int) -> UInt64 {
            UInt64(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        let version = UInt32(truncatingIfNeeded: word(8))
        let isPrevious = version == LinkTableLayout.previousVersion
        guard word(0) == LinkTableLayout.magic,
            version == LinkTableLayout.version || isPrevious,
            word(8) >> 32 == UInt64(LinkTableLayout.headerBytes),
            word(LinkTableLayout.headerChecksumOffset)
                == TableChecksum.of(
                    UnsafeRawBufferPointer(
                        start: base, count: LinkTableLayout.headerChecksumOffset)),
            let total = Int(exactly: word(16)), total >= LinkTableLayout.headerBytes,
            total <= bytes.count
        else { return nil }
        func section(_ offset: Int, size: Int) -> (count: Int, start: Int)? {
            guard let count = Int(exactly: word(offset)),
                let start = Int(exactly: word(offset + 8)),
                start >= LinkTableLayout.headerBytes, start <= total, count >= 0,
                count <= (total - start) / size
            else { return nil }
            return (count, start)
        }
        guard let slots = section(56, size: LinkTableLayout.slotBytes), slots.count > 0,
            let merchants = section(72, size: LinkTableLayout.merchantBytes),
            let influencers = section(88, size: LinkTableLayout.influencerBytes),
            let domains = section(104, size: LinkTableLayout.domainBytes), domains.count > 0,
            let domainSlots = section(120, size: LinkTableLayout.domainSlotBytes),
            domainSlots.count > 0, let records = section(136, size: 1),
            let links = Int(exactly: word(48)), links >= 0, links <= slots.count,
            let sums = isPrevious
                ? (0, total)
                : section(LinkTableLayout.blockSumsOffset, size: LinkTableLayout.blockSumBytes),
            isPrevious
                || sums.start + sums.count * LinkTableLayout.blockSumBytes == total
                    && sums.count == LinkTableLayout.blocks(before: sums.start)
        else { return nil }
        self.base = base
        totalBytes = total
        seed = SipHashKey(first: word(32), second: word(40))
        linkCount = links
        (slotCount, self.slots) = slots
        (merchantCount, self.merchants) = merchants
        (influencerCount, self.influencers) = influencers
        (domainCount, self.domains) = domains
        (domainSlotCount, self.domainSlots) = domainSlots
        (recordsBytes, self.records) = records
        (blockSumCount, blockSums) = sums
    }

    /// Has every look-up verify what it reads.
    ///
    /// The small sections are verified here, once. False when they are damaged, or there is nothing
    /// to verify them with.
    mutating func makeGuarded() -> Bool {
        guard verifiesSmallSections() else { return false }
        isGuarded = true
        return true
    }

    @inline(__always) func word(at offset: Int) -> UInt64 {
        UInt64(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// The keyed hash of a slug or a domain name.
    @inline(__always) func hash(_ text: UnsafeRawBufferPointer) -> UInt64 {
        SipHash24.hash(text, key: seed)
    }

    /// The hash of a link's key.
    @inline(__always) static func mix(_ slugHash: UInt64, domain: Int) -> UInt64 {
        // Wrapping multiplications: mixing, not arithmetic.
        let mixed = slugHash ^ (UInt64(truncatingIfNeeded: domain) &* 0x9E37_79B9_7F4A_7C15)
        let (high, low) = mixed.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return high ^ low
    }

    /// The slot where a hash begins, in a table of so many slots.
    @inline(__always) static func slot(_ hash: UInt64, of count: Int) -> Int {
        Int(truncatingIfNeeded: hash.multipliedFullWidth(by: UInt64(count)).high)
    }

    /// The index of a lower-case domain name; 0 for the empty one.
    @inline(__always) func domain(named name: UnsafeRawBufferPointer) -> Int? {
        guard name.count > 0 else { return 0 }
        guard domainCount > 1 else { return nil }
        var slot = LinkTableView.slot(hash(name), of: domainSlotCount)
        for _ in 0..<min(domainSlotCount, LinkLimits.probes) {
            let offset = domainSlots &+ slot &* LinkTableLayout.domainSlotBytes
            let stored = UInt32(
                littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            if stored == 0 { return nil }
            let index = Int(stored) &- 1
            if let known = domainName(index), ByteScan.areEqual(known, name) { return index }
            slot &+= 1
            if slot == domainSlotCount { slot = 0 }
        }
        return nil
    }

    /// The name of a domain; nil for an index or entry that is out of bounds.
    @inline(__always) func domainName(_ index: Int) -> UnsafeRawBufferPointer? {
        guard index >= 0, index < domainCount else { return nil }
        let entry = domains &+ index &* LinkTableLayout.domainBytes
        let length = base.load(fromByteOffset: entry &+ 16, as: UInt8.self)
        return text(word(at: entry), Int(length))
    }

    /// The compiled default URL of a domain, if it has one.
    func domainDefault(_ index: Int) -> UnsafeRawBufferPointer? {
        guard index >= 0, index < domainCount else { return nil }
        let stored = word(at: domains &+ index &* LinkTableLayout.domainBytes &+ 8)
        guard stored > 0, let lengthBytes = text(stored &- 1, 2) else { return nil }
        let length = UInt16(
            littleEndian: lengthBytes.loadUnaligned(fromByteOffset: 0, as: UInt16.self))
        // One more cannot overflow: text() has shown the offset to lie within the bytes.
        return text(stored &+ 1, Int(length))
    }

    /// Bytes of the record section; nil when they do not all lie in it.
    @inline(__always) func text(_ offset: UInt64, _ length: Int) -> UnsafeRawBufferPointer? {
        guard let start = Int(exactly: offset), start <= recordsBytes,
            length <= recordsBytes &- start
        else { return nil }
        return UnsafeRawBufferPointer(start: base + (records &+ start), count: length)
    }

    /// The link of a domain's slug.
    @inline(__always)
    func find(domain: Int, slug: UnsafeRawBufferPointer, hash slugHash: UInt64) -> LinkLookup {
        guard !isGuarded else { return findGuarded(domain: domain, slug: slug, hash: slugHash) }
        let hash = LinkTableView.mix(slugHash, domain: domain)
        let tag = hash << 40
        var slot = LinkTableView.slot(hash, of: slotCount)
        for _ in 0..<min(slotCount, LinkLimits.probes) {
            let stored = word(at: slots &+ slot &* LinkTableLayout.slotBytes)
            if stored == 0 { return .absent }
            if (stored ^ tag) & ~LinkTableLayout.slotOffsetMask == 0,
                let link = link(at: stored & LinkTableLayout.slotOffsetMask),
                link.domainIndex == domain, ByteScan.areEqual(link.slug, slug)
            {
                return link.flags.contains(.removed) ? .removed : .link(link)
            }
            slot &+= 1
            if slot == slotCount { slot = 0 }
        }
        return .absent
    }

    /// The record of a slot; nil when it does not lie in its section or points outside a table.
    @inline(__always) func link(at stored: UInt64) -> LinkView? {
        guard stored > 0, let fixed = text(stored &- 1, LinkTableLayout.recordBytes),
            let start = fixed.baseAddress
        else { return nil }
        let rest = recordsBytes &- Int(truncatingIfNeeded: stored &- 1)
        let slugBytes = Int(fixed[28])
        guard slugBytes <= rest &- LinkTableLayout.recordBytes else { return nil }
        let merchant = Int(
            UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 16, as: UInt32.self)))
        let influencer = Int(
            UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 20, as: UInt32.self)))
        guard merchant < merchantCount, influencer < influencerCount else { return nil }
        return LinkView(
            record: UnsafeRawBufferPointer(start: start, count: rest),
            merchantEntry: base + (merchants &+ merchant &* LinkTableLayout.merchantBytes),
            influencerEntry: base + (influencers &+ influencer &* LinkTableLayout.influencerBytes),
            merchantIndex: merchant, slugBytes: slugBytes)
    }

    /// What the table itself knows of a merchant.
    /// - Precondition: `index` is below ``merchantCount``.
    func merchantState(_ index: Int) -> (id: EntityID, state: MerchantState) {
        precondition(index >= 0 && index < merchantCount)
        let entry = base + (merchants + index * LinkTableLayout.merchantBytes)
        let id = EntityID(bigEndianBytes: UnsafeRawBufferPointer(start: entry, count: 16))
        // A name that is no safe parameter name may only come from a damaged snapshot.
        let count = min(
            Int(entry.load(fromByteOffset: 17, as: UInt8.self)), LinkLimits.clickParameterBytes)
        var state = MerchantState(named: UnsafeRawBufferPointer(start: entry + 18, count: count))
        let flags = entry.load(fromByteOffset: 16, as: UInt8.self)
        state.isSuspended = flags & 1 != 0
        state.isOverQuota = flags & 2 != 0
        return (id, state)
    }
}
