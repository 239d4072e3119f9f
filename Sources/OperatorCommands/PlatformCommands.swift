// `clickctl merchant add`, `influencer add`, `coupon add`, `rule add`: rows of the tables that the
// platform writes and clickd follows.
internal import ArgumentParser
internal import LinuxIO
internal import Postgres
internal import Telemetry
internal import Tracking

enum PlatformLimits {
    static let nameBytes = 1...200
    static let codeBytes = 1...64
    static let days = 0...3650
    static let partsPerMillion = 0...1_000_000
    /// Bytes of a secret that the tool makes.
    static let secretBytes = 32
}

/// Prints what was made: identities and, this once, new secrets.
func writeMade(_ members: [(name: String, value: String)], _ output: OutputOptions) {
    if output.json {
        let json = JSONText.object { json in
            for (name, value) in members { json.member(name, value) }
        }
        CurrentProcess.writeOutput(json.text + "\n")
    } else {
        for (name, value) in members { CurrentProcess.writeOutput("\(name) \(value)\n") }
    }
}

struct MerchantCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "merchant", abstract: "Merchants.", subcommands: [Add.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Add a merchant.")

        static let models = [
            "last_click", "first_click", "linear", "time_decay", "position_based",
        ]

        @Option(help: "Its name.") var name: String
        @Option(help: ArgumentHelp("Its identity; a new one when not given.", valueName: "uuid"))
        var id: String?
        @Option(help: "ISO 4217 code of its currency.") var currency = "EUR"
        @Option(help: "The query parameter that carries the click's token.")
        var clickParam = "click_id"
        @Option(help: "How sales are attributed: \(models.joined(separator: ", ")).")
        var attributionModel = "last_click"
        @Option(help: "Oldest click that a sale may belong to, 0...3650 days.")
        var lookbackDays = 30
        @Option(help: "Days until a commission is payable, 0...3650.") var holdDays = 30
        @Option(help: "The platform's fee in parts per million of the sale, 0...1000000.")
        var platformFeePpm = 0
        @Option(help: "Clicks of a month that the contract covers; none when not given.")
        var monthlyClickQuota: Int?
        @Flag(help: "Make a signing secret and print it, this once.") var generateSecret = false
        @Flag(help: "Make a postback token and print it, this once.") var generateToken = false
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let id = try Checked.idOrNew("--id", id)
            let isParameter =
                (1...40).contains(clickParam.utf8.count)
                && clickParam.utf8.allSatisfy { isSlugByte($0) }
            guard isParameter else {
                throw CommandError.argument(
                    "--click-param", clickParam, allowed: "1...40 bytes of A-Z a-z 0-9 - _ . ~")
            }
            var parameters: [Parameter] = [
                .uuid(id), .text(try Checked.text("--name", name, bytes: PlatformLimits.nameBytes)),
                .text(try Checked.currency("--currency", currency).letters), .text(clickParam),
                .text(try Checked.word("--attribution-model", attributionModel, Add.models)),
                .int64(try Checked.integer("--lookback-days", lookbackDays, PlatformLimits.days)),
                .int64(try Checked.integer("--hold-days", holdDays, PlatformLimits.days)),
                .int64(
                    try Checked.integer(
                        "--platform-fee-ppm", platformFeePpm, PlatformLimits.partsPerMillion)),
            ]
            var quota: Int64?
            if let given = monthlyClickQuota {
                quota = try Checked.integer("--monthly-click-quota", given, 0...1_000_000_000_000)
            }
            let random = Randomness.bytes(PlatformLimits.secretBytes)
            let secret = generateSecret ? "whsec_\(Base64.encode(random))" : nil
            let token =
                generateToken
                ? hexadecimalText(Randomness.bytes(PlatformLimits.secretBytes / 2)) : nil
            parameters += [.optional(quota), .optional(secret), .optional(token)]
            try options.connect().insert(
                """
                INSERT INTO merchants (id, name, currency, click_param, attribution_model,
                    lookback_days, hold_days, platform_fee_ppm, monthly_click_quota,
                    signing_secret, postback_token)
                VALUES ($1, $2, $3, $4, $5, $6::bigint, $7::bigint, $8::bigint, $9, $10, $11)
                """, parameters, taken: "--id: \(id)")
            var made = [("id", id.description)]
            if let secret { made.append(("signing_secret", secret)) }
            if let token { made.append(("postback_token", token)) }
            writeMade(made, output)
        }
    }
}

struct InfluencerCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "influencer", abstract: "Influencers.", subcommands: [Add.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Add an influencer.")

        @Option(help: "The name.") var name: String
        @Option(help: ArgumentHelp("The identity; a new one when not given.", valueName: "uuid"))
        var id: String?
        @Option(help: "unverified, pending or verified; only verified ones are paid.")
        var kycStatus = "unverified"
        @Option(help: "ISO 4217 code of the currency that is paid out.") var payoutCurrency = "EUR"
        @Option(help: "Where conversions are reported to.") var postbackURL: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let id = try Checked.idOrNew("--id", id)
            if let postbackURL {
                try LinkRules.requireURL("--postback-url", postbackURL)
            }
            let parameters: [Parameter] = [
                .uuid(id), .text(try Checked.text("--name", name, bytes: PlatformLimits.nameBytes)),
                .text(
                    try Checked.word(
                        "--kyc-status", kycStatus, ["unverified", "pending", "verified"])),
                .text(try Checked.currency("--payout-currency", payoutCurrency).letters),
                .optional(postbackURL),
            ]
            try options.connect().insert(
                """
                INSERT INTO influencers (id, name, kyc_status, payout_currency, postback_url)
                VALUES ($1, $2, $3, $4, $5)
                """, parameters, taken: "--id: \(id)")
            writeMade([("id", id.description)], output)
        }
    }
}

