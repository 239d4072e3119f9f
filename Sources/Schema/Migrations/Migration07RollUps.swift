// Migration 7: roll-ups of sales and commissions, recomputed for the days that changed.

extension Migration {
    static let rollUps = Migration(
        number: 7, name: "roll-ups",
        sql: #"""
            -- Completed sales per merchant, UTC day of the receipt, influencer (all zero: nobody) and
            -- currency. Written by roll_up_sales() alone, which recomputes a merchant's whole day.
            CREATE TABLE sale_days (
                merchant_id uuid NOT NULL,
                day date NOT NULL,
                influencer_id uuid NOT NULL,
                currency char(3) NOT NULL,
                sales bigint NOT NULL DEFAULT 0,
                orders bigint NOT NULL DEFAULT 0,
                revenue numeric NOT NULL DEFAULT 0,
                rolled_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, day, influencer_id, currency)
            );
            -- Commissions and their reversals per merchant, UTC day, influencer and currency.
            CREATE TABLE earning_days (
                merchant_id uuid NOT NULL,
                day date NOT NULL,
                influencer_id uuid NOT NULL,
                currency char(3) NOT NULL,
                amount_minor bigint NOT NULL DEFAULT 0,
                rolled_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, day, influencer_id, currency)
            );
            -- How far the roll-ups have come: all that changed before `through` is in them.
            CREATE TABLE rollup_state (
                name text PRIMARY KEY,
                through timestamptz NOT NULL
            );

            -- Recomputes the days on which a sale or a commission has changed since the last call;
            -- how many (merchant, day) pairs there were. Whoever changes a row sets updated_at.
            CREATE FUNCTION roll_up_sales() RETURNS integer
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
            SET timezone = 'UTC' AS $function$
            DECLARE
                since timestamptz;
                upto timestamptz;
                run timestamptz;
                merchants uuid[];
                days date[];
                pairs integer;
            BEGIN
                PERFORM pg_advisory_xact_lock(x'636c69636b640003'::bigint);
                run := clock_timestamp();
                SELECT through INTO since FROM rollup_state WHERE name = 'sales';
                since := coalesce(since, '-infinity');
                -- A transaction that is still open stamps its rows with its start.
                SELECT least(run, min(xact_start)) - interval '5 seconds' INTO upto
                FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid();

                SELECT array_agg(changed.merchant_id), array_agg(changed.day)
                INTO merchants, days
                FROM (SELECT DISTINCT merchant_id, created_at::date AS day
                      FROM sales WHERE updated_at >= since) AS changed;
                pairs := coalesce(cardinality(days), 0);
                INSERT INTO sale_days
                    (merchant_id, day, influencer_id, currency, sales, orders, revenue, rolled_at)
                SELECT s.merchant_id, c.day,
                       coalesce(s.influencer_id, '00000000-0000-0000-0000-000000000000'), s.currency,
                       count(*), count(*) FILTER (WHERE s.has_amount),
                       coalesce(sum(s.amount) FILTER (WHERE s.has_amount), 0), run
                FROM unnest(merchants, days) AS c (merchant_id, day)
                JOIN sales AS s ON s.merchant_id = c.merchant_id
                    AND s.created_at >= c.day::timestamptz
                    AND s.created_at < (c.day + 1)::timestamptz
                WHERE s.status = 'completed' AND s.event <> 'refund'
                GROUP BY 1, 2, 3, 4
                ON CONFLICT (merchant_id, day, influencer_id, currency) DO UPDATE
                SET sales = excluded.sales, orders = excluded.orders,
                    revenue = excluded.revenue, rolled_at = excluded.rolled_at;
                DELETE FROM sale_days AS d
                USING unnest(merchants, days) AS c (merchant_id, day)
                WHERE d.merchant_id = c.merchant_id AND d.day = c.day AND d.rolled_at <> run;

                SELECT array_agg(changed.merchant_id), array_agg(changed.day)
                INTO merchants, days
                FROM (SELECT DISTINCT merchant_id, created_at::date AS day
                      FROM commissions WHERE updated_at >= since) AS changed;
                pairs := pairs + coalesce(cardinality(days), 0);
                INSERT INTO earning_days
                    (merchant_id, day, influencer_id, currency, amount_minor, rolled_at)
                SELECT m.merchant_id, c.day, m.influencer_id, m.currency, sum(m.amount_minor)::bigint,
                       run
                FROM unnest(merchants, days) AS c (merchant_id, day)
                JOIN commissions AS m ON m.merchant_id = c.merchant_id
                    AND m.created_at >= c.day::timestamptz
                    AND m.created_at < (c.day + 1)::timestamptz
                GROUP BY 1, 2, 3, 4
                ON CONFLICT (merchant_id, day, influencer_id, currency) DO UPDATE
                SET amount_minor = excluded.amount_minor, rolled_at = excluded.rolled_at;
                DELETE FROM earning_days AS d
                USING unnest(merchants, days) AS c (merchant_id, day)
                WHERE d.merchant_id = c.merchant_id AND d.day = c.day AND d.rolled_at <> run;

                INSERT INTO rollup_state (name, through) VALUES ('sales', upto)
                ON CONFLICT (name) DO UPDATE SET through = excluded.through;
                RETURN pairs;
            END
            $function$;
            CREATE INDEX idx_commissions_day ON commissions (merchant_id, created_at);
            """#)
}
