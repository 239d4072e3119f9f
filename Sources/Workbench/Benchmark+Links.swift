// Ten million links against one, and a click that is recorded against one that is not.
internal import EdgeCore
internal import LinuxIO
internal import Tracking

extension Benchmark {
    /// Three daemons without their database, each from a snapshot: one link, many links, and one
    /// link with a spool that is full, so that its redirects go on and nothing is recorded
    /// (contract, 3).
    func compareLinks(_ cluster: PrivateCluster) throws -> [(String, String)] {
        let one = try makeStack("one", cluster, settings: ["node": "{ id: 1 }"])
        let many = try makeStack("many", cluster, settings: ["node": "{ id: 2 }"])
        let unrecorded = try makeStack("full", cluster, settings: ["node": "{ id: 3 }"])
        unrecorded.settings["ring"] = "{ directory: \(unrecorded.ringDirectory), bytes: 256KiB }"
        unrecorded.settings["spool"] =
            "{ directory: \(unrecorded.directory)/spool, segment: 256KiB, quota: 512KiB }"
        let stacks = [one, many, unrecorded]
        defer { for stack in stacks { stack.stop(removingRings: true) } }
        for stack in stacks {
            try stack.writeConfiguration()
            try stack.startClickd()  // Claims its node: without a claim nothing is minted.
            stack.stopClickd()
        }
        cluster.stop()
        defer { try? cluster.start() }
        for (stack, count) in [(one, 1), (many, size.links), (unrecorded, 1)] {
            let start = SystemClock.monotonicNanoseconds()
            let bytes = try LinkSnapshotFile.write(
                "\(stack.directory)/links.snapshot", links: count)
            let elapsed = (SystemClock.monotonicNanoseconds() - start) / 1_000_000
            CurrentProcess.writeOutput(
                "snapshot: \(count) links, \(bytes) bytes, made in \(elapsed) ms\n")
        }
        try startServing(stacks)
        return [
            ("links-10m/links-1", try compare(one, many, "links")),
            ("recording/none", try compareRecording(unrecorded, one)),
        ]
    }

    /// The spool is filled first; afterwards every click must have been dropped, or nothing was
    /// compared.
    private func compareRecording(_ full: ServiceStack, _ one: ServiceStack) throws -> String {
        for _ in 0..<20 where try dropped(full) == 0 {
            _ = try run(WrkLoad(script: "random-links.lua", arguments: ["1"]), port: full.port)
        }
        let before = try (recorded(full), recorded(one))
        let ratio = try compare(full, one, "recording")
        guard try recorded(full) == before.0, try recorded(one) > before.1 else {
            throw StackError("clicks were recorded where none should be, or none where all should")
        }
        return ratio
    }

    private func dropped(_ stack: ServiceStack) throws -> Int {
        try metric("clickd_clicks_dropped_total", stack)
    }

    private func recorded(_ stack: ServiceStack) throws -> Int {
        try metric("clickd_clicks_recorded_total", stack)
    }

    private func metric(_ name: String, _ stack: ServiceStack) throws -> Int {
        let lines = try stack.ask("/metrics").text.split(separator: "\n")
        guard let line = lines.first(where: { $0.hasPrefix("\(name) ") }),
            let value = line.split(separator: " ").last.flatMap({ Int($0) })
        else { throw StackError("no \(name) in /metrics") }
        return value
    }

    private func startServing(_ stacks: [ServiceStack]) throws {
        for stack in stacks {
            let started = SystemClock.monotonicNanoseconds()
            try start(stack)
            let elapsed = (SystemClock.monotonicNanoseconds() - started) / 1_000_000
            CurrentProcess.writeOutput(
                "\(FileSystem.name(of: stack.directory)): ready after \(elapsed) ms\n")
        }
        for stack in stacks { try awaitCheckedSnapshot(stack) }
    }

    /// Waits until a checked copy has taken the mapped file's place: the file is mapped no more.
    private func awaitCheckedSnapshot(_ stack: ServiceStack) throws {
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        for _ in 0..<6000 {
            let maps = try FileSystem.read("/proc/\(clickd.id)/maps")
            guard String(decoding: maps, as: UTF8.self).contains("links.snapshot") else { return }
            Thread.sleep(microseconds: 10_000)
        }
        throw StackError("the snapshot was not checked within a minute")
    }

    /// The CPU time of a request at `base` over that at `other`.
    private func compare(
        _ base: ServiceStack, _ other: ServiceStack, _ name: String
    ) throws -> String {
        var ratios: [Ratio] = []
        for pair in 1...size.pairs {
            var samples: [LoadSample] = []
            for stack in [base, other] {
                guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
                var load = WrkLoad(script: "random-links.lua")
                let isMany = stack.directory.hasSuffix("/many")
                load.arguments = ["\(isMany ? size.links : 1)"]
                let sample = try measure(clickd, port: stack.port, load)
                report(pair, "\(name): \(FileSystem.name(of: stack.directory))", sample)
                samples.append(sample)
            }
            ratios.append(
                Ratio(samples[0].loopNanosecondsPerRequest, samples[1].loopNanosecondsPerRequest))
        }
        return Ratio.median(ratios)
    }
}

/// A snapshot of made-up links.
///
/// Their slugs are `s1`, `s2` and so on.
public enum LinkSnapshotFile {
    /// Merchants and influencers of the links.
    private static let merchants = 1_000
    private static let influencers = 50_000

    /// Writes a snapshot; its bytes.
    public static func write(_ path: String, links: Int) throws -> Int {
        var builder = LinkTableBuilder(
            seed: Randomness.bytes(16).withUnsafeBytes { SipHashKey(bytes: $0) })
        for number in 1...max(links, 1) {
            builder.add(
                LinkDefinition(
                    id: EntityID(high: 0x4000, low: 1 << 63 | UInt64(number)),
                    merchantID: EntityID(high: 0x4001, low: 1 << 63 | UInt64(number % merchants)),
                    influencerID: EntityID(
                        high: 0x4002, low: 1 << 63 | UInt64(number % influencers)),
                    slug: Array("s\(number)".utf8),
                    destination: Array("https://shop.example/products/\(number)?ref=clickd".utf8)))
        }
        let (table, rejected) = builder.finish()
        guard rejected.isEmpty else { throw StackError("\(rejected.count) links were rejected") }
        try table.withBytes { try FileSystem.replace(path, with: $0) }
        return table.bytes.count
    }
}
