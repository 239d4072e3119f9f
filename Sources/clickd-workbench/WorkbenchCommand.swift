// The developer's hand: wiring of `make run` and `make bench`. Not installed with the product.
internal import ArgumentParser
internal import LinuxIO
internal import Workbench

@main
struct WorkbenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clickd-workbench", abstract: "Runs the whole product here, or measures it.",
        subcommands: [Run.self, Bench.self, TLSLoadCommand.self])

    struct Run: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Starts PostgreSQL, clickd and attributiond, shows the job, stays up until Ctrl-C.")

        @Option(help: "clickd's port on 127.0.0.1; operations listen at port + 1100 and + 1101.")
        var port: UInt16 = 8080
        @Option(name: .customLong("var"), help: "Where everything is kept.")
        var directory = "var"

        func run() throws {
            guard port >= 1, port <= 64_000 else {
                throw ValidationError("--port must lie in 1...64000")
            }
            do {
                CurrentProcess.exit(try Demonstration(directory: directory, port: port).run())
            } catch {
                CurrentProcess.writeError("make run: \(error)\n")
                CurrentProcess.exit(1)
            }
        }
    }

    struct Bench: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Measures in pairs; prints name and value.")

        @Option(help: "Where do-nothing.c and nginx.conf are.")
        var directory = "Benchmarks"
        @Option(help: "Pairs of each comparison.")
        var pairs = 5
        @Option(help: "Seconds of each run.")
        var seconds = 4
        @Option(
            help: "One part alone: redirects, tls or flush.",
            transform: { text in
                guard let part = BenchmarkPart(rawValue: text) else {
                    throw ValidationError("redirects, tls or flush")
                }
                return part
            })
        var only: BenchmarkPart?

        func run() throws {
            do {
                let benchmark = try Benchmark(
                    sources: directory, pairs: pairs, seconds: seconds,
                    parts: only.map { [$0] } ?? BenchmarkPart.allCases)
                try benchmark.run()
            } catch {
                CurrentProcess.writeError("make bench: \(error)\n")
                CurrentProcess.exit(1)
            }
        }
    }
}
