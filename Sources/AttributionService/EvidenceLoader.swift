// Reading what is known of a batch of sales: one statement for each kind of evidence.
internal import Attribution
internal import Postgres
internal import Tracking

/// What the database knows of the sales of one run.
struct BatchEvidence {
    var settings: [EntityID: MerchantSettings] = [:]
    var rules: [EntityID: RuleBook] = [:]
    var cursors: [UInt16: [RingCursor]] = [:]
    var clicks: [ClickID: [CandidateClick]] = [:]
    var coupons: [EntityID: CouponOwner] = [:]
    var customers: [EntityID: CustomerEvidence] = [:]
    var superseded: Set<EntityID> = []
    var items: [EntityID: [SaleItem]] = [:]
    /// Influencers of commissions that exist already, by sale.
    var existing: [EntityID: Set<EntityID>] = [:]

    /// The evidence for one sale.
    func evidence(for sale: Sale) -> Evidence {
        Evidence(
            settings: settings[sale.merchantID], click: click(of: sale),
            coupon: coupons[sale.id], customer: customers[sale.id] ?? .unknown,
            isSuperseded: superseded.contains(sale.id))
    }

    private func click(of sale: Sale) -> ClickEvidence {
        guard let id = sale.clickID else { return .notNamed }
        let rows = clicks[id] ?? []
        if let only = rows.first { return rows.count == 1 ? .landed(only) : .ambiguous }
        return .missing(RingProgress.judge(cursors[id.ring] ?? [], clickedAt: id.clickedAt))
    }
}

/// Loads evidence over one connection, inside the run's transaction.
struct EvidenceLoader {
    let connection: Connection

    /// Everything about `due`.
    func load(_ due: [DueSale]) throws(PostgresError) -> BatchEvidence {
        var found = BatchEvidence()
        guard !due.isEmpty else { return found }
        let merchants = Array(Set(due.map { $0.sale.merchantID })).sorted()
        let sales = due.map(\.sale)
        try loadSettings(of: merchants, into: &found)
        try loadRules(of: merchants, into: &found)
        try loadClicks(of: sales, into: &found)
        try loadCoupons(of: sales, into: &found)
        try loadCustomers(of: sales, into: &found)
        try loadSuperseding(of: due, into: &found)
        try loadItems(of: due, into: &found)
        try loadExisting(of: sales, into: &found)
        return found
    }

    private func loadSettings(
        of merchants: [EntityID], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let rows = try connection.query(
            """
            SELECT id, attribution_model, lookback_days, hold_days, platform_fee_ppm
            FROM merchants WHERE id = ANY ($1)
            """, [.uuidArray(merchants)])
        for row in 0..<rows.count {
            guard let id = rows.uuid(row, 0), let model = rows.text(row, 1),
                let lookback = rows.int32(row, 2), let hold = rows.int32(row, 3),
                let fee = rows.int32(row, 4)
            else { continue }
            found.settings[id] = MerchantSettings(
                model: model, lookbackDays: lookback, holdDays: hold, platformFeePPM: fee)
        }
    }

    private func loadRules(
        of merchants: [EntityID], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let rows = try connection.query(
            """
            SELECT merchant_id, id, influencer_id, link_id, event, sku, category, kind, rate_ppm,
                   amount_minor, currency::text, recurring_months, valid_from, valid_to
            FROM commission_rules WHERE merchant_id = ANY ($1)
            """, [.uuidArray(merchants)])
        var lists: [EntityID: [CommissionRule]] = [:]
        for row in 0..<rows.count {
            guard let merchant = rows.uuid(row, 0), let rule = rule(rows, row) else { continue }
            lists[merchant, default: []].append(rule)
        }
        for (merchant, list) in lists { found.rules[merchant] = RuleBook(list) }
    }

    /// A rule; nil for one that names an event or currency that does not exist.
    private func rule(_ rows: QueryResult, _ row: Int) -> CommissionRule? {
        guard let id = rows.uuid(row, 1), let from = rows.timestamp(row, 12) else { return nil }
        let kind: CommissionRule.Kind
        if rows.text(row, 7) == "flat" {
            let currency = rows.text(row, 10)
            guard let units = rows.int64(row, 9),
                currency == nil || currency.flatMap(Currency.init) != nil
            else { return nil }
            kind = .flat(minorUnits: units, currency: currency.flatMap(Currency.init))
        } else {
            guard let parts = rows.int32(row, 8) else { return nil }
            kind = .percent(partsPerMillion: parts)
        }
        var rule = CommissionRule(id: id, kind: kind, validFrom: from)
        rule.influencerID = rows.uuid(row, 2)
        rule.linkID = rows.uuid(row, 3)
        if let word = rows.text(row, 4) {
            guard let event = ConversionEvent.named(word, by: \.name) else { return nil }
            rule.event = event
        }
        rule.sku = rows.text(row, 5)
        rule.category = rows.text(row, 6)
        rule.recurringMonths = rows.int32(row, 11)
        rule.validTo = rows.timestamp(row, 13)
        return rule
    }

