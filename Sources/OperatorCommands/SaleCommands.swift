// `clickctl sale show` and `clickctl commission list`: what became of conversions.
internal import ArgumentParser
internal import LinuxIO
internal import Postgres
internal import Tracking

struct SaleCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "sale", abstract: "Sales.", subcommands: [Show.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a sale with its journey, commissions and ledger entries.")

        @Argument(help: "The conversion_id; or give --merchant and --order.") var id: String?
        @Option(help: ArgumentHelp("The merchant.", valueName: "uuid")) var merchant: String?
        @Option(help: "The order; its refunds and claims are shown too.") var order: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        private static let sql = """
            SELECT jsonb_build_object(
                'sale', to_jsonb(s) - 'message_digest',
                'touchpoints', (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.position), '[]')
                    FROM sale_touchpoints AS t
                    WHERE t.merchant_id = s.merchant_id AND t.sale_id = s.id),
                'commissions', (SELECT
                    coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.created_at, c.id), '[]')
                    FROM commissions AS c
                    WHERE c.merchant_id = s.merchant_id AND c.sale_id = s.id),
                'ledger', (SELECT
                    coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.posted_at, e.entry_id), '[]')
                    FROM commissions AS c JOIN ledger_entries AS e
                        ON e.merchant_id = c.merchant_id AND e.commission_id = c.id
                    WHERE c.merchant_id = s.merchant_id AND c.sale_id = s.id))::text
            FROM sales AS s
            """

        func validate() throws {
            guard (id != nil) != (merchant != nil || order != nil) else {
                throw ValidationError("give a conversion_id, or --merchant and --order")
            }
            guard (merchant == nil) == (order == nil) else {
                throw ValidationError("--merchant and --order belong together")
            }
        }

        func run() throws {
            let sale = try Checked.id("id", id)
            let merchant = try Checked.id("--merchant", merchant)
            let connection = try options.connect()
            let result: QueryResult
            if let sale {
                result = try connection.rows(
                    Show.sql + " WHERE s.id = $1 ORDER BY s.created_at", [.uuid(sale)])
            } else {
                result = try connection.rows(
                    Show.sql
                        + " WHERE s.merchant_id = $1 AND s.order_id = $2 ORDER BY s.created_at LIMIT 200",
                    [.optional(merchant), .optional(order)])
            }
            guard result.count > 0 else {
                throw CommandError.data("sale: there is none like that (yet)")
            }
            let texts = (0..<result.count).map { result.text($0, 0) ?? "{}" }
            let json = "[" + texts.joined(separator: ",") + "]"
            CurrentProcess.writeOutput(output.json ? json + "\n" : indented(json: json.utf8))
        }
    }
}

struct CommissionCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "commission", abstract: "Commissions.", subcommands: [List.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List commissions and their reversals, the latest first.")

        static let statuses = ["pending", "approved", "paid", "reversed"]

        @Option(help: ArgumentHelp("Only this merchant's.", valueName: "uuid"))
        var merchant: String?
        @Option(help: ArgumentHelp("Only this influencer's.", valueName: "uuid"))
        var influencer: String?
        @Option(help: ArgumentHelp("Only this sale's.", valueName: "uuid")) var sale: String?
        @Option(help: "Only this status: \(statuses.joined(separator: ", ")).") var status: String?
        @Option(help: "So many, 1...10000.") var limit = 50
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        private static let columns: [(name: String, kind: Report.Kind)] = [
            ("created_at", .text), ("order_id", .text), ("amount", .number),
            ("amount_minor", .number), ("currency", .text), ("status", .text),
            ("payable", .boolean), ("reason", .text), ("hold_until", .text),
            ("influencer", .text), ("influencer_id", .text), ("merchant_id", .text),
            ("sale_id", .text), ("id", .text), ("rule_id", .text), ("reverses", .text),
        ]

        func run() throws {
            if let status { _ = try Checked.word("--status", status, List.statuses) }
            let limit = try Checked.integer("--limit", limit, 1...10_000)
            let parameters: [Parameter] = [
                .optional(try Checked.id("--merchant", merchant)),
                .optional(try Checked.id("--influencer", influencer)),
                .optional(try Checked.id("--sale", sale)), .optional(status), .int64(limit),
            ]
            let result = try options.connect().rows(
                """
                SELECT to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                    (SELECT s.order_id FROM sales AS s
                     WHERE s.merchant_id = c.merchant_id AND s.id = c.sale_id LIMIT 1),
                    round(c.amount_minor / power(10::numeric, currency_exponent(c.currency::text)),
                          currency_exponent(c.currency::text))::text,
                    c.amount_minor::text, c.currency::text, c.status, c.payable::text, c.reason,
                    to_char(c.hold_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                    i.name, c.influencer_id::text, c.merchant_id::text, c.sale_id::text,
                    c.id::text, c.rule_id::text, c.reverses::text
                FROM commissions AS c LEFT JOIN influencers AS i ON i.id = c.influencer_id
                WHERE ($1::uuid IS NULL OR c.merchant_id = $1)
                  AND ($2::uuid IS NULL OR c.influencer_id = $2)
                  AND ($3::uuid IS NULL OR c.sale_id = $3)
                  AND ($4::text IS NULL OR c.status = $4)
                ORDER BY c.created_at DESC, c.id LIMIT $5::bigint
                """, parameters)
            var report = Report(List.columns, result)
            if output.json {
                CurrentProcess.writeOutput(report.json)
                return
            }
            // For people: without the identities that only machines need.
            let shown = 10
            report.columns = Array(report.columns.prefix(shown))
            report.rows = report.rows.map { Array($0.prefix(shown)) }
            CurrentProcess.writeOutput(report.text)
        }
    }
}
