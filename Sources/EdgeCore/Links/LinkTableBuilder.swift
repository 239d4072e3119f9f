// Builds link tables: checks each link, compiles its URLs, lays the records out and hashes them in.
public import Tracking

/// Builds a link table, one definition at a time.
///
/// Not for the loops: it allocates as it likes.
public struct LinkTableBuilder {
    private let seed: SipHashKey
    private let isOverlay: Bool
    private var records: [UInt8] = []
    private var offsets: [Int] = []
    private var merchantIndexes: [EntityID: UInt32] = [:]
    private var merchants: [(id: EntityID, state: MerchantState)] = []
    private var influencerIndexes: [EntityID: UInt32] = [:]
    private var influencers: [EntityID] = []
    private var domainIndexes: [[UInt8]: Int] = [[]: 0]
    private var domainNames: [[UInt8]] = [[]]
    private var domainDefaults: [Int: [UInt8]] = [:]
    private var rejected: [(EntityID, String)] = []

    /// A builder of an empty table.
    ///
    /// - Parameters:
    ///   - seed: The key of the hash; random.
    ///   - isOverlay: Whether the table lies over another, which its removals and rejections hide.
    public init(seed: SipHashKey, isOverlay: Bool = false) {
        self.seed = seed
        self.isOverlay = isOverlay
    }

    /// Takes in what a merchant's clicks need; no secret.
    public mutating func add(_ merchant: MerchantDefinition) {
        let index = self.index(ofMerchant: merchant.id)
        merchants[Int(index)].state = MerchantState(merchant)
    }

    /// Takes in a domain; a default that is no valid URL is rejected and counts as none.
    public mutating func add(_ domain: DomainDefinition) {
        do throws(LinkProblem) {
            let index = try index(ofDomain: domain.name)
            guard let url = domain.defaultURL, !url.isEmpty else { return }
            do throws(DestinationProblem) {
                domainDefaults[index] = try LinkTemplate.compile(url)
            } catch {
                throw .url("default_url", error)
            }
        } catch {
            rejected.append((.zero, error.reason))
        }
    }

    /// Hides a key of the table below; nothing in a table that has none below.
    public mutating func remove(_ key: LinkKey) {
        guard isOverlay, isSlug(key.slug) else { return }
        do throws(LinkProblem) {
            let domain = try index(ofDomain: key.domain)
            startRecord(
                id: .zero, merchant: index(ofMerchant: .zero),
                influencer: index(ofInfluencer: .zero),
                domain: domain, flags: .removed, slug: key.slug)
        } catch {
            return  // A key that no table can hold hides nothing.
        }
    }

    /// Takes in a link, or rejects it with a reason.
    public mutating func add(_ link: LinkDefinition) {
        do throws(LinkProblem) {
            try append(link)
        } catch {
            rejected.append((link.id, error.reason))
            remove(LinkKey(domain: link.domain, slug: link.slug))
        }
    }

    private mutating func append(_ link: LinkDefinition) throws(LinkProblem) {
        guard isSlug(link.slug) else { throw .slug }
        guard !Router.isReserved(slug: link.slug) else { throw .reserved }
        guard var flags = LinkFlags.redirect(link.redirectStatus) else { throw .redirectStatus }
        guard offsets.count < LinkLimits.links else { throw .tooMany }
        let domain = try index(ofDomain: link.domain)
        let destination = try program("destination_url", link.destination)
        var expired: [UInt8] = []
        var fallback: [UInt8] = []
        if let url = link.expiredURL, !url.isEmpty { expired = try program("expired_url", url) }
        if let url = link.fallbackURL, !url.isEmpty { fallback = try program("fallback_url", url) }
        if link.status == .paused { flags.insert(.paused) }
        if link.status == .archived { flags.insert(.archived) }
        if link.forwardsQuery { flags.insert(.forwardsQuery) }
        if link.startsAt != nil { flags.insert(.hasStart) }
        if link.expiresAt != nil { flags.insert(.hasExpiry) }
        if !expired.isEmpty { flags.insert(.hasExpiredURL) }
        if !fallback.isEmpty { flags.insert(.hasFallbackURL) }
        startRecord(
            id: link.id, merchant: index(ofMerchant: link.merchantID),
            influencer: index(ofInfluencer: link.influencerID), domain: domain, flags: flags,
            slug: link.slug)
        if let start = link.startsAt { append(UInt64(bitPattern: start.microseconds)) }
        if let expiry = link.expiresAt { append(UInt64(bitPattern: expiry.microseconds)) }
        append(program: destination)
        if !expired.isEmpty { append(program: expired) }
        if !fallback.isEmpty { append(program: fallback) }
    }

