// Whether commissions and ledger say the same: every check is one statement that lists offenders.
public import Postgres
public import Tracking

/// Something that does not add up.
public struct LedgerProblem: Equatable, Sendable, CustomStringConvertible {
    /// Which check found it, in one word.
    public var check: String
    /// The merchant.
    public var merchantID: EntityID
    /// The row at fault.
    public var id: EntityID
    /// What was expected and found.
    public var detail: String

    /// One line for people.
    public var description: String { "\(check): merchant \(merchantID), \(id): \(detail)" }
}

/// Checks the ledger against commissions and sales.
public enum LedgerCheck {
    /// What a check is called and how it finds offenders: merchant, row, detail.
    private struct Check {
        var name: String
        var sql: String
    }

    /// All that does not add up; empty for a sound ledger.
    ///
    /// Read in one snapshot.
    public static func run(_ connection: Connection) throws(PostgresError) -> [LedgerProblem] {
        try connection.transaction { () throws(PostgresError) in
            try connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            var problems: [LedgerProblem] = []
            for check in checks {
                let rows = try connection.query(
                    "SELECT * FROM (\(check.sql)) AS found LIMIT $1",
                    [.int64(Int64(ServiceLimits.ledgerProblems))])
                for row in 0..<rows.count {
                    problems.append(
                        LedgerProblem(
                            check: check.name, merchantID: rows.uuid(row, 0) ?? .zero,
                            id: rows.uuid(row, 1) ?? .zero, detail: rows.text(row, 2) ?? ""))
                }
            }
            return problems
        }
    }

    /// What every first commission and its reversals come to, with what the ledger moved for them.
    private static let standing = """
        SELECT f.merchant_id, f.id, f.sale_id, f.influencer_id, f.currency, f.terms, f.payable,
               f.amount_minor AS first,
               f.amount_minor + coalesce(sum(r.amount_minor), 0) AS net,
               (SELECT coalesce(sum(CASE WHEN e.credit_account = 'platform:fees'
                                         THEN e.amount_minor ELSE -e.amount_minor END), 0)
                FROM ledger_entries AS e
                WHERE e.merchant_id = f.merchant_id
                  AND e.commission_id = ANY (array_agg(r.id) || f.id)
                  AND 'platform:fees' IN (e.debit_account, e.credit_account)) AS fee
        FROM commissions AS f
        LEFT JOIN commissions AS r ON r.merchant_id = f.merchant_id AND r.reverses = f.id
            AND r.sale_id = f.sale_id
        WHERE f.reverses IS NULL
        GROUP BY f.merchant_id, f.id
        """

    /// A numeric rounded half to even, in exact arithmetic (numeric's own round goes away from zero).
    private static func halfEven(_ value: String) -> String {
        """
        CASE WHEN (\(value)) - floor(\(value)) = 0.5
             THEN 2 * floor((floor(\(value)) + 1) * 0.5) ELSE round(\(value)) END
        """
    }

