// The sample platform: 3 merchants, 12 influencers, 1,000 links, their rules and coupons. Identities
// are fixed so that commands can be pasted; secrets are made anew for each database.
internal import LinuxIO
internal import Tracking

/// A small platform to try the product with.
public enum SampleData {
    /// The merchants' identities, by number 1...3.
    public static func merchant(_ number: Int) -> String {
        "00000000-0000-4000-8000-00000000100\(number)"
    }
    /// Links in the sample.
    public static let links = 1000
    /// The slug of a link, by number 1...1000; the first is `demo`.
    public static func slug(_ number: Int) -> String { number == 1 ? "demo" : "s\(number)" }

    /// One statement after another that fill an empty platform; nothing changes where rows are.
    public static func sql() -> String {
        let secrets = (1...3).map { _ in "whsec_" + Base64.encode(Randomness.bytes(32)) }
        let tokens = (1...3).map { _ in hexadecimalText(Randomness.bytes(24)) }
        return """
            INSERT INTO merchants (id, name, currency, signing_secret, postback_token, lookback_days,
                                   hold_days, platform_fee_ppm)
            VALUES ('\(merchant(1))', 'Atelier Rive', 'EUR', '\(secrets[0])', '\(tokens[0])', 30, 14, 30000),
                   ('\(merchant(2))', 'Northwind Gear', 'USD', '\(secrets[1])', '\(tokens[1])', 30, 30, 25000),
                   ('\(merchant(3))', 'Sakura Tea', 'JPY', '\(secrets[2])', '\(tokens[2])', 7, 0, 20000)
            ON CONFLICT DO NOTHING;
            INSERT INTO influencers (id, name, kyc_status, payout_currency)
            SELECT ('00000000-0000-4000-8000-' || lpad((2000 + n)::text, 12, '0'))::uuid,
                   (ARRAY['Amina','Bruno','Chloe','Daan','Elif','Farid','Giulia','Hana','Ivo','Jade','Kofi','Lena'])[n],
                   CASE WHEN n % 4 = 0 THEN 'pending' ELSE 'verified' END,
                   (ARRAY['EUR','USD','JPY'])[1 + n % 3]
            FROM generate_series(1, 12) AS n ON CONFLICT DO NOTHING;
            INSERT INTO trackable_links (id, slug, influencer_id, merchant_id, destination_url)
            SELECT ('00000000-0000-4000-8000-' || lpad((300000 + n)::text, 12, '0'))::uuid,
                   CASE WHEN n = 1 THEN 'demo' ELSE 's' || n END,
                   ('00000000-0000-4000-8000-' || lpad((2001 + n % 12)::text, 12, '0'))::uuid,
                   ('00000000-0000-4000-8000-' || lpad((1001 + n % 3)::text, 12, '0'))::uuid,
                   'https://shop.example/products/' || n || '?ref=clickd&sub={sub1}'
            FROM generate_series(1, \(links)) AS n ON CONFLICT DO NOTHING;
            INSERT INTO commission_rules (id, merchant_id, influencer_id, kind, rate_ppm)
            VALUES ('00000000-0000-4000-8000-000000004001', '\(merchant(1))', NULL, 'percent', 80000),
                   ('00000000-0000-4000-8000-000000004002', '\(merchant(2))', NULL, 'percent', 100000),
                   ('00000000-0000-4000-8000-000000004003', '\(merchant(3))', NULL, 'percent', 120000),
                   ('00000000-0000-4000-8000-000000004004', '\(merchant(2))',
                    '00000000-0000-4000-8000-000000002002', 'percent', 150000)
            ON CONFLICT DO NOTHING;
            INSERT INTO coupons (merchant_id, code, influencer_id)
            VALUES ('\(merchant(1))', 'AMINA10', '00000000-0000-4000-8000-000000002001'),
                   ('\(merchant(2))', 'BRUNO10', '00000000-0000-4000-8000-000000002002')
            ON CONFLICT DO NOTHING;
            """
    }
}
