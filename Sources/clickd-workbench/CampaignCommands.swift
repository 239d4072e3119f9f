// The campaigns of docs/testing.md that need a release build and minutes of a machine.
internal import ArgumentParser
internal import LinuxIO
internal import Workbench

/// Runs a campaign and ends with 0 when it kept its promise, else 1.
private func conclude(_ name: String, _ campaign: () throws -> Bool) -> Never {
    do {
        CurrentProcess.exit(try campaign() ? 0 : 1)
    } catch {
        CurrentProcess.writeError("\(name): \(error)\n")
        CurrentProcess.exit(1)
    }
}

struct Idle: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Holds idle connections and prints what each costs.")

    @Option(help: "Connections.") var connections = 100_000

    func run() { conclude("idle") { try IdleCampaign(connections: connections).run() } }
}

struct Overload: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Offers more than the edge can carry and prints what it gets done.")

    @Option(help: "Seconds of each run.") var seconds = 8

    func run() { conclude("overload") { try OverloadCampaign(seconds: seconds).run() } }
}

struct Slow: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs slowhttptest's modes with a visitor beside them.")

    @Option(help: "Connections of slow clients.") var connections = 4000
    @Option(help: "Seconds of each mode.") var seconds = 60

    func run() {
        conclude("slow") { try SlowCampaign(connections: connections, seconds: seconds).run() }
    }
}

struct Follow: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Follows millions of links: first load, changes, deletes.")

    @Option(help: "Links.") var links = 10_000_000
    @Option(help: "Changes; a delete for each five of them.") var rounds = 30

    func run() {
        conclude("follow") { try LinkCampaign(links: links, rounds: rounds).run() }
    }
}

struct Hold: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The client of the idle campaign.", shouldDisplay: false)

    @Option var port: UInt16
    @Option var connections: Int

    func run() throws { try IdleHolder.run(port: port, connections: connections) }
}
