// Deterministic simulation: loops that append, real ring and spool files, the real flusher and a
// scripted PostgreSQL, all driven step by step by one thread and one seed.
import LinuxIO
import Testing
import Tracking
import Workbench

@testable import EdgeServices
@testable import RingLog

@Suite("Flusher, simulated")
struct FlusherSimulationTests {
    /// Lives that found a fault once.
    ///
    /// 797888776246: the spooler stands beyond the lease, the process crashes, the clock was set back:
    /// the successor minted an identity again.
    private static let keptSeeds: [UInt64] = [797_888_776_246]

    @Test("Whatever fails and whenever, each record ends in exactly one place")
    func lives() throws {
        let soaks = CurrentProcess.environment("CLICKD_SOAK") != nil
        let chosen = CurrentProcess.environment("CLICKD_SEED").flatMap { UInt64($0) }
        // The short run is the same each time; the long one explores.
        let first = chosen ?? (soaks ? UInt64.random(in: 0..<1 << 40) : 1)
        // So that a soak can be had in parts.
        let wanted = CurrentProcess.environment("CLICKD_LIVES").flatMap { UInt64($0) }
        let lives = wanted ?? (chosen != nil ? 1 : soaks ? 20_000 : 500)
        let kept = lives > 1 ? Self.keptSeeds : []
        var struck: [String: Int] = [:]
        var totals = Simulation.Totals()
        print("seeds \(first)..<\(first + lives); one alone: CLICKD_SEED=\(first)")
        for seed in kept + Array(first..<first + lives) {
            let simulation = try Simulation(seed: seed)
            simulation.isTraced = lives == 1
            try simulation.run()
            try #require(
                simulation.complaints.isEmpty, "CLICKD_SEED=\(seed): \(simulation.complaints)")
            struck.merge(simulation.server.struck, uniquingKeysWith: +)
            totals += simulation.totals
        }
        print("\(totals)")
        print(
            struck.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }.joined(
                separator: ", "))
        guard lives >= 500 else { return }
        // Every fault at every step has happened.
        for step in ScriptedServer.Step.allCases {
            for fault in ScriptedServer.Fault.allCases {
                #expect(struck["\(fault) at \(step)"] ?? 0 > 0, "\(fault) at \(step)")
            }
        }
        #expect(struck["death"] ?? 0 > 0 && struck["failover"] ?? 0 > 0)
        #expect(totals.crashes > 0 && totals.reboots > 0 && totals.refusedAppends > 0)
        #expect(totals.lost > 0 && totals.asides > 0 && totals.clockSteps > 0)
        #expect(totals.held > 0 && totals.unminted > 0)
    }
}

/// One life of a node, decided by a seed.
final class Simulation {
    /// What happened, for the report.
    struct Totals: CustomStringConvertible {
        var appended = 0
        var stored = 0
        var asides = 0
        var lost = 0
        var refusedAppends = 0
        var crashes = 0
        var reboots = 0
        var cleanStops = 0
        var clockSteps = 0
        var held = 0
        var unminted = 0

        static func += (left: inout Totals, right: Totals) {
            left.appended += right.appended
            left.stored += right.stored
            left.asides += right.asides
            left.lost += right.lost
            left.refusedAppends += right.refusedAppends
            left.crashes += right.crashes
            left.reboots += right.reboots
            left.cleanStops += right.cleanStops
            left.clockSteps += right.clockSteps
            left.held += right.held
            left.unminted += right.unminted
        }

        var description: String {
            "\(appended) records: \(stored) stored, \(asides) set aside, \(lost) lost with a gap; "
                + "\(refusedAppends) refused by a full ring; \(crashes) crashes, \(reboots) reboots, "
                + "\(cleanStops) clean stops, \(clockSteps) clock steps; "
                + "\(held) stamped by a held clock, \(unminted) without an identity"
        }
    }

    /// A record as the outside knows it.
    private struct Known {
        var stream: RecordStream
        var hash: UInt64
        var stampedAt: Timestamp
    }

    /// A loop: its end of the ring and its clock.
    private final class Worker {
        var appender: RingAppender
        var minter: ClickIDMinter
        var offset: Int64
        /// The clock of the turn that is under way.
        private(set) var now: Int64 = 0

