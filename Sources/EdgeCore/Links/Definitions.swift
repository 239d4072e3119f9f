// What link sync loads from the platform's tables and hands to the core.
public import Tracking

/// A row of `trackable_links`, as bytes.
public struct LinkDefinition: Sendable {
    /// The link's identity.
    public var id: EntityID
    /// The merchant who pays.
    public var merchantID: EntityID
    /// The influencer who sends.
    public var influencerID: EntityID
    /// The domain, empty for every domain without a link of that slug.
    public var domain: [UInt8]
    /// The slug, 1...128 bytes of `A–Z a–z 0–9 - _ . ~`.
    public var slug: [UInt8]
    /// The destination, with macros.
    public var destination: [UInt8]
    /// The status.
    public var status = LinkStatus.active
    /// 301, 302, 307 or 308.
    public var redirectStatus: UInt16 = 302
    /// Whether the visitor's own parameters are merged into the destination.
    public var forwardsQuery = false
    /// When the link begins to work.
    public var startsAt: Timestamp?
    /// When it ends.
    public var expiresAt: Timestamp?
    /// Where an ended link leads.
    public var expiredURL: [UInt8]?
    /// Where a link leads that does not work now.
    public var fallbackURL: [UInt8]?

    /// An active link; everything optional is absent.
    public init(
        id: EntityID, merchantID: EntityID, influencerID: EntityID, domain: [UInt8] = [],
        slug: [UInt8], destination: [UInt8]
    ) {
        self.id = id
        self.merchantID = merchantID
        self.influencerID = influencerID
        self.domain = domain
        self.slug = slug
        self.destination = destination
    }
}

/// The key of a link: what a change takes away from the tables below it.
public struct LinkKey: Hashable, Sendable {
    /// The domain; empty for every domain.
    public var domain: [UInt8]
    /// The slug.
    public var slug: [UInt8]

    /// A key by its parts.
    public init(domain: [UInt8], slug: [UInt8]) {
        self.domain = domain
        self.slug = slug
    }
}

/// A row of `domains`.
public struct DomainDefinition: Sendable {
    /// The name, in any case, without port.
    public var name: [UInt8]
    /// Where unknown slugs of the domain lead.
    public var defaultURL: [UInt8]?

    /// A domain.
    public init(name: [UInt8], defaultURL: [UInt8]?) {
        self.name = name
        self.defaultURL = defaultURL
    }
}

/// A row of `merchants`, as much of it as the edge needs.
///
/// Secrets are only here, never in a table that goes to disk.
public struct MerchantDefinition: Sendable {
    /// The merchant's identity.
    public var id: EntityID
    /// Whether the merchant is suspended: redirects go on, clicks are marked, conversions are 403.
    public var isSuspended = false
    /// Whether the month's click quota is used up: clicks are marked.
    public var isOverQuota = false
    /// The parameter that carries the click's token: unreserved bytes, at most
    /// ``LinkLimits/clickParameterBytes`` of them; anything else counts as `click_id`.
    public var clickParameter: [UInt8]
    /// The currency of amounts without one.
    public var currency: Currency
    /// The secret of the legacy way in.
    public var postbackToken: [UInt8]?
    /// The signing secret, as stored.
    public var signingSecret: [UInt8]?
    /// The secret before the last change.
    public var previousSigningSecret: [UInt8]?
    /// Until when the previous secret holds.
    public var previousSecretExpiresAt: Timestamp?

    /// An active merchant without secrets.
    public init(
        id: EntityID, clickParameter: [UInt8] = Array("click_id".utf8), currency: Currency
    ) {
        self.id = id
        self.clickParameter = clickParameter
        self.currency = currency
    }
}

/// All merchants, by identity.
///
/// Immutable: a change makes a new one.
public struct MerchantDirectory: Sendable {
    private let definitions: [EntityID: MerchantDefinition]

    /// A directory; of two definitions with one identity the later counts.
    public init(_ merchants: [MerchantDefinition]) {
        definitions = Dictionary(merchants.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
    }

    /// The merchant, if there is one.
    public subscript(id: EntityID) -> MerchantDefinition? { definitions[id] }
    /// How many there are.
    public var count: Int { definitions.count }
    /// All of them, in no order.
    public var all: some Collection<MerchantDefinition> { definitions.values }
}
