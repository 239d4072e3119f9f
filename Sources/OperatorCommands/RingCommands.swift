// `clickctl ring list/verify/dump`: rings and spool, looked at while the daemon goes on.
internal import ArgumentParser
internal import Configuration
internal import LinuxIO
internal import RingLog
internal import Telemetry
internal import Tracking

struct RingCommand: CommandGroup {
    static let configuration = CommandConfiguration(
        commandName: "ring",
        abstract: "Rings and spool, read without a lock and without a write.",
        subcommands: [List.self, Verify.self, Dump.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what the directories hold: rings, segments, sequences, losses.")

        @OptionGroup var place: StorePlace
        @OptionGroup var output: OutputOptions

        func run() throws {
            let view = try place.look(.survey)
            CurrentProcess.writeOutput(
                output.json ? StoreReport.json(view) : StoreReport.text(view))
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read every record and check it; 65 when anything is damaged or missing.")

        @OptionGroup var place: StorePlace
        @OptionGroup var output: OutputOptions

        func run() throws {
            var unreadable: [String: Int] = [:]
            let view = try place.look(.everything) { _, record in
                if !RecordText.isReadable(record) {
                    unreadable["kind \(record.kind)", default: 0] += 1
                }
            }
            CurrentProcess.writeOutput(
                output.json
                    ? StoreReport.json(view, unreadable: unreadable)
                    : StoreReport.verdict(view, unreadable: unreadable))
            guard view.isSound, unreadable.isEmpty else {
                throw CommandError.data("ring or spool is damaged")
            }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show records, decoded, by sequence.",
            discussion: """
                Texts that visitors and merchants sent (user agent, sub-ids, customer, coupon, \
                adv1...adv5, items) are shown only with --texts: they may hold personal data.
                """)

        @OptionGroup var place: StorePlace
        @Option(help: ArgumentHelp("Only this ring, 0...4095.", valueName: "number"))
        var ring: Int?
        @Option(help: ArgumentHelp("Only this log.", valueName: "uuid")) var uuid: String?
        @Option(help: ArgumentHelp("The first sequence.", valueName: "sequence"))
        var from: UInt64 = 1
        @Option(help: ArgumentHelp("The last sequence.", valueName: "sequence"))
        var to: UInt64?
        @Option(help: ArgumentHelp("click, conversion, refusal, drop or all.", valueName: "kind"))
        var kind = "all"
        @Option(help: ArgumentHelp("The most records, 1...1000000.", valueName: "records"))
        var limit = 1000
        @Flag(help: "Show texts that came from outside too.") var texts = false
        @OptionGroup var output: OutputOptions

        func run() throws {
            let uuid = try Checked.id("--uuid", uuid)
            let limit = try Checked.integer("--limit", limit, 1...1_000_000)
            let ring = try ring.map { try Checked.integer("--ring", $0, 0...4095) }
            let wanted = try Checked.word("--kind", kind, ["all"] + RecordText.kinds)
            let last = to ?? .max
            guard from >= 1, from <= last else {
                throw CommandError.argument("--from", "\(from)", allowed: "1...--to")
            }
            var texts: [String] = []
            var isCut = false
            let numbers = try place.ringNumbers()
            _ = try place.look(.everything, only: uuid) { id, record in
                guard record.sequence >= from, record.sequence <= last,
                    wanted == "all" || wanted == RecordText.name(record.kind),
                    ring == nil || numbers[id].map(Int64.init) == ring
                else { return }
                guard texts.count < limit else {
                    isCut = true
                    return
                }
                var json = JSONText()
                RecordText.write(
                    record, ring: numbers[id] ?? 0, uuid: id, withTexts: self.texts, to: &json)
                texts.append(json.text)
            }
            if output.json {
                CurrentProcess.writeOutput("[" + texts.joined(separator: ",\n") + "]\n")
            } else {
                for text in texts { CurrentProcess.writeOutput(RecordText.line(text) + "\n") }
            }
            if isCut {
                CurrentProcess.writeError(
                    "clickctl: stopped after \(limit) records; --limit or --from shows more\n")
            }
        }
    }
}

/// Which directories: the configuration's, or a copy's.
struct StorePlace: ParsableArguments {
    @OptionGroup var options: ConfigurationOptions
    @Option(
        name: .customLong("ring-directory"),
        help: ArgumentHelp("Instead of ring.directory.", valueName: "directory"))
    var ringDirectory: String?
    @Option(
        name: .customLong("spool-directory"),
        help: ArgumentHelp("Instead of spool.directory.", valueName: "directory"))
    var spoolDirectory: String?

    private func inspector() throws(CommandError) -> StoreInspector {
        if let ringDirectory, let spoolDirectory {
            return StoreInspector(ringDirectory: ringDirectory, spoolDirectory: spoolDirectory)
        }
        let settings = try options.load()
        return StoreInspector(
            ringDirectory: ringDirectory ?? settings.ring.directory,
            spoolDirectory: spoolDirectory ?? settings.spool.directory)
    }

    func look(
        _ depth: StoreInspector.Depth, only uuid: EntityID? = nil,
        visit: (EntityID, StoredRecord) -> Void = { _, _ in }
    ) throws(CommandError) -> StoreView {
        let inspector = try inspector()
        do throws(RingLogError) {
            return try inspector.look(depth, only: uuid, visit: visit)
        } catch {
            throw CommandError(exitCode: error.exitCode, message: error.message)
        }
    }

    /// The number of each log's ring.
    func ringNumbers() throws(CommandError) -> [EntityID: UInt16] {
        var numbers: [EntityID: UInt16] = [:]
        for log in try look(.survey).logs { numbers[log.ringUUID] = log.ringID }
        return numbers
    }
}
