// Partitions ahead, fresh statistics and counts for the operations endpoint.
public import Postgres
internal import Tracking

/// What is kept in order beside attribution; its own connection.
public struct Upkeep {
    private let connection: Connection
    private var refreshed: String?

    /// Over a connection that nobody else uses.
    public init(_ connection: Connection) {
        self.connection = connection
    }

    /// Makes the leaves of the next days and months and the next day's visitor salt.
    /// - Returns: How many leaves were missing.
    @discardableResult
    public func makePartitions() throws(PostgresError) -> Int {
        let made = try connection.query(
            """
            SELECT make_click_partitions(today - $1::integer, today + $2::integer)
                 + make_sale_partitions(today - $1::integer,
                       (today + make_interval(months => $3::integer))::date)
            FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock
            """,
            [
                .int32(Int32(ServiceLimits.clickDaysBehind)),
                .int32(Int32(ServiceLimits.clickDaysAhead)),
                .int32(Int32(ServiceLimits.saleMonthsAhead)),
            ])
        try connection.execute("SELECT make_visitor_salts()")
        return Int(made.int64(0, 0) ?? 0)
    }

    /// Refreshes the statistics when something that they show has changed since the last time.
    /// - Returns: Whether it did.
    @discardableResult
    public mutating func refreshStatistics() throws(PostgresError) -> Bool {
        // Taken before the refresh: what changes meanwhile makes the next one due.
        let rows = try connection.query(
            """
            SELECT concat_ws('/',
                (SELECT sum(next_seq) FROM ingest_cursors WHERE stream = 1),
                (SELECT max(updated_at) FROM sales), (SELECT max(updated_at) FROM commissions),
                (SELECT concat(count(*), '-', max(updated_at)) FROM trackable_links),
                (SELECT concat(count(*), '-', max(updated_at)) FROM influencers),
                (SELECT max(updated_at) FROM merchants))
            """)
        let state = rows.text(0, 0)
        guard state != refreshed else { return false }
        try connection.execute("SELECT refresh_dashboard_stats()")
        refreshed = state
        return true
    }

    /// Pending sales, and those among them that are held because something is missing.
    public func countPending() throws(PostgresError) -> (pending: Int, holds: Int) {
        let rows = try connection.query(
            """
            SELECT count(*), count(*) FILTER (WHERE held) FROM (
                SELECT decision->>'outcome' = 'hold' AS held FROM sales
                WHERE status = 'pending' LIMIT $1
            ) AS counted
            """, [.int64(Int64(ServiceLimits.countedSales))])
        return (Int(rows.int64(0, 0) ?? 0), Int(rows.int64(0, 1) ?? 0))
    }
}
