// The command line (contract, 1).
internal import ArgumentParser
internal import Configuration
internal import EdgeDaemon
internal import LinuxIO
internal import Postgres
internal import Telemetry

/// `clickd`.
struct ClickdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clickd", abstract: "Redirects clicks and records them.",
        version: Release.version, subcommands: [RunCommand.self])

    func run() throws {
        throw ValidationError("a command is missing (allowed: run)")
    }
}

/// `clickd run`.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Runs the edge until TERM or INT.")

    @Option(name: .customLong("config"), help: "The configuration file; see config/clickd.yaml.")
    var path: String

    @Flag(name: .customLong("check-config"), help: "Only say what is wrong with the configuration.")
    var checksOnly = false

    @Flag(
        name: .customLong("take-over"),
        help: "Take sockets and connections over from the running clickd, which drains and ends.")
    var takesOver = false

    @Option(name: .customLong("configuration-text"), help: .hidden)
    var textPath: String?

    func run() {
        let configuration: ClickdConfiguration
        do throws(ConfigurationError) {
            configuration = try ConfigurationLoader.load(
                path: textPath ?? path, connectionStrings: Connection.canRead,
                certificates: Daemon.certificateFaults)
        } catch {
            CurrentProcess.writeError("\(error)\n")
            CurrentProcess.exitNow(error.exitCode)
        }
        if checksOnly {
            if let fault = Daemon.fileFault(configuration) {
                CurrentProcess.writeError("\(path): \(fault.message)\n")
                CurrentProcess.exitNow(fault.exitCode)
            }
            CurrentProcess.writeOutput("\(path): valid\n")
            return
        }
        // Threads that wait for a dead server are left behind: no exit handlers under their feet.
        CurrentProcess.exitNow(
            Daemon.run(configuration, path: path, textPath: textPath, takesOver: takesOver))
    }
}
