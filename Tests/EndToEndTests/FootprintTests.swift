// What the executable weighs: its size, its memory, what it links.
import LinuxIO
import Testing
import Workbench

@Suite("Footprint", .serialized)
struct FootprintTests {
    @Test("clickd is one stripped binary of at most 25 MB, without ICU or the full Foundation")
    func size() throws {
        let binary = "\(ServiceStack.binaryDirectory())/clickd"
        try #require(FileSystem.isExecutable(binary), "make build first: \(binary)")
        let stripped = "/var/tmp/clickd-stripped-\(CurrentProcess.id)"
        defer { try? FileSystem.remove(stripped) }
        #expect(try ChildProcess.start(["strip", "-o", stripped, binary]).wait() == 0)
        let bytes = try FileSystem.status(stripped).bytes
        print("clickd stripped: \(bytes) bytes")
        #expect(bytes <= 25_000_000)
        let listing = "/var/tmp/clickd-ldd-\(CurrentProcess.id)"
        defer { try? FileSystem.remove(listing) }
        #expect(try ChildProcess.start(["ldd", binary], output: listing).wait() == 0)
        let libraries = String(decoding: try FileSystem.read(listing), as: UTF8.self)
        for foreign in ["libFoundation", "libicu", "lib_FoundationICU", "libswift"] {
            #expect(!libraries.contains(foreign), "\(libraries)")
        }
    }

    @Test("clickd with a thousand links is resident in at most 25 MB while idle")
    func resident() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let process = try #require(stack.clickd)
            let text = String(
                decoding: try FileSystem.read("/proc/\(process.id)/status"), as: UTF8.self)
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
            let kibibytes = try #require(
                line.split(separator: " ").dropFirst().first.flatMap { Int($0) })
            print("clickd resident: \(kibibytes) KiB")
            #expect(kibibytes <= 25_000_000 / 1024)
        }
    }
}