    /// Watermarks first: what they promise is then in the snapshot that looks for the clicks.
    private func loadClicks(
        of sales: [Sale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let ids = Array(Set(sales.compactMap(\.clickID))).sorted()
        guard !ids.isEmpty else { return }
        let rings = Array(Set(ids.map { Int32($0.ring) })).sorted()
        let cursors = try connection.query(
            """
            SELECT ring_id, watermark, retired_at IS NOT NULL FROM ingest_cursors
            WHERE stream = 1 AND ring_id = ANY ($1)
            """, [.int32Array(rings)])
        for row in 0..<cursors.count {
            guard let ring = cursors.int64(row, 0).flatMap({ UInt16(exactly: $0) }) else {
                continue
            }
            found.cursors[ring, default: []].append(
                RingCursor(
                    watermark: cursors.timestamp(row, 1), isRetired: cursors.bool(row, 2) ?? false))
        }
        // The LIMIT keeps the look-up a nested loop: each click reads its own leaf by its own time.
        try connection.execute("SET LOCAL enable_seqscan = off")
        let rows = try connection.query(
            """
            SELECT c.click_id, c.link_id, c.influencer_id, c.merchant_id, c.is_bot, c.invalid_reason
            FROM unnest($1::bigint[], $2::timestamptz[]) AS wanted (id, at)
            CROSS JOIN LATERAL (
                SELECT * FROM clicks_logs
                WHERE clicked_at = wanted.at AND click_id = wanted.id LIMIT 2
            ) AS c
            """,
            [
                .int64Array(ids.map { Int64($0.rawValue) }),
                .timestampArray(ids.map { $0.clickedAt }),
            ])
        try connection.execute("SET LOCAL enable_seqscan = on")
        for row in 0..<rows.count {
            guard let raw = rows.int64(row, 0).flatMap({ UInt64(exactly: $0) }),
                let id = ClickID(rawValue: raw), let link = rows.uuid(row, 1),
                let influencer = rows.uuid(row, 2), let merchant = rows.uuid(row, 3)
            else { continue }
            let word = rows.text(row, 5)
            let reason = word.flatMap { InvalidReason.named($0, by: \.name) }
            found.clicks[id, default: []].append(
                CandidateClick(
                    id: id, linkID: link, influencerID: influencer, merchantID: merchant,
                    // A reason that this release does not know is no reason to pay.
                    isBot: (rows.bool(row, 4) ?? true) || (word != nil && reason == nil),
                    invalidReason: reason))
        }
    }

    private func loadCoupons(
        of sales: [Sale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let named = sales.filter { $0.couponCode != nil && $0.isVerified }
        guard !named.isEmpty else { return }
        // Shoppers type coupons as they like; the code as sent comes before its upper-case form.
        let rows = try connection.query(
            """
            SELECT DISTINCT ON (w.sale) w.sale, c.influencer_id, c.link_id
            FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS w (sale, merchant, code)
            JOIN coupons AS c ON c.merchant_id = w.merchant AND c.status = 'active'
                AND c.code IN (w.code, upper(w.code))
            ORDER BY w.sale, c.code = w.code DESC
            """,
            [
                .uuidArray(named.map(\.id)), .uuidArray(named.map(\.merchantID)),
                .textArray(named.map(\.couponCode)),
            ])
        for row in 0..<rows.count {
            guard let sale = rows.uuid(row, 0), let influencer = rows.uuid(row, 1) else { continue }
            found.coupons[sale] = CouponOwner(influencerID: influencer, linkID: rows.uuid(row, 2))
        }
    }

    private func loadCustomers(
        of sales: [Sale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let renewals = sales.filter {
            $0.event == .renewal && $0.customerID != nil && $0.isVerified
        }
        guard !renewals.isEmpty else { return }
        let rows = try connection.query(
            """
            SELECT w.sale, f.status, f.influencer_id, f.link_id, f.event_time
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
                AS w (sale, merchant, customer, at)
            CROSS JOIN LATERAL (
                SELECT status, influencer_id, link_id, event_time FROM sales AS s
                WHERE s.merchant_id = w.merchant AND s.customer_id = w.customer AND s.verified
                  AND s.event NOT IN ('renewal', 'refund') AND s.status <> 'rejected'
                  AND s.event_time <= w.at
                ORDER BY s.event_time, s.id LIMIT 1
            ) AS f
            """,
            [
                .uuidArray(renewals.map(\.id)), .uuidArray(renewals.map(\.merchantID)),
                .textArray(renewals.map(\.customerID)), .timestampArray(renewals.map(\.eventTime)),
            ])
        for row in 0..<rows.count {
            guard let sale = rows.uuid(row, 0), let at = rows.timestamp(row, 4) else { continue }
            if rows.text(row, 1) == "pending" {
                found.customers[sale] = .undecided
            } else if let influencer = rows.uuid(row, 2) {
                found.customers[sale] = .first(
                    influencerID: influencer, linkID: rows.uuid(row, 3), at: at)
            }
        }
    }

    /// Which claims have a verified message for the same order beside them.
    private func loadSuperseding(
        of due: [DueSale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let claims = due.filter { !$0.sale.isVerified }
        guard !claims.isEmpty else { return }
        let rows = try connection.query(
            """
            SELECT w.sale
            FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
                AS w (sale, merchant, ordered, event, refund)
            WHERE EXISTS (
                SELECT FROM sales AS s
                WHERE s.merchant_id = w.merchant AND s.order_id = w.ordered
                  AND s.event = w.event AND s.refund_id = w.refund AND s.verified)
            """,
            [
                .uuidArray(claims.map(\.sale.id)), .uuidArray(claims.map(\.sale.merchantID)),
                .textArray(claims.map(\.sale.orderID)), .textArray(claims.map(\.sale.event.name)),
                .textArray(claims.map(\.refundID)),
            ])
        for row in 0..<rows.count {
            if let sale = rows.uuid(row, 0) { found.superseded.insert(sale) }
        }
    }

    /// Baskets, for merchants whose rules look at them.
    private func loadItems(
        of due: [DueSale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let wanted = due.filter {
            $0.hasItems && found.rules[$0.sale.merchantID]?.knowsItems == true
        }
        guard !wanted.isEmpty else { return }
        let rows = try connection.query(
            """
            SELECT s.id, i.item->>'sku', i.item->>'category', i.item->>'quantity', i.item->>'price'
            FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, sale)
            JOIN sales AS s ON s.merchant_id = w.merchant AND s.id = w.sale
            CROSS JOIN LATERAL jsonb_array_elements(
                CASE jsonb_typeof(s.items) WHEN 'array' THEN s.items ELSE '[]' END) AS i (item)
            """,
            [.uuidArray(wanted.map(\.sale.merchantID)), .uuidArray(wanted.map(\.sale.id))])
        let currencies = Dictionary(
            wanted.map { ($0.sale.id, $0.sale.amount.currency) },
            uniquingKeysWith: { first, _ in first })
        for row in 0..<rows.count {
            guard let sale = rows.uuid(row, 0), let currency = currencies[sale] else { continue }
            // A line that cannot be read counts as one of no known worth: the basket is left aside.
            found.items[sale, default: []].append(
                SaleItem(
                    sku: rows.text(row, 1), category: rows.text(row, 2),
                    quantity: rows.text(row, 3).map { Int64($0) ?? 0 } ?? 1,
                    priceMinor: minorUnits(rows.text(row, 4), currency) ?? -1))
        }
    }

    private func minorUnits(_ text: String?, _ currency: Currency) -> Int64? {
        guard var text else { return nil }
        return text.withUTF8 { bytes in
            do {
                return try Money(decimal: UnsafeRawBufferPointer(bytes), currency: currency)
                    .minorUnits
            } catch { return nil }
        }
    }

    private func loadExisting(
        of sales: [Sale], into found: inout BatchEvidence
    ) throws(PostgresError) {
        let rows = try connection.query(
            """
            SELECT c.sale_id, c.influencer_id
            FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, sale)
            JOIN commissions AS c ON c.merchant_id = w.merchant AND c.sale_id = w.sale
                AND c.reverses IS NULL
            """, [.uuidArray(sales.map(\.merchantID)), .uuidArray(sales.map(\.id))])
        for row in 0..<rows.count {
            guard let sale = rows.uuid(row, 0), let influencer = rows.uuid(row, 1) else { continue }
            found.existing[sale, default: []].insert(influencer)
        }
    }
}
