// The benchmark at its smallest: it runs and prints every line, so that it does not rot.
import LinuxIO
import Testing
import Workbench

@Suite("Benchmark", .serialized)
struct BenchmarkTests {
    private static let tools = ["/usr/bin/wrk", "/usr/sbin/nginx", "/usr/bin/gcc"]

    private static var hasTools: Bool { tools.allSatisfy { FileSystem.exists($0) } }

    @Test(
        "A smoke run prints a ratio for each line",
        .enabled(if: hasTools, "needs wrk, nginx and gcc: make deps-bench installs them"))
    func smoke() throws {
        let root = CurrentProcess.environment("CLICKD_ROOT") ?? "."
        let output = "/var/tmp/clickd-smoke-\(CurrentProcess.id).txt"
        defer { try? FileSystem.remove(output) }
        let parts = ["redirects", "connections", "latency", "links"].flatMap { ["--only", $0] }
        let code = try ChildProcess.start(
            [
                "\(ServiceStack.binaryDirectory())/clickd-workbench", "bench", "--directory",
                "\(root)/Benchmarks", "--pairs", "1", "--seconds", "1", "--links", "2000",
            ] + parts, output: output
        ).wait()
        let text = String(decoding: try FileSystem.read(output), as: UTF8.self)
        #expect(code == 0, "\(text)")
        let names = [
            "cpu/do-nothing", "process-cpu/do-nothing", "cpu/nginx", "cpu/nginx-log",
            "rps/do-nothing", "rps/nginx", "syscalls/request",
            "syscalls/request-saturated", "pipelined/nginx", "new-connection/nginx", "p999/nginx",
            "links-10m/links-1", "recording/none",
        ]
        for name in names {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name) ") }
            let value = line?.split(separator: " ").last ?? ""
            #expect(value.contains(".") && value != "0.000", "\(name): \(value)")
        }
    }
}