        init(_ store: RingLogStore, _ index: Int, offset: Int64, reserve: Int64, at boot: Int64) {
            appender = store.appender(worker: index)
            let ring = store.rings[index]
            minter = ClickIDMinter(
                ring: ring.ringID, floorMilliseconds: ring.idFloorMilliseconds,
                leaseMilliseconds: appender.leaseMilliseconds, reserveMilliseconds: reserve)
            self.offset = offset
            appender.noteClock(offset: offset)
            turn(at: boot)
        }

        /// A turn of the event loop begins: what it reads and tells there, and nowhere else.
        func turn(at boot: Int64) {
            now = (boot + offset) / 1000
            minter.extend(leaseMilliseconds: appender.leaseMilliseconds)
            appender.noteOldestStamp(milliseconds: minter.oldestMilliseconds(atMilliseconds: now))
            appender.noteLatestIdentity(milliseconds: max(minter.latestMilliseconds, now))
        }
    }

    let server: ScriptedServer
    private(set) var complaints: [String] = []
    private(set) var totals = Totals()
    private var random: SeededGenerator
    /// For what was added later, so that a kept seed still draws the life that it was kept for.
    private var further: SeededGenerator
    private let reserve: Int64
    private let directory: SpoolDirectory
    private let time = FakeTime()
    private let segments: Int
    private let retain: Int64
    private let batchRows: Int
    private var store: RingLogStore
    private var workers: [Worker] = []
    private var loop: FlusherLoop
    private var known: [EntityID: [UInt64: Known]] = [:]
    /// Records that a reboot may have taken: beyond what was durable.
    private var perishable: [EntityID: ClosedRange<UInt64>] = [:]
    private var identities: Set<UInt64> = []
    private var hasFailedOver = false
    /// A failover has taken back more than the spool is told to keep.
    private var reachedBeyondRetain = false
    private var nextSlew: Int64 = 0
    private var lastStep = 0
    /// Whether each step is printed.
    var isTraced = false

    init(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        further = SeededGenerator(seed: ~seed)
        reserve = [1, 2, 50, 500].randomElement(using: &further) ?? 500
        server = ScriptedServer(seed: random.next())
        segments = Int.random(in: 6...30, using: &random)
        retain = Bool.random(using: &random) ? 0 : 60_000_000
        batchRows = Int.random(in: 1...60, using: &random)
        directory = try SpoolDirectory(clock: SpoolClock(time.wall))
        store = try directory.open(segments: segments, retain: retain)
        loop = makeLoop([], server, time)
        self.random = random
        try takeUp()
    }

    private func chance(_ perMille: Int) -> Bool {
        Int.random(in: 0..<1000, using: &random) < perMille
    }

    // MARK: - The process

    private func openStore() throws {
        let workers = chance(150) ? 2 : 1
        store = try directory.open(workers: workers, segments: segments, retain: retain)
        try takeUp()
    }

    private func takeUp() throws {
        let live = store.rings.filter { !$0.isRetired }
        workers = live.indices.map {
            Worker(
                store, $0, offset: time.wall - time.monotonic, reserve: reserve,
                at: time.monotonic)
        }
        loop = makeLoop(store.rings.map { SpoolRing($0) }, server, time, batchRows: batchRows)
    }

    private func endProcess() {
        workers = []
        loop.close()
        loop = makeLoop([], server, time)
    }

    private func crash() throws {
        totals.crashes += 1
        store.abandon()
        endProcess()
        try openStore()
    }

    private func reboot() throws {
        totals.reboots += 1
        for ring in store.rings where ring.headSequence > ring.durableSequence {
            perishable[ring.ringUUID] = (ring.durableSequence + 1)...ring.headSequence
        }
        store.abandon()
        endProcess()
        try FileSystem.removeTree("\(directory.root)/ring")
        directory.bootID = EntityID(high: 1, low: UInt64(totals.reboots) + 2)
        try openStore()
    }

    private func stopCleanly() throws {
        totals.cleanStops += 1
        store.stopSpooler()
        store.abandon()
        endProcess()
        try openStore()
    }

    // MARK: - Steps

    func run() throws {
        for number in 0..<60 {
            try step()
            if isTraced {
                print(
                    number, lastStep,
                    store.rings.map {
                        "\($0.ringID) \($0.isRetired ? "retired" : "") \($0.headSequence)/\($0.durableSequence)/\($0.flushedSequence)"
                    },
                    server.contents.cursors.map {
                        "\($0.key.stream) \($0.key.ringUUID.low % 1000) \($0.value.next) \($0.value.watermark?.description ?? "-")"
                    }, loop.status.lastError)
            }
            check()
            guard complaints.isEmpty else { return }
        }
        heal()
        judge()
        store.abandon()
    }

