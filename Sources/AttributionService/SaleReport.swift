// One sale with everything that came of it, for people and machines.
internal import Attribution
public import Postgres
public import Tracking

/// A sale, its click, its decision, its commissions and its ledger rows.
public struct SaleReport: Sendable {
    /// A row of `commissions`.
    public struct CommissionLine: Equatable, Sendable {
        /// Its identity.
        public var id: EntityID
        /// Who is owed, or gives back.
        public var influencerID: EntityID
        /// The influencer's name.
        public var influencerName: String
        /// The amount; negative for a reversal.
        public var amount: Money
        /// The word of the contract.
        public var status: String
        /// Whether it may be paid out.
        public var isPayable: Bool
        /// When its hold ends.
        public var holdUntil: Timestamp?
        /// Why it is not payable, or what reversed it.
        public var reason: String?
        /// The rule that weighs most.
        public var ruleID: EntityID?
        /// The first row that it takes back from.
        public var reverses: EntityID?
    }

    /// A row of `ledger_entries`.
    public struct LedgerLine: Equatable, Sendable {
        /// Its identity.
        public var id: EntityID
        /// The word of the contract.
        public var kind: String
        /// The account that gives.
        public var debit: String
        /// The account that takes.
        public var credit: String
        /// The amount.
        public var amount: Money
        /// When it was posted.
        public var postedAt: Timestamp
    }

    /// The click that the sale names, as the database has it.
    public struct ClickLine: Equatable, Sendable {
        /// Its identity.
        public var id: ClickID
        /// Whether its row is there; the fields below are empty when not.
        public var isRecorded: Bool
        /// The link's slug.
        public var slug: String?
        /// Where the visitor came from.
        public var source: String?
        /// The visitor's country.
        public var country: String?
        /// A known bot.
        public var isBot: Bool
        /// Why it was not counted.
        public var invalidReason: String?
    }

    /// The sale.
    public var id: EntityID
    /// Who sold.
    public var merchantID: EntityID
    /// The merchant's name.
    public var merchantName: String
    /// The merchant's order.
    public var orderID: String
    /// Which refund; empty for the first and for sales.
    public var refundID: String
    /// The word of the contract.
    public var event: String
    /// The word of the contract.
    public var status: String
    /// Why it is as it is.
    public var reason: String?
    /// Proved by a signature or the merchant's token.
    public var isVerified: Bool
    /// How it came in.
    public var channel: String
    /// The amount in major units; nil when there is none.
    public var amount: String?
    /// The currency.
    public var currency: String
    /// When the message came.
    public var receivedAt: Timestamp
    /// When it happened.
    public var eventTime: Timestamp
    /// When it was decided.
    public var attributedAt: Timestamp?
    /// By what it was attributed.
    public var attribution: String?
    /// To whom.
    public var influencerID: EntityID?
    /// By which link.
    public var linkID: EntityID?
    /// The coupon.
    public var couponCode: String?
    /// The merchant's customer.
    public var customerID: String?
    /// The stored decision, as JSON text.
    public var decision: String?
    /// The click.
    public var click: ClickLine?
    /// First rows, then reversals.
    public var commissions: [CommissionLine] = []
    /// In the order in which they were posted.
    public var ledger: [LedgerLine] = []

    /// Reads the sales that `key` names: a conversion ID, or an order with its claims and refunds.
    ///
    /// - Parameters:
    ///   - merchant: nil searches all merchants.
    ///   - key: A `conversion_id` or an `order_id`.
    public static func load(
        _ connection: Connection, merchant: EntityID? = nil, key: String
    ) throws(PostgresError) -> [SaleReport] {
        let rows = try connection.query(
            """
            SELECT s.id, s.merchant_id, m.name, s.order_id, s.refund_id, s.event, s.status,
                   s.reason, s.verified, s.channel, s.amount::text, s.currency::text, s.created_at,
                   s.event_time, s.attributed_at, s.attribution, s.influencer_id, s.link_id,
                   s.coupon_code, s.customer_id, s.decision::text, s.click_id
            FROM sales AS s LEFT JOIN merchants AS m ON m.id = s.merchant_id
            WHERE ($1::uuid IS NULL OR s.merchant_id = $1::uuid)
              AND (s.id = $2::uuid OR s.order_id = $3::text)
            ORDER BY s.created_at, s.id LIMIT 100
            """, [.optional(merchant), .optional(EntityID(key)), .text(key)])
        var reports: [SaleReport] = []
        for row in 0..<rows.count {
            guard var report = SaleReport(rows, row) else { continue }
            if let raw = rows.int64(row, 21).flatMap({ UInt64(exactly: $0) }),
                let id = ClickID(rawValue: raw)
            {
                report.click = try click(id, connection)
            }
            try report.loadMoney(connection)
            reports.append(report)
        }
        return reports
    }

