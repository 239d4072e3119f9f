// Short random sequences of operations on a store with small limits, a great many of them, each
// against a model: append, read, flush, wrap, crash, stop, reopen, fail, corrupt.
import CLinux
import LinuxIO
import Testing
import Tracking
import Workbench

@testable import RingLog

@Suite("A store against its model, sequence by sequence")
struct SequenceTests {
    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil

    @Test("However operations follow each other, no record is wrong, doubled or silently lost")
    func sequences() throws {
        let chosen = CurrentProcess.environment("CLICKD_SEED").flatMap { UInt64($0) }
        let first = chosen ?? (Self.isSoak ? UInt64.random(in: 0..<1 << 40) : 1)
        let wanted = CurrentProcess.environment("CLICKD_LIVES").flatMap { UInt64($0) }
        let count = wanted ?? (chosen != nil ? 1 : Self.isSoak ? 100_000 : 3_000)
        print("sequences: seeds \(first)..<\(first + count); one alone: CLICKD_SEED=\(first)")
        var total = OperationSequence.Totals()
        for seed in first..<first + count {
            let sequence = OperationSequence(seed: seed)
            sequence.isTraced = count == 1
            try sequence.run()
            try #require(
                sequence.complaints.isEmpty, "CLICKD_SEED=\(seed): \(sequence.complaints)")
            total += sequence.totals
        }
        print("sequences: \(count), \(total)")
        guard count >= 1_000 else { return }
        // What the sequences are made of has happened, and so has what it is to provoke.
        for operation in OperationSequence.Operation.allCases {
            #expect(total.operations[operation] ?? 0 > 0, "\(operation)")
        }
        #expect(total.wraps > 0 && total.refused > 0 && total.lost > 0 && total.faults > 0)
    }
}

/// One store's short life, and what it must agree with.
private final class OperationSequence {
    enum Operation: CaseIterable {
        case append, wrap, spool, read, flush, crash, stop, fail, corrupt
    }

    struct Totals: CustomStringConvertible {
        var operations: [Operation: Int] = [:]
        var appended = 0
        var read = 0
        var lost = 0
        var refused = 0
        var wraps = 0
        var faults = 0

        static func += (left: inout Totals, right: Totals) {
            left.operations.merge(right.operations, uniquingKeysWith: +)
            left.appended += right.appended
            left.read += right.read
            left.lost += right.lost
            left.refused += right.refused
            left.wraps += right.wraps
            left.faults += right.faults
        }

        var description: String {
            let kinds = Operation.allCases.map { "\(operations[$0] ?? 0) × \($0)" }
            return
                "\(operations.values.reduce(0, +)) operations (\(kinds.joined(separator: ", "))): "
                + "\(appended) appended, \(read) read, \(lost) lost to a flipped bit, each with a gap, "
                + "\(refused) refused, \(wraps) times round the ring, \(faults) disk faults met"
        }
    }

    private static let length = 24
    private static let segments = 8
    /// A record of so many bytes; eleven of them fill half of the smallest ring.
    private static let longBytes = 12_000

    /// A ring's records as the outside knows them.
    private final class Log {
        /// Makes the bytes of this log's records others than those of the same number elsewhere.
        let salt: UInt64
        var records: [UInt64: (kind: UInt8, bytes: Int, crc: UInt32)] = [:]
        var last: UInt64 = 0
        var readThrough: UInt64 = 0
        var flushedThrough: UInt64 = 0
        init(salt: UInt64) { self.salt = salt }

        /// Writes what is the record's own; the rest stays as the ring's memory was.
        func fill(_ room: UnsafeMutableRawBufferPointer, _ sequence: UInt64) {
            let word = (sequence << 8 | salt) &* 0x9E37_79B9_7F4A_7C15
            withUnsafeBytes(of: word) { room.copyBytes(from: $0.prefix(room.count)) }
        }

        static func crc(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
            bytes.baseAddress.map { clinux_crc32c(.max, $0, bytes.count) } ?? 0
        }
    }

    /// A log of the open store and where it is read.
    private final class Reading {
        let ring: RingHandle
        let log: Log
        var tailer: SpoolTailer
        init(_ ring: RingHandle, _ log: Log) {
            self.ring = ring
            self.log = log
            tailer = ring.makeTailer(from: log.readThrough + 1)
        }
    }

    /// The open store and its ends.
    private final class Open {
        let store: RingLogStore
        let readings: [Reading]
        var appender: RingAppender
        var log: Log { readings[0].log }
        var turns: UInt64 {
            let slots = UInt64(store.rings[0].ringBytes / RingLogLimits.slotBytes)
            return (store.rings[0].memory?.headSlot.load() ?? 0) / slots
        }
        init(_ store: RingLogStore, _ readings: [Reading]) {
            self.store = store
            self.readings = readings
            appender = store.appender(worker: 0)
        }
    }

