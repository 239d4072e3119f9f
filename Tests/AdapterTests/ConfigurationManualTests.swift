// config/clickd.yaml is the manual: it must say of every key what the code does.
import Configuration
import LinuxIO
import Testing
import Tracking

@Suite("Configuration: the manual")
struct ConfigurationManualTests {
    private static let path = "config/clickd.yaml"

    /// Where the manual lies, from wherever the tests are run.
    private static func manual() throws -> String {
        let suffix = "Tests/AdapterTests/ConfigurationManualTests.swift"
        let root = String(#filePath.dropLast(suffix.count))
        return String(decoding: try FileSystem.read(root + path), as: UTF8.self)
    }

    /// The comment right above each key, by the key's path.
    private static func comments(_ text: String) -> [String: String] {
        var result: [String: String] = [:]
        var sections: [(indent: Int, name: String)] = []
        var comment = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let indent = line.prefix { $0 == " " }.count
            let content = line.dropFirst(indent)
            if content.hasPrefix("#") {
                comment += " " + content.dropFirst().drop { $0 == " " }
                continue
            }
            if let colon = content.firstIndex(of: ":") {
                sections.removeAll { $0.indent >= indent }
                sections.append((indent, String(content[..<colon])))
                result[sections.map(\.name).joined(separator: ".")] = comment
            }
            comment = ""
        }
        return result
    }

    @Test("The manual parses to the defaults of the code")
    func defaults() throws {
        let text = try ConfigurationManualTests.manual()
        let parsed = try ConfigurationLoader.parse(
            Array(text.utf8), file: ConfigurationManualTests.path)
        #expect(parsed == ClickdConfiguration())
        let bare = try ConfigurationLoader.parse(Array("node: { id: 0 }".utf8), file: "bare")
        #expect(bare == ClickdConfiguration())
    }

    @Test("A change of any key is named, without its value")
    func changes() throws {
        #expect(
            Set(ClickdConfiguration.comparableKeys)
                == Set(ConfigurationLoader.keys.map(\.path)))
        let old = ClickdConfiguration()
        var new = old
        #expect(new.changedKeys(from: old).isEmpty)
        new.http.workers = 3
        new.postgres.dsn = "password=secret"
        new.limits.perAddress = 7
        #expect(
            new.changedKeys(from: old) == ["http.workers", "limits.per_address", "postgres.dsn"])
    }

    @Test("The manual says of every key its default, what is allowed, and how it changes")
    func everyKey() throws {
        let comments = ConfigurationManualTests.comments(try ConfigurationManualTests.manual())
        #expect(ConfigurationLoader.keys.count > 35)
        for key in ConfigurationLoader.keys {
            guard let comment = comments[key.path] else {
                Issue.record("\(key.path) is not in the manual")
                continue
            }
            #expect(
                comment.contains("Default: \(key.defaultText). Allowed: \(key.allowed)."),
                "\(key.path) has default \(key.defaultText), allowed \(key.allowed)")
            let change = comment.contains("Change: restart.") || comment.contains("Change: reload.")
            #expect(change, "\(key.path)")
        }
    }

    @Test("The manual has no key that the code does not know")
    func noOther() throws {
        let known = Set(ConfigurationLoader.keys.map(\.path))
        let comments = ConfigurationManualTests.comments(try ConfigurationManualTests.manual())
        for path in comments.keys where !known.contains(path) {
            #expect(known.contains { $0.hasPrefix(path + ".") }, "\(path)")
        }
    }

    @Test("Every key has an environment variable of its own")
    func environmentNames() {
        let names = ConfigurationLoader.keys.map(\.environmentName)
        #expect(Set(names).count == names.count)
        #expect(names.contains("CLICKD_HTTP_LISTEN"))
        #expect(names.contains("CLICKD_ATTRIBUTION_OPS_SOCKET"))
    }
}
