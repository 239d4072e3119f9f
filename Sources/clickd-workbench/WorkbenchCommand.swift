// The developer's hand: wiring of `make run` and `make bench`. Not installed with the product.
internal import ArgumentParser
internal import LinuxIO
internal import Workbench

@main
struct WorkbenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clickd-workbench", abstract: "Runs the whole product here, or measures it.",
        subcommands: [
            Run.self, Bench.self, Pace.self, Links.self, Outage.self, TLSLoadCommand.self,
            Idle.self, Overload.self, Slow.self, Follow.self,
            Hold.self,
        ])

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
        @Option(help: "Links of the large table.")
        var links = 10_000_000
        @Flag(help: "clickd's services and PostgreSQL share the core of its loop.")
        var sharesCore = false
        @Option(
            help:
                "One part alone: \(BenchmarkPart.allCases.map(\.rawValue).joined(separator: ", ")).",
            transform: { text in
                guard let part = BenchmarkPart(rawValue: text) else {
                    throw ValidationError("there is no part of that name")
                }
                return part
            })
        var only: [BenchmarkPart] = []

        func run() throws {
            do {
                var size = BenchmarkSize()
                size.pairs = max(1, pairs)
                size.seconds = max(1, seconds)
                size.links = max(1, links)
                size.sharesCore = sharesCore
                let benchmark = try Benchmark(
                    sources: directory, size: size,
                    parts: only.isEmpty ? BenchmarkPart.allCases : only)
                try benchmark.run()
            } catch {
                CurrentProcess.writeError("make bench: \(error)\n")
                CurrentProcess.exit(1)
            }
        }
    }

    struct Pace: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A load at a fixed rate; p50, p99 and p99.9 from the due time, microseconds.")

        @Option(help: "The server's port on 127.0.0.1.")
        var port: UInt16
        @Option(help: "Requests a second.")
        var rate: Int
        @Option(help: "Seconds.")
        var seconds = 8

        func run() throws {
            guard rate > 0, seconds > 0 else {
                throw ValidationError("--rate and --seconds must be positive")
            }
            do {
                let text = try PacedRun.run(port: port, rate: rate, seconds: seconds)
                CurrentProcess.writeOutput("\(text)\n")
            } catch {
                CurrentProcess.writeError("pace: \(error)\n")
                CurrentProcess.exit(1)
            }
        }
    }

    struct Outage: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes PostgreSQL away under a paced load, and gives it back.")

        @Option(help: "Clicks a second.")
        var rate = 10_000
        @Option(help: "Seconds without PostgreSQL.")
        var seconds = 600
        @Option(help: "Seconds of the same load before, to compare with.")
        var before = 60

        func run() throws {
            do {
                try OutageMeasurement(rate: rate, seconds: seconds, before: before).run()
            } catch {
                CurrentProcess.writeError("outage: \(error)\n")
                CurrentProcess.exit(1)
            }
        }
    }

    struct Links: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes a snapshot of made-up links, for measurements.")

        @Option(help: "How many.")
        var count = 10_000_000
        @Argument(help: "The file.")
        var file: String

        func run() throws {
            let bytes = try LinkSnapshotFile.write(file, links: max(1, count))
            CurrentProcess.writeOutput("\(bytes) bytes\n")
        }
    }
}
