// Images of a ring and a spool with one bit flipped, with any of the last pages missing, or cut off
// within the last record: no wrong record is accepted, and all that lies elsewhere comes back.
import LinuxIO
import Testing
import Tracking
import Workbench

@testable import RingLog

/// A store's files as bytes, and what they hold.
private struct StoreImage {
    struct File {
        let path: String
        var bytes: [UInt8]
        /// Where bytes are that mean something.
        var used: [Range<Int>]
    }
    var files: [File] = []
    /// The payloads by sequence: 1...spooled in the segments, the rest in the ring alone.
    var payloads: [UInt64: [UInt8]] = [:]
    /// Which record, if any, has a byte of a file.
    var owners: [String: [(range: Range<Int>, sequence: UInt64)]] = [:]
    let spooled: UInt64 = 60
    let last: UInt64 = 100

    init() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        var appender = store.appender(worker: 0)
        for sequence in 1...last {
            let content = payload(sequence, Int(sequence * 37 % 700))
            payloads[sequence] = content
            _ = appender.append(content, kind: 1)
            if sequence == spooled { store.turnSpooler() }
        }
        store.abandon()
        for (directory, name) in [("ring", ".ring"), ("spool", ".segment"), ("spool", "identity")] {
            for path in try directories.files("\(directories.root)/\(directory)", name)
            where !path.contains("free-") {
                let bytes = try FileSystem.read(path)
                let relative = String(path.dropFirst(directories.root.count + 1))
                let isRing = name == ".ring"
                var offset = RingLogLimits.fileHeadBytes
                var records: [(Range<Int>, UInt64)] = []
                if name != "identity" {
                    for sequence in 1...(isRing ? last : spooled) {
                        let slots = RecordFormat.slots(payloadBytes: payloads[sequence]?.count ?? 0)
                        if !isRing || sequence > spooled {
                            records.append((offset..<offset + slots * 64, sequence))
                        }
                        offset += slots * 64
                    }
                }
                owners[relative] = records
                let head = name == "identity" ? 8192 : 2048 + 128
                files.append(
                    File(
                        path: relative, bytes: bytes,
                        used: [0..<320, 0..<head, 4096..<max(offset, 8192)]))
            }
        }
    }

    /// Puts the files into a directory.
    func restore(to directories: TestDirectories) throws {
        try? FileSystem.removeTree(directories.root)
        try FileSystem.makeDirectories(directories.root)
        try FileSystem.makeDirectories(directories.ring)
        try FileSystem.makeDirectories(directories.spool)
        for file in files {
            let target = try FileDescriptor.open(
                "\(directories.root)/\(file.path)", [.readWrite, .create])
            try file.bytes.withUnsafeBufferPointer { (bytes) throws(Errno) in
                try target.writeAll(UnsafeRawBufferPointer(bytes), at: 0)
            }
        }
    }

    /// Opens what lies there and compares: the records that are not as they were.
    func missing(
        in directories: TestDirectories, _ comment: String
    ) throws -> (missing: [UInt64], wrong: Int) {
        let store = try directories.open()
        defer { store.abandon() }
        var seen: Set<UInt64> = []
        var wrong = 0
        for ring in store.rings {
            for record in readAll(ring).records {
                if record.payload != payloads[record.sequence] || record.kind != 1 { wrong += 1 }
                if !seen.insert(record.sequence).inserted { wrong += 1 }
            }
        }
        return (payloads.keys.filter { !seen.contains($0) }.sorted(), wrong)
    }
}

@Suite("Images of ring and spool")
struct BitFlipTests {
    private static let isSoak = CurrentProcess.environment("CLICKD_SOAK") != nil