    private func step() throws {
        server.faultsPerMille = chance(300) ? 0 : 120
        lastStep = Int.random(in: 0..<100, using: &random)
        switch lastStep {
        case 0..<35: append(Int.random(in: 1...(chance(150) ? 400 : 30), using: &random))
        case 35..<50: store.turnSpooler()
        case 50..<78: for _ in 0..<(chance(200) ? 8 : 1) { _ = loop.round(atOnce: chance(500)) }
        case 78..<88: advance(Int64.random(in: 0...3_000_000, using: &random))
        case 88..<90: server.isUp.toggle()
        case 90: server.die()
        case 91: server.replicate(at: time.monotonic)
        case 92:
            if let since = server.failOver(), time.monotonic - since >= retain {
                reachedBeyondRetain = true
            }
            hasFailedOver = true
        case 93: server.settleLingering()
        case 94: server.refuses = chance(500) ? { _ in false } : { $0 % 200 == 7 }
        case 95: stepClock()
        case 96: try stopCleanly()
        case 97: try reboot()
        default: try crash()
        }
    }

    private func append(_ count: Int) {
        // A turn may take long: a process that was stopped goes on with the clock and lease of before.
        for worker in workers where Int.random(in: 0..<5, using: &further) > 0 {
            worker.turn(at: time.monotonic)
        }
        storm()
        for _ in 0..<count {
            guard let worker = workers.randomElement(using: &random) else { return }
            let isClick = !chance(100)
            guard let identity = worker.minter.mint(atMilliseconds: worker.now) else {
                totals.unminted += 1
                continue
            }
            if identity.clickedAt.milliseconds < worker.now { totals.held += 1 }
            if !identities.insert(identity.rawValue).inserted {
                complaints.append("the identity \(identity.rawValue) came twice")
            }
            let length = chance(5) ? 20_000 : Int.random(in: 8...300, using: &random)
            var bytes = [UInt8](repeating: 7, count: length)
            withUnsafeBytes(of: identity.rawValue) { bytes.replaceSubrange(0..<8, with: $0) }
            let kind = isClick ? RecordKind.click : .conversion
            guard let sequence = worker.appender.append(kind, bytes) else {
                totals.refusedAppends += 1
                continue
            }
            totals.appended += 1
            let hash = bytes.withUnsafeBytes { ScriptedServer.hash($0) }
            let ring = worker.appender.ring.ringUUID
            if known[ring]?[sequence] != nil { complaints.append("\(sequence) was given twice") }
            known[ring, default: [:]][sequence] = Known(
                stream: isClick ? .clicks : .conversions, hash: hash,
                stampedAt: identity.clickedAt)
        }
    }

    /// Clicks that a full ring drops while the lease is not renewed: their tokens leave all the same.
    private func storm() {
        guard let worker = workers.randomElement(using: &further),
            worker.now >= worker.appender.leaseMilliseconds,
            Int.random(in: 0..<4, using: &further) == 0
        else { return }
        for _ in 0..<3000 {
            guard let identity = worker.minter.mint(atMilliseconds: worker.now) else {
                totals.unminted += 1
                return
            }
            if !identities.insert(identity.rawValue).inserted {
                complaints.append("the identity \(identity.rawValue) came twice")
            }
        }
    }

    private func advance(_ microseconds: Int64) {
        time.wall += microseconds
        time.monotonic += microseconds
        directory.clock.advance(microseconds)
        guard time.monotonic >= nextSlew else { return }
        nextSlew = time.monotonic + 1_000_000
        for worker in workers {
            let difference = time.wall - time.monotonic - worker.offset
            worker.offset += min(max(difference, -50_000), 50_000)
            worker.appender.noteClock(offset: worker.offset)
            worker.turn(at: time.monotonic)
        }
    }

    private func stepClock() {
        totals.clockSteps += 1
        let steps: [Int64] = [-7200, -600, -5, 5, 600, 7200]
        let step = (steps.randomElement(using: &random) ?? 0) * 1_000_000
        time.wall += step
        directory.clock.advance(step)
    }

    // MARK: - Judgement

