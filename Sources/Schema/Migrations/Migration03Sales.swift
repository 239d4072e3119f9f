// Migration 3: the recorded conversions, a partition a month, and what keeps them unique.

extension Migration {
    static let sales = Migration(
        number: 3, name: "sales",
        sql: #"""
            CREATE TABLE sales (
                id uuid NOT NULL,
                created_at timestamptz NOT NULL DEFAULT now(),
                merchant_id uuid NOT NULL,
                order_id text NOT NULL,
                refund_id text NOT NULL DEFAULT '',
                event text NOT NULL DEFAULT 'sale' CHECK (event IN
                    ('sale', 'lead', 'subscription', 'renewal', 'booking', 'refund')),
                event_time timestamptz NOT NULL DEFAULT now(),
                amount numeric DEFAULT 0,
                has_amount boolean NOT NULL DEFAULT true,
                currency char(3) NOT NULL DEFAULT 'EUR',
                status text NOT NULL DEFAULT 'pending' CHECK (status IN
                    ('pending', 'completed', 'rejected', 'refunded')),
                reported_status text NOT NULL DEFAULT 'completed' CHECK (reported_status IN
                    ('pending', 'completed', 'rejected')),
                verified boolean NOT NULL DEFAULT false,
                legacy_token boolean NOT NULL DEFAULT false,
                channel text NOT NULL DEFAULT 'api' CHECK (channel IN
                    ('pixel', 'postback', 'api', 'import')),
                click_id bigint,
                click_path bigint[],
                link_id uuid,
                influencer_id uuid,
                attribution text CHECK (attribution IN ('click', 'coupon', 'customer', 'none')),
                influencer_commission numeric,
                platform_commission numeric,
                customer_id text,
                coupon_code text,
                message_id text,
                message_digest bytea,
                adv text[],
                items jsonb,
                reason text,
                decision jsonb,
                due_at timestamptz DEFAULT now(),
                attributed_at timestamptz,
                updated_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, id, created_at)
            ) PARTITION BY RANGE (created_at);
            CREATE INDEX idx_sales_merchant_date ON sales (merchant_id, created_at DESC)
                WHERE status = 'completed';
            CREATE INDEX idx_sales_due ON sales (due_at) WHERE status = 'pending';
            CREATE INDEX idx_sales_order ON sales (merchant_id, order_id);
            CREATE INDEX idx_sales_customer ON sales (merchant_id, customer_id, event_time)
                WHERE customer_id IS NOT NULL;
            CREATE INDEX idx_sales_click ON sales (click_id) WHERE click_id IS NOT NULL;
            CREATE INDEX idx_sales_updated ON sales (updated_at);

            -- A table partitioned by time cannot hold these keys itself.
            CREATE TABLE sale_keys (
                merchant_id uuid NOT NULL,
                event text NOT NULL,
                order_id text NOT NULL,
                refund_id text NOT NULL DEFAULT '',
                sale_id uuid NOT NULL,
                created_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, event, order_id, refund_id)
            );
            CREATE TABLE message_digests (
                merchant_id uuid NOT NULL,
                message_id text NOT NULL,
                digest bytea NOT NULL,
                sale_id uuid NOT NULL,
                received_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, message_id)
            );
            CREATE INDEX idx_message_digests_received ON message_digests (received_at);

            CREATE TABLE sale_touchpoints (
                merchant_id uuid NOT NULL,
                sale_id uuid NOT NULL,
                position integer NOT NULL,
                click_id bigint NOT NULL,
                weight_ppm integer NOT NULL DEFAULT 0 CHECK (weight_ppm BETWEEN 0 AND 1000000),
                influencer_id uuid,
                link_id uuid,
                clicked_at timestamptz,
                PRIMARY KEY (merchant_id, sale_id, position)
            );

            -- Messages that were refused; merchant_id is all zero where none was named.
            CREATE TABLE intake_log (
                merchant_id uuid NOT NULL,
                received_at timestamptz NOT NULL,
                channel text NOT NULL,
                http_status smallint NOT NULL,
                field text NOT NULL DEFAULT '',
                reason text NOT NULL DEFAULT '',
                order_id text,
                ring_id integer,
                seq bigint
            );
            CREATE INDEX idx_intake_log_merchant ON intake_log (merchant_id, received_at DESC);
            """#)
}