    /// Whether each operation is printed.
    var isTraced = false
    private(set) var totals = Totals()
    private(set) var complaints: [String] = []
    private var random: SeededGenerator
    private let directories = TestDirectories()
    private var logs: [EntityID: Log] = [:]
    /// Bits flipped: each may cost one record, and make a ring doubtful, which is replaced then.
    private var flips = 0
    private var lost = 0
    private var hadSegments = true

    init(seed: UInt64) { random = SeededGenerator(seed: seed) }

    private func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

    func run() throws {
        var open = try reopen()
        for _ in 0..<Self.length {
            let operation = draw()
            totals.operations[operation, default: 0] += 1
            switch operation {
            case .append: for _ in 0..<number(1...30) { append(number(0...400), open) }
            case .wrap: wrap(open)
            case .spool: spool(open)
            case .read: read(open)
            case .flush: flush(open)
            case .fail: fail()
            case .crash, .stop, .corrupt: open = try end(open, operation)
            }
            check(open)
            if isTraced { trace(operation, open) }
            guard complaints.isEmpty else { break }
        }
        directories.disk.fault = .none
        if complaints.isEmpty { finish(open) }
        open.store.abandon()
    }

    private func trace(_ operation: Operation, _ open: Open) {
        print(
            operation, directories.disk.fault, "\(flips) flips, \(lost) lost",
            open.readings.map {
                "\($0.log.salt): \($0.ring.headSequence)/\($0.ring.durableSequence) read "
                    + "\($0.log.readThrough) flushed \($0.log.flushedThrough) "
                    + "segments \($0.ring.segments.map(\.firstSequence))"
            })
    }

    /// Everything comes home.
    private func finish(_ open: Open) {
        // Once more than there are segments: what is flushed gives the quota back bit by bit.
        for _ in 0...Self.segments where open.log.readThrough < open.log.last {
            directories.clock.advance(2_000_000)
            spool(open)
            read(open)
            flush(open)
        }
        read(open)
        for reading in open.readings where reading.log.readThrough < reading.log.last {
            let first = reading.log.readThrough + 1
            let isTold = reading.ring.recoveredGaps.contains { $0.firstSequence == first }
            if !isTold { complaints.append("\(first)...\(reading.log.last) did not come back") }
            lose(Int(reading.log.last - reading.log.readThrough))
        }
    }

    private func draw() -> Operation {
        switch number(0...99) {
        case 0..<34: .append
        case 34..<39: .wrap
        case 39..<58: .spool
        case 58..<74: .read
        case 74..<80: .flush
        case 80..<85: .fail
        case 85..<93: .crash
        case 93..<95: .stop
        default: .corrupt
        }
    }

    private func reopen() throws -> Open {
        let store = try directories.open(segments: Self.segments, retain: 1_000_000)
        // Without a segment nothing confirms the ring's positions: it is taken for doubtful.
        let mayReplace = logs.isEmpty || flips > 0 || !hadSegments
        var readings: [Reading] = []
        for ring in store.rings {
            if logs[ring.ringUUID] == nil {
                if !mayReplace { complaints.append("a sound ring was replaced") }
                logs[ring.ringUUID] = Log(salt: UInt64(logs.count))
            }
            guard let log = logs[ring.ringUUID] else { continue }
            if ring.isRetired, ring.headSequence < log.last, ring.recoveredGaps.isEmpty {
                // Where no ring goes on, nobody knows of a last record whose head or checksum a
                // flipped bit has damaged (docs/formats/spool.md, "Opening").
                let count = Int(log.last - ring.headSequence)
                if log.readThrough < log.last { lose(count) }
                if count > flips { complaints.append("\(count) lost at the end of a log") }
                log.last = ring.headSequence
                log.readThrough = min(log.readThrough, log.last)
                log.flushedThrough = min(log.flushedThrough, log.last)
            }
            if ring.headSequence != log.last, ring.recoveredGaps.isEmpty {
                complaints.append("\(ring.headSequence) is the head, not \(log.last)")
            }
            for stream in RecordStream.allCases {
                ring.setFlushed(stream, through: log.flushedThrough)
            }
            readings.append(Reading(ring, log))
        }
        for (identity, log) in logs where !store.rings.contains(where: { $0.ringUUID == identity })
        {
            if log.flushedThrough < log.last { complaints.append("a log has vanished unflushed") }
        }
        return Open(store, readings)
    }

