// Migration 8: the statistics that people read, from roll-ups alone.

extension Migration {
    static let statistics = Migration(
        number: 8, name: "statistics",
        sql: #"""
            -- Each count is made on its own before the join: clicks are never multiplied by sales.
            CREATE MATERIALIZED VIEW influencer_stats AS
            SELECT i.id,
                   coalesce(l.total_links, 0) AS total_links,
                   coalesce(c.total_clicks, 0) AS total_clicks,
                   coalesce(s.total_sales, 0) AS total_sales,
                   coalesce(e.total_earnings, 0) AS total_earnings,
                   coalesce(coalesce(s.total_sales, 0)::numeric / nullif(c.total_clicks, 0), 0)
                       AS avg_conversion_rate,
                   coalesce(e.by_currency, '{}') AS total_earnings_by_currency
            FROM influencers AS i
            LEFT JOIN (
                SELECT influencer_id, count(*) AS total_links FROM trackable_links GROUP BY 1
            ) AS l ON l.influencer_id = i.id
            LEFT JOIN (
                SELECT influencer_id, sum(clicks)::bigint AS total_clicks FROM link_hours GROUP BY 1
            ) AS c ON c.influencer_id = i.id
            LEFT JOIN (
                SELECT influencer_id, sum(sales)::bigint AS total_sales FROM sale_days GROUP BY 1
            ) AS s ON s.influencer_id = i.id
            LEFT JOIN (
                SELECT own.id AS influencer_id,
                       sum(major) FILTER (WHERE earned.currency = own.payout_currency)
                           AS total_earnings,
                       jsonb_object_agg(earned.currency, major) AS by_currency
                FROM (
                    SELECT influencer_id, currency,
                           round(sum(amount_minor) / power(10::numeric, currency_exponent(currency::text)),
                                 currency_exponent(currency::text)) AS major
                    FROM earning_days GROUP BY 1, 2
                ) AS earned
                JOIN influencers AS own ON own.id = earned.influencer_id
                GROUP BY 1
            ) AS e ON e.influencer_id = i.id;
            CREATE UNIQUE INDEX influencer_stats_id ON influencer_stats (id);

            CREATE MATERIALIZED VIEW dashboard_stats AS
            SELECT day.merchant_id, day.day AS date, day.daily_sales,
                   coalesce(day.daily_revenue, 0) AS daily_revenue,
                   coalesce(day.daily_revenue / nullif(day.orders, 0), 0) AS avg_order_value,
                   day.daily_revenue_by_currency
            FROM (
                SELECT d.merchant_id, d.day,
                       sum(d.sales)::bigint AS daily_sales,
                       sum(d.revenue) FILTER (WHERE d.currency = m.currency) AS daily_revenue,
                       sum(d.orders) FILTER (WHERE d.currency = m.currency) AS orders,
                       jsonb_object_agg(d.currency, d.revenue) AS daily_revenue_by_currency
                FROM (
                    SELECT merchant_id, day, currency, sum(sales) AS sales, sum(orders) AS orders,
                           sum(revenue) AS revenue
                    FROM sale_days GROUP BY 1, 2, 3
                ) AS d
                LEFT JOIN merchants AS m ON m.id = d.merchant_id
                GROUP BY 1, 2
            ) AS day;
            CREATE UNIQUE INDEX dashboard_stats_merchant_date ON dashboard_stats (merchant_id, date);

            -- Brings the roll-ups up to date, then both views, without locking their readers out.
            CREATE FUNCTION refresh_dashboard_stats() RETURNS void
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $function$
            BEGIN
                PERFORM roll_up_sales();
                REFRESH MATERIALIZED VIEW CONCURRENTLY influencer_stats;
                REFRESH MATERIALIZED VIEW CONCURRENTLY dashboard_stats;
            END
            $function$;
            """#)
}
