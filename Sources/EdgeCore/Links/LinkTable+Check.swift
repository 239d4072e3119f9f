// The full check of a table: run on a background thread over a snapshot before it is trusted.
internal import Tracking

extension LinkTableView {
    /// Whether the checksum holds and every slot leads to a whole record that a look-up finds
    /// again.
    ///
    /// - Parameter isObsolete: Asked now and then; true ends the check, which then has failed.
    func passesFullCheck(unless isObsolete: () -> Bool) -> Bool {
        guard hasWholeBody(unless: isObsolete) else { return false }
        guard domainName(0)?.count == 0 else { return false }
        for index in 0..<domainCount {
            guard let name = domainName(index), domain(named: name) == index else { return false }
            if let program = domainDefault(index), !LinkTemplate.isValid(program) { return false }
        }
        var links = 0
        for slot in 0..<slotCount {
            let stored = word(at: slots + slot * LinkTableLayout.slotBytes)
            if slot % LinkTableView.slotsBetweenQuestions == 0, isObsolete() { return false }
            guard stored != 0 else { continue }
            guard let link = link(at: stored & LinkTableLayout.slotOffsetMask), isSound(link) else {
                return false
            }
            if !link.flags.contains(.removed) { links += 1 }
        }
        return links == linkCount
    }

    /// Slots, and blocks, that are checked in a row before the check asks whether it may end.
    private static var slotsBetweenQuestions: Int { 1 << 14 }

    /// Whether every byte behind the header is as it was written.
    private func hasWholeBody(unless isObsolete: () -> Bool) -> Bool {
        guard blockSumCount == 0 else {
            guard hasWholeBlockSums() else { return false }
            for block in 0..<blockSumCount {
                if block % LinkTableView.slotsBetweenQuestions == 0, isObsolete() { return false }
                guard isWholeBlock(block) else { return false }
            }
            return true
        }
        let body = UnsafeRawBufferPointer(
            start: base + LinkTableLayout.headerBytes,
            count: totalBytes - LinkTableLayout.headerBytes)
        return TableChecksum.of(body) == word(at: LinkTableLayout.checksumOffset)
    }

    private func isSound(_ link: LinkView) -> Bool {
        guard (1...LinkLimits.slugBytes).contains(link.slug.count),
            link.slug.allSatisfy(ByteScan.isUnreserved), link.domainIndex < domainCount
        else { return false }
        switch find(domain: link.domainIndex, slug: link.slug, hash: hash(link.slug)) {
        case .absent, .damaged: return false
        case .removed: return link.flags.contains(.removed)
        case .link(let found):
            guard found.record.baseAddress == link.record.baseAddress, let fields = link.fields()
            else { return false }
            let programs = [fields.destination, fields.expiredURL, fields.fallbackURL]
            return programs.allSatisfy { $0.map(LinkTemplate.isValid) ?? true }
        }
    }
}
