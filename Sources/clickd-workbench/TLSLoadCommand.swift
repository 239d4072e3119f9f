// The verb that `make bench` runs as the load of new TLS connections.
internal import ArgumentParser
internal import LinuxIO
internal import Workbench

struct TLSLoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tls-load",
        abstract: "New TLS connections to a port of 127.0.0.1, one request each.")

    @Option(help: "The port.")
    var port: UInt16
    @Option(
        help: "full, resumed or hold.",
        transform: { text in
            guard let mode = TLSLoadMode(rawValue: text) else {
                throw ValidationError("full, resumed or hold")
            }
            return mode
        })
    var mode = TLSLoadMode.full
    @Option(help: "Threads; for hold: connections.")
    var threads = 8
    @Option(help: "Seconds.")
    var seconds = 4

    func run() throws {
        do {
            let load = TLSLoad(port: port, mode: mode)
            if mode == .hold {
                try load.hold(threads)
            } else {
                try load.run(threads: threads, seconds: seconds)
            }
        } catch {
            CurrentProcess.writeError("tls-load: \(error)\n")
            CurrentProcess.exit(1)
        }
    }
}
