// Random lives of a store against a model that remembers everything.
import LinuxIO
import Testing
import Tracking
import Workbench

@testable import RingLog

@Suite("A store against its model")
struct ModelTests {
    /// What the store must agree with.
    private struct Model {
        var records: [UInt64: (kind: UInt8, payload: [UInt8])] = [:]
        var last: UInt64 = 0
        var durable: UInt64 = 0
        var flushed: UInt64 = 0
        var read: UInt64 = 0
        var refused = 0
    }

    private static let lives = CurrentProcess.environment("CLICKD_SOAK") == nil ? 4 : 110

    @Test("Whatever happens, records come back whole, in order and once", arguments: 0..<lives)
    func randomLife(_ round: Int) throws {
        let seed = Randomness.bytes(8).reduce(UInt64(round)) { $0 << 8 | UInt64($1) }
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let directories = TestDirectories()
        var model = Model()
        for _ in 0..<25 {
            let store = try directories.open(segments: 8, retain: 2_000_000)
            #expect(store.rings.count == 1, "seed \(seed)")
            try live(store, directories, &model, &generator, seed: seed)
            if Bool.random(using: &generator) {
                directories.disk.fault = .none
                directories.clock.advance(2_000_000)
                store.stopSpooler()
            }
            store.abandon()
        }
        #expect(model.read > 500, "seed \(seed)")
    }

    private func live(
        _ store: RingLogStore, _ directories: TestDirectories, _ model: inout Model,
        _ generator: inout SeededGenerator, seed: UInt64
    ) throws {
        let ring = store.rings[0]
        try #require(ring.recoveredGaps.isEmpty, "seed \(seed)")
        try #require(ring.headSequence == model.last, "seed \(seed)")
        ring.setFlushed(.clicks, through: model.flushed)
        ring.setFlushed(.conversions, through: model.flushed)
        var appender = store.appender(worker: 0)
        var tailer = ring.makeTailer(from: model.read + 1)
        for _ in 0..<40 {
            switch Int.random(in: 0..<20, using: &generator) {
            case 0..<11:
                for _ in 0..<Int.random(in: 1...40, using: &generator) {
                    append(&appender, &model, &generator)
                }
            case 11..<14:
                directories.clock.advance(Int64.random(in: 0...400_000, using: &generator))
                store.turnSpooler()
                if directories.disk.fault == .none, ring.ringUsedBytes == 0 {
                    #expect(ring.durableSequence == model.last, "seed \(seed)")
                }
            case 14..<17:
                var kept: [SpoolRecord] = []
                while let record = tailer.next() {
                    kept.append(record)
                    let expected = model.records[record.sequence]
                    try #require(record.sequence == model.read + 1, "seed \(seed)")
                    try #require(expected?.kind == record.kind, "seed \(seed)")
                    try #require(
                        expected?.payload.elementsEqual(record.payload) == true, "seed \(seed)")
                    model.read = record.sequence
                }
                try #require(tailer.takeGaps().isEmpty, "seed \(seed)")
                if let middle = kept.randomElement(using: &generator)?.sequence {
                    tailer.releaseBatch(through: middle)
                    for record in kept where record.sequence > middle {
                        let same = model.records[record.sequence]?.payload.elementsEqual(
                            record.payload)
                        try #require(same == true, "seed \(seed)")
                    }
                }
                tailer.releaseBatch()
            case 17..<19:
                model.flushed = model.read
                ring.setFlushed(.clicks, through: model.flushed)
                ring.setFlushed(.conversions, through: model.flushed)
            default:
                let faults: [FaultyDisk.Fault] = [.none, .none, .failSync, .failWrite, .full]
                directories.disk.fault = faults.randomElement(using: &generator) ?? .none
            }
            let (head, spooled, durable) = (
                ring.headSequence, ring.spooledSequence, ring.durableSequence
            )
            #expect(ring.flushedSequence <= durable && durable <= spooled && spooled <= head)
        }
        directories.disk.fault = .none
    }

    private func append(
        _ appender: inout RingAppender, _ model: inout Model, _ generator: inout SeededGenerator
    ) {
        let isLong = Int.random(in: 0..<40, using: &generator) == 0
        let bytes = Int.random(in: 0...(isLong ? 60_000 : 600), using: &generator)
        let kind = UInt8.random(in: 1...3, using: &generator)
        let content = payload(model.last + 1, bytes)
        let priority: AppendPriority = kind == 1 ? .click : .conversion
        guard let room = appender.reserve(bytes: bytes + 20, priority: priority) else {
            model.refused += 1
            return
        }
        if Int.random(in: 0..<10, using: &generator) == 0 { return appender.cancel() }
        room.copyBytes(from: content)
        let sequence = appender.commit(bytes: bytes, kind: kind).sequence
        #expect(sequence == model.last + 1)
        model.last = sequence
        model.records[sequence] = (kind, content)
    }
}