    private static let checks: [Check] = [
        Check(
            name: "commission-unposted",
            sql: """
                SELECT c.merchant_id, c.id, 'no ledger row over ' || c.amount_minor
                FROM commissions AS c
                WHERE c.reverses IS NULL AND c.amount_minor > 0 AND NOT EXISTS (
                    SELECT FROM ledger_entries AS e
                    WHERE e.merchant_id = c.merchant_id AND e.commission_id = c.id
                      AND e.kind = 'commission' AND e.amount_minor = c.amount_minor
                      AND e.currency = c.currency
                      AND e.debit_account = 'merchant:' || c.merchant_id
                      AND e.credit_account = 'influencer:' || c.influencer_id || ':held')
                """),
        Check(
            name: "reversal-unposted",
            sql: """
                SELECT c.merchant_id, c.id, 'no ledger row over ' || -c.amount_minor
                FROM commissions AS c
                WHERE c.reverses IS NOT NULL AND NOT EXISTS (
                    SELECT FROM ledger_entries AS e
                    WHERE e.merchant_id = c.merchant_id AND e.commission_id = c.id
                      AND e.kind = 'reversal' AND e.amount_minor = -c.amount_minor
                      AND e.currency = c.currency
                      AND e.credit_account = 'merchant:' || c.merchant_id
                      AND e.debit_account LIKE 'influencer:' || c.influencer_id || ':%')
                """),
        Check(
            name: "entry-orphan",
            sql: """
                SELECT e.merchant_id, e.entry_id, e.kind || ' of no commission'
                FROM ledger_entries AS e
                WHERE e.kind IN ('commission', 'fee', 'release', 'reversal') AND NOT EXISTS (
                    SELECT FROM commissions AS c
                    WHERE c.merchant_id = e.merchant_id AND c.id = e.commission_id)
                """),
        Check(
            name: "entry-repeated",
            sql: """
                SELECT merchant_id, commission_id, count(*) || ' rows of kind ' || kind
                FROM ledger_entries
                WHERE kind IN ('commission', 'fee', 'release', 'reversal')
                GROUP BY merchant_id, commission_id, kind, debit_account = 'platform:fees'
                HAVING count(*) > 1
                """),
        Check(
            name: "commission-orphan",
            sql: """
                SELECT c.merchant_id, c.id, 'of no sale (' || c.sale_id || ')' FROM commissions AS c
                WHERE NOT EXISTS (
                    SELECT FROM sales AS s WHERE s.merchant_id = c.merchant_id AND s.id = c.sale_id)
                """),
        Check(
            name: "commission-negative",
            sql: """
                SELECT merchant_id, id, 'reversed to ' || net FROM (\(standing)) AS c WHERE net < 0
                """),
        Check(
            name: "sale-commission",
            sql: """
                SELECT s.merchant_id, s.id, 'says '
                       || coalesce(s.influencer_commission::text, 'nothing') || ', commissions say ' || c.first
                FROM (SELECT merchant_id, sale_id, currency, sum(amount_minor) AS first
                      FROM commissions WHERE reverses IS NULL GROUP BY 1, 2, 3) AS c
                JOIN sales AS s ON s.merchant_id = c.merchant_id AND s.id = c.sale_id
                WHERE s.currency = c.currency AND s.status IN ('completed', 'refunded')
                  AND s.influencer_commission
                      IS DISTINCT FROM c.first * 0.1 ^ currency_exponent(c.currency::text)
                """),
        Check(
            name: "fee",
            sql: """
                SELECT merchant_id, id, 'fee ' || fee || ' on ' || net
                FROM (\(standing)) AS c
                WHERE terms ? 'fee_ppm'
                  AND fee <> \(halfEven("net * (terms->>'fee_ppm')::numeric * 0.000001"))
                """),
        Check(
            name: "terms",
            sql: """
                SELECT c.merchant_id, c.id, 
                    'commission ' || c.net || ' on ' || c.remaining || ' left'
                FROM (
                    SELECT c.*, s.status AS sale_status,
                           (c.terms->>'amount_minor')::numeric - coalesce((
                               SELECT sum(r.amount) FROM sales AS r
                               WHERE r.merchant_id = s.merchant_id AND r.order_id = s.order_id
                                 AND r.event = 'refund' AND r.status = 'completed'
                                 AND r.decision->>'sale' = s.id::text), 0)
                               * 10::numeric ^ currency_exponent(c.currency::text) AS remaining
                    FROM (\(standing)) AS c
                    JOIN sales AS s ON s.merchant_id = c.merchant_id AND s.id = c.sale_id
                    WHERE c.terms ? 'percent_numerator'
                ) AS c
                WHERE CASE c.sale_status WHEN 'refunded' THEN c.net <> 0 ELSE
                    2 * abs(c.remaining * (c.terms->>'percent_numerator')::numeric
                        - (c.net - (c.terms->>'flat_minor')::numeric)
                            * (c.terms->>'percent_denominator')::numeric)
                        > (c.terms->>'percent_denominator')::numeric END
                """),
        Check(
            name: "held",
            sql: """
                SELECT c.merchant_id, c.id, 'held account keeps ' || b.balance
                FROM (\(standing)) AS c
                CROSS JOIN LATERAL (
                    SELECT coalesce(sum(CASE
                        WHEN e.credit_account = 'influencer:' || c.influencer_id || ':held'
                            THEN e.amount_minor
                        WHEN e.debit_account = 'influencer:' || c.influencer_id || ':held'
                            THEN -e.amount_minor ELSE 0 END), 0) AS balance
                    FROM ledger_entries AS e
                    WHERE e.merchant_id = c.merchant_id AND e.commission_id IN (
                        SELECT x.id FROM commissions AS x WHERE x.merchant_id = c.merchant_id
                          AND x.sale_id = c.sale_id AND c.id IN (x.id, x.reverses))
                ) AS b
                WHERE b.balance <> CASE WHEN c.payable THEN 0 ELSE c.net END
                """),
    ]
}
