// From a link's identity back to its key, for control threads: a changed or deleted row no longer tells
// under which key the table below has it.
public import Tracking

extension LinkKey {
    /// 64 bits of a key that lead back to it within a table of the same seed; see
    /// ``LinkTable/key(of:trace:)``.
    public static func trace(domain: [UInt8], slug: [UInt8], seed: SipHashKey) -> UInt64 {
        let slugHash = slug.withUnsafeBytes { SipHash24.hash($0, key: seed) }
        return slugHash ^ domainMark(domain, seed)
    }

    /// What tells the domains of one slug apart; 0 for the empty domain.
    static func domainMark(_ domain: [UInt8], _ seed: SipHashKey) -> UInt64 {
        guard !domain.isEmpty else { return 0 }
        // Another key than the slugs' hashes have: equal texts must not cancel each other out.
        let other = SipHashKey(first: seed.second, second: seed.first)
        return domain.withUnsafeBytes { SipHash24.hash($0, key: other) }
    }
}

extension LinkTable {
    /// The key under which the table has a link; nil when it has not.
    ///
    /// - Complexity: O(domains).
    public func key(of id: EntityID, trace: UInt64) -> LinkKey? {
        for domain in 0..<view.domainCount {
            guard let name = view.domainName(domain).map({ Array($0) }) else { continue }
            let slugHash = trace ^ LinkKey.domainMark(name, view.seed)
            if let slug = view.slug(of: id, domain: domain, hash: slugHash) {
                return LinkKey(domain: name, slug: slug)
            }
        }
        return nil
    }

    /// Whether the table hides a key of the table below it.
    public func hides(
        domain: UnsafeRawBufferPointer, slug: UnsafeRawBufferPointer
    ) -> Bool {
        guard let index = view.domain(named: domain) else { return false }
        guard case .removed = view.find(domain: index, slug: slug, hash: view.hash(slug)) else {
            return false
        }
        return true
    }
}

extension LinkTableView {
    /// The slug of a link whose slug has this hash; nil when the domain has no such link.
    fileprivate func slug(of id: EntityID, domain: Int, hash slugHash: UInt64) -> [UInt8]? {
        var slot = LinkTableView.slot(
            LinkTableView.mix(slugHash, domain: domain), of: slotCount)
        for _ in 0..<min(slotCount, LinkLimits.probes) {
            let stored = word(at: slots &+ slot &* LinkTableLayout.slotBytes)
            if stored == 0 { return nil }
            if let link = link(at: stored & LinkTableLayout.slotOffsetMask), link.id == id,
                link.domainIndex == domain, !link.flags.contains(.removed)
            {
                return Array(link.slug)
            }
            slot &+= 1
            if slot == slotCount { slot = 0 }
        }
        return nil
    }
}
