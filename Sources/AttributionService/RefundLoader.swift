// Reading the sales that a batch's refunds are about: locked, with what they earned and gave back.
internal import Attribution
internal import Postgres
internal import Tracking

/// A merchant's order.
struct OrderKey: Hashable {
    var merchantID: EntityID
    var orderID: String
}

/// A locked sale with the columns that its refunds copy.
struct LockedTarget {
    var target: RefundTarget
    var createdAt: Timestamp
    var linkID: EntityID?
    var influencerID: EntityID?
    var attribution: String?
}

/// Loads refund targets over one connection, inside the run's transaction.
struct RefundLoader {
    let connection: Connection

    /// The sales of these orders; an order whose sale is in another daemon's hands is left out.
    func load(_ orders: Set<OrderKey>) throws(PostgresError) -> [OrderKey: LockedTarget] {
        guard !orders.isEmpty else { return [:] }
        var targets = try lock(Array(orders))
        guard !targets.isEmpty else { return [:] }
        try loadRefunded(into: &targets)
        try loadCommissions(into: &targets)
        return targets
    }

    private func lock(_ orders: [OrderKey]) throws(PostgresError) -> [OrderKey: LockedTarget] {
        // One order may have several events; the refund is about the first of this list. That is
        // decided before the lock, so that a locked first one does not make way for another.
        let rows = try connection.query(
            """
            SELECT s.merchant_id, s.order_id, s.id, s.created_at, s.status, s.amount,
                   s.currency::text, s.link_id, s.influencer_id, s.attribution
            FROM unnest($1::uuid[], $2::text[]) AS w (merchant, ordered)
            CROSS JOIN LATERAL (
                SELECT id, created_at FROM sales
                WHERE merchant_id = w.merchant AND order_id = w.ordered AND verified
                  AND event <> 'refund'
                ORDER BY array_position(
                    ARRAY['sale', 'subscription', 'renewal', 'booking', 'lead'], event), id LIMIT 1
            ) AS f
            JOIN sales AS s ON s.merchant_id = w.merchant AND s.id = f.id
                AND s.created_at = f.created_at
            FOR UPDATE OF s SKIP LOCKED
            """, [.uuidArray(orders.map(\.merchantID)), .textArray(orders.map(\.orderID))])
        var targets: [OrderKey: LockedTarget] = [:]
        for row in 0..<rows.count {
            guard let merchant = rows.uuid(row, 0), let order = rows.text(row, 1),
                let id = rows.uuid(row, 2), let createdAt = rows.timestamp(row, 3),
                let status = rows.text(row, 4),
                let currency = rows.text(row, 6).flatMap(Currency.init)
            else { continue }
            let standing: RefundTarget.Standing =
                switch status {
                case "completed": .completed
                case "rejected": .rejected
                case "refunded": .refunded
                default: .undecided
                }
            let amount = rows.numericMinor(row, 5, exponent: currency.exponent) ?? 0
            targets[OrderKey(merchantID: merchant, orderID: order)] = LockedTarget(
                target: RefundTarget(
                    saleID: id, standing: standing,
                    amount: Money(minorUnits: amount, currency: currency), refundedMinor: 0,
                    commissions: []),
                createdAt: createdAt, linkID: rows.uuid(row, 7), influencerID: rows.uuid(row, 8),
                attribution: rows.text(row, 9))
        }
        return targets
    }

    /// What earlier refunds took.
    ///
    /// Read after the lock, so that none is missed.
    private func loadRefunded(
        into targets: inout [OrderKey: LockedTarget]
    ) throws(PostgresError) {
        let keys = Array(targets.keys)
        let rows = try connection.query(
            """
            SELECT s.merchant_id, s.order_id, s.currency::text, sum(s.amount)
            FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (merchant, ordered, sale)
            JOIN sales AS s ON s.merchant_id = w.merchant AND s.order_id = w.ordered
            WHERE s.event = 'refund' AND s.status = 'completed' AND s.decision->>'sale' = w.sale
            GROUP BY 1, 2, 3
            """,
            [
                .uuidArray(keys.map(\.merchantID)), .textArray(keys.map(\.orderID)),
                .textArray(keys.map { targets[$0].map { "\($0.target.saleID)" } }),
            ])
        for row in 0..<rows.count {
            guard let merchant = rows.uuid(row, 0), let order = rows.text(row, 1),
                let currency = rows.text(row, 2).flatMap(Currency.init)
            else { continue }
            let key = OrderKey(merchantID: merchant, orderID: order)
            // A sum that cannot be read must not pass for nothing refunded.
            targets[key]?.target.refundedMinor =
                rows.numericMinor(row, 3, exponent: currency.exponent) ?? .max
        }
    }