    private func program(_ column: String, _ url: [UInt8]) throws(LinkProblem) -> [UInt8] {
        do throws(DestinationProblem) {
            return try LinkTemplate.compile(url)
        } catch {
            throw .url(column, error)
        }
    }

    private func isSlug(_ slug: [UInt8]) -> Bool {
        (1...LinkLimits.slugBytes).contains(slug.count) && slug.allSatisfy(ByteScan.isUnreserved)
    }

    private mutating func index(ofMerchant id: EntityID) -> UInt32 {
        if let index = merchantIndexes[id] { return index }
        let index = UInt32(merchants.count)
        merchantIndexes[id] = index
        merchants.append((id, MerchantState(named: Array("click_id".utf8))))
        return index
    }

    private mutating func index(ofInfluencer id: EntityID) -> UInt32 {
        if let index = influencerIndexes[id] { return index }
        let index = UInt32(influencers.count)
        influencerIndexes[id] = index
        influencers.append(id)
        return index
    }

    private mutating func index(ofDomain name: [UInt8]) throws(LinkProblem) -> Int {
        var lower = name.map(ByteScan.lowercase)
        if lower.count > 1, lower.last == 0x2E { lower.removeLast() }
        if let index = domainIndexes[lower] { return index }
        let isName = lower.allSatisfy { ByteScan.isUnreserved($0) && $0 != 0x7E }
        guard lower.count <= LinkLimits.domainBytes, isName else { throw .domain }
        guard domainNames.count < LinkLimits.domains else { throw .tooManyDomains }
        domainIndexes[lower] = domainNames.count
        domainNames.append(lower)
        return domainNames.count - 1
    }

    // MARK: Records

    private mutating func startRecord(
        id: EntityID, merchant: UInt32, influencer: UInt32, domain: Int, flags: LinkFlags,
        slug: [UInt8]
    ) {
        offsets.append(records.count)
        records += id.bytes
        append(merchant)
        append(influencer)
        append(UInt16(domain))
        append(flags.rawValue)
        records.append(UInt8(slug.count))
        records += slug
    }

