// What is left after every kind of end, and what is said of the rest.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Recovery")
struct RecoveryTests {
    /// A store that died with so many records spooled and so many only in the ring.
    private func died(
        _ directories: TestDirectories, spooled: Int, inRing: Int, workers: Int = 1
    ) throws {
        let store = try directories.open(workers: workers)
        for worker in 0..<workers {
            var appender = store.appender(worker: worker)
            appender.appendNumbered(spooled)
            store.turnSpooler()
            appender.appendNumbered(inRing)
        }
        store.abandon()
    }

    @Test(
        "A damaged record in the ring is a gap, whichever of its bytes is flipped",
        arguments: [0, 3, 4, 5, 6, 7, 8, 15, 16, 200, 255])
    func damagedRing(_ byte: Int) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 0, inRing: 20)
        let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
        try directories.flip(ringFile, at: 4096 + 256 * 7 + byte, bit: 1)
        let store = try directories.open()
        defer { store.abandon() }
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.map(\.sequence) == Array(1...7) + Array(9...20))
        #expect(gaps == [RingGap(firstSequence: 8, lastSequence: 8, cause: .ringDamaged)])
        #expect(records.allSatisfy { $0.payload == payload($0.sequence, 240) })
    }

    @Test(
        "A damaged record in the spool is a gap, whichever of its bytes is flipped",
        arguments: [0, 3, 4, 5, 6, 7, 8, 15, 16, 200, 255])
    func damagedSpool(_ byte: Int) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 20, inRing: 0)
        let segment = try #require(
            try directories.files(directories.spool, ".segment").first { $0.contains("ring-") })
        try directories.flip(segment, at: 4096 + 256 * 7 + byte, bit: 1)
        let store = try directories.open()
        defer { store.abandon() }
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.map(\.sequence) == Array(1...7) + Array(9...20))
        #expect(gaps == [RingGap(firstSequence: 8, lastSequence: 8, cause: .spoolDamaged)])
    }

    @Test(
        "Either copy of a segment's head is enough, and without both its records are found",
        arguments: [[100], [2048 + 100], [8], [0, 2048], [70, 2048 + 70]])
    func damagedSegmentHead(_ offsets: [Int]) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 20, inRing: 3)
        let segment = try #require(
            try directories.files(directories.spool, ".segment").first { $0.contains("ring-") })
        for offset in offsets { try directories.flip(segment, at: offset) }
        let store = try directories.open()
        defer { store.abandon() }
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.map(\.sequence) == Array(1...23) && gaps.isEmpty)
        #expect(store.notices.contains { $0.contains("damaged head") } == (offsets.count == 2))
    }

    @Test("Names mean nothing: a segment is known by its head")
    func names() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 20, inRing: 0)
        let segment = try #require(
            try directories.files(directories.spool, ".segment").first { $0.contains("ring-") })
        try FileSystem.rename(segment, to: "\(directories.spool)/free-7.segment")
        let store = try directories.open()
        defer { store.abandon() }
        #expect(readAll(store.rings[0]).records.count == 20)
    }

    @Test(
        "A ring whose identity is damaged gives its records to its old log and is made anew",
        arguments: [0, 8, 13, 17, 40, 50, 66, 80, 96])
    func damagedRingHeader(_ byte: Int) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 5, inRing: 6)
        let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
        try directories.flip(ringFile, at: byte)
        let store = try directories.open()
        defer { store.abandon() }
        try #require(store.rings.count == 2)
        let old = store.rings[1]
        #expect(old.isRetired && old.ringID == store.rings[0].ringID)
        #expect(old.ringUUID != store.rings[0].ringUUID)
        #expect(readAll(old).records.map(\.sequence) == Array(1...11))
        #expect(
            old.recoveredGaps
                == [RingGap(firstSequence: 12, lastSequence: nil, cause: .ringDamaged)])
        #expect(store.rings[0].headSequence == 0)
    }

    @Test(
        "Positions that cannot be right make the ring doubtful, and lose nothing",
        arguments: [128 + 7, 192 + 7, 200 + 7])
    func damagedPositions(_ byte: Int) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 5, inRing: 6)
        let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
        try directories.flip(ringFile, at: byte, bit: 6)
        let store = try directories.open()
        defer { store.abandon() }
        let old = try #require(store.rings.last)
        #expect(old.isRetired)
        #expect(readAll(old).records.map(\.sequence) == Array(1...11))
    }

    @Test(
        "Whatever number a ring's positions hold, no record is lost and none comes twice",
        arguments: [(128, 60), (136, 14), (192, 60), (200, 14)])
    func everyPosition(_ offset: Int, _ values: UInt64) throws {
        for value in 0...values {
            let directories = TestDirectories()
            try died(directories, spooled: 5, inRing: 6)
            let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
            let bytes = withUnsafeBytes(of: value.littleEndian) { Array($0) }
            try directories.overwrite(ringFile, at: offset, with: bytes)
            let store = try directories.open()
            let found = store.rings.flatMap { readAll($0).records }
            #expect(found.map(\.sequence).sorted() == Array(1...11), "\(value) at \(offset)")
            #expect(found.allSatisfy { $0.payload == payload($0.sequence, 240) })
            var appender = store.appender(worker: 0)
            appender.appendNumbered(1)
            let isNew = store.rings[0].ringUUID != store.rings.last?.ringUUID
            #expect(isNew || appender.lastSequence > 11, "\(value) at \(offset)")
            store.abandon()
        }
    }

    @Test("A ring gone while the machine stayed up is a named loss until it is acknowledged")
    func missingRing() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 5, inRing: 6)
        try FileSystem.removeTree(directories.ring)
        for _ in 0..<2 {
            let store = try directories.open()
            try #require(store.rings.count == 2)
            #expect(
                store.rings[1].recoveredGaps
                    == [RingGap(firstSequence: 6, lastSequence: nil, cause: .ringMissing)])
            #expect(readAll(store.rings[1]).records.count == 5)
            store.abandon()
        }
        // Recorded, and told again for as long as a failover may take the record back.
        directories.clock.advance(59_999_999)
        for _ in 0..<2 {
            let store = try directories.open()
            #expect(store.rings[1].recoveredGaps.count == 1)
            try store.acknowledgeGaps(of: store.rings[1])
            #expect(store.rings[1].recoveredGaps.isEmpty)
            store.abandon()
            directories.clock.advance(1)
        }
        let again = try directories.open()
        defer { again.abandon() }
        #expect(again.rings[1].recoveredGaps.isEmpty)
    }

    @Test("More losses than the identity file has places for are known to the run that finds them")
    func manyLosses() throws {
        let directories = TestDirectories()
        func lose(_ boot: UInt64) throws {
            try FileSystem.removeTree(directories.ring)
            directories.bootID = EntityID(high: 9, low: boot)
        }
        let most = SpoolIdentity.maximumLosses
        try directories.open(workers: 32).abandon()
        try lose(1)
        let full = try directories.open(workers: 1)
        #expect(full.rings.flatMap(\.recoveredGaps).count == most)
        #expect(!full.notices.contains { $0.contains("have no place") })
        full.abandon()
        try lose(2)
        let over = try directories.open(workers: 1)
        #expect(over.rings.flatMap(\.recoveredGaps).count == most + 1)
        #expect(over.notices.contains { $0.hasPrefix("1 losses") && $0.contains("have no place") })
        over.abandon()
        let after = try directories.open(workers: 1)
        defer { after.abandon() }
        #expect(after.rings.flatMap(\.recoveredGaps).count == most)
    }

    @Test("A copy on another machine has claimed nothing")
    func otherMachine() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        try first.markClaimed()
        first.abandon()
        let same = try directories.open()
        #expect(same.isClaimed && same.notices.isEmpty)
        same.abandon()
        directories.machine = "another-machine"
        let copy = try directories.open()
        #expect(!copy.isClaimed)
        #expect(copy.notices.contains { $0.contains("another machine (test-machine)") })
        copy.abandon()
        // Nor after a restart, until the database has told.
        let again = try directories.open()
        #expect(!again.isClaimed)
        try again.markClaimed()
        again.abandon()
        let last = try directories.open()
        defer { last.abandon() }
        #expect(last.isClaimed)
    }

    @Test(
        "A copy in another directory of the same machine has claimed nothing; the original goes on")
    func copyBeside() throws {
        let original = TestDirectories()
        original.tellsPlaces = true
        let first = try original.open()
        try first.markClaimed()
        #expect(first.machine.hasPrefix("test-machine:"))
        first.abandon()
        let copy = TestDirectories()
        copy.tellsPlaces = true
        try FileSystem.makeDirectories(copy.root)
        let code = try ChildProcess.start(["cp", "-a", original.spool, copy.spool]).wait()
        #expect(code == 0)
        let second = try copy.open()
        #expect(!second.isClaimed && second.machine != first.machine)
        #expect(second.notices.contains { $0.contains("in another directory") })
        second.abandon()
        let again = try original.open()
        defer { again.abandon() }
        #expect(again.isClaimed && again.machine == first.machine)
    }

    @Test("A spool of before directories were told goes on where it is")
    func placeUntold() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        try first.markClaimed()
        first.abandon()
        directories.tellsPlaces = true
        let second = try directories.open()
        defer { second.abandon() }
        #expect(second.isClaimed && second.machine.hasPrefix("test-machine:"))
    }

    @Test("A ring gone with the machine is another loss, and after a clean stop it is none")
    func restartedMachine() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 5, inRing: 6)
        try FileSystem.removeTree(directories.ring)
        directories.bootID = EntityID(high: 3, low: 4)
        let store = try directories.open()
        #expect(store.rings[1].recoveredGaps.first?.cause == .machineStopped)
        store.stopSpooler()
        store.abandon()
        try FileSystem.removeTree(directories.ring)
        let again = try directories.open()
        defer { again.abandon() }
        #expect(again.rings.allSatisfy { $0.isRetired == ($0 !== again.rings[0]) })
        #expect(again.rings[0].recoveredGaps.isEmpty)
    }

    @Test("Rings of a former worker count, or of another size, are spooled and retired")
    func retired() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 4, inRing: 5, workers: 3)
        let store = try directories.open(workers: 1)
        try #require(store.rings.count == 3)
        #expect(!store.rings[0].isRetired && store.rings[0].ringID == 96)
        #expect(store.rings[1...].map(\.ringID) == [97, 98])
        for ring in store.rings {
            #expect(readAll(ring).records.map(\.sequence) == Array(1...9))
        }
        #expect(try directories.files(directories.ring, ".ring").count == 1)
        store.abandon()
        let larger = try directories.open(workers: 3, ringBytes: 524_288)
        defer { larger.abandon() }
        try #require(larger.rings.count == 6)
        #expect(larger.rings[..<3].allSatisfy { $0.headSequence == 0 && !$0.isRetired })
        #expect(larger.rings[3...].allSatisfy { readAll($0).records.count == 9 })
    }

    @Test("A record whose position was not yet published is taken up, a torn one is not")
    func tornLast() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 0, inRing: 4)
        let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
        // Position and sequence one record back, as if the process had died before publishing.
        let file = try FileDescriptor.open(ringFile, .readWrite)
        for (offset, value) in [(128, UInt64(12)), (136, UInt64(3))] {
            let bytes = withUnsafeBytes(of: value.littleEndian) { Array($0) }
            try bytes.withUnsafeBufferPointer { (bytes) throws(Errno) in
                try file.writeAll(UnsafeRawBufferPointer(bytes), at: offset)
            }
        }
        let store = try directories.open()
        #expect(readAll(store.rings[0]).records.count == 4)
        store.abandon()
        let torn = TestDirectories()
        try died(torn, spooled: 0, inRing: 4)
        let tornFile = try #require(try torn.files(torn.ring, ".ring").first)
        try torn.flip(tornFile, at: 4096 + 3 * 256 + 100)
        let second = try torn.open()
        defer { second.abandon() }
        let read = readAll(second.rings[0])
        #expect(read.records.count == 3)
        #expect(read.gaps == [RingGap(firstSequence: 4, lastSequence: 4, cause: .ringDamaged)])
        var appender = second.appender(worker: 0)
        let next = appender.append(payload(5, 10))
        #expect(next == 5)
    }

    @Test(
        "A ring that died between position and sequence goes on: no gap, no sequence twice",
        arguments: [0, 3], [false, true])
    func behindSequence(_ inRing: Int, _ isOldOrder: Bool) throws {
        let directories = TestDirectories()
        try died(directories, spooled: 4, inRing: inRing)
        let ringFile = try #require(try directories.files(directories.ring, ".ring").first)
        // The sequence one behind, as now; or the position, as before 28 November 2026.
        let last = UInt64(4 + inRing)
        let (offset, value) = isOldOrder ? (128, (last - 1) * 4) : (136, last - 1)
        let bytes = withUnsafeBytes(of: value.littleEndian) { Array($0) }
        // An old process was never a record behind what its spooler had made of it.
        if isOldOrder && inRing == 0 { return }
        try directories.overwrite(ringFile, at: offset, with: bytes)
        let store = try directories.open()
        defer { store.abandon() }
        #expect(store.rings.count == 1 && store.rings[0].headSequence == last)
        var appender = store.appender(worker: 0)
        appender.appendNumbered(2)
        store.turnSpooler()
        let (records, gaps) = readAll(store.rings[0])
        #expect(records.map(\.sequence) == Array(1...last + 2) && gaps.isEmpty)
    }

    @Test("Identities begin above the lease, also when the clock has gone back")
    func lease() throws {
        let directories = TestDirectories()
        let start = directories.clock.microseconds / 1000
        let first = try directories.open()
        #expect(first.rings[0].idFloorMilliseconds == start)
        #expect(first.rings[0].leaseMilliseconds == start + 3000)
        let appender = first.appender(worker: 0)
        appender.noteLatestIdentity(milliseconds: start + 50_000)
        first.turnSpooler()
        #expect(first.rings[0].leaseMilliseconds == start + 53_000)
        first.abandon()
        directories.clock.advance(-172_800_000_000)
        let second = try directories.open()
        defer { second.abandon() }
        #expect(second.rings[0].idFloorMilliseconds == start + 53_000)
        #expect(second.rings[0].leaseMilliseconds == start + 56_000)
        #expect(second.notices.contains { $0.contains("wall clock") })
    }

    @Test("A wall clock a day off the lease is judged; one that is nearer is not asked about")
    func doubtfulClock() throws {
        let directories = TestDirectories()
        let first = try directories.open()
        let lease = first.rings[0].leaseMilliseconds
        first.abandon()
        var asked: [Int64] = []
        directories.judge = { wall, lease in
            asked = [wall, lease]
            return lease + 7_000_000
        }
        directories.clock.advance(86_400_000_000)
        let second = try directories.open()
        #expect(asked.isEmpty && second.clockCorrection == 0)
        let next = second.rings[0].leaseMilliseconds
        #expect(next == lease + 86_400_000)
        second.abandon()
        directories.clock.advance(10 * 365 * 86_400_000_000)
        let wall = directories.clock.microseconds
        let third = try directories.open()
        defer { third.abandon() }
        #expect(asked == [wall, next * 1000])
        #expect(third.rings[0].idFloorMilliseconds == next + 7000)
        #expect(third.clockCorrection == next * 1000 + 7_000_000 - wall)
    }

    @Test("A lease is renewed as the loops come near its end, whatever the wall clock says")
    func leaseRenewal() throws {
        let directories = TestDirectories()
        let start = directories.clock.microseconds / 1000
        let store = try directories.open(workers: 2)
        defer { store.abandon() }
        let appender = store.appender(worker: 1)
        let near = RingLogLimits.leaseMilliseconds - RingLogLimits.leaseMarginMilliseconds
        // A clock that steps by ten years carries no lease off.
        directories.clock.advance(315_360_000_000_000)
        for (progress, lease) in [
            (0, 3000), (near - 1, 3000), (near, 3000), (near + 1, near + 3001),
        ] {
            appender.noteLatestIdentity(milliseconds: start + progress)
            store.turnSpooler()
            #expect(appender.leaseMilliseconds == start + lease, "\(progress)")
        }
        #expect(store.rings[1].leaseMilliseconds == start + near + 3001)
        #expect(store.rings[0].leaseMilliseconds == start + 3000)
    }

    @Test("A lease that is not on the disk is not given out")
    func leaseOfSickDisk() throws {
        for fault in [FaultyDisk.Fault.failWrite, .failSync] {
            let directories = TestDirectories()
            let start = directories.clock.microseconds / 1000
            let store = try directories.open()
            let appender = store.appender(worker: 0)
            appender.noteLatestIdentity(milliseconds: start + 2999)
            directories.disk.fault = fault
            store.turnSpooler()
            #expect(store.durabilityLost)
            #expect(appender.leaseMilliseconds == start + 3000)
            directories.disk.fault = .none
            store.turnSpooler()
            #expect(appender.leaseMilliseconds == start + 5999)
            store.abandon()
            let second = try directories.open()
            #expect(second.rings[0].idFloorMilliseconds == start + 5999)
            second.abandon()
        }
    }

    @Test("Either slot of the identity file is enough; without both it is made from the segments")
    func damagedIdentity() throws {
        let directories = TestDirectories()
        try died(directories, spooled: 5, inRing: 0)
        let first = try directories.open()
        let uuid = first.spoolUUID
        first.abandon()
        try directories.flip("\(directories.spool)/identity", at: 30)
        let second = try directories.open()
        #expect(second.spoolUUID == uuid)
        second.abandon()
        try directories.flip("\(directories.spool)/identity", at: 30)
        try directories.flip("\(directories.spool)/identity", at: 4096 + 30)
        try directories.flip("\(directories.spool)/identity", at: 31)
        let third = try directories.open()
        defer { third.abandon() }
        #expect(third.spoolUUID == uuid)
        #expect(third.notices.contains { $0.contains("made anew") })
        #expect(third.rings.map { readAll($0).records.count }.reduce(0, +) == 5)
    }
}
