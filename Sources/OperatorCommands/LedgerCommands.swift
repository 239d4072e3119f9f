// `clickctl ledger check`: the books against the commissions that they are about.
internal import ArgumentParser
internal import AttributionService
internal import LinuxIO
internal import Postgres
internal import Tracking

struct LedgerCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "The ledger.", subcommands: [Check.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check that ledger, commissions and sales agree; 65 when they do not.")

        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let connection = try options.connect()
            var report = Report([
                ("check", .text), ("merchant_id", .text), ("id", .text), ("detail", .text),
            ])
            do throws(PostgresError) {
                report.rows = try LedgerCheck.run(connection).map {
                    [$0.check, $0.merchantID.description, $0.id.description, $0.detail]
                }
            } catch {
                throw CommandError.database(error)
            }
            if output.json {
                CurrentProcess.writeOutput(report.json)
            } else if report.rows.isEmpty {
                let count = try connection.rows("SELECT count(*)::text FROM ledger_entries")
                CurrentProcess.writeOutput(
                    "the ledger is in order: \(count.text(0, 0) ?? "0") entries\n")
            } else {
                CurrentProcess.writeOutput(report.text)
            }
            guard report.rows.isEmpty else {
                throw CommandError.data("the ledger is not in order")
            }
        }
    }
}
