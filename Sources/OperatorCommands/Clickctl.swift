// The commands of clickctl: verb on noun, --json on every read verb, exit codes of contract 1.
internal import ArgumentParser
internal import LinuxIO

/// What the executable runs.
public enum OperatorTool {
    /// Parses the process's arguments, runs the command and ends the process.
    public static func run() -> Never {
        do {
            var command = try Clickctl.parseAsRoot()
            try command.run()
            CurrentProcess.exit(0)
        } catch let error as CommandError {
            CurrentProcess.writeError("clickctl: \(error.message)\n")
            CurrentProcess.exit(error.exitCode)
        } catch {
            Clickctl.exit(withError: error)
        }
    }

    /// Parses arguments without running them: the exit code that they would end with and what would
    /// be printed, or nil when they are a command.
    static func refusal(of arguments: [String]) -> (exitCode: Int32, message: String)? {
        do {
            _ = try Clickctl.parseAsRoot(arguments)
            return nil
        } catch {
            return (Clickctl.exitCode(for: error).rawValue, Clickctl.fullMessage(for: error))
        }
    }

    /// Runs arguments as the tool would; nil when they succeed.
    static func failure(of arguments: [String]) -> (exitCode: Int32, message: String)? {
        do {
            var command = try Clickctl.parseAsRoot(arguments)
            try command.run()
            return nil
        } catch let error as CommandError {
            return (error.exitCode, error.message)
        } catch {
            return (Clickctl.exitCode(for: error).rawValue, Clickctl.fullMessage(for: error))
        }
    }
}

struct Clickctl: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "clickctl", abstract: "The operator's hand on clickd and attributiond.",
        discussion: """
            Exit codes: 0, 64 usage, 65 data, 69 database, 70 internal, 73 cannot create, 74 I/O, \
            77 rights, 78 configuration.
            """,
        subcommands: [
            MigrateCommand.self, KeyCommand.self, MerchantCommand.self, InfluencerCommand.self,
            LinkCommand.self, CouponCommand.self, RuleCommand.self, StatsCommand.self,
            TopCommand.self, SaleCommand.self, CommissionCommand.self, LedgerCommand.self,
            PartitionCommand.self, PostbackCommand.self, RingCommand.self, TokenCommand.self,
        ])
}

/// A command that only groups others: on its own it is a usage error.
protocol CommandGroup: ParsableCommand {}

extension CommandGroup {
    mutating func run() throws {
        let names = Self.configuration.subcommands.map {
            $0.configuration.commandName ?? String(describing: $0).lowercased()
        }
        throw CommandError.usage(
            "\(Self.configuration.commandName ?? "clickctl"): a command is missing "
                + "(allowed: \(names.joined(separator: ", ")))")
    }
}
