// What a link must be before it is written: the rules of contract 3 that the edge also holds to.
internal import EdgeCore
internal import LinuxIO
internal import Postgres
internal import Tracking

/// Whether a byte may stand in a slug without an escape.
func isSlugByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
        UInt8(ascii: "."), UInt8(ascii: "~"):
        true
    default: false
    }
}

/// Checks of a link's fields; each refusal names the field and what is allowed.
enum LinkRules {
    enum Limits {
        static let slugBytes = 1...128
        static let domainBytes = 253
        static let urlBytes = 8192
    }

    /// Names that clickd answers itself.
    static let reservedSlugs = [
        "pixel.gif", "postback", "v1", "t.js", "robots.txt", "favicon.ico", "healthz",
        ".well-known",
    ]

    static func requireSlug(_ name: String, _ slug: String) throws(CommandError) {
        guard Limits.slugBytes.contains(slug.utf8.count), slug.utf8.allSatisfy({ isSlugByte($0) })
        else {
            throw .argument(name, slug, allowed: "1...128 bytes of A-Z a-z 0-9 - _ . ~")
        }
        // A client takes the two dot segments away before it asks.
        guard !reservedSlugs.contains(slug), slug != ".", slug != ".." else {
            throw .argument(
                name, slug,
                allowed: "any slug but . .. " + reservedSlugs.joined(separator: " "))
        }
    }

    static func requireDomain(_ name: String, _ domain: String) throws(CommandError) {
        guard !domain.isEmpty else { return }
        let labels = domain.split(separator: ".", omittingEmptySubsequences: false)
        let isName =
            domain.utf8.count <= Limits.domainBytes
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count)
                    && label.utf8.first != UInt8(ascii: "-") && label.utf8.last != UInt8(ascii: "-")
                    && label.utf8.allSatisfy { byte in
                        (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z"))
                            || (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
                            || byte == UInt8(ascii: "-")
                    }
            }
        guard isName else {
            throw .argument(
                name, domain, allowed: "a host name in lower case without port, or \"\"")
        }
    }

    /// An absolute http or https URL of printable ASCII with a host.
    ///
    /// `{macros}` may stand anywhere but in scheme and authority.
    static func requireURL(_ name: String, _ url: String) throws(CommandError) {
        guard isURL(url) else {
            throw .argument(
                name, url,
                allowed: "an absolute http:// or https:// URL with a host, printable ASCII without "
                    + "spaces, at most \(Limits.urlBytes) bytes, no macro before the path")
        }
    }

    private static func isURL(_ url: String) -> Bool {
        guard url.utf8.count <= Limits.urlBytes,
            url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C }),
            !url.contains("<"), !url.contains(">")
        else { return false }
        let lower = url.lowercased()
        let scheme = ["https://", "http://"].first { lower.hasPrefix($0) }
        guard let scheme else { return false }
        let authority = url.dropFirst(scheme.count).prefix { !"/?#".contains($0) }
        guard !authority.contains(where: { "{}@%".contains($0) }) else { return false }
        let bracket = authority.hasPrefix("[") ? authority.firstIndex(of: "]") : nil
        let end = authority[(bracket ?? authority.startIndex)...].firstIndex(of: ":")
        let host = authority[..<(end ?? authority.endIndex)]
        guard !host.isEmpty, host != "[", authority.hasPrefix("[") == (bracket != nil) else {
            return false
        }
        guard let end else { return true }
        let port = authority[authority.index(after: end)...]
        return port.isEmpty || (port.allSatisfy(\.isNumber) && UInt16(port) != nil)
    }
}

/// A link as it is to be written.
struct NewLink {
    var id: EntityID
    var slug: String
    var domain = ""
    var influencer: EntityID
    var merchant: EntityID
    var destination: String
    var status = "active"
    var redirectStatus = 302
    var forwardQuery = false
    var startsAt: Timestamp?
    var expiresAt: Timestamp?
    var expiredURL: String?
    var fallbackURL: String?

    /// Checks every field; `name` tells what a field is called where it came from.
    func check(_ name: (String) -> String) throws(CommandError) {
        try LinkRules.requireSlug(name("slug"), slug)
        try LinkRules.requireDomain(name("domain"), domain)
        try LinkRules.requireURL(name("destination"), destination)
        if let expiredURL { try LinkRules.requireURL(name("expired-url"), expiredURL) }
        if let fallbackURL { try LinkRules.requireURL(name("fallback-url"), fallbackURL) }
        _ = try Checked.word(name("status"), status, ["active", "paused", "archived"])
        guard [301, 302, 307, 308].contains(redirectStatus) else {
            throw .argument(
                name("redirect-status"), "\(redirectStatus)", allowed: "301, 302, 307, 308")
        }
        if let startsAt, let expiresAt, startsAt >= expiresAt {
            throw .usage("\(name("expires-at")): not after \(name("starts-at"))")
        }
        try checkAsEdge()
    }

    /// Builds the link as clickd does: what its table would reject must not be written.
    private func checkAsEdge() throws(CommandError) {
        var definition = LinkDefinition(
            id: id, merchantID: merchant, influencerID: influencer, domain: Array(domain.utf8),
            slug: Array(slug.utf8), destination: Array(destination.utf8))
        definition.redirectStatus = UInt16(clamping: redirectStatus)
        definition.forwardsQuery = forwardQuery
        definition.startsAt = startsAt
        definition.expiresAt = expiresAt
        definition.expiredURL = expiredURL.map { Array($0.utf8) }
        definition.fallbackURL = fallbackURL.map { Array($0.utf8) }
        var builder = LinkTableBuilder(seed: SipHashKey(first: 0, second: 0))
        builder.add(definition)
        if let (_, reason) = builder.finish().rejected.first {
            throw .usage("the edge would not serve it: \(reason)")
        }
    }

    /// The columns that ``parameters`` fill, in order.
    static let columns = """
        id, slug, domain, influencer_id, merchant_id, destination_url, status, redirect_status, \
        forward_query, starts_at, expires_at, expired_url, fallback_url
        """

    var parameters: [Parameter] {
        [
            .uuid(id), .text(slug), .text(domain), .uuid(influencer), .uuid(merchant),
            .text(destination), .text(status), .int64(Int64(redirectStatus)), .bool(forwardQuery),
            .optional(startsAt), .optional(expiresAt), .optional(expiredURL),
            .optional(fallbackURL),
        ]
    }
}
