// GeoIP look-ups against the answers beside MaxMind's test databases, and databases that are broken.
import GeoIP
import LinuxIO
import Testing

/// An entry of a corpus's JSON: a network and what is true of it.
private struct Truth {
    var network = ""
    var country = ""
    var region = ""
    var city: UInt32 = 0
    var isIPv6 = false
    var high: UInt64 = 0
    var low: UInt64 = 0
}

@Suite("Where addresses are")
struct GeoIPTests {
    /// Reads MaxMind's test JSON, which has one member a line, by its indentation.
    private static func truths(_ name: String) -> [Truth]? {
        guard let bytes = Corpora.read("maxmind/\(name).json") else { return nil }
        var truths: [Truth] = []
        var path: [String] = []
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let depth = line.prefix { $0 == " " }.count / 2
            guard let parts = member(line) else { continue }
            path = Array(path.prefix(max(0, depth - 2))) + [parts.key]
            if depth == 2 {
                truths.append(Truth(network: parts.key))
                continue
            }
            guard !truths.isEmpty else { continue }
            let last = truths.count - 1
            switch path.dropFirst().joined(separator: ".") {
            case "country.iso_code": truths[last].country = parts.value
            case "city.geoname_id": truths[last].city = UInt32(parts.value) ?? 0
            default: break
            }
            // The first element of the list only.
            if path.contains("subdivisions"), parts.key == "iso_code", truths[last].region.isEmpty {
                truths[last].region = parts.value
            }
        }
        return truths.compactMap(placed)
    }

    private static func member(_ line: Substring) -> (key: String, value: String)? {
        let text = line.drop { $0 == " " }
        guard text.first == "\"", let end = text.dropFirst().firstIndex(of: "\"") else {
            return nil
        }
        let key = String(text[text.index(after: text.startIndex)..<end])
        let value = text[text.index(after: end)...].drop { $0 == ":" || $0 == " " || $0 == "\"" }
        return (key, String(value.prefix { $0 != "\"" && $0 != "," }))
    }

    /// The truth with its network's first address; nil for what is no address.
    private static func placed(_ truth: Truth) -> Truth? {
        var placed = truth
        let address = String(truth.network.prefix { $0 != "/" })
        let dotted = address.hasPrefix("::") ? String(address.dropFirst(2)) : address
        let bytes = dotted.split(separator: ".").compactMap { UInt8($0) }
        if bytes.count == 4 {
            placed.high = bytes.reduce(0) { $0 << 8 | UInt64($1) } << 32
            return placed
        }
        guard let groups = groups(address) else { return nil }
        placed.isIPv6 = true
        placed.high = groups[..<4].reduce(0) { $0 << 16 | UInt64($1) }
        placed.low = groups[4...].reduce(0) { $0 << 16 | UInt64($1) }
        return placed
    }

    private static func groups(_ text: String) -> [UInt16]? {
        func parse(_ part: some StringProtocol) -> [UInt16] {
            part.split(separator: ":").compactMap { UInt16($0, radix: 16) }
        }
        var index = text.startIndex
        while index < text.endIndex, !text[index...].hasPrefix("::") {
            index = text.index(after: index)
        }
        guard index < text.endIndex else {
            let all = parse(text)
            return all.count == 8 ? all : nil
        }
        let front = parse(text[..<index])
        let back = parse(text[index...])
        guard front.count + back.count <= 8 else { return nil }
        return front + Array(repeating: 0, count: 8 - front.count - back.count) + back
    }

    @Test(
        "Country, region and city are those of the answers",
        arguments: ["GeoIP2-City-Test", "GeoLite2-City-Test", "GeoIP2-Country-Test"])
    func answers(name: String) throws {
        guard let truths = Self.truths(name) else { return }
        let database = try GeoDatabase(path: "\(Corpora.directory)/maxmind/\(name).mmdb")
        #expect(database.kind == String(name.dropLast(5)) && database.builtAtSeconds > 0)
        var known = 0
        for truth in truths {
            let found = database.locate(high: truth.high, low: truth.low, isIPv6: truth.isIPv6)
            #expect(found.countryText == truth.country, "\(truth.network)")
            #expect(found.regionText == truth.region, "\(truth.network)")
            #expect(found.regionBytes == truth.region.utf8.count)
            #expect(found.cityID == truth.city, "\(truth.network)")
            if !truth.country.isEmpty { known += 1 }
        }
        print("\(name): \(truths.count) networks, \(known) with a country")
        #expect(truths.count > 200 && known > 150)
    }

    @Test("A 16-byte address is looked up as what it is, other lengths are nowhere")
    func bytes() throws {
        guard Corpora.read("maxmind/GeoIP2-City-Test.mmdb") != nil else { return }
        let database = try GeoDatabase(path: "\(Corpora.directory)/maxmind/GeoIP2-City-Test.mmdb")
        var mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF, 2, 125, 160, 216]
        let byBytes = mapped.withUnsafeBytes { database.locate($0) }
        #expect(byBytes == database.locate(high: 0x027D_A0D8_0000_0000, low: 0, isIPv6: false))
        #expect(byBytes.countryText == "GB")
        mapped.removeLast()
        #expect(mapped.withUnsafeBytes { database.locate($0) } == GeoLocation())
        #expect(database.locate(high: 0, low: 0, isIPv6: false) == GeoLocation())
    }

    @Test("Every broken database is an error that names it, and never a crash")
    func broken() throws {
        let directory = "\(Corpora.directory)/maxmind/bad"
        guard FileSystem.exists(directory) else {
            print("skipped: no corpus \(directory)")
            return
        }
        let names = try FileSystem.list(directory).filter { $0.hasSuffix(".mmdb") }
        #expect(names.count == 8)
        for name in names {
            let error = #expect(throws: GeoDatabaseError.self, "\(name)") {
                try GeoDatabase(path: "\(directory)/\(name)")
            }
            print("\(name): \(error?.message ?? "opened")")
            #expect(error?.message.hasPrefix("\(directory)/\(name): ") == true)
        }
    }

    @Test("What is no database of places is an error: nothing, a directory, text, another kind")
    func otherFiles() throws {
        let scratch = try ScratchDirectory()
        for path in [
            "\(scratch.path)/none.mmdb", scratch.path, try scratch.write("", to: "empty.mmdb"),
            try scratch.write("hello", to: "text.mmdb"),
        ] {
            #expect(throws: GeoDatabaseError.self) { try GeoDatabase(path: path) }
        }
        guard Corpora.read("maxmind/GeoLite2-ASN-Test.mmdb") != nil else { return }
        for name in ["GeoLite2-ASN-Test", "GeoIP2-Anonymous-IP-Test"] {
            let error = #expect(throws: GeoDatabaseError.self) {
                try GeoDatabase(path: "\(Corpora.directory)/maxmind/\(name).mmdb")
            }
            #expect(error?.message.contains("geoip.database") == true)
        }
    }

    @Test("A database with flipped bytes is refused or answers, and never crashes")
    func flipped() throws {
        guard let original = Corpora.read("maxmind/GeoIP2-Country-Test.mmdb") else { return }
        let scratch = try ScratchDirectory()
        var random = SystemRandomNumberGenerator()
        var opened = 0
        for round in 0..<100 {
            var bytes = original
            if round % 8 == 0 { bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random)) }
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(
                    in: 0...255, using: &random)
            }
            let path = "\(scratch.path)/flipped.mmdb"
            try bytes.withUnsafeBytes { try FileSystem.replace(path, with: $0) }
            guard let database = try? GeoDatabase(path: path) else { continue }
            opened += 1
            for _ in 0..<500 {
                let high = UInt64.random(in: 0 ... .max, using: &random)
                let low = UInt64.random(in: 0 ... .max, using: &random)
                _ = database.locate(high: high, low: low, isIPv6: Bool.random())
            }
        }
        print("flipped: \(opened) of 100 opened")
    }

    @Test("A file that is cut short after it was opened goes on answering")
    func truncatedLater() throws {
        guard let original = Corpora.read("maxmind/GeoIP2-City-Test.mmdb") else { return }
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/city.mmdb"
        try original.withUnsafeBytes { try FileSystem.replace(path, with: $0) }
        let database = try GeoDatabase(path: path)
        try FileDescriptor.open(path, .readWrite).truncate(to: 0)
        #expect(
            database.locate(high: 0x027D_A0D8_0000_0000, low: 0, isIPv6: false).countryText == "GB")
    }
}