    /// What must hold at every moment.
    private func check() {
        complaints += server.complaints
        for ring in store.rings {
            let (head, spooled, durable) = (
                ring.headSequence, ring.spooledSequence, ring.durableSequence
            )
            if !(ring.flushedSequence <= durable && durable <= spooled && spooled <= head) {
                complaints.append(
                    "\(ring.flushedSequence) flushed, \(durable) durable, \(spooled) spooled, \(head)"
                )
            }
            for stream in RecordStream.allCases {
                let lane = LaneID(ring: ring.ringID, ringUUID: ring.ringUUID, stream: stream)
                checkWatermark(of: lane, head: ring.headSequence)
                // A failover takes back what was flushed; nothing else does.
                guard !hasFailedOver else { continue }
                let committed = (server.durable.cursors[lane]?.next ?? 1) - 1
                if ring.flushedSequence(stream) > committed {
                    complaints.append(
                        "\(ring.flushedSequence(stream)) called flushed, \(committed) durable")
                }
            }
        }
    }

    /// All of the ring that is older than the watermark is committed.
    private func checkWatermark(of lane: LaneID, head: UInt64) {
        // A failover to before what a former ring still has: nobody knows of those records any more.
        if hasFailedOver, let cursor = server.contents.cursors[lane], head < cursor.next { return }
        guard let cursor = server.contents.cursors[lane], let watermark = cursor.watermark,
            let records = known[lane.ringUUID]
        else { return }
        var sequence = cursor.next
        while let record = records[sequence] {
            let isGone = perishable[lane.ringUUID]?.contains(sequence) == true
            if record.stream == lane.stream, record.stampedAt < watermark, !isGone {
                complaints.append(
                    "\(sequence) is older than the watermark and not committed: "
                        + "\(record.stampedAt) < \(watermark)")
                return
            }
            sequence += 1
        }
    }

    /// Everything works again, and all that waits is brought home.
    private func heal() {
        server.isUp = true
        server.faultsPerMille = 0
        server.refuses = { _ in false }
        // A batch may be a single record.
        for _ in 0..<max(2_000, 2 * totals.appended) {
            store.turnSpooler()
            _ = loop.round(atOnce: true)
            if loop.isFlushed(through: loop.heads), loop.status.pending == 0 { return }
            advance(1_500_000)
        }
        complaints.append("it does not come to rest: \(loop.status)")
    }

    private func judge() {
        complaints += server.complaints
        let live = Set(store.rings.map { $0.ringUUID })
        for (ring, records) in known {
            for stream in RecordStream.allCases {
                judge(ring, stream, records, isHere: live.contains(ring))
            }
        }
    }

    private func judge(
        _ ring: EntityID, _ stream: RecordStream, _ records: [UInt64: Known], isHere: Bool
    ) {
        guard
            let lane = server.contents.cursors.keys.first(where: {
                $0.ringUUID == ring && $0.stream == stream
            })
        else {
            if records.values.contains(where: { $0.stream == stream }), perishable[ring] == nil {
                complaints.append("a ring never reached the database")
            }
            return
        }
        let rows = server.contents.rows[lane] ?? [:]
        let asides = server.contents.asides[lane] ?? []
        let gaps = server.contents.gaps.filter { $0.lane.ringUUID == ring }
        // Of a former ring whose last segment is gone nobody knows what a failover took back, and a
        // loss is told again for `spool.retain` by the wall clock (docs/testing.md).
        let isForgotten = !store.rings.contains { $0.ringUUID == ring && $0.headSequence > 0 }
        let isUntold =
            reachedBeyondRetain || totals.clockSteps > 0
            || !store.rings.contains { $0.ringUUID == ring }
        for (sequence, record) in records where record.stream == stream {
            if let hash = rows[sequence] {
                totals.stored += 1
                if hash != record.hash { complaints.append("\(sequence) has other bytes") }
                if asides.contains(sequence) { complaints.append("\(sequence) is in two places") }
            } else if asides.contains(sequence) {
                totals.asides += 1
            } else {
                totals.lost += 1
                let isCovered = gaps.contains {
                    $0.first <= sequence
                        && (sequence <= $0.last || $0.cause.contains("how many is not known"))
                }
                let isPerishable = perishable[ring]?.contains(sequence) == true
                let mayBeLost = isPerishable || hasFailedOver
                if !isCovered, !(hasFailedOver && (isPerishable ? isUntold : isForgotten)) {
                    complaints.append("\(sequence) of \(stream) vanished, gaps: \(gaps)")
                }
                if !mayBeLost { complaints.append("\(sequence) of \(stream) is lost: \(gaps)") }
            }
        }
        for sequence in rows.keys where records[sequence]?.stream != stream {
            complaints.append("\(sequence) was never recorded")
        }
    }
}
