// The real daemon with few descriptors, and with signals that a lost peer brings.
import LinuxIO
import Testing
import Workbench

@Suite("Descriptors", .serialized)
struct DescriptorLimitTests {
    @Test("With too few descriptors for limits.connections the daemon says so and serves")
    func fewer() throws {
        try Stacks.with { stack in
            stack.launcher = ["prlimit", "--nofile=1024:1024"]
            try stack.startClickd()
            let log = String(
                decoding: try FileSystem.read("\(stack.directory)/log/clickd.log"), as: UTF8.self)
            #expect(log.contains("limits.connections is 100000"), "\(log)")
            #expect(log.contains("1024 descriptors"), "\(log)")
            _ = try stack.click()
        }
    }

    @Test("With hardly any descriptor the daemon does not start: 78, naming the key")
    func none() throws {
        try Stacks.with { stack in
            let result = try stack.run([
                "prlimit", "--nofile=300:300", "\(stack.binaries)/clickd", "run", "--config",
                stack.configuration,
            ])
            #expect(result.code == 78, "\(result.output)")
            #expect(result.output.contains("limits.connections"), "\(result.output)")
        }
    }

    @Test("The daemon ignores SIGPIPE")
    func brokenPipe() throws {
        try Stacks.with { stack in
            try stack.startClickd()
            let process = try #require(stack.clickd)
            let status = String(
                decoding: try FileSystem.read("/proc/\(process.id)/status"), as: UTF8.self)
            let line = try #require(
                status.split(separator: "\n").first { $0.hasPrefix("SigIgn:") })
            let mask = try #require(
                line.split(separator: "\t").last.flatMap { UInt64($0, radix: 16) })
            #expect(mask & 1 << 12 != 0)
        }
    }
}
