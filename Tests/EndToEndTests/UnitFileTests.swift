// The units of systemd/ as systemd itself reads them; nothing is started.
import LinuxIO
import Testing
import Workbench

@Suite(
    "systemd's units",
    .enabled(
        if: FileSystem.isExecutable("/usr/bin/systemd-analyze"),
        "needs systemd-analyze: apt-get install systemd"))
struct UnitFileTests {
    private static let names = ["clickd.service", "clickd.socket", "attributiond.service"]

    /// Copies the units, with a program that exists here, and runs a command line beside them.
    private func analyze(
        _ line: String, changing text: String = "", to other: String = ""
    ) throws -> (code: Int32, output: String) {
        let directory = "/var/tmp/clickd-units-\(CurrentProcess.id)"
        defer { try? FileSystem.removeTree(directory) }
        try FileSystem.makeDirectories(directory, permissions: 0o755)
        let root = CurrentProcess.environment("CLICKD_ROOT") ?? FileSystem.workingDirectory
        for name in UnitFileTests.names {
            let unit = String(
                decoding: try FileSystem.read("\(root)/systemd/\(name)"), as: UTF8.self
            ).replacing("/usr/bin/clickd ", with: "/usr/bin/true ")
                .replacing("/usr/bin/attributiond ", with: "/usr/bin/true ")
            let changed = text.isEmpty ? unit : unit.replacing(text, with: other)
            try Array(changed.utf8).withUnsafeBytes {
                try FileSystem.replace("\(directory)/\(name)", with: $0)
            }
        }
        let output = "\(directory)/output.txt"
        let code = try ChildProcess.start(
            ["sh", "-c", "cd \(directory) && " + line], output: output
        ).wait()
        let said = String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
        return (code, said)
    }

    @Test("systemd-analyze verify has nothing to say; of a misspelt key it has")
    func verify() throws {
        let line = "systemd-analyze verify ./clickd.service ./clickd.socket ./attributiond.service"
        let result = try analyze(line)
        #expect(result.code == 0 && result.output.isEmpty, "\(result.output)")
        let bad = try analyze(line, changing: "NoNewPrivileges=", to: "NoNewPrivilege=")
        #expect(bad.output.contains("Unknown key"), "\(bad.output)")
    }

    @Test("The exposure of both services is at most 1.6; without a filter of calls it is more")
    func exposure() throws {
        for name in ["clickd", "attributiond"] {
            let line = "systemd-analyze security --offline=true --threshold=16 ./\(name).service"
            let result = try analyze(line)
            #expect(result.code == 0, "\(result.output)")
            let open = try analyze(line, changing: "SystemCallFilter=", to: "#")
            #expect(open.code != 0)
        }
    }
}