struct CouponCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "coupon", abstract: "Coupons.", subcommands: [Add.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a coupon whose sales belong to an influencer.")

        @Option(help: "The code.") var code: String
        @Option(help: ArgumentHelp("The merchant.", valueName: "uuid")) var merchant: String
        @Option(help: ArgumentHelp("The influencer.", valueName: "uuid")) var influencer: String
        @Option(help: ArgumentHelp("The link that it goes with.", valueName: "uuid"))
        var link: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let code = try Checked.text("--code", code, bytes: PlatformLimits.codeBytes)
            let merchant = try Checked.id("--merchant", merchant)
            let influencer = try Checked.id("--influencer", influencer)
            let link = try Checked.id("--link", link)
            let connection = try options.connect()
            try connection.requireRow("merchants", "--merchant", merchant)
            try connection.requireRow("influencers", "--influencer", influencer)
            try connection.requireRow("trackable_links", "--link", link)
            try connection.insert(
                """
                INSERT INTO coupons (merchant_id, code, influencer_id, link_id)
                VALUES ($1, $2, $3, $4)
                """, [.uuid(merchant), .text(code), .uuid(influencer), .optional(link)],
                taken: "--code: \(code)")
            writeMade([("code", code)], output)
        }
    }
}

struct RuleCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "rule", abstract: "Commission rules.", subcommands: [Add.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a commission rule; the most specific one decides.",
            discussion: """
                The most specific wins (influencer and link, influencer, sku, category, merchant), \
                then the latest --valid-from, then the id.
                """)

        @Option(help: ArgumentHelp("The merchant.", valueName: "uuid")) var merchant: String
        @Option(help: ArgumentHelp("Only this influencer.", valueName: "uuid"))
        var influencer: String?
        @Option(help: ArgumentHelp("Only this link.", valueName: "uuid")) var link: String?
        @Option(help: "Only this event: sale, lead, subscription, renewal, booking.")
        var event: String?
        @Option(help: "Only items with this SKU.") var sku: String?
        @Option(help: "Only items of this category.") var category: String?
        @Option(help: "percent or flat.") var kind = "percent"
        @Option(help: "For percent: parts per million of the amount, 0...1000000 (10 % is 100000).")
        var ratePpm: Int?
        @Option(help: "For flat: the amount, such as 5.00.") var amount: String?
        @Option(help: "For flat: ISO 4217 code of the amount.") var currency: String?
        @Option(help: "Months that renewals are paid for; for ever when not given.")
        var recurringMonths: Int?
        @Option(help: "From when on, RFC 3339; always when not given.") var validFrom: String?
        @Option(help: "Until when, RFC 3339; for ever when not given.") var validTo: String?
        @Option(help: ArgumentHelp("Its identity; a new one when not given.", valueName: "uuid"))
        var id: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let id = try Checked.idOrNew("--id", id)
            let merchant = try Checked.id("--merchant", merchant)
            let influencer = try Checked.id("--influencer", influencer)
            let link = try Checked.id("--link", link)
            let terms = try terms()
            let parameters: [Parameter] = [
                .uuid(id), .uuid(merchant), .optional(influencer), .optional(link),
                .optional(try event.map(Add.checkedEvent)),
                .optional(try sku.map { try Checked.text("--sku", $0, bytes: 1...255) }),
                .optional(try category.map { try Checked.text("--category", $0, bytes: 1...255) }),
                .text(kind), .int64(terms.rate), .int64(terms.amount), .optional(terms.currency),
                .optional(
                    try recurringMonths.map {
                        try Checked.integer("--recurring-months", $0, 0...1200)
                    }),
                .optional(try Checked.time("--valid-from", validFrom)),
                .optional(try Checked.time("--valid-to", validTo)),
            ]
            let connection = try options.connect()
            try connection.requireRow("merchants", "--merchant", merchant)
            try connection.requireRow("influencers", "--influencer", influencer)
            try connection.requireRow("trackable_links", "--link", link)
            try connection.insert(
                """
                INSERT INTO commission_rules (id, merchant_id, influencer_id, link_id, event, sku,
                    category, kind, rate_ppm, amount_minor, currency, recurring_months, valid_from,
                    valid_to)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::bigint, $10, $11, $12::bigint,
                    coalesce($13, '2000-01-01 00:00:00+00'::timestamptz), $14)
                """, parameters, taken: "--id: \(id)")
            writeMade([("id", id.description)], output)
        }

        private static func checkedEvent(_ event: String) throws(CommandError) -> String {
            try Checked.word(
                "--event", event, ["sale", "lead", "subscription", "renewal", "booking"])
        }

        /// What the rule pays; the arguments of the other kind are contradictions.
        private func terms() throws(CommandError) -> (
            rate: Int64, amount: Int64, currency: String?
        ) {
            _ = try Checked.word("--kind", kind, ["percent", "flat"])
            if kind == "percent" {
                guard amount == nil, currency == nil else {
                    throw .usage("--amount and --currency belong to --kind flat")
                }
                guard let ratePpm else {
                    throw .usage("--rate-ppm: missing (allowed: 0...1000000)")
                }
                let rate = try Checked.integer(
                    "--rate-ppm", ratePpm, PlatformLimits.partsPerMillion)
                return (rate, 0, nil)
            }
            guard ratePpm == nil else { throw .usage("--rate-ppm belongs to --kind percent") }
            guard let amount, let currency else {
                throw .usage("--amount and --currency: missing (allowed: such as 5.00 and EUR)")
            }
            let money = try Checked.money(
                "--amount", amount, try Checked.currency("--currency", currency))
            return (0, money.minorUnits, money.currency.letters)
        }
    }
}
