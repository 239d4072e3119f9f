// The platform's rows as link sync reads them: the queries, and rows into definitions.
internal import EdgeCore
internal import Postgres
internal import Tracking

/// What link sync asks PostgreSQL.
enum LinkQueries {
    /// The start of the oldest open transaction, or now.
    ///
    /// Asked before the rows are read: whatever is
    /// not seen then was stamped later than this.
    static let floor = """
        SELECT least(clock_timestamp(), min(xact_start)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """

    static let linkColumns = """
        l.id, l.merchant_id, l.influencer_id, lower(l.domain), l.slug, l.destination_url, l.status,
        l.redirect_status, l.forward_query, l.starts_at, l.expires_at, l.expired_url,
        l.fallback_url, \(rowHash)
        """

    /// Of all that is served of a link; columns that the platform adds do not count.
    private static let rowHash = """
        hash_record_extended(ROW(l.id, l.merchant_id, l.influencer_id, l.domain, l.slug,
            l.destination_url, l.status, l.redirect_status, l.forward_query, l.starts_at,
            l.expires_at, l.expired_url, l.fallback_url), 0)
        """

    static let linkPage = """
        SELECT \(linkColumns) FROM trackable_links AS l WHERE l.id > $1 ORDER BY l.id LIMIT $2
        """

    static let firstLinkPage = """
        SELECT \(linkColumns) FROM trackable_links AS l ORDER BY l.id LIMIT $1
        """

    static let changedLinks = """
        SELECT \(linkColumns) FROM trackable_links AS l WHERE l.updated_at >= $1
        """

    /// As many of them as one result may have, and one more, which tells that there are more.
    static let someChangedLinks = "\(changedLinks) LIMIT $2"

    static let openChangedLinks = "DECLARE changed NO SCROLL CURSOR FOR \(changedLinks)"

    static let nextChangedLinks = "FETCH \(LinkSync.Limits.pageRows) FROM changed"

    private static let sum = """
        SELECT count(*), coalesce(bit_xor(\(rowHash)), 0)
        FROM trackable_links AS l WHERE l.id >= $1
        """

    /// The sum of a range of links, and of the last range, which has no end.
    static let rangeSum = "\(sum) AND l.id < $2"
    static let lastRangeSum = sum

    static let tablePages = """
        SELECT pg_relation_size('trackable_links') / current_setting('block_size')::bigint
        """

    /// Sums by range of some pages of the table, which are read in the order of the disk.
    private static func pages(_ condition: String) -> String {
        """
        SELECT bucket, count(*), bit_xor(hash) FROM (
            SELECT width_bucket(l.id, $1) AS bucket, \(rowHash) AS hash
            FROM trackable_links AS l WHERE \(condition) OFFSET 0) AS rows
        GROUP BY bucket
        """
    }

    static let pageSums = pages("l.ctid >= $2::text::tid AND l.ctid < $3::text::tid")
    /// From a page on.
    static let lastPageSums = pages("l.ctid >= $2::text::tid")

    private static let hashes =
        "SELECT l.id, \(rowHash) FROM trackable_links AS l WHERE l.id >= $1"

    /// The hash of each link of a range, and of the last range.
    static let rangeHashes = "\(hashes) AND l.id < $2"
    static let lastRangeHashes = hashes

    /// Links by their identities.
    static let linksByID =
        "SELECT \(linkColumns) FROM trackable_links AS l WHERE l.id = ANY($1)"

    static let platformSums = """
        SELECT (SELECT coalesce(bit_xor(hashtextextended(m::text, 0)), 0) FROM merchants AS m),
               (SELECT count(*) FROM merchants),
               (SELECT coalesce(bit_xor(hashtextextended(d::text, 0)), 0) FROM domains AS d),
               (SELECT count(*) FROM domains)
        """

    static let merchants = """
        SELECT id, status = 'suspended', click_param, currency::text, postback_token,
               signing_secret, previous_signing_secret, previous_secret_expires_at
        FROM merchants
        """

    static let overQuota = """
        SELECT m.id FROM merchants AS m JOIN link_hours AS h ON h.merchant_id = m.id
        WHERE m.monthly_click_quota IS NOT NULL
          AND h.hour >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        GROUP BY m.id, m.monthly_click_quota HAVING sum(h.clicks) >= m.monthly_click_quota
        """

    static let domains = "SELECT lower(name), default_url FROM domains"

    static let salts = """
        SELECT day, salt FROM visitor_salts
        WHERE day >= (now() AT TIME ZONE 'UTC')::date ORDER BY day LIMIT 2
        """
}

/// A link as it was read, with the fingerprints that tell whether it has changed.
struct LinkRow {
    var definition: LinkDefinition
    /// Of domain and slug.
    var keyHash: UInt64
    /// Of the whole row, by PostgreSQL.
    var rowHash: UInt64
}

extension QueryResult {
    /// A row of ``LinkQueries/linkColumns``; nil when a column is missing that must be there.
    func link(_ row: Int, key: SipHashKey) -> LinkRow? {
        guard let id = uuid(row, 0), let merchant = uuid(row, 1), let influencer = uuid(row, 2),
            let domain = bytes(row, 3), let slug = bytes(row, 4), let destination = bytes(row, 5),
            let hash = int64(row, 13)
        else { return nil }
        var link = LinkDefinition(
            id: id, merchantID: merchant, influencerID: influencer, domain: domain, slug: slug,
            destination: destination)
        link.status = text(row, 6).flatMap { LinkStatus.named($0, by: \.name) } ?? .archived
        link.redirectStatus = int16(row, 7).flatMap { UInt16(exactly: $0) } ?? 302
        link.forwardsQuery = bool(row, 8) ?? false
        link.startsAt = timestamp(row, 9)
        link.expiresAt = timestamp(row, 10)
        link.expiredURL = bytes(row, 11)
        link.fallbackURL = bytes(row, 12)
        let keyHash = LinkKey.trace(domain: domain, slug: slug, seed: key)
        return LinkRow(
            definition: link, keyHash: keyHash, rowHash: UInt64(bitPattern: hash))
    }

    /// A row of ``LinkQueries/merchants``; nil for a currency that is none.
    func merchant(_ row: Int) -> MerchantDefinition? {
        guard let id = uuid(row, 0), let currency = text(row, 3).flatMap({ Currency($0) })
        else { return nil }
        var merchant = MerchantDefinition(
            id: id, clickParameter: bytes(row, 2) ?? [], currency: currency)
        merchant.isSuspended = bool(row, 1) ?? false
        merchant.postbackToken = bytes(row, 4)
        merchant.signingSecret = bytes(row, 5)
        merchant.previousSigningSecret = bytes(row, 6)
        merchant.previousSecretExpiresAt = timestamp(row, 7)
        return merchant
    }
}
