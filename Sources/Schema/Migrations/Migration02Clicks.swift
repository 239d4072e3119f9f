// Migration 2: the recorded clicks, a partition a day.

extension Migration {
    static let clicks = Migration(
        number: 2, name: "clicks",
        sql: #"""
            -- Fixed widths first, so that a row has no padding. No b-tree on the hot leaf: a click is
            -- found by its ID through the BRIN index on the time that the ID holds.
            CREATE TABLE clicks_logs (
                click_id bigint NOT NULL,
                clicked_at timestamptz NOT NULL,
                visitor_id bigint,
                link_id uuid NOT NULL,
                influencer_id uuid NOT NULL,
                merchant_id uuid NOT NULL,
                is_bot boolean NOT NULL DEFAULT false,
                is_unique boolean NOT NULL DEFAULT false,
                ip inet,
                country char(2),
                region text,
                city text,
                device text,
                os text,
                browser text,
                source text,
                referrer_host text,
                language text,
                sub_ids text[],
                aff_click_id text,
                source_id text,
                utm_source text,
                variant text,
                invalid_reason text,
                billing_mark text
            ) PARTITION BY RANGE (clicked_at);
            CREATE INDEX idx_clicks_clicked_at ON clicks_logs
                USING brin (clicked_at) WITH (pages_per_range = 16);

            -- Valid clicks, the unique ones among them, and what does not count, per link and hour.
            -- No two flushers share a ring slot, so none waits for another's row.
            CREATE TABLE link_hours (
                merchant_id uuid NOT NULL,
                link_id uuid NOT NULL,
                influencer_id uuid NOT NULL,
                hour timestamptz NOT NULL,
                ring_slot smallint NOT NULL DEFAULT 0,
                clicks bigint NOT NULL DEFAULT 0,
                unique_clicks bigint NOT NULL DEFAULT 0,
                bots bigint NOT NULL DEFAULT 0,
                invalid bigint NOT NULL DEFAULT 0,
                PRIMARY KEY (merchant_id, link_id, hour, ring_slot)
            );
            CREATE INDEX idx_link_hours_influencer ON link_hours (influencer_id, hour);
            """#)
}
