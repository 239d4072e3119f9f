// The format pages against the structs that the code writes: every byte, every version, every name.
import CLinux
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("The format pages")
struct FormatPageTests {
    /// A row of a page's table: the bytes and what it says they are.
    private struct Row {
        let first: Int
        /// nil for "…".
        let last: Int?
        let words: String
    }

    private func page(_ name: String) throws -> String {
        let root =
            CurrentProcess.environment("CLICKD_ROOT")
            ?? FileSystem.directory(
                of: FileSystem.directory(of: FileSystem.directory(of: #filePath)))
        return String(
            decoding: try FileSystem.read("\(root)/docs/formats/\(name).md"), as: UTF8.self)
    }

    /// The rows of the table that follows a heading or text.
    private func rows(_ name: String, after mark: String) throws -> [Row] {
        let text = try page(name)
        let start = try #require(text.firstRange(of: mark), "\(name): \(mark)")
        let lines = text[start.upperBound...].split(
            separator: "\n", omittingEmptySubsequences: false)
        let table = lines.drop { !$0.hasPrefix("| ") }.prefix { $0.hasPrefix("|") }
        return table.dropFirst(2).compactMap { line in
            let cells = line.split(separator: "|").map { $0.filter { $0 != " " } }
            guard let place = cells.first, let first = place.prefix(while: \.isNumber).first,
                first.isNumber
            else { return nil }
            let numbers = place.split { !$0.isNumber }.compactMap { Int($0) }
            let last = place.contains("…") ? nil : numbers.last
            return Row(
                first: numbers[0], last: last,
                words: line.split(separator: "|").dropFirst().joined(separator: "|"))
        }
    }

    /// A page's table must name exactly these fields, one after the other without a hole.
    private func check(
        _ rows: [Row], _ fields: [(name: String, offset: Int?, bytes: Int)], through end: Int
    ) {
        var next = 0
        for row in rows {
            let last = row.last ?? end
            #expect(row.first == next, "a hole or an overlap at \(row.first): \(row.words)")
            next = last + 1
        }
        #expect(next == end + 1)
        for field in fields {
            let row = rows.first { $0.words.contains(field.name) }
            #expect(row?.first == field.offset, "\(field.name)")
            if let row, let last = row.last {
                #expect(last - row.first + 1 == field.bytes, "\(field.name)")
            }
        }
    }

    @Test("A record's head")
    func record() throws {
        typealias Head = clinux_record_head
        check(
            try rows("records", after: "## Head").filter { $0.first < 16 },
            [
                ("crc", MemoryLayout<Head>.offset(of: \.crc), 4),
                ("shape", MemoryLayout<Head>.offset(of: \.shape), 4),
                ("sequence", MemoryLayout<Head>.offset(of: \.sequence), 8),
            ], through: 15)
        let text = try page("records")
        #expect(
            text.contains("the marker `0x\(String(RecordFormat.marker, radix: 16).uppercased())`"))
        #expect(text.contains("at most 130,992") && RingLogLimits.maximumRecordBytes == 130_992)
        #expect(text.contains("1 to 2,047 whole slots") && RingLogLimits.maximumRecordSlots == 2047)
        let seed = String(FormatTests.seed, radix: 16).uppercased()
        let crc = String(FormatTests.crc, radix: 16).uppercased()
        #expect(text.contains("0x\(seed)") && text.contains("crc 0x\(crc)"))
        let names = ["click", "conversion", "refusal", "drop note"]
        for (kind, name) in zip(RecordKind.allCases, names) {
            #expect(text.contains("\(kind.rawValue) \(name)"), "\(name)")
        }
        #expect(
            RecordKind.allCases.count == names.count
                && text.contains("\(names.count + 1)–15 are free"))
    }

    @Test("Payloads: the fixed parts tile, and the versions are the code's")
    func payloads() throws {
        let text = try page("records")
        for (title, version, bytes) in [
            ("a click", ClickRecord.version, ClickRecord.fixedBytes),
            ("a conversion", ConversionRecord.version, 112),
            ("a refusal", RefusalRecord.version, 32), ("a drop note", DropRecord.version, 32),
        ] {
            let heading = "## Payload of \(title), version \(version)"
            #expect(text.contains(heading))
            let fixed = try rows("records", after: heading).filter { $0.last != nil }
            check(fixed, [], through: bytes - 1)
        }
        #expect(DropRecord.bytes == 32)
    }

    @Test("The ring file")
    func ring() throws {
        typealias Header = clinux_ring_header
        typealias Positions = clinux_ring_positions
        let table = try rows("ring", after: "daemon's life.")
        check(
            table.filter { $0.first < 128 },
            [
                ("magic", MemoryLayout<Header>.offset(of: \.magic), 8),
                ("version", MemoryLayout<Header>.offset(of: \.version), 4),
                ("crc", MemoryLayout<Header>.offset(of: \.crc), 4),
                ("ring UUID", MemoryLayout<Header>.offset(of: \.ring_uuid), 16),
                ("nonce", MemoryLayout<Header>.offset(of: \.nonce), 16),
                ("spool UUID", MemoryLayout<Header>.offset(of: \.spool_uuid), 16),
                ("boot ID", MemoryLayout<Header>.offset(of: \.boot_id), 16),
                ("body bytes", MemoryLayout<Header>.offset(of: \.body_bytes), 8),
                ("created", MemoryLayout<Header>.offset(of: \.created_microseconds), 8),
                ("node × 32", MemoryLayout<Header>.offset(of: \.ring_id), 2),
                ("0…127", MemoryLayout<Header>.offset(of: \.node), 2),
                ("zero", MemoryLayout<Header>.offset(of: \.reserved0), 28),
            ], through: 127)
        let start = MemoryLayout<Header>.size
        for (name, offset) in [
            ("head slot", MemoryLayout<Positions>.offset(of: \.head_slot)),
            ("head sequence", MemoryLayout<Positions>.offset(of: \.head_sequence)),
            ("tail slot", MemoryLayout<Positions>.offset(of: \.tail_slot)),
            ("tail sequence", MemoryLayout<Positions>.offset(of: \.tail_sequence)),
            ("epoch", MemoryLayout<Positions>.offset(of: \.epoch)),
        ] {
            let row = table.first { $0.words.contains(" \(name) |") }
            #expect(row?.first == offset.map { $0 + start }, "\(name)")
            #expect(row?.last == row.map { $0.first + 7 }, "\(name)")
        }
        #expect(table.last?.first == RingLogLimits.fileHeadBytes)
        try expectTitle("ring", "CLKDRING", RingHeader.magic, RingHeader.version)
    }

    @Test("The segment file")
    func segment() throws {
        typealias Header = clinux_segment_header
        check(
            try rows("spool", after: "## Segment file"),
            [
                ("magic", MemoryLayout<Header>.offset(of: \.magic), 8),
                ("version", MemoryLayout<Header>.offset(of: \.version), 4),
                ("crc", MemoryLayout<Header>.offset(of: \.crc), 4),
                ("spool UUID", MemoryLayout<Header>.offset(of: \.spool_uuid), 16),
                ("ring UUID", MemoryLayout<Header>.offset(of: \.ring_uuid), 16),
                ("nonce", MemoryLayout<Header>.offset(of: \.nonce), 16),
                ("first sequence", MemoryLayout<Header>.offset(of: \.first_sequence), 8),
                ("epoch", MemoryLayout<Header>.offset(of: \.epoch), 8),
                ("number", MemoryLayout<Header>.offset(of: \.number), 8),
                ("segment bytes", MemoryLayout<Header>.offset(of: \.segment_bytes), 8),
                ("created", MemoryLayout<Header>.offset(of: \.created_microseconds), 8),
                ("node × 32", MemoryLayout<Header>.offset(of: \.ring_id), 2),
                ("state", MemoryLayout<Header>.offset(of: \.state), 4),
                ("zero", MemoryLayout<Header>.offset(of: \.reserved), 16),
            ], through: 127)
        try expectTitle("spool", "CLKDSEGM", SegmentHeader.magic, SegmentHeader.version)
        #expect(try page("spool").contains("at 0 and at 2,048") && SegmentHeader.copyBytes == 2048)
    }

    @Test("The identity file")
    func identity() throws {
        typealias Header = clinux_spool_identity
        let table = try rows("spool", after: "## Identity file").filter { $0.first < 144 }
        check(
            table,
            [
                ("magic", MemoryLayout<Header>.offset(of: \.magic), 8),
                ("version", MemoryLayout<Header>.offset(of: \.version), 4),
                ("crc", MemoryLayout<Header>.offset(of: \.crc), 4),
                ("generation", MemoryLayout<Header>.offset(of: \.generation), 8),
                ("spool UUID", MemoryLayout<Header>.offset(of: \.spool_uuid), 16),
                ("boot ID", MemoryLayout<Header>.offset(of: \.boot_id), 16),
                ("epoch", MemoryLayout<Header>.offset(of: \.epoch), 8),
                ("created", MemoryLayout<Header>.offset(of: \.created_microseconds), 8),
                ("0…127", MemoryLayout<Header>.offset(of: \.node), 2),
                ("clean stop", MemoryLayout<Header>.offset(of: \.clean_stop), 1),
                ("claimed |", MemoryLayout<Header>.offset(of: \.claimed), 1),
                ("zero |", MemoryLayout<Header>.offset(of: \.reserved), 4),
                ("machine |", MemoryLayout<Header>.offset(of: \.machine), 64),
            ], through: MemoryLayout<Header>.size - 1)
        try expectTitle("spool", "KSPOOLID", SpoolIdentity.magic, SpoolIdentity.version)
        let text = try page("spool")
        let rings = SpoolIdentity.ringsOffset
        let losses = SpoolIdentity.lossesOffset
        #expect(text.contains("| \(rings) + 32 w | ring UUID (16)"))
        let lease = MemoryLayout<clinux_spool_ring>.offset(of: \.lease_milliseconds) ?? 0
        #expect(text.contains("| \(rings + lease) + 32 w | lease (8)"))
        #expect(text.contains("| \(losses) + 64 i | ring UUID (16)"))
        typealias Gap = clinux_spool_gap
        for (name, offset) in [
            ("first sequence (8)", MemoryLayout<Gap>.offset(of: \.first_sequence)),
            ("last sequence (8)", MemoryLayout<Gap>.offset(of: \.last_sequence)),
            ("noticed (8)", MemoryLayout<Gap>.offset(of: \.noticed_microseconds)),
            ("ring (2), cause (2)", MemoryLayout<Gap>.offset(of: \.ring_id)),
        ] {
            #expect(text.contains("| \(losses + (offset ?? 0)) + 64 i | \(name)"), "\(name)")
        }
        for cause in RingGap.Cause.allCases {
            #expect(text.contains("\(cause.persisted) \(cause.rawValue)"), "\(cause)")
        }
    }

    /// The page's title names the version, its table the magic in file order.
    private func expectTitle(
        _ name: String, _ magic: String, _ number: UInt64, _ version: UInt32
    ) throws {
        let text = try page(name)
        #expect(text.contains("ersion \(version)\n"))
        #expect(text.contains("| 0–7 | magic | `\(magic)` |"))
        #expect(withUnsafeBytes(of: number.littleEndian) { $0.elementsEqual(magic.utf8) })
    }
}
