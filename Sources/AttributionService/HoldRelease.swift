// Making commissions payable when their hold has ended and nothing else stands in the way.
internal import Attribution
public import Postgres
public import Tracking

extension AttributionRun {
    /// Releases at most `limit` commissions whose hold has ended; how many there were.
    ///
    /// - Parameter now: The time to judge by; nil for the database's.
    public func release(
        limit: Int = ServiceLimits.releasesPerRun, now: Timestamp? = nil
    ) throws(PostgresError) -> Int {
        try connection.transaction { () throws(PostgresError) in
            let due = try lockDue(limit: limit, now: now)
            guard !due.isEmpty else { return 0 }
            let back = try reversals(of: due)
            let entries = due.compactMap { commission in
                LedgerEntry.release(
                    commission: commission.id, merchant: commission.merchant,
                    influencer: commission.influencer,
                    amountMinor: commission.amountMinor + (back[commission.id] ?? 0),
                    currency: commission.currency)
            }
            try BatchResults.post(entries, connection)
            try connection.execute(
                """
                UPDATE commissions AS c SET payable = true, updated_at = now(),
                    status = CASE WHEN c.reverses IS NULL THEN 'approved' ELSE c.status END,
                    reason = CASE WHEN c.reverses IS NULL THEN NULL ELSE c.reason END
                FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (merchant, sale, id)
                WHERE c.merchant_id = w.merchant AND c.sale_id = w.sale
                  AND w.id IN (c.id, c.reverses)
                """,
                [
                    .uuidArray(due.map(\.merchant)), .uuidArray(due.map(\.sale)),
                    .uuidArray(due.map(\.id)),
                ])
            return due.count
        }
    }

    private struct DueCommission {
        var id: EntityID
        var merchant: EntityID
        var sale: EntityID
        var influencer: EntityID
        var currency: Currency
        var amountMinor: Int64
    }

    private func lockDue(
        limit: Int, now: Timestamp?
    ) throws(PostgresError) -> [DueCommission] {
        // Doubts about the click ('click_…') are for a person; the rest is asked anew.
        let rows = try connection.query(
            """
            SELECT c.id, c.merchant_id, c.sale_id, c.influencer_id, c.currency::text, c.amount_minor
            FROM commissions AS c
            JOIN influencers AS i ON i.id = c.influencer_id
            WHERE c.status = 'pending' AND c.reverses IS NULL
              AND c.hold_until <= coalesce($2::timestamptz, now())
              AND (c.reason IS NULL OR NOT starts_with(c.reason, 'click_'))
              AND i.status = 'active' AND i.kyc_status = 'verified'
            ORDER BY c.hold_until LIMIT $1 FOR UPDATE OF c SKIP LOCKED
            """, [.int64(Int64(limit)), .optional(now)])
        var due: [DueCommission] = []
        for row in 0..<rows.count {
            guard let id = rows.uuid(row, 0), let merchant = rows.uuid(row, 1),
                let sale = rows.uuid(row, 2), let influencer = rows.uuid(row, 3),
                let currency = rows.text(row, 4).flatMap(Currency.init),
                let amount = rows.int64(row, 5)
            else { continue }
            due.append(
                DueCommission(
                    id: id, merchant: merchant, sale: sale, influencer: influencer,
                    currency: currency, amountMinor: amount))
        }
        return due
    }

    /// What refunds took back.
    ///
    /// Asked after the lock, which every refund takes too: none is missed.
    private func reversals(
        of due: [DueCommission]
    ) throws(PostgresError) -> [EntityID: Int64] {
        let rows = try connection.query(
            """
            SELECT c.reverses, sum(c.amount_minor)::bigint
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (merchant, sale, id)
            JOIN commissions AS c ON c.merchant_id = w.merchant AND c.sale_id = w.sale
                AND c.reverses = w.id
            GROUP BY 1
            """,
            [
                .uuidArray(due.map(\.merchant)), .uuidArray(due.map(\.sale)),
                .uuidArray(due.map(\.id)),
            ])
        var sums: [EntityID: Int64] = [:]
        for row in 0..<rows.count {
            if let id = rows.uuid(row, 0), let sum = rows.int64(row, 1) { sums[id] = sum }
        }
        return sums
    }
}
