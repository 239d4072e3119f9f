// The link table: one position-independent allocation that is also the on-disk snapshot.
public import Tracking

/// Links by (domain, slug), in memory of its own or in a mapped snapshot.
///
/// `@unchecked Sendable`: the bytes are never written after `init`.
public final class LinkTable: @unchecked Sendable {
    /// The whole table, as it goes to disk (docs/formats/link-table.md); valid while the table is
    /// held, which ``withBytes(_:)`` sees to.
    public let bytes: UnsafeRawBufferPointer
    private let release: (() -> Void)?
    let view: LinkTableView

    /// Takes over bytes that begin with a table: a mapped snapshot or its copy.
    ///
    /// Only the header is checked here, so that the first redirect need not wait; every look-up
    /// checks its bounds, whatever the bytes say. ``passesFullCheck(unless:)`` tells the rest.
    /// - Parameters:
    ///   - bytes: The snapshot; it must stay readable until `release` is called.
    ///   - isGuarded: Whether each look-up verifies the checksums of what it reads: for bytes that
    ///     have not passed the full check. A table of the version before has no such checksums.
    ///   - release: Called once, when the table is no longer used by anyone.
    /// - Returns: nil when these are not the bytes of a table of this version, or not all of them;
    ///   `release` is then not called.
    public init?(
        snapshot bytes: UnsafeRawBufferPointer, isGuarded: Bool = false,
        release: (() -> Void)? = nil
    ) {
        guard var view = LinkTableView(bytes) else { return nil }
        if isGuarded, !view.makeGuarded() { return nil }
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes[..<view.totalBytes])
        self.view = view
        self.release = release
    }

    /// Takes over memory that the builder has filled.
    init(owning image: UnsafeMutableRawBufferPointer, release: @escaping () -> Void) {
        bytes = UnsafeRawBufferPointer(image)
        guard let view = LinkTableView(bytes) else {
            preconditionFailure("the builder wrote a table that it cannot read")
        }
        self.view = view
        self.release = release
    }

    deinit {
        release?()
    }

    /// Calls `body` with the whole table, as it goes to disk.
    public func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { extendLifetime(self) }
        return try body(bytes)
    }

    /// Links in the table.
    public var count: Int { view.linkCount }

    /// Builds a table from definitions; see ``LinkTableBuilder`` for one at a time.
    ///
    /// - Parameters:
    ///   - links: The links; those that cannot be served come back with the reason.
    ///   - merchants: For `click_param` and flags; secrets are not taken in.
    ///   - domains: The domains with a default.
    ///   - removed: Keys that this table hides in the table below it.
    ///   - isOverlay: Whether there is a table below: then a rejected link hides what is there.
    ///   - seed: The key of the hash; random, so that nobody can choose slugs that collide.
    public static func build(
        links: [LinkDefinition], merchants: [MerchantDefinition], domains: [DomainDefinition],
        removed: [LinkKey] = [], isOverlay: Bool = false, seed: SipHashKey
    ) -> (table: LinkTable, rejected: [(EntityID, String)]) {
        var builder = LinkTableBuilder(seed: seed, isOverlay: isOverlay)
        for merchant in merchants { builder.add(merchant) }
        for domain in domains { builder.add(domain) }
        for key in removed { builder.remove(key) }
        for link in links { builder.add(link) }
        return builder.finish()
    }

    /// The link of exactly this domain and slug, for control threads.
    ///
    /// The loops use the view.
    public func find(
        domain: UnsafeRawBufferPointer, slug: UnsafeRawBufferPointer
    ) -> LinkView? {
        guard let index = view.domain(named: domain) else { return nil }
        guard case .link(let link) = view.find(domain: index, slug: slug, hash: view.hash(slug))
        else { return nil }
        return link
    }

    /// Checks everything: the checksum and that each record is well formed.
    /// - Complexity: O(bytes).
    ///
    /// - Parameter isObsolete: Asked now and then; true ends the check, which then has failed.
    public func passesFullCheck(unless isObsolete: () -> Bool = { false }) -> Bool {
        view.passesFullCheck(unless: isObsolete)
    }
}