    @Test("One flipped bit anywhere loses at most the record that it is in, and forges none")
    func flips() throws {
        let count = BitFlipTests.isSoak ? 100_000 : 400
        let image = try StoreImage()
        let seed = Randomness.bytes(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        print("bit flips: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let directories = TestDirectories()
        var hits: [String: Int] = [:]
        var wrong = 0
        var lost = 0
        for round in 0..<count {
            let file = image.files[round % image.files.count]
            let area = file.used[Int.random(in: 0..<file.used.count, using: &generator)]
            let offset = Int.random(in: area, using: &generator)
            let bit = UInt8.random(in: 0..<8, using: &generator)
            try image.restore(to: directories)
            try directories.flip("\(directories.root)/\(file.path)", at: offset, bit: bit)
            let owner = image.owners[file.path]?.first { $0.range.contains(offset) }?.sequence
            let comment = "seed \(seed) round \(round): \(file.path) byte \(offset) bit \(bit)"
            do {
                let found = try image.missing(in: directories, comment)
                wrong += found.wrong
                lost += found.missing.count { $0 != owner }
                #expect(found.wrong == 0, "\(comment)")
                // A spooled record that the ring still has comes back from there.
                #expect(found.missing.allSatisfy { $0 == owner }, "\(comment)")
                hits[owner == nil ? "elsewhere" : "record", default: 0] += 1
            } catch let error as RingLogError {
                // A head that is of another version by its own valid checksum cannot come of a flip.
                Issue.record("\(comment): \(error.message)")
            }
        }
        print(
            "bit flips: \(count), in records \(hits["record"] ?? 0), wrong records accepted \(wrong), "
                + "records elsewhere lost \(lost)")
        #expect(hits.count == 2)
    }

    @Test("Whatever pages of a segment's end a torn write left out, what lies before is read")
    func tornPages() throws {
        let image = try StoreImage()
        let segment = try #require(image.files.first { $0.path.hasSuffix(".segment") })
        let records = try #require(image.owners[segment.path])
        let end = try #require(records.last?.range.upperBound)
        let directories = TestDirectories()
        let pages = 6
        let first = (end - 1) / 4096 - pages + 1
        for subset in 0..<1 << pages {
            var torn = image
            let index = try #require(torn.files.firstIndex { $0.path == segment.path })
            var lost: Set<UInt64> = []
            for page in 0..<pages where subset >> page & 1 == 1 {
                let bytes = (first + page) * 4096..<(first + page + 1) * 4096
                torn.files[index].bytes.replaceSubrange(
                    bytes, with: [UInt8](repeating: 0, count: 4096))
                for record in records
                where record.range.overlaps(bytes.clamped(to: 0..<end)) {
                    lost.insert(record.sequence)
                }
            }
            try torn.restore(to: directories)
            let found = try image.missing(in: directories, "subset \(subset)")
            #expect(found.wrong == 0, "subset \(subset)")
            // What the ring still holds of the lost comes back from there.
            #expect(lost.isSuperset(of: found.missing), "subset \(subset)")
        }
    }

    @Test("Every prefix of the last record is nothing, in the ring and in a segment")
    func tornLast() throws {
        let image = try StoreImage()
        let directories = TestDirectories()
        for file in image.files where !file.path.hasSuffix("identity") {
            let last = try #require(image.owners[file.path]?.last)
            // Every byte at the head, then every seventh.
            for kept in 0..<last.range.count where kept < 24 || kept % 7 == 0 {
                var torn = image
                let index = try #require(torn.files.firstIndex { $0.path == file.path })
                let cut = last.range.lowerBound + kept..<last.range.upperBound
                if torn.files[index].bytes[cut].allSatisfy({ $0 == 0 }) { continue }
                torn.files[index].bytes.replaceSubrange(
                    cut, with: [UInt8](repeating: 0, count: cut.count))
                try torn.restore(to: directories)
                let found = try image.missing(in: directories, "\(file.path) \(kept)")
                #expect(found.wrong == 0, "\(file.path) \(kept)")
                #expect(found.missing.allSatisfy { $0 == last.sequence }, "\(found.missing)")
            }
        }
    }
}
