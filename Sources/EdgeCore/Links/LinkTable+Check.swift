// The full check of a table: run on a background thread over a snapshot before it is trusted.
internal import Tracking

extension LinkTableView {
    /// Whether the checksum holds and every slot leads to a whole record that a look-up finds
    /// again.
    func passesFullCheck() -> Bool {
        let body = UnsafeRawBufferPointer(
            start: base + LinkTableLayout.headerBytes,
            count: totalBytes - LinkTableLayout.headerBytes)
        guard TableChecksum.of(body) == word(at: LinkTableLayout.checksumOffset) else {
            return false
        }
        guard domainName(0)?.count == 0 else { return false }
        for index in 0..<domainCount {
            guard let name = domainName(index), domain(named: name) == index else { return false }
            if let program = domainDefault(index), !LinkTemplate.isValid(program) { return false }
        }
        var links = 0
        for slot in 0..<slotCount {
            let stored = word(at: slots + slot * LinkTableLayout.slotBytes)
            guard stored != 0 else { continue }
            guard let link = link(at: stored & LinkTableLayout.slotOffsetMask), isSound(link) else {
                return false
            }
            if !link.flags.contains(.removed) { links += 1 }
        }
        return links == linkCount
    }

    private func isSound(_ link: LinkView) -> Bool {
        guard (1...LinkLimits.slugBytes).contains(link.slug.count),
            link.slug.allSatisfy(ByteScan.isUnreserved), link.domainIndex < domainCount
        else { return false }
        switch find(domain: link.domainIndex, slug: link.slug, hash: hash(link.slug)) {
        case .absent: return false
        case .removed: return link.flags.contains(.removed)
        case .link(let found):
            guard found.record.baseAddress == link.record.baseAddress, let fields = link.fields()
            else { return false }
            let programs = [fields.destination, fields.expiredURL, fields.fallbackURL]
            return programs.allSatisfy { $0.map(LinkTemplate.isValid) ?? true }
        }
    }
}
