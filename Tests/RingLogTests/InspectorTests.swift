// Looking at rings and spool while they live, when they are damaged, and when they are gone.
import LinuxIO
import Synchronization
import Testing
import Tracking
import Workbench

@testable import RingLog

/// How far a writer has come, and whether it may stop.
private final class Progress: Sendable {
    let isDone = Atomic<Bool>(false)
    let last = Atomic<UInt64>(0)
}

@Suite("Looking at a store")
struct InspectorTests {
    private func inspector(_ directories: TestDirectories) -> StoreInspector {
        StoreInspector(ringDirectory: directories.ring, spoolDirectory: directories.spool)
    }

    @Test("A store in use is shown whole: spool, ring, segments, records of both")
    func whole() throws {
        let directories = TestDirectories()
        let store = try directories.open(workers: 2)
        defer { store.abandon() }
        var appender = store.appender(worker: 0)
        appender.appendNumbered(800)
        store.turnSpooler()
        appender.appendNumbered(30)
        var seen: [UInt64: [UInt8]] = [:]
        var inRing = 0
        let view = try inspector(directories).look(.everything) { uuid, record in
            #expect(uuid == store.rings[0].ringUUID)
            seen[record.sequence] = Array(record.payload)
            if !record.isSpooled { inRing += 1 }
        }
        #expect(view.isSound, "\(view.problems) \(view.logs.map(\.gaps))")
        #expect(view.spool?.spoolUUID == store.spoolUUID && view.spool?.node == 3)
        #expect(view.spool?.rings.map(\.worker) == [0, 1] && view.spool?.isCleanStop == false)
        #expect(view.logs.map(\.ringID) == [96, 97])
        let log = view.logs[0]
        #expect(log.isLive && log.ringUUID == store.rings[0].ringUUID && log.segments.count == 2)
        #expect(log.firstSequence == 1 && log.lastSequence == 830 && log.recordCount == 830)
        #expect(log.spooledSequence == 800 && log.ring?.durableSequence == 800)
        #expect(log.ring?.headSequence == 830 && log.ring?.usedBytes == 30 * 256)
        #expect(inRing == 30 && seen.count == 830)
        for (sequence, bytes) in seen { #expect(bytes == payload(sequence, 240)) }
        let survey = try inspector(directories).look(.survey).logs[0]
        #expect(survey.firstSequence == 1 && survey.lastSequence == 830)
        #expect(survey.recordCount < 830 && survey.gaps.isEmpty)
    }

    @Test("No file changes for being looked at, and no lock is taken")
    func untouched() throws {
        let directories = TestDirectories()
        try GoldenStore.make(in: directories)
        func content() throws -> [[UInt8]] {
            try GoldenStore.files.map { try FileSystem.read("\(directories.root)/\($0.path)") }
        }
        let before = try content()
        _ = try inspector(directories).look(.everything)
        #expect(try content() == before)
        let store = try directories.open()
        defer { store.abandon() }
        #expect(try content() != before, "an open does change them")
        _ = try inspector(directories).look(.everything)
    }

    @Test("Damage is named: in the ring, in a segment, in heads, in the identity")
    func damage() throws {
        func damaged(
            _ golden: String, at offsets: [Int]
        ) throws -> StoreView {
            let directories = TestDirectories()
            try GoldenStore.make(in: directories)
            let file = try #require(GoldenStore.files.first { $0.golden == golden })
            for offset in offsets {
                try directories.flip("\(directories.root)/\(file.path)", at: offset)
            }
            return try inspector(directories).look(.everything)
        }
        let intact = try damaged("ring", at: [])
        #expect(intact.isSound)
        // The ring's 18th slot is its first that is not spooled: a drop note of one slot.
        let inRing = try damaged("ring", at: [4096 + 18 * 64 + 20])
        #expect(inRing.logs[0].badSlots == 1)
        #expect(
            inRing.logs[0].gaps == [
                RingGap(firstSequence: 6, lastSequence: 6, cause: .ringDamaged)
            ])
        let spooled = try damaged("ring", at: [4096 + 20])
        #expect(spooled.isSound, "freed slots are nobody's")
        let inSegment = try damaged("segment", at: [4096 + 20])
        #expect(
            inSegment.logs[0].gaps == [
                RingGap(firstSequence: 1, lastSequence: 1, cause: .spoolDamaged)
            ])
        let lastOfSegment = try damaged("segment", at: [4096 + 17 * 64])
        #expect(
            lastOfSegment.logs[0].gaps == [
                RingGap(firstSequence: 5, lastSequence: 5, cause: .spoolDamaged)
            ])
        let oneCopy = try damaged("segment", at: [100])
        #expect(oneCopy.problems.map(\.reason) == ["one copy of the head is damaged"])
        #expect(oneCopy.logs[0].recordCount == 8)
        let noHead = try damaged("segment", at: [100, 2148])
        #expect(noHead.segments.contains { $0.state == .damaged } && !noHead.isSound)
        let header = try damaged("ring", at: [50])
        #expect(header.problems.map(\.reason) == ["the header is damaged"])
        let positions = try damaged("ring", at: [128 + 7])
        #expect(positions.problems.map(\.reason) == ["its positions cannot be right"])
        let slot = try damaged("identity", at: [4096 + 30])
        #expect(slot.problems.map(\.reason) == ["slot 1 is damaged"])
        let both = try damaged("identity", at: [30, 4096 + 30])
        #expect(both.spool == nil && both.problems.count == 2)
    }

    @Test("What is gone is missing, not an error; another version is refused")
    func gone() throws {
        let directories = TestDirectories()
        let none = try inspector(directories).look(.everything)
        #expect(none.logs.isEmpty && none.problems.map(\.reason) == ["is missing"])
        try GoldenStore.make(in: directories)
        try FileSystem.removeTree(directories.ring)
        let view = try inspector(directories).look(.everything)
        #expect(
            !view.isSound && view.problems.isEmpty && view.logs[0].ring == nil
                && view.logs[0].lastSequence == 5)
        let other = TestDirectories()
        try GoldenStore.make(in: other)
        let path = "\(other.root)/\(GoldenStore.files[0].path)"
        var head = Array(try FileSystem.read(path)[..<128])
        head[8] = 2
        let crc = head.withUnsafeBytes { headChecksum($0, bytes: 128) }
        withUnsafeBytes(of: crc.littleEndian) { head.replaceSubrange(12..<16, with: $0) }
        try other.overwrite(path, at: 0, with: head)
        let error = #expect(throws: RingLogError.self) { try inspector(other).look(.survey) }
        #expect(error?.exitCode == 74 && error?.message.contains("version 2") == true)
    }

    @Test(
        "Looked at without pause while it is written, flushed and recycled, nothing seems damaged")
    func overtaken() throws {
        let directories = TestDirectories()
        let store = try directories.open(segments: 6, retain: 0)
        let progress = Progress()
        let clock = directories.clock
        let writer = try Thread.start(name: "writer") {
            var appender = store.appender(worker: 0)
            let ring = store.rings[0]
            while !progress.isDone.load(ordering: .relaxed) {
                for _ in 0..<200 {
                    _ = appender.append(payload(appender.lastSequence + 1, 240))
                }
                store.turnSpooler()
                let flushed = ring.durableSequence
                ring.setFlushed(.clicks, through: flushed)
                ring.setFlushed(.conversions, through: flushed)
                clock.advance(1_000_000)
                progress.last.store(appender.lastSequence, ordering: .relaxed)
            }
        }
        var looks = 0
        while looks < 40 || progress.last.load(ordering: .relaxed) < 20_000 {
            var wrong = 0
            let view = try inspector(directories).look(.everything) { _, record in
                if !record.payload.elementsEqual(payload(record.sequence, 240)) { wrong += 1 }
            }
            #expect(wrong == 0)
            #expect(view.isSound, "\(view.problems) \(view.logs.map { ($0.gaps, $0.badSlots) })")
            looks += 1
        }
        progress.isDone.store(true, ordering: .relaxed)
        writer.join()
        store.abandon()
    }
}