    private func append(_ bytes: Int, _ open: Open) {
        let kind = UInt8(number(1...3))
        guard
            let room = open.appender.reserve(
                bytes: bytes, priority: kind == 1 ? .click : .conversion)
        else {
            totals.refused += 1
            return
        }
        if number(0...19) == 0 { return open.appender.cancel() }
        let log = open.log
        log.fill(room, log.last + 1)
        let crc = Log.crc(UnsafeRawBufferPointer(room))
        let sequence = open.appender.commit(bytes: bytes, kind: kind).sequence
        if sequence != log.last + 1 { complaints.append("\(sequence) follows \(log.last)") }
        log.last = sequence
        log.records[sequence] = (kind, bytes, crc)
        totals.appended += 1
    }

    /// Fills the ring and empties it, until it has begun again at its first slot.
    private func wrap(_ open: Open) {
        let before = open.turns
        for _ in 0..<24 where open.turns == before {
            append(Self.longBytes, open)
            if number(0...3) == 0 { spool(open) }
        }
        if open.turns > before { totals.wraps += 1 }
    }

    private func spool(_ open: Open) {
        directories.clock.advance(Int64(number(0...600_000)))
        let fault = directories.disk.fault
        open.store.turnSpooler()
        if fault != .none, open.store.durabilityLost { totals.faults += 1 }
    }

    private func read(_ open: Open) {
        for reading in open.readings { read(reading) }
    }

    private func read(_ reading: Reading) {
        let log = reading.log
        while let record = reading.tailer.next() {
            let expected = log.records[record.sequence]
            if record.sequence <= log.readThrough {
                complaints.append("\(record.sequence) came twice")
            }
            if record.sequence > reading.ring.durableSequence {
                complaints.append("\(record.sequence) is not durable")
            }
            if record.kind != expected?.kind || record.payload.count != expected?.bytes
                || Log.crc(record.payload) != expected?.crc
            {
                complaints.append("\(record.sequence) is not what was written")
            }
            miss(through: record.sequence - 1, reading)
            log.readThrough = record.sequence
            totals.read += 1
        }
        miss(through: reading.tailer.nextSequence - 1, reading)
        reading.tailer.releaseBatch()
    }

    /// What was passed over must be a gap, and no more than the flipped bits can have cost.
    private func miss(through sequence: UInt64, _ reading: Reading) {
        let log = reading.log
        let gaps = reading.tailer.takeGaps()
        let missing = sequence > log.readThrough ? Array(log.readThrough + 1...sequence) : []
        let told = gaps.flatMap { Array($0.firstSequence...($0.lastSequence ?? $0.firstSequence)) }
        if told != missing { complaints.append("\(missing) are missing, the gaps say \(told)") }
        lose(missing.count)
        log.readThrough = max(log.readThrough, sequence)
    }

    private func lose(_ count: Int) {
        lost += count
        totals.lost += count
        if lost > flips { complaints.append("\(lost) lost, \(flips) bits flipped") }
    }

    private func flush(_ open: Open) {
        for reading in open.readings {
            reading.log.flushedThrough = reading.log.readThrough
            for stream in RecordStream.allCases {
                reading.ring.setFlushed(stream, through: reading.log.flushedThrough)
            }
        }
    }

    private func fail() {
        let faults: [FaultyDisk.Fault] = [.none, .failSync, .failWrite, .full]
        directories.disk.fault = faults.randomElement(using: &random) ?? .none
    }

    private func end(_ open: Open, _ operation: Operation) throws -> Open {
        directories.disk.fault = .none
        if operation == .stop {
            directories.clock.advance(2_000_000)
            open.store.stopSpooler()
        }
        hadSegments = !open.store.rings[0].segments.isEmpty
        open.store.abandon()
        if operation == .corrupt { try corrupt() }
        return try reopen()
    }

    /// Flips a bit of what a ring or a segment holds behind its head.
    private func corrupt() throws {
        let files =
            try directories.files(directories.ring, ".ring").sorted()
            + directories.files(directories.spool, ".segment").sorted()
        guard let path = files.randomElement(using: &random) else { return }
        let bytes = try FileSystem.status(path).bytes
        // Most often where something is.
        let reach = number(0...3) > 0 ? min(bytes, 40_000) : bytes
        if isTraced { print("flips a bit of \(path)") }
        try directories.flip(
            path, at: number(RingLogLimits.fileHeadBytes...reach - 1), bit: UInt8(number(0...7)))
        flips += 1
    }

    private func check(_ open: Open) {
        for ring in open.store.rings {
            let (head, spooled, durable) = (
                ring.headSequence, ring.spooledSequence, ring.durableSequence
            )
            if !(ring.flushedSequence <= durable && durable <= spooled && spooled <= head) {
                complaints.append(
                    "\(ring.flushedSequence) flushed, \(durable) durable, \(spooled) spooled, "
                        + "\(head)")
            }
        }
    }
}
