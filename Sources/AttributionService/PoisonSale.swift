// A sale whose decision the database refuses to store: it rests and is told, the others go on.
public import Postgres
public import Tracking

extension AttributionRun {
    /// Lets the first due sale rest for a while, with a reason.
    /// - Returns: Which one it was; nil when none is due.
    public func setAsideFirst(reason: String) throws(PostgresError) -> EntityID? {
        try connection.transaction { () throws(PostgresError) in
            // The same order in which a run takes them.
            let rows = try connection.query(
                """
                SELECT merchant_id, id, created_at FROM sales
                WHERE status = 'pending' AND (due_at <= now() OR due_at IS NULL)
                ORDER BY due_at NULLS FIRST, created_at LIMIT 1 FOR UPDATE SKIP LOCKED
                """)
            guard let merchant = rows.uuid(0, 0), let id = rows.uuid(0, 1),
                let createdAt = rows.timestamp(0, 2)
            else { return nil }
            try connection.execute(
                """
                UPDATE sales SET reason = $4, due_at = now() + $5::bigint * interval '1 microsecond'
                WHERE merchant_id = $1 AND id = $2 AND created_at = $3
                """,
                [
                    .uuid(merchant), .uuid(id), .timestamp(createdAt), .text(reason),
                    .int64(ServiceLimits.poisonMicroseconds),
                ])
            return id
        }
    }
}
