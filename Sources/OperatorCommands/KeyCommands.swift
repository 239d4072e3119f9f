// `clickctl key new` and `clickctl token decode`.
internal import ArgumentParser
internal import Configuration
internal import LinuxIO
internal import TLS
internal import Tracking

struct KeyCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "The click key.", subcommands: [New.self])

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a key file: 0600, never over another file.")

        @Argument(help: "The file to make.") var file: String

        func run() throws {
            do throws(ClickKeyFileError) {
                try ClickKeyFile.create(file)
            } catch {
                throw CommandError(exitCode: error.exitCode, message: error.message)
            }
            CurrentProcess.writeOutput("\(file): made; every node of the fleet needs the same\n")
        }
    }
}

struct TokenCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Click tokens.", subcommands: [Decode.self])

    struct Decode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what a token says; with --merchant also whether it is genuine.")

        @Argument(help: "The 22 characters.") var token: String
        @Option(help: ArgumentHelp("The merchant that it should be for.", valueName: "uuid"))
        var merchant: String?
        @OptionGroup var options: ConfigurationOptions
        @OptionGroup var output: OutputOptions

        func run() throws {
            let bytes = Array(token.utf8)
            guard let (id, _) = bytes.withUnsafeBytes({ ClickToken.parse($0) }) else {
                throw CommandError.data(
                    "token: '\(Report.plain(token))' is none "
                        + "(allowed: 22 characters of A-Z a-z 0-9 - _ whose spare bits are zero)")
            }
            var verified: String?
            if let merchant = try Checked.id("--merchant", merchant) {
                verified = try isGenuine(bytes, merchant) ? "true" : "false"
            }
            var report = Report([
                ("click_id", .number), ("clicked_at", .text), ("node", .number),
                ("worker", .number), ("ring", .number), ("sequence", .number),
                ("verified", .boolean),
            ])
            report.rows = [
                [
                    "\(id.rawValue)", id.clickedAt.description, "\(id.ring / 32)",
                    "\(id.ring % 32)", "\(id.ring)", "\(id.sequence)", verified,
                ]
            ]
            CurrentProcess.writeOutput(output.json ? report.jsonObject : report.lines)
        }

        private func isGenuine(
            _ token: [UInt8], _ merchant: EntityID
        ) throws(CommandError) -> Bool {
            let path = try options.load().keys.click
            do throws(ClickKeyFileError) {
                let keys = try ClickKeyFile.load(path).verifyKeys
                return token.withUnsafeBytes {
                    ClickToken.verify($0, merchant: merchant, keys: keys) != nil
                }
            } catch {
                throw CommandError(exitCode: error.exitCode, message: error.message)
            }
        }
    }
}
