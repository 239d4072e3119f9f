// What a run decided, gathered column by column for one statement a table.
internal import Attribution
internal import Postgres
internal import Tracking

/// The rows that one run writes.
struct BatchResults {
    var sales = SaleRows()
    var commissions = CommissionRows()
    var entries: [LedgerEntry] = []
    var touchpoints = TouchpointRows()
    /// Verified sales that were decided: claims for the same order give way.
    var superseding: [(merchant: EntityID, order: String, event: String, refund: String)] = []
    /// First rows of which nothing is left.
    var reversed: [(merchant: EntityID, commission: EntityID)] = []
    /// Sales of which nothing is left.
    var refunded: [(merchant: EntityID, sale: EntityID)] = []

    /// Writes everything; called inside the run's transaction.
    func write(_ connection: Connection) throws(PostgresError) {
        try commissions.write(connection)
        try BatchResults.post(entries, connection)
        try touchpoints.write(connection)
        try sales.write(connection)
        try markRefunded(connection)
        try supersede(connection)
    }

    /// Posts ledger rows; one that is there already stays as it is.
    static func post(_ entries: [LedgerEntry], _ connection: Connection) throws(PostgresError) {
        guard !entries.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO ledger_entries (merchant_id, entry_id, debit_account, credit_account,
                amount_minor, currency, kind, commission_id, reverses)
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[],
                $6::text[], $7::text[], $8::uuid[], $9::uuid[])
            ON CONFLICT DO NOTHING
            """,
            [
                .uuidArray(entries.map(\.merchantID)), .uuidArray(entries.map(\.entryID)),
                .textArray(entries.map(\.debit.text)), .textArray(entries.map(\.credit.text)),
                .int64Array(entries.map(\.amountMinor)),
                .textArray(entries.map(\.currency.letters)), .textArray(entries.map(\.kind)),
                .uuidArray(entries.map(\.commissionID)), .uuidArray(entries.map(\.reverses)),
            ])
    }

    private func markRefunded(_ connection: Connection) throws(PostgresError) {
        if !reversed.isEmpty {
            try connection.execute(
                """
                UPDATE commissions AS c SET status = 'reversed', updated_at = now()
                FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, id)
                WHERE c.merchant_id = w.merchant AND c.id = w.id AND c.status <> 'paid'
                """,
                [
                    .uuidArray(reversed.map(\.merchant)), .uuidArray(reversed.map(\.commission)),
                ])
        }
        if !refunded.isEmpty {
            try connection.execute(
                """
                UPDATE sales AS s SET status = 'refunded', updated_at = now()
                FROM unnest($1::uuid[], $2::uuid[]) AS w (merchant, id)
                WHERE s.merchant_id = w.merchant AND s.id = w.id
                """, [.uuidArray(refunded.map(\.merchant)), .uuidArray(refunded.map(\.sale))])
        }
    }

    private func supersede(_ connection: Connection) throws(PostgresError) {
        guard !superseding.isEmpty else { return }
        try connection.execute(
            """
            UPDATE sales AS s
            SET status = 'rejected', reason = 'superseded', due_at = NULL, updated_at = now()
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
                AS w (merchant, ordered, event, refund)
            WHERE s.merchant_id = w.merchant AND s.order_id = w.ordered AND s.event = w.event
              AND s.refund_id = w.refund AND NOT s.verified AND s.status = 'pending'
            """,
            [
                .uuidArray(superseding.map(\.merchant)), .textArray(superseding.map(\.order)),
                .textArray(superseding.map(\.event)), .textArray(superseding.map(\.refund)),
            ])
    }
}

/// Changes of `sales`.
struct SaleRows {
    /// One sale's new columns; those of the attribution are written when it is completed only.
    struct Row {
        var merchantID: EntityID
        var id: EntityID
        var createdAt: Timestamp
        var status: String
        var reason: String?
        var decision: String
        /// nil: never by itself.
        var dueAt: Timestamp?
        var attribution: String?
        var influencerID: EntityID?
        var linkID: EntityID?
        var commissionMinor: Int64?
        var feeMinor: Int64?
        /// A refund's part.
        var amountMinor: Int64?
        var exponent: UInt8
    }

    var rows: [Row] = []

    func write(_ connection: Connection) throws(PostgresError) {
        guard !rows.isEmpty else { return }
        let exponents = rows.map(\.exponent)
        // Statistics follow updated_at: a look that changes nothing for them leaves it alone.
        try connection.execute(
            """
            UPDATE sales AS s SET
                status = w.status, reason = w.reason, decision = w.decision::jsonb,
                due_at = coalesce(w.due_at, 'infinity'),
                attribution = coalesce(w.attribution, s.attribution),
                influencer_id = coalesce(w.influencer_id, s.influencer_id),
                link_id = coalesce(w.link_id, s.link_id),
                influencer_commission = coalesce(w.commission, s.influencer_commission),
                platform_commission = coalesce(w.fee, s.platform_commission),
                amount = coalesce(w.amount, s.amount),
                attributed_at = CASE WHEN w.status = 'completed'
                    THEN coalesce(s.attributed_at, now()) ELSE s.attributed_at END,
                updated_at = CASE WHEN w.status = 'pending' THEN s.updated_at ELSE now() END
            FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[],
                $6::text[], $7::timestamptz[], $8::text[], $9::uuid[], $10::uuid[],
                $11::numeric[], $12::numeric[], $13::numeric[])
                AS w (merchant, id, created_at, status, reason, decision, due_at, attribution,
                    influencer_id, link_id, commission, fee, amount)
            WHERE s.merchant_id = w.merchant AND s.id = w.id AND s.created_at = w.created_at
            """,
            [
                .uuidArray(rows.map(\.merchantID)), .uuidArray(rows.map(\.id)),
                .timestampArray(rows.map(\.createdAt)), .textArray(rows.map(\.status)),
                .textArray(rows.map(\.reason)), .textArray(rows.map(\.decision)),
                .timestampArray(rows.map(\.dueAt)), .textArray(rows.map(\.attribution)),
                .uuidArray(rows.map(\.influencerID)), .uuidArray(rows.map(\.linkID)),
                .numericArray(rows.map(\.commissionMinor), exponents: exponents),
                .numericArray(rows.map(\.feeMinor), exponents: exponents),
                .numericArray(rows.map(\.amountMinor), exponents: exponents),
            ])
    }
}

/// New rows of `commissions`.
struct CommissionRows {
    struct Row {
        var id: EntityID
        var merchantID: EntityID
        var saleID: EntityID
        var influencerID: EntityID
        var amountMinor: Int64
        var status: String
        var isPayable: Bool
        var holdUntil: Timestamp?
        var ruleID: EntityID?
        var reverses: EntityID?
        var terms: FrozenTerms
        var reason: String?
    }

    var rows: [Row] = []

    func write(_ connection: Connection) throws(PostgresError) {
        guard !rows.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO commissions (id, merchant_id, sale_id, influencer_id, amount_minor,
                currency, status, payable, hold_until, rule_id, reverses, terms, reason)
            SELECT w.id, w.merchant, w.sale, w.influencer, w.amount, w.currency, w.status,
                w.payable, w.hold_until, w.rule, w.reverses,
                coalesce(w.terms::jsonb, (SELECT terms FROM commissions AS f
                    WHERE f.merchant_id = w.merchant AND f.id = w.reverses)), w.reason
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[],
                $7::text[], $8::boolean[], $9::timestamptz[], $10::uuid[], $11::uuid[], $12::text[],
                $13::text[])
                AS w (id, merchant, sale, influencer, amount, currency, status, payable, hold_until,
                    rule, reverses, terms, reason)
            ON CONFLICT DO NOTHING
            """,
            [
                .uuidArray(rows.map(\.id)), .uuidArray(rows.map(\.merchantID)),
                .uuidArray(rows.map(\.saleID)), .uuidArray(rows.map(\.influencerID)),
                .int64Array(rows.map(\.amountMinor)),
                .textArray(rows.map(\.terms.currency.letters)), .textArray(rows.map(\.status)),
                .boolArray(rows.map(\.isPayable)), .timestampArray(rows.map(\.holdUntil)),
                .uuidArray(rows.map(\.ruleID)), .uuidArray(rows.map(\.reverses)),
                // A reversal takes the terms over from the first row as they are.
                .textArray(rows.map { $0.reverses == nil ? $0.terms.json.encoded : nil }),
                .textArray(rows.map(\.reason)),
            ])
    }
}

/// New rows of `sale_touchpoints`.
struct TouchpointRows {
    struct Row {
        var merchantID: EntityID
        var saleID: EntityID
        var click: CandidateClick
        var weightPPM: Int32
    }

    var rows: [Row] = []

    func write(_ connection: Connection) throws(PostgresError) {
        guard !rows.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO sale_touchpoints (merchant_id, sale_id, position, click_id, weight_ppm,
                influencer_id, link_id, clicked_at)
            SELECT w.merchant, w.sale, 1, w.click, w.weight, w.influencer, w.link, w.clicked_at
            FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::integer[], $5::uuid[], $6::uuid[],
                $7::timestamptz[])
                AS w (merchant, sale, click, weight, influencer, link, clicked_at)
            ON CONFLICT DO NOTHING
            """,
            [
                .uuidArray(rows.map(\.merchantID)), .uuidArray(rows.map(\.saleID)),
                .int64Array(rows.map { Int64($0.click.id.rawValue) }),
                .int32Array(rows.map(\.weightPPM)), .uuidArray(rows.map(\.click.influencerID)),
                .uuidArray(rows.map(\.click.linkID)),
                .timestampArray(rows.map { $0.click.id.clickedAt }),
            ])
    }
}
