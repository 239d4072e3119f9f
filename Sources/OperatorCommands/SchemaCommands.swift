// `clickctl migrate` and `clickctl partition …`.
internal import ArgumentParser
internal import LinuxIO
internal import Postgres
internal import Schema
internal import Tracking

struct MigrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Bring the database to this release's schema; what is there already stays.")

    @OptionGroup var options: ConfigurationOptions

    func run() throws {
        let connection = try options.connect()
        do throws(SchemaError) {
            let applied = try SchemaRunner.migrate(connection)
            let version = try SchemaRunner.version(connection)
            var text = ""
            for migration in applied {
                text += "applied \(migration.number) \(migration.name)\n"
            }
            CurrentProcess.writeOutput("\(text)the schema is at version \(version)\n")
        } catch {
            throw MigrateCommand.failure(error)
        }
    }

    private static func failure(_ error: SchemaError) -> CommandError {
        let cause: PostgresError?
        switch error {
        case .changed: cause = nil
        case .refused(_, _, let inner), .database(let inner): cause = inner
        }
        let isForbidden = cause?.state == .insufficientPrivilege
        return CommandError(exitCode: isForbidden ? 77 : 69, message: "database: \(error)")
    }
}

struct PartitionCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "partition", abstract: "The leaves of clicks_logs and sales.",
        subcommands: [List.self, Make.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the leaves with their bounds, sizes and estimated rows.")

        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let connection = try options.connect()
            let result = try connection.rows(
                """
                SELECT p.relname::text, c.relname::text, pg_get_expr(c.relpartbound, c.oid),
                       pg_total_relation_size(c.oid)::text, greatest(c.reltuples, 0)::bigint::text
                FROM pg_inherits AS i
                JOIN pg_class AS c ON c.oid = i.inhrelid
                JOIN pg_class AS p ON p.oid = i.inhparent
                WHERE p.oid IN ('clicks_logs'::regclass, 'sales'::regclass)
                ORDER BY 1, 2
                """)
            Report(
                [
                    ("table", .text), ("leaf", .text), ("bounds", .text), ("bytes", .number),
                    ("rows", .number),
                ], result
            ).write(output)
        }
    }

    struct Make: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the leaves that the days of a range need; those that are there stay.")

        /// The longest range that the schema's functions take.
        private static let maximumDays: Int32 = 800

        @Option(help: ArgumentHelp("First day.", valueName: "YYYY-MM-DD")) var from: String
        @Option(help: ArgumentHelp("Last day.", valueName: "YYYY-MM-DD")) var to: String
        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            let first = try Checked.day("--from", from)
            let last = try Checked.day("--to", to)
            guard first <= last, last.number - first.number <= Make.maximumDays else {
                throw CommandError.argument(
                    "--to", to,
                    allowed: "a day from --from to \(Make.maximumDays) days later")
            }
            let connection = try options.connect()
            let days: [Parameter] = [.date(first), .date(last)]
            let clicks = try connection.rows("SELECT make_click_partitions($1, $2)", days)
            let sales = try connection.rows("SELECT make_sale_partitions($1, $2)", days)
            CurrentProcess.writeOutput(
                "made \(clicks.int64(0, 0) ?? 0) leaves of clicks_logs, "
                    + "\(sales.int64(0, 0) ?? 0) of sales\n")
        }
    }
}
