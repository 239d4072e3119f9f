// Taking pending sales under row locks, and reading their columns.
internal import Attribution
internal import Postgres
internal import Tracking

/// A locked pending sale.
struct DueSale {
    /// The conversion; nil when its columns cannot be used, with `problem`.
    var sale: Sale
    /// `refund_id`.
    var refundID: String
    /// Whether `items` holds anything.
    var hasItems: Bool
    /// Why it cannot be decided.
    var problem: String?
}

/// The sales of one run, locked, and the database's time.
struct DueSales {
    var sales: [DueSale] = []
    var now: Timestamp

    /// Locks at most `limit` due sales that no other daemon has in hand.
    ///
    /// - Parameter now: The time to judge by; nil for the database's.
    static func take(
        _ connection: Connection, limit: Int, now: Timestamp?
    ) throws(PostgresError) -> DueSales {
        let rows = try connection.query(
            """
            SELECT id, created_at, merchant_id, order_id, refund_id, event, event_time, amount,
                   has_amount, currency::text, reported_status, verified, click_id, coupon_code,
                   customer_id, items IS NOT NULL
            FROM sales
            WHERE status = 'pending'
              AND (due_at <= coalesce($2::timestamptz, now()) OR due_at IS NULL)
            ORDER BY due_at NULLS FIRST, created_at LIMIT $1 FOR UPDATE SKIP LOCKED
            """, [.int64(Int64(limit)), .optional(now)])
        var due = DueSales(now: now ?? Timestamp(microseconds: 0))
        if now == nil {
            let clock = try connection.query("SELECT now()")
            guard let time = clock.timestamp(0, 0) else { throw PostgresError("no time was given") }
            due.now = time
        }
        for row in 0..<rows.count {
            guard let sale = read(rows, row) else { throw PostgresError("sales has other columns") }
            due.sales.append(sale)
        }
        return due
    }

    private static func read(_ rows: QueryResult, _ row: Int) -> DueSale? {
        guard let id = rows.uuid(row, 0), let createdAt = rows.timestamp(row, 1),
            let merchant = rows.uuid(row, 2), let order = rows.text(row, 3),
            let refund = rows.text(row, 4), let eventWord = rows.text(row, 5),
            let eventTime = rows.timestamp(row, 6), let hasAmount = rows.bool(row, 8),
            let currencyText = rows.text(row, 9), let reportedWord = rows.text(row, 10),
            let verified = rows.bool(row, 11), let hasItems = rows.bool(row, 15),
            let event = ConversionEvent.named(eventWord, by: \.name),
            let reported = ConversionStatus.named(reportedWord, by: \.name),
            let standIn = Currency("EUR")
        else { return nil }
        var problem: String?
        let currency = Currency(currencyText)
        if currency == nil { problem = "currency_unknown" }
        var minor: Int64 = 0
        if let currency, hasAmount, !rows.isNull(row, 7) {
            if let exact = rows.numericMinor(row, 7, exponent: currency.exponent) {
                minor = exact
            } else {
                problem = "amount_unusable"
            }
        }
        var sale = Sale(
            id: id, merchantID: merchant, event: event, reported: reported, isVerified: verified,
            orderID: order,
            amount: Money(minorUnits: minor, currency: currency ?? standIn),
            hasAmount: hasAmount && !rows.isNull(row, 7), eventTime: eventTime,
            receivedAt: createdAt)
        if let raw = rows.int64(row, 12) {
            sale.clickID = UInt64(exactly: raw).flatMap(ClickID.init(rawValue:))
            if sale.clickID == nil { problem = "click_id_unusable" }
        }
        sale.couponCode = rows.text(row, 13)
        sale.customerID = rows.text(row, 14)
        return DueSale(sale: sale, refundID: refund, hasItems: hasItems, problem: problem)
    }
}
