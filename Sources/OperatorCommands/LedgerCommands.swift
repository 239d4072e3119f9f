// `clickctl ledger check`: the books against the commissions that they are about.
internal import ArgumentParser
internal import LinuxIO
internal import Postgres
internal import Tracking

struct LedgerCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "The ledger.", subcommands: [Check.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check that ledger and commissions agree; 65 when they do not.")

        /// One rule that the books keep, and the query that finds what breaks it: an identity and
        /// what is wrong with it.
        struct Rule {
            var name: String
            var sql: String
        }

        /// Findings of one rule that are printed.
        private static let maximumFindings = 100

        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        static let rules = [
            Rule(
                name: "a commission is posted once, with its amount and currency",
                sql: """
                    SELECT c.id::text, format('commission %s %s, posted %s %s', c.amount_minor,
                        c.currency, coalesce(sum(e.amount_minor), 0), coalesce(min(e.currency), '-'))
                    FROM commissions AS c LEFT JOIN ledger_entries AS e
                        ON e.merchant_id = c.merchant_id AND e.commission_id = c.id
                        AND e.kind = 'commission'
                    WHERE c.reverses IS NULL
                    GROUP BY c.merchant_id, c.id, c.amount_minor, c.currency
                    HAVING coalesce(sum(e.amount_minor), 0) <> c.amount_minor OR count(e.entry_id) > 1
                        OR coalesce(min(e.currency), c.currency) <> c.currency
                    """),
            Rule(
                name: "a reversal is posted with its amount and currency",
                sql: """
                    SELECT c.id::text, format('reversal %s %s, posted %s', -c.amount_minor,
                        c.currency, coalesce(sum(e.amount_minor), 0))
                    FROM commissions AS c LEFT JOIN ledger_entries AS e
                        ON e.merchant_id = c.merchant_id AND e.commission_id = c.id
                        AND e.kind = 'reversal' AND e.debit_account LIKE 'influencer:%'
                    WHERE c.reverses IS NOT NULL
                    GROUP BY c.merchant_id, c.id, c.amount_minor, c.currency
                    HAVING coalesce(sum(e.amount_minor), 0) <> -c.amount_minor
                        OR coalesce(min(e.currency), c.currency) <> c.currency
                        OR coalesce(max(e.currency), c.currency) <> c.currency
                    """),
            Rule(
                name: "no more is taken back than was earned",
                sql: """
                    SELECT c.id::text, format('earned %s, reversed %s', c.amount_minor, -sum(r.amount_minor))
                    FROM commissions AS c JOIN commissions AS r
                        ON r.merchant_id = c.merchant_id AND r.reverses = c.id
                    GROUP BY c.merchant_id, c.id, c.amount_minor
                    HAVING c.amount_minor + sum(r.amount_minor) < 0
                    """),
            Rule(
                name: "a fee is taken back only as far as it was charged",
                sql: """
                    SELECT f.commission_id::text, format('charged %s, taken back %s', f.amount_minor,
                        sum(e.amount_minor))
                    FROM ledger_entries AS f JOIN ledger_entries AS e
                        ON e.merchant_id = f.merchant_id AND e.reverses = f.entry_id
                        AND e.debit_account = 'platform:fees'
                    WHERE f.kind = 'fee'
                    GROUP BY f.merchant_id, f.entry_id, f.commission_id, f.amount_minor
                    HAVING sum(e.amount_minor) > f.amount_minor
                    """),
            Rule(
                name: "every entry belongs to a commission of its merchant",
                sql: """
                    SELECT e.entry_id::text, format('%s %s', e.kind, e.amount_minor)
                    FROM ledger_entries AS e
                    WHERE e.kind <> 'adjustment' AND e.kind <> 'payout' AND NOT EXISTS (
                        SELECT FROM commissions AS c
                        WHERE c.merchant_id = e.merchant_id AND c.id = e.commission_id)
                    """),
            Rule(
                name: "an entry names its merchant's own accounts",
                sql: """
                    SELECT entry_id::text, format('%s to %s', debit_account, credit_account)
                    FROM ledger_entries
                    WHERE (debit_account LIKE 'merchant:%'
                           AND debit_account <> 'merchant:' || merchant_id)
                       OR (credit_account LIKE 'merchant:%'
                           AND credit_account <> 'merchant:' || merchant_id)
                    """),
            Rule(
                name: "no influencer's held account is below zero",
                sql: """
                    SELECT account, format('%s %s', sum(amount), currency)
                    FROM (SELECT credit_account AS account, currency, amount_minor::numeric AS amount
                          FROM ledger_entries
                          UNION ALL
                          SELECT debit_account, currency, -amount_minor::numeric
                          FROM ledger_entries) AS moves
                    WHERE account LIKE 'influencer:%:held'
                    GROUP BY account, currency HAVING sum(amount) < 0
                    """),
        ]

        func run() throws {
            let connection = try options.connect()
            var report = Report([("rule", .text), ("of", .text), ("finding", .text)])
            // One snapshot for all rules: daemons go on posting meanwhile.
            do throws(PostgresError) {
                try connection.transaction { () throws(PostgresError) in
                    try connection.script(
                        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    for rule in Check.rules {
                        let found = try connection.query(
                            rule.sql + " LIMIT \(Check.maximumFindings)")
                        for row in 0..<found.count {
                            report.rows.append([rule.name, found.text(row, 0), found.text(row, 1)])
                        }
                    }
                }
            } catch {
                throw CommandError.database(error)
            }
            if output.json {
                CurrentProcess.writeOutput(report.json)
            } else if report.rows.isEmpty {
                let count = try connection.rows("SELECT count(*)::text FROM ledger_entries")
                CurrentProcess.writeOutput(
                    "the ledger is in order: \(count.text(0, 0) ?? "0") entries, "
                        + "\(Check.rules.count) rules\n")
            } else {
                CurrentProcess.writeOutput(report.text)
            }
            guard report.rows.isEmpty else {
                throw CommandError.data("the ledger is not in order")
            }
        }
    }
}
