// The looks at TLS from outside: testssl.sh and sslyze against the real daemon, with RSA and EC twins of a
// private authority. A few minutes, so CLICKD_SOAK=1.
import LinuxIO
import Testing
import Workbench

@Suite("Looks at TLS from outside", .serialized)
struct TLSScanTests {
    private static var isSoak: Bool { CurrentProcess.environment("CLICKD_SOAK") != nil }

    /// Findings of testssl.sh that are about the test's own authority, not about clickd: nobody else
    /// trusts it, it publishes no revocation, and the certificate is no day old.
    private static let authorityFindings = [
        "cert_chain_of_trust", "cert_revocation", "cert_ocspRevoked", "cert_crlDistributionPoints",
        "cert_ocspURL", "DNS_CAArecord", "certificate_transparency", "OCSP_stapling",
        "cert_caIssuers", "cert_trust",
    ]

    @Test("testssl.sh finds nothing of MEDIUM or above", .enabled(if: isSoak))
    func testssl() throws {
        try SecuredStack.with { secured in
            let file = "\(secured.stack.directory)/testssl.json"
            guard try !secured.shell("command -v testssl").isEmpty else {
                Issue.record("testssl is missing: make deps-soak")
                return
            }
            let output = try run(
                "timeout 900 testssl --quiet --color 0 --warnings off --ip 127.0.0.1 "
                    + "--add-ca \(secured.authority.root) --jsonfile \(file) "
                    + "go.example:\(secured.port)", secured)
            let findings = TLSScanTests.findings(
                String(decoding: (try? FileSystem.read(file)) ?? [], as: UTF8.self))
            // A look that saw nothing is no look.
            #expect(findings.contains { $0.id == "TLS1_3" && $0.severity == "OK" }, "\(output)")
            for finding in findings where finding.isGrave {
                let isAuthority = TLSScanTests.authorityFindings.contains { id in
                    finding.id.hasPrefix(id)
                }
                let text = "testssl: \(finding.severity) \(finding.id): \(finding.text)"
                CurrentProcess.writeOutput("\(text)\(isAuthority ? " (private authority)" : "")\n")
                #expect(isAuthority, "\(text)")
            }
            CurrentProcess.writeOutput("testssl: \(findings.count) findings\n")
        }
    }

    @Test("sslyze finds Mozilla's intermediate configuration met", .enabled(if: isSoak))
    func sslyze() throws {
        try SecuredStack.with { secured in
            let tool = try secured.shell(
                "command -v sslyze || ls ${CLICKD_ROOT:-.}/.build/sslyze/bin/sslyze")
            let path = tool.split(separator: "\n").first.map { String($0) } ?? ""
            guard path.hasSuffix("sslyze") else {
                Issue.record("sslyze is missing: make deps-soak")
                return
            }
            let output = try run(
                "\(path) --mozilla_config intermediate --sni go.example "
                    + "--certinfo_ca_file \(secured.authority.root) 127.0.0.1:\(secured.port)",
                secured)
            let mark = "Checking results against Mozilla"
            let lines = output.split(separator: "\n").drop { !$0.contains(mark) }
            CurrentProcess.writeOutput(lines.joined(separator: "\n") + "\n")
            #expect(!lines.isEmpty, "\(output)")
            // That nobody else trusts the test's authority is all that may be said.
            let findings = lines.filter { $0.contains("        * ") }
            #expect(findings.allSatisfy { $0.contains("certificate_path_validation") })
            #expect(lines.contains { $0.contains("Compliant") || $0.contains("compliant") })
        }
    }

    /// Runs a command in the tree's shell, for longer than the others.
    private func run(_ line: String, _ secured: SecuredStack) throws -> String {
        let output = "\(secured.stack.directory)/scan.txt"
        _ = try ChildProcess.start(
            ["sh", "-c", line], environment: ["TERM": "dumb"], output: output
        ).wait()
        return String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
    }

    private struct Finding {
        var id = ""
        var severity = ""
        var text = ""

        var isGrave: Bool { ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(severity) }
    }

    /// The flat JSON of testssl.sh: objects of strings, a member a line.
    private static func findings(_ text: String) -> [Finding] {
        var all: [Finding] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: "\"", omittingEmptySubsequences: false)
            guard words.count >= 4 else { continue }
            switch words[1] {
            case "id": all.append(Finding(id: String(words[3])))
            case "severity" where !all.isEmpty: all[all.count - 1].severity = String(words[3])
            case "finding" where !all.isEmpty: all[all.count - 1].text = String(words[3])
            default: break
            }
        }
        return all
    }
}
