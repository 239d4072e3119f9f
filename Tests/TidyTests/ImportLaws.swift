// The import laws of docs/architecture.md: what each module may see.
import LinuxIO
import Testing

@Suite("Import laws")
struct ImportLaws {
    /// Modules by target, and what each may import beside the standard library.
    static let allowed: [String: Set<String>] = {
        let core: Set = ["Tracking"]
        return [
            "Tracking": [],
            "EdgeCore": core,
            "Attribution": core,
            "LinuxIO": ["CLinux", "Glibc"],
            "RingLog": ["CLinux", "LinuxIO", "Tracking"],
            "Postgres": ["CLibPQ", "LinuxIO", "Tracking"],
            "TLS": ["COpenSSL", "LinuxIO", "Tracking", "EdgeCore"],
            "GeoIP": ["CMaxMindDB", "Tracking", "LinuxIO"],
            "Schema": ["Postgres", "Tracking"],
            "Telemetry": ["LinuxIO", "Tracking", "Logging"],
            "Configuration": ["CYAML", "LinuxIO", "Tracking"],
            "EdgeServer": [
                "EdgeCore", "Tracking", "RingLog", "LinuxIO", "TLS", "GeoIP", "Telemetry",
                "Configuration", "Logging",
            ],
            "EdgeServices": [
                "EdgeCore", "Tracking", "RingLog", "Postgres", "Schema", "LinuxIO", "TLS",
                "Telemetry", "Configuration", "Logging",
            ],
            "EdgeDaemon": [
                "EdgeServer", "EdgeServices", "EdgeCore", "Tracking", "RingLog", "TLS", "GeoIP",
                "Postgres", "Telemetry", "Configuration", "LinuxIO", "Logging",
            ],
            "AttributionService": [
                "Attribution", "Tracking", "Postgres", "Schema", "LinuxIO", "Telemetry",
                "Configuration", "Logging",
            ],
        ]
    }()

    /// Parts of the standard library that any module may import.
    static let standard: Set<String> = ["Swift", "Synchronization", "Builtin"]

    @Test("A module imports only what its layer allows", arguments: allowed.keys.sorted())
    func layers(_ module: String) throws {
        let permitted = try #require(ImportLaws.allowed[module]).union(ImportLaws.standard)
        let files = SourceTree.files("Sources/\(module)", endingIn: [".swift"])
        try #require(!files.isEmpty)
        for file in files {
            for imported in imports(of: file) {
                #expect(permitted.contains(imported), "\(file) imports \(imported)")
            }
        }
    }

    @Test("An executable is wiring only", arguments: ["clickd", "attributiond", "clickctl"])
    func wiring(_ name: String) {
        let files = SourceTree.files("Sources/\(name)", endingIn: [".swift"])
        let lines = files.reduce(0) { $0 + SourceTree.lines($1).count }
        #expect(!files.isEmpty && lines <= 150, "\(lines) lines")
    }

    @Test("A C library is imported by one target only")
    func oneTargetPerLibrary() {
        var importers: [String: Set<String>] = [:]
        for file in SourceTree.swiftSources {
            let target = String(file.split(separator: "/")[1])
            for imported in imports(of: file) where imported.hasPrefix("C") && imported != "CLinux"
            {
                if ["CLibPQ", "COpenSSL", "CMaxMindDB", "CYAML"].contains(imported) {
                    importers[imported, default: []].insert(target)
                }
            }
        }
        #expect(importers.count == 4)
        for (library, targets) in importers {
            #expect(targets.count == 1, "\(library): \(targets)")
        }
    }

    @Test("Only LinuxIO imports the C library of the system, and nothing imports Foundation")
    func syscalls() {
        for file in SourceTree.swiftSources where !file.hasPrefix("Sources/LinuxIO/") {
            for imported in imports(of: file) {
                #expect(
                    imported != "Glibc" && imported != "Foundation", "\(file) imports \(imported)")
            }
        }
    }

    private func imports(of file: String) -> [String] {
        SourceTree.lines(file).compactMap { line in
            let words = line.split(separator: " ")
            guard let index = words.firstIndex(of: "import"), index <= 1, !line.hasPrefix("//")
            else {
                return nil
            }
            guard
                index == 0
                    || ["public", "internal", "package", "private", "@testable"].contains(words[0])
            else { return nil }
            return words.last.map { String($0.prefix { $0 != "." }) }
        }
    }
}
