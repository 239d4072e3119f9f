// Migration 1: what the platform writes and clickd reads.

extension Migration {
    static let platform = Migration(
        number: 1, name: "platform",
        sql: #"""
            CREATE TABLE merchants (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                name text NOT NULL DEFAULT '',
                status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
                currency char(3) NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
                click_param text NOT NULL DEFAULT 'click_id',
                postback_token text,
                signing_secret text,
                previous_signing_secret text,
                previous_secret_expires_at timestamptz,
                attribution_model text NOT NULL DEFAULT 'last_click' CHECK (attribution_model IN
                    ('last_click', 'first_click', 'linear', 'time_decay', 'position_based')),
                lookback_days integer NOT NULL DEFAULT 30 CHECK (lookback_days BETWEEN 0 AND 3650),
                hold_days integer NOT NULL DEFAULT 30 CHECK (hold_days BETWEEN 0 AND 3650),
                platform_fee_ppm integer NOT NULL DEFAULT 0
                    CHECK (platform_fee_ppm BETWEEN 0 AND 1000000),
                monthly_click_quota bigint CHECK (monthly_click_quota >= 0),
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now()
            );
            CREATE INDEX idx_merchants_updated ON merchants (updated_at);

            CREATE TABLE influencers (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                name text NOT NULL DEFAULT '',
                status text NOT NULL DEFAULT 'active',
                kyc_status text NOT NULL DEFAULT 'unverified'
                    CHECK (kyc_status IN ('unverified', 'pending', 'verified')),
                payout_currency char(3) NOT NULL DEFAULT 'EUR' CHECK (payout_currency ~ '^[A-Z]{3}$'),
                postback_url text,
                postback_secret text,
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now()
            );

            CREATE TABLE trackable_links (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                slug text NOT NULL,
                domain text NOT NULL DEFAULT '',
                influencer_id uuid NOT NULL,
                merchant_id uuid NOT NULL,
                destination_url text NOT NULL,
                status text NOT NULL DEFAULT 'active'
                    CHECK (status IN ('active', 'paused', 'archived')),
                redirect_status smallint NOT NULL DEFAULT 302
                    CHECK (redirect_status IN (301, 302, 307, 308)),
                forward_query boolean NOT NULL DEFAULT false,
                starts_at timestamptz,
                expires_at timestamptz,
                expired_url text,
                fallback_url text,
                click_cap_daily bigint CHECK (click_cap_daily >= 0),
                click_cap_total bigint CHECK (click_cap_total >= 0),
                rules jsonb NOT NULL DEFAULT '[]',
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now(),
                UNIQUE (domain, slug)
            );
            CREATE INDEX idx_links_influencer_status_date
                ON trackable_links (influencer_id, status, created_at DESC);
            CREATE INDEX idx_links_merchant ON trackable_links (merchant_id);
            CREATE INDEX idx_links_updated ON trackable_links (updated_at);

            CREATE TABLE coupons (
                merchant_id uuid NOT NULL,
                code text NOT NULL,
                influencer_id uuid NOT NULL,
                link_id uuid,
                status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, code)
            );

            CREATE TABLE commission_rules (
                id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                merchant_id uuid NOT NULL,
                influencer_id uuid,
                link_id uuid,
                event text,
                sku text,
                category text,
                kind text NOT NULL DEFAULT 'percent' CHECK (kind IN ('percent', 'flat')),
                rate_ppm integer NOT NULL DEFAULT 0 CHECK (rate_ppm BETWEEN 0 AND 1000000),
                amount_minor bigint NOT NULL DEFAULT 0 CHECK (amount_minor >= 0),
                currency char(3),
                tiers jsonb,
                recurring_months integer CHECK (recurring_months >= 0),
                valid_from timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
                valid_to timestamptz,
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now()
            );
            CREATE INDEX idx_rules_merchant ON commission_rules (merchant_id);

            CREATE TABLE domains (
                name text PRIMARY KEY,
                default_url text,
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now()
            );

            CREATE TABLE visitor_salts (
                day date PRIMARY KEY,
                salt bytea NOT NULL CHECK (length(salt) = 32)
            );

            -- Two random UUIDs are 244 random bits; gen_random_uuid() reads the system's randomness.
            CREATE FUNCTION make_visitor_salts() RETURNS void
            LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $function$
                INSERT INTO visitor_salts (day, salt)
                SELECT day, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                FROM unnest(ARRAY[(now() AT TIME ZONE 'UTC')::date,
                                  (now() AT TIME ZONE 'UTC')::date + 1]) AS day
                WHERE NOT EXISTS (SELECT FROM visitor_salts AS made WHERE made.day = day.day)
                ON CONFLICT DO NOTHING;
                DELETE FROM visitor_salts WHERE day < (now() AT TIME ZONE 'UTC')::date - 1;
            $function$;
            """#)
}