    private init?(_ rows: QueryResult, _ row: Int) {
        guard let id = rows.uuid(row, 0), let merchant = rows.uuid(row, 1),
            let receivedAt = rows.timestamp(row, 12), let eventTime = rows.timestamp(row, 13)
        else { return nil }
        self.id = id
        merchantID = merchant
        merchantName = rows.text(row, 2) ?? ""
        orderID = rows.text(row, 3) ?? ""
        refundID = rows.text(row, 4) ?? ""
        event = rows.text(row, 5) ?? ""
        status = rows.text(row, 6) ?? ""
        reason = rows.text(row, 7)
        isVerified = rows.bool(row, 8) ?? false
        channel = rows.text(row, 9) ?? ""
        amount = rows.text(row, 10)
        currency = rows.text(row, 11) ?? ""
        self.receivedAt = receivedAt
        self.eventTime = eventTime
        attributedAt = rows.timestamp(row, 14)
        attribution = rows.text(row, 15)
        influencerID = rows.uuid(row, 16)
        linkID = rows.uuid(row, 17)
        couponCode = rows.text(row, 18)
        customerID = rows.text(row, 19)
        decision = rows.text(row, 20)
    }

    private static func click(
        _ id: ClickID, _ connection: Connection
    ) throws(PostgresError) -> ClickLine {
        let rows = try connection.query(
            """
            SELECT l.slug, c.source, c.country::text, c.is_bot, c.invalid_reason
            FROM clicks_logs AS c LEFT JOIN trackable_links AS l ON l.id = c.link_id
            WHERE c.clicked_at = $1 AND c.click_id = $2 LIMIT 1
            """, [.timestamp(id.clickedAt), .int64(Int64(id.rawValue))])
        return ClickLine(
            id: id, isRecorded: rows.count > 0, slug: rows.text(0, 0), source: rows.text(0, 1),
            country: rows.text(0, 2), isBot: rows.bool(0, 3) ?? false,
            invalidReason: rows.text(0, 4))
    }

    private mutating func loadMoney(_ connection: Connection) throws(PostgresError) {
        commissions = try CommissionList.lines(connection, merchant: merchantID, sale: id)
        let rows = try connection.query(
            """
            SELECT e.entry_id, e.kind, e.debit_account, e.credit_account, e.amount_minor,
                   e.currency::text, e.posted_at
            FROM ledger_entries AS e
            JOIN commissions AS c ON c.merchant_id = e.merchant_id AND c.id = e.commission_id
            WHERE c.merchant_id = $1 AND c.sale_id = $2
            ORDER BY e.posted_at, e.kind, e.entry_id
            """, [.uuid(merchantID), .uuid(id)])
        for row in 0..<rows.count {
            guard let entry = rows.uuid(row, 0), let amount = rows.int64(row, 4),
                let currency = rows.text(row, 5).flatMap(Currency.init),
                let postedAt = rows.timestamp(row, 6)
            else { continue }
            ledger.append(
                LedgerLine(
                    id: entry, kind: rows.text(row, 1) ?? "", debit: rows.text(row, 2) ?? "",
                    credit: rows.text(row, 3) ?? "",
                    amount: Money(minorUnits: amount, currency: currency), postedAt: postedAt))
        }
    }
}
