// `clickctl link add`, `link show`, `link import`.
internal import ArgumentParser
internal import LinuxIO
internal import Postgres
internal import Tracking

struct LinkCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "link", abstract: "Links.", subcommands: [Add.self, Show.self, Import.self])

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a link; clickd follows within a second.")

        @Option(help: "Its path without the slash: 1...128 bytes of A-Z a-z 0-9 - _ . ~")
        var slug: String
        @Option(help: "The host that it is for; every host when not given.") var domain = ""
        @Option(help: ArgumentHelp("The influencer.", valueName: "uuid")) var influencer: String
        @Option(help: ArgumentHelp("The merchant.", valueName: "uuid")) var merchant: String
        @Option(help: "Where it leads; may hold macros such as {click_id} and {sub1}.")
        var destination: String
        @Option(help: ArgumentHelp("Its identity; a new one when not given.", valueName: "uuid"))
        var id: String?
        @Option(help: "active, paused or archived.") var status = "active"
        @Option(help: "301, 302, 307 or 308.") var redirectStatus = 302
        @Flag(help: "Pass the visitor's own parameters on.") var forwardQuery = false
        @Option(help: "From when on, RFC 3339.") var startsAt: String?
        @Option(help: "Until when, RFC 3339.") var expiresAt: String?
        @Option(name: .customLong("expired-url"), help: "Where it leads when it has expired.")
        var expiredURL: String?
        @Option(
            name: .customLong("fallback-url"),
            help: "Where it leads when it is paused or not yet on."
        )
        var fallbackURL: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let link = NewLink(
                id: try Checked.idOrNew("--id", id), slug: slug, domain: domain,
                influencer: try Checked.id("--influencer", influencer),
                merchant: try Checked.id("--merchant", merchant), destination: destination,
                status: status, redirectStatus: redirectStatus, forwardQuery: forwardQuery,
                startsAt: try Checked.time("--starts-at", startsAt),
                expiresAt: try Checked.time("--expires-at", expiresAt), expiredURL: expiredURL,
                fallbackURL: fallbackURL)
            try link.check { "--\($0)" }
            let connection = try options.connect()
            try connection.requireRow("merchants", "--merchant", link.merchant)
            try connection.requireRow("influencers", "--influencer", link.influencer)
            try connection.insert(
                """
                INSERT INTO trackable_links (\(NewLink.columns))
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8::bigint, $9, $10, $11, $12, $13)
                """, link.parameters,
                taken: "--slug: '\(slug)' on domain '\(domain)' (or --id)")
            writeMade([("id", link.id.description)], output)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the links of a slug, with their clicks of the last 30 days.")

        @Argument(help: "The slug.") var slug: String
        @Option(help: "Only this domain.") var domain: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        private static let columns: [(name: String, kind: Report.Kind)] = [
            ("id", .text), ("slug", .text), ("domain", .text), ("status", .text),
            ("destination_url", .text), ("redirect_status", .number), ("forward_query", .boolean),
            ("influencer_id", .text), ("merchant_id", .text), ("starts_at", .text),
            ("expires_at", .text), ("expired_url", .text), ("fallback_url", .text),
            ("clicks_30d", .number), ("created_at", .text), ("updated_at", .text),
        ]

        func run() throws {
            let connection = try options.connect()
            let result = try connection.rows(
                """
                SELECT id::text, slug, domain, status, destination_url, redirect_status::text,
                    forward_query::text, influencer_id::text, merchant_id::text, starts_at::text,
                    expires_at::text, expired_url, fallback_url,
                    (SELECT coalesce(sum(h.clicks), 0)::text FROM link_hours AS h
                     WHERE h.merchant_id = l.merchant_id AND h.link_id = l.id
                       AND h.hour >= now() - interval '30 days'),
                    created_at::text, updated_at::text
                FROM trackable_links AS l
                WHERE slug = $1 AND ($2::text IS NULL OR domain = $2) ORDER BY domain
                """, [.text(slug), .optional(domain)])
            guard result.count > 0 else {
                throw CommandError.data("slug: '\(Report.plain(slug))' is no link's")
            }
            let report = Report(Show.columns, result)
            if output.json {
                CurrentProcess.writeOutput(report.json)
                return
            }
            for row in report.rows {
                var one = report
                one.rows = [row]
                CurrentProcess.writeOutput(one.lines + "\n")
            }
        }
    }

    struct Import: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add the links of a CSV file: all of them or, on any problem, none.",
            discussion: """
                The first line names the columns: slug, influencer_id, merchant_id and \
                destination_url are needed; id, domain, status, redirect_status, forward_query, \
                starts_at, expires_at, expired_url and fallback_url may be left out.
                """)

        @Argument(help: "The file.") var file: String
        @Flag(help: "Change links that are there already instead of refusing.") var update = false
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let bytes: [UInt8]
            do throws(Errno) {
                bytes = try FileSystem.read(file, limit: LinkImport.Limits.fileBytes)
            } catch {
                throw CommandError.inputOutput(file, error)
            }
            let links = try LinkImport.parse(bytes, file: file)
            let connection = try options.connect()
            let count = try LinkImport.write(links, connection, file: file, update: update)
            CurrentProcess.writeOutput("\(file): \(count) links\n")
        }
    }
}