    private mutating func append<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { records += $0 }
    }

    private mutating func append(program: [UInt8]) {
        append(UInt16(program.count))
        records += program
    }

    // MARK: Laying out

    /// Memory for a table, zeroed, and what gives it back.
    public typealias Memory = (bytes: UnsafeMutableRawBufferPointer, release: () -> Void)

    /// The table, and the links that were rejected with their reasons.
    ///
    /// - Parameter allocate: Gives memory for so many bytes.
    public consuming func finish(
        allocate: (Int) -> Memory = LinkTableBuilder.plainMemory
    ) -> (table: LinkTable, rejected: [(EntityID, String)]) {
        var domainEntries: [(name: Int, program: Int)] = []
        for (index, name) in domainNames.enumerated() {
            let start = records.count
            records += name
            var program = 0
            if let url = domainDefaults[index] {
                program = records.count + 1
                append(program: url)
            }
            domainEntries.append((start, program))
        }
        var slots = placed(slotCount: max(8, offsets.count + offsets.count / 7 + 1))
        while slots == nil {
            // Longer chains than a look-up follows: more room. Happens to no table in practice.
            slots = placed(slotCount: offsets.count * 4 + 64)
            if slots == nil { break }
        }
        let placement = slots ?? Placement(slots: [0], links: 0, duplicates: offsets)
        for offset in placement.duplicates {
            let id = records.withUnsafeBytes {
                EntityID(bigEndianBytes: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + 16]))
            }
            rejected.append((id, LinkProblem.duplicate.reason))
        }
        let memory = assemble(placement, domainEntries, allocate)
        return (LinkTable(owning: memory.bytes, release: memory.release), rejected)
    }

    /// Memory of the language's own allocator.
    public static func plainMemory(_ count: Int) -> Memory {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        return (bytes, { bytes.deallocate() })
    }

    private struct Placement {
        var slots: [UInt64]
        var links: Int
        var duplicates: [Int]
    }

    /// Hashes the records into slots; nil when a chain grows longer than a look-up follows.
    private func placed(slotCount: Int) -> Placement? {
        var result = Placement(
            slots: Array(repeating: 0, count: slotCount), links: 0, duplicates: [])
        let complete = records.withUnsafeBytes { bytes -> Bool in
            for offset in offsets {
                guard place(offset, bytes, &result) else { return false }
            }
            return true
        }
        return complete ? result : nil
    }

    private func key(_ offset: Int, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let length = Int(bytes[offset + 28])
        let start = offset + LinkTableLayout.recordBytes
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
    }

    private func place(
        _ offset: Int, _ bytes: UnsafeRawBufferPointer, _ result: inout Placement
    ) -> Bool {
        let slug = key(offset, bytes)
        let domain = bytes.loadUnaligned(fromByteOffset: offset + 24, as: UInt16.self)
        let isRemoved = bytes[offset + 27] & 2 != 0  // ``LinkFlags/removed``, bit 9.
        let hash = LinkTableView.mix(
            SipHash24.hash(slug, key: seed), domain: Int(UInt16(littleEndian: domain)))
        var slot = LinkTableView.slot(hash, of: result.slots.count)
        for _ in 0..<min(result.slots.count, LinkLimits.probes) {
            let stored = result.slots[slot]
            if stored == 0 {
                result.slots[slot] = hash << 40 | UInt64(offset + 1)
                if !isRemoved { result.links += 1 }
                return true
            }
            let other = Int(stored & LinkTableLayout.slotOffsetMask) - 1
            let otherDomain = bytes.loadUnaligned(fromByteOffset: other + 24, as: UInt16.self)
            if otherDomain == domain, ByteScan.areEqual(key(other, bytes), slug) {
                if isRemoved { return true }
                if bytes[other + 27] & 2 != 0 {
                    result.slots[slot] = hash << 40 | UInt64(offset + 1)
                    result.links += 1
                } else {
                    result.duplicates.append(offset)
                }
                return true
            }
            slot = slot + 1 == result.slots.count ? 0 : slot + 1
        }
        return false
    }

    private func domainSlots() -> [UInt32] {
        var slots = [UInt32](repeating: 0, count: domainNames.count * 2 + 1)
        for (index, name) in domainNames.enumerated() where index > 0 {
            let hash = name.withUnsafeBytes { SipHash24.hash($0, key: seed) }
            var slot = LinkTableView.slot(hash, of: slots.count)
            while slots[slot] != 0 { slot = slot + 1 == slots.count ? 0 : slot + 1 }
            slots[slot] = UInt32(index + 1)
        }
        return slots
    }

    private func assemble(
        _ placement: Placement, _ domainEntries: [(name: Int, program: Int)],
        _ allocate: (Int) -> Memory
    ) -> Memory {
        let domainSlots = domainSlots()
        let sections = [
            placement.slots.count * LinkTableLayout.slotBytes,
            merchants.count * LinkTableLayout.merchantBytes,
            influencers.count * LinkTableLayout.influencerBytes,
            domainEntries.count * LinkTableLayout.domainBytes,
            domainSlots.count * LinkTableLayout.domainSlotBytes, records.count,
        ]
        var starts: [Int] = []
        var total = LinkTableLayout.headerBytes
        for bytes in sections {
            starts.append(total)
            total += (bytes + 7) & ~7
        }
        let sums = LinkTableLayout.blocks(before: total)
        starts.append(total)
        total += sums * LinkTableLayout.blockSumBytes
        let memory = allocate(total)
        let image = memory.bytes
        func store(_ number: some FixedWidthInteger & BitwiseCopyable, _ offset: Int) {
            image.storeBytes(of: number, toByteOffset: offset, as: type(of: number))
        }
        for (index, slot) in placement.slots.enumerated() {
            store(slot.littleEndian, starts[0] + index * LinkTableLayout.slotBytes)
        }
        for (index, merchant) in merchants.enumerated() {
            let entry = starts[1] + index * LinkTableLayout.merchantBytes
            merchant.id.write(to: UnsafeMutableRawBufferPointer(rebasing: image[entry...]))
            let state = merchant.state
            store(UInt8((state.isSuspended ? 1 : 0) | (state.isOverQuota ? 2 : 0)), entry + 16)
            store(state.parameterBytes, entry + 17)
            withUnsafeBytes(of: state.parameter) { name in
                UnsafeMutableRawBufferPointer(rebasing: image[(entry + 18)...]).copyMemory(
                    from: name)
            }
        }
        for (index, influencer) in influencers.enumerated() {
            let entry = starts[2] + index * LinkTableLayout.influencerBytes
            influencer.write(to: UnsafeMutableRawBufferPointer(rebasing: image[entry...]))
        }
        for (index, domain) in domainEntries.enumerated() {
            let entry = starts[3] + index * LinkTableLayout.domainBytes
            store(UInt64(domain.name).littleEndian, entry)
            store(UInt64(domain.program).littleEndian, entry + 8)
            store(UInt8(domainNames[index].count), entry + 16)
        }
        for (index, slot) in domainSlots.enumerated() {
            store(slot.littleEndian, starts[4] + index * LinkTableLayout.domainSlotBytes)
        }
        records.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(rebasing: image[starts[5]...]).copyMemory(from: $0)
        }
        let counts = [
            placement.slots.count, merchants.count, influencers.count, domainEntries.count,
            domainSlots.count, records.count, sums,
        ]
        writeHeader(image, counts: counts, starts: starts, links: placement.links)
        return memory
    }

    private func writeHeader(
        _ image: UnsafeMutableRawBufferPointer, counts: [Int], starts: [Int], links: Int
    ) {
        func store(_ number: UInt64, _ offset: Int) {
            image.storeBytes(of: number.littleEndian, toByteOffset: offset, as: UInt64.self)
        }
        store(LinkTableLayout.magic, 0)
        store(UInt64(LinkTableLayout.headerBytes) << 32 | UInt64(LinkTableLayout.version), 8)
        store(UInt64(image.count), 16)
        store(seed.first, 32)
        store(seed.second, 40)
        store(UInt64(links), 48)
        for section in 0..<7 {
            store(UInt64(counts[section]), 56 + section * 16)
            store(UInt64(starts[section]), 64 + section * 16)
        }
        for block in 0..<counts[6] {
            let range = LinkTableLayout.block(block, end: starts[6])
            let bytes = UnsafeRawBufferPointer(rebasing: image[range])
            store(TableChecksum.of(bytes), starts[6] + block * LinkTableLayout.blockSumBytes)
        }
        let sums = UnsafeRawBufferPointer(rebasing: image[starts[6]...])
        store(TableChecksum.of(sums), LinkTableLayout.checksumOffset)
        let header = UnsafeRawBufferPointer(
            rebasing: image[..<LinkTableLayout.headerChecksumOffset])
        store(TableChecksum.of(header), LinkTableLayout.headerChecksumOffset)
    }
}

/// Why a link is not served.
enum LinkProblem: Error, Equatable {
    case slug, reserved, domain, tooManyDomains, redirectStatus, tooMany, duplicate
    case url(String, DestinationProblem)

    var reason: String {
        switch self {
        case .slug: "slug is not 1 to 128 bytes of A-Z a-z 0-9 - _ . ~"
        case .reserved: "slug is a reserved name"
        case .domain: "domain is not a host name"
        case .tooManyDomains: "there are too many domains"
        case .redirectStatus: "redirect_status is none of 301, 302, 307, 308"
        case .tooMany: "there are too many links"
        case .duplicate: "another link has the same domain and slug"
        case .url(let column, let problem): "\(column) \(problem.reason)"
        }
    }
}
