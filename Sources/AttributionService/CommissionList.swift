// Commissions, newest first, for people and machines.
public import Postgres
public import Tracking

/// A row of `commissions` with the names around it.
public struct CommissionList: Sendable {
    /// Which rows are wanted; nil fields do not narrow.
    public struct Filter: Equatable, Sendable {
        /// Of this merchant.
        public var merchantID: EntityID?
        /// Of this influencer.
        public var influencerID: EntityID?
        /// `pending`, `approved`, `paid` or `reversed`.
        public var status: String?
        /// Payable, or not.
        public var isPayable: Bool?
        /// At most so many rows.
        public var limit = 100

        /// Everything.
        public init() {}
    }

    /// One row.
    public struct Row: Equatable, Sendable {
        /// The commission itself.
        public var commission: SaleReport.CommissionLine
        /// The merchant.
        public var merchantID: EntityID
        /// The merchant's name.
        public var merchantName: String
        /// The sale.
        public var saleID: EntityID
        /// When it was earned.
        public var createdAt: Timestamp
    }

    private static let columns = """
        c.id, c.influencer_id, coalesce(i.name, ''), c.amount_minor, c.currency::text, c.status,
        c.payable, c.hold_until, c.reason, c.rule_id, c.reverses, c.merchant_id,
        coalesce(m.name, ''), c.sale_id, c.created_at
        """

    /// The rows that a filter wants, newest first.
    public static func load(
        _ connection: Connection, _ filter: Filter
    ) throws(PostgresError) -> [Row] {
        let rows = try connection.query(
            """
            SELECT \(columns)
            FROM commissions AS c
            LEFT JOIN influencers AS i ON i.id = c.influencer_id
            LEFT JOIN merchants AS m ON m.id = c.merchant_id
            WHERE ($1::uuid IS NULL OR c.merchant_id = $1::uuid)
              AND ($2::uuid IS NULL OR c.influencer_id = $2::uuid)
              AND ($3::text IS NULL OR c.status = $3::text)
              AND ($4::boolean IS NULL OR c.payable = $4::boolean)
            ORDER BY c.created_at DESC, c.id LIMIT $5
            """,
            [
                .optional(filter.merchantID), .optional(filter.influencerID),
                .optional(filter.status), filter.isPayable.map { .bool($0) } ?? .null,
                .int64(Int64(max(0, filter.limit))),
            ])
        return (0..<rows.count).compactMap { row(rows, $0) }
    }

    static func lines(
        _ connection: Connection, merchant: EntityID, sale: EntityID
    ) throws(PostgresError) -> [SaleReport.CommissionLine] {
        let rows = try connection.query(
            """
            SELECT \(columns)
            FROM commissions AS c
            LEFT JOIN influencers AS i ON i.id = c.influencer_id
            LEFT JOIN merchants AS m ON m.id = c.merchant_id
            WHERE c.merchant_id = $1 AND c.sale_id = $2
            ORDER BY c.reverses NULLS FIRST, c.created_at, c.id
            """, [.uuid(merchant), .uuid(sale)])
        return (0..<rows.count).compactMap { row(rows, $0)?.commission }
    }

    private static func row(_ rows: QueryResult, _ row: Int) -> Row? {
        guard let id = rows.uuid(row, 0), let influencer = rows.uuid(row, 1),
            let amount = rows.int64(row, 3),
            let currency = rows.text(row, 4).flatMap(Currency.init),
            let merchant = rows.uuid(row, 11), let sale = rows.uuid(row, 13),
            let createdAt = rows.timestamp(row, 14)
        else { return nil }
        let line = SaleReport.CommissionLine(
            id: id, influencerID: influencer, influencerName: rows.text(row, 2) ?? "",
            amount: Money(minorUnits: amount, currency: currency), status: rows.text(row, 5) ?? "",
            isPayable: rows.bool(row, 6) ?? false, holdUntil: rows.timestamp(row, 7),
            reason: rows.text(row, 8), ruleID: rows.uuid(row, 9), reverses: rows.uuid(row, 10))
        return Row(
            commission: line, merchantID: merchant, merchantName: rows.text(row, 12) ?? "",
            saleID: sale, createdAt: createdAt)
    }
}