    private struct PostedRow {
        var key: OrderKey
        var id: EntityID
        var first: EntityID
    }

    private func loadCommissions(
        into targets: inout [OrderKey: LockedTarget]
    ) throws(PostgresError) {
        let keys = Dictionary(
            targets.map { ($1.target.saleID, $0) }, uniquingKeysWith: { first, _ in first })
        let rows = try connection.query(
            """
            SELECT c.sale_id, c.id, c.influencer_id, c.amount_minor, c.reverses, c.payable,
                   c.currency::text, c.terms->>'amount_minor', c.terms->>'percent_numerator',
                   c.terms->>'percent_denominator', c.terms->>'flat_minor', c.terms->>'fee_ppm'
            FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, sale)
            JOIN commissions AS c ON c.merchant_id = w.merchant AND c.sale_id = w.sale
            ORDER BY c.reverses NULLS FIRST, c.id FOR UPDATE OF c
            """,
            [.uuidArray(keys.values.map(\.merchantID)), .uuidArray(Array(keys.keys))])
        var posted: [EntityID: PostedCommission] = [:]
        var rowsOfFirst: [PostedRow] = []
        for row in 0..<rows.count {
            guard let sale = rows.uuid(row, 0), let key = keys[sale], let id = rows.uuid(row, 1),
                let influencer = rows.uuid(row, 2), let amount = rows.int64(row, 3)
            else { continue }
            if let first = rows.uuid(row, 4) {
                posted[first]?.netMinor += amount
                rowsOfFirst.append(PostedRow(key: key, id: id, first: first))
                continue
            }
            guard let terms = terms(rows, row) else {
                targets[key] = nil  // Without its terms nothing can be taken back: it waits.
                continue
            }
            posted[id] = PostedCommission(
                id: id, influencerID: influencer, netMinor: amount, netFeeMinor: 0,
                isReleased: rows.bool(row, 5) ?? false, terms: terms)
            rowsOfFirst.append(PostedRow(key: key, id: id, first: id))
        }
        try loadFees(of: rowsOfFirst, into: &posted)
        for row in rowsOfFirst where row.id == row.first {
            if let commission = posted[row.id] {
                targets[row.key]?.target.commissions.append(commission)
            }
        }
    }

    private func terms(_ rows: QueryResult, _ row: Int) -> FrozenTerms? {
        guard let currency = rows.text(row, 6).flatMap(Currency.init),
            let amount = rows.text(row, 7).flatMap({ Int64($0) }),
            let numerator = rows.text(row, 8).flatMap({ Int128($0) }),
            let denominator = rows.text(row, 9).flatMap({ Int128($0) }),
            let flat = rows.text(row, 10).flatMap({ Int64($0) }),
            let fee = rows.text(row, 11).flatMap({ Int32($0) })
        else { return nil }
        return FrozenTerms(
            amountMinor: amount, currency: currency, percentNumerator: numerator,
            percentDenominator: denominator, flatMinor: flat, feePPM: fee)
    }

    private func loadFees(
        of posted: [PostedRow], into commissions: inout [EntityID: PostedCommission]
    ) throws(PostgresError) {
        guard !posted.isEmpty else { return }
        let firsts = Dictionary(
            posted.map { ($0.id, $0.first) }, uniquingKeysWith: { first, _ in first })
        let rows = try connection.query(
            """
            SELECT e.commission_id, e.debit_account = 'platform:fees', e.amount_minor
            FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, commission)
            JOIN ledger_entries AS e ON e.merchant_id = w.merchant
                AND e.commission_id = w.commission
            WHERE 'platform:fees' IN (e.debit_account, e.credit_account)
            """, [.uuidArray(posted.map(\.key.merchantID)), .uuidArray(posted.map(\.id))])
        for row in 0..<rows.count {
            guard let id = rows.uuid(row, 0), let first = firsts[id],
                let isBack = rows.bool(row, 1), let amount = rows.int64(row, 2)
            else { continue }
            commissions[first]?.netFeeMinor += isBack ? -amount : amount
        }
    }
}
