// What the flusher writes to, by name and type: a schema that has drifted is named when the connection
// is made, and not met row by row.
internal import Postgres

/// The relations and functions that the flusher uses, and only what it uses of them.
enum ExpectedSchema {
    /// Columns by table, each with its type as `format_type` spells it without a length.
    static let tables: [(table: String, columns: [(name: String, type: String)])] = [
        (
            "clicks_logs",
            typed("bigint", "click_id visitor_id") + typed(time, "clicked_at")
                + typed("uuid", "link_id influencer_id merchant_id") + typed("inet", "ip")
                + typed("character", "country")
                + typed(
                    "text",
                    "region city device os browser source referrer_host language aff_click_id "
                        + "source_id utm_source variant billing_mark invalid_reason")
                + typed("text[]", "sub_ids") + typed("boolean", "is_bot is_unique")
        ),
        (
            "link_hours",
            typed("uuid", "merchant_id link_id influencer_id") + typed(time, "hour")
                + typed("smallint", "ring_slot")
                + typed("bigint", "clicks unique_clicks bots invalid")
        ),
        (
            "sales",
            typed("uuid", "id merchant_id") + typed(time, "created_at event_time due_at")
                + typed(
                    "text",
                    "order_id refund_id event status reported_status channel customer_id "
                        + "coupon_code message_id reason")
                + typed("numeric", "amount") + typed("character", "currency")
                + typed("boolean", "has_amount verified legacy_token")
                + typed("bigint", "click_id") + typed("bigint[]", "click_path")
                + typed("bytea", "message_digest") + typed("text[]", "adv")
                + typed("jsonb", "items")
        ),
        (
            "sale_keys",
            typed("uuid", "merchant_id sale_id") + typed("text", "event order_id refund_id")
                + typed(time, "created_at")
        ),
        (
            "message_digests",
            typed("uuid", "merchant_id sale_id") + typed("text", "message_id")
                + typed("bytea", "digest") + typed(time, "received_at")
        ),
        (
            "intake_log",
            typed("uuid", "merchant_id") + typed(time, "received_at")
                + typed("text", "channel field reason order_id")
                + typed("smallint", "http_status") + typed("integer", "ring_id")
                + typed("bigint", "seq")
        ),
        (
            "ingest_cursors",
            typed("integer", "ring_id") + typed("smallint", "stream") + typed("uuid", "ring_uuid")
                + typed("bigint", "epoch next_seq") + typed(time, "watermark retired_at")
        ),
        (
            "ingest_gaps",
            typed("integer", "ring_id") + typed("smallint", "stream") + typed("uuid", "ring_uuid")
                + typed("bigint", "first_seq last_seq") + typed(time, "from_time to_time")
                + typed("text", "cause")
        ),
        (
            "quarantine",
            typed("integer", "ring_id") + typed("smallint", "stream") + typed("uuid", "ring_uuid")
                + typed("bigint", "seq") + typed("text", "relation sqlstate reason")
                + typed("bytea", "record")
        ),
        (
            "nodes",
            typed("smallint", "node_id") + typed("uuid", "spool_uuid")
                + typed("text", "machine key_fingerprint") + typed(time, "last_id_at")
        ),
    ]

    /// Functions with their argument types.
    static let functions = [
        "make_click_partitions(date,date)", "make_sale_partitions(date,date)",
        "summarise_hot_leaf(regclass)",
    ]

    private static let time = "timestamp with time zone"

    private static func typed(
        _ type: String, _ names: String
    ) -> [(name: String, type: String)] {
        names.split(separator: " ").map { (String($0), type) }
    }

    /// What is missing, has another type, or is demanded of every row without being known here; empty
    /// when the database is as it should be.
    static func drift(_ connection: Connection) throws(PostgresError) -> [String] {
        let wanted = tables.flatMap { table, columns in columns.map { (table, $0.name, $0.type) } }
        let found = try connection.query(
            """
            SELECT CASE
                WHEN to_regclass(tab) IS NULL THEN 'table ' || tab || ' is missing'
                WHEN atttypid IS NULL THEN 'column ' || tab || '.' || col || ' is missing'
                ELSE 'column ' || tab || '.' || col || ' is ' || format_type(atttypid, NULL)
                    || ', not ' || typ END
            FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (tab, col, typ)
            LEFT JOIN pg_attribute ON attrelid = to_regclass(tab) AND attname = col
                AND NOT attisdropped
            WHERE atttypid IS NULL OR format_type(atttypid, NULL) <> typ
            UNION
            SELECT 'column ' || attrelid::regclass || '.' || attname
                || ' must be given, and this release does not know it'
            FROM pg_attribute
            WHERE attrelid IN (SELECT to_regclass(tab) FROM unnest($1::text[]) AS mine (tab))
                AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
                AND attidentity = ''
                AND (attrelid, attname::text) NOT IN (
                    SELECT to_regclass(tab)::oid, col FROM unnest($1::text[], $2::text[])
                        AS known (tab, col) WHERE to_regclass(tab) IS NOT NULL)
            UNION
            SELECT 'function ' || name || ' is missing' FROM unnest($4::text[]) AS asked (name)
            WHERE to_regprocedure(name) IS NULL
            ORDER BY 1
            """,
            [
                .textArray(wanted.map { $0.0 }), .textArray(wanted.map { $0.1 }),
                .textArray(wanted.map { $0.2 }), .textArray(functions),
            ])
        return (0..<found.count).compactMap { found.text($0, 0) }
    }
}
