// Look-ups in a table that nobody has checked as a whole: a mapped snapshot in its first seconds.
// Whatever is read is verified block by block first, so that damage is never an answer.
internal import Tracking

extension LinkTableView {
    /// Whether all bytes of a range are as they were written.
    ///
    /// - Complexity: O(blocks), a block being ``LinkTableLayout/blockBytes``.
    func isWhole(_ start: Int, _ bytes: Int) -> Bool {
        guard start >= LinkTableLayout.headerBytes, bytes >= 0, start <= blockSums,
            bytes <= blockSums &- start
        else { return false }
        guard bytes > 0 else { return true }
        var block = start / LinkTableLayout.blockBytes
        let last = (start &+ bytes &- 1) / LinkTableLayout.blockBytes
        while block <= last {
            guard isWholeBlock(block) else { return false }
            block &+= 1
        }
        return true
    }

    /// Whether a block is as it was written; false beyond the last.
    func isWholeBlock(_ block: Int) -> Bool {
        guard block < blockSumCount else { return false }
        let range = LinkTableLayout.block(block, end: blockSums)
        let bytes = UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count)
        return TableChecksum.of(bytes)
            == word(at: blockSums &+ block &* LinkTableLayout.blockSumBytes)
    }

    /// Whether the blocks' checksums themselves are as they were written.
    func hasWholeBlockSums() -> Bool {
        guard blockSumCount > 0 else { return false }
        let sums = UnsafeRawBufferPointer(
            start: base + blockSums, count: blockSumCount * LinkTableLayout.blockSumBytes)
        return TableChecksum.of(sums) == word(at: LinkTableLayout.checksumOffset)
    }

    /// Verifies everything but slots and links: few bytes, which look-ups then read as they are.
    func verifiesSmallSections() -> Bool {
        guard hasWholeBlockSums(),
            isWhole(merchants, merchantCount * LinkTableLayout.merchantBytes),
            isWhole(influencers, influencerCount * LinkTableLayout.influencerBytes),
            isWhole(domains, domainCount * LinkTableLayout.domainBytes),
            isWhole(domainSlots, domainSlotCount * LinkTableLayout.domainSlotBytes)
        else { return false }
        // Names and defaults lie together behind the links; the first name is the empty one, where
        // they begin.
        guard let first = domainName(0)?.baseAddress else { return false }
        return isWhole(first - base, records + recordsBytes - (first - base))
    }

    /// ``find(domain:slug:hash:)`` with every byte verified before it is believed.
    func findGuarded(
        domain: Int, slug: UnsafeRawBufferPointer, hash slugHash: UInt64
    ) -> LinkLookup {
        let hash = LinkTableView.mix(slugHash, domain: domain)
        let tag = hash << 40
        var slot = LinkTableView.slot(hash, of: slotCount)
        var verified = -1
        for _ in 0..<min(slotCount, LinkLimits.probes) {
            let offset = slots &+ slot &* LinkTableLayout.slotBytes
            // Slots are 8 bytes at multiples of 8: none lies in two blocks.
            let block = offset / LinkTableLayout.blockBytes
            if block != verified {
                guard isWholeBlock(block) else { return .damaged }
                verified = block
            }
            let stored = word(at: offset)
            if stored == 0 { return .absent }
            if (stored ^ tag) & ~LinkTableLayout.slotOffsetMask == 0 {
                switch candidate(stored & LinkTableLayout.slotOffsetMask, domain, slug) {
                case .absent: break
                case let found: return found
                }
            }
            slot &+= 1
            if slot == slotCount { slot = 0 }
        }
        return .absent
    }

    /// The link of a slot, if it is that of the key.
    private func candidate(
        _ stored: UInt64, _ domain: Int, _ slug: UnsafeRawBufferPointer
    ) -> LinkLookup {
        guard stored > 0, let fixed = text(stored &- 1, LinkTableLayout.recordBytes),
            let start = fixed.baseAddress
        else { return .damaged }
        let offset = start - base
        guard isWhole(offset, LinkTableLayout.recordBytes), let link = link(at: stored),
            isWhole(offset, LinkTableLayout.recordBytes &+ link.slugBytes)
        else { return .damaged }
        guard link.domainIndex == domain, ByteScan.areEqual(link.slug, slug) else {
            return .absent
        }
        if link.flags.contains(.removed) { return .removed }
        guard let fields = link.fields(), isWhole(offset, fields.end) else { return .damaged }
        return .link(link)
    }
}
