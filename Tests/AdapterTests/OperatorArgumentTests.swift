// clickctl's refusals: usage is 64, data 65, configuration 78, each naming what is allowed.
import LinuxIO
import Testing
import Tracking

@testable import OperatorCommands

@Suite("clickctl: arguments")
struct OperatorArgumentTests {
    private static let someone = "00000000-0000-4000-8000-000000002001"

    private func failure(_ arguments: String...) -> (exitCode: Int32, message: String) {
        OperatorTool.failure(of: arguments) ?? (0, "")
    }

    @Test(
        "What is no command, or lacks an argument, is a usage error",
        arguments: [
            ["nonsense"], ["merchant", "add"], ["link", "add", "--slug", "a"], ["key", "new"],
            ["sale", "show"], ["sale", "show", "--merchant", "x"], ["stats", "--nonsense"],
            ["partition", "make", "--from", "2026-01-01"], ["top", "--hours", "many"], ["key"],
            [], ["link"],
        ])
    func usage(arguments: [String]) {
        #expect(OperatorTool.failure(of: arguments)?.exitCode == 64)
    }

    @Test(
        "A value that is not allowed is refused by name before anything is connected to",
        arguments: [
            ["merchant", "add", "--name", "", "--config", "/nonexistent"],
            ["merchant", "add", "--name", "a", "--currency", "euro"],
            ["merchant", "add", "--name", "a", "--lookback-days", "3651"],
            ["merchant", "add", "--name", "a", "--attribution-model", "best"],
            ["merchant", "add", "--name", "a", "--click-param", "a b"],
            ["merchant", "add", "--name", "a", "--id", "1"],
            ["influencer", "add", "--name", "a", "--kyc-status", "maybe"],
            ["influencer", "add", "--name", "a", "--postback-url", "ftp://x/"],
            ["rule", "add", "--merchant", someone, "--rate-ppm", "1000001"],
            ["rule", "add", "--merchant", someone, "--kind", "percent"],
            ["rule", "add", "--merchant", someone, "--kind", "flat", "--rate-ppm", "1"],
            ["rule", "add", "--merchant", someone, "--rate-ppm", "1", "--amount", "1"],
            [
                "rule", "add", "--merchant", someone, "--kind", "flat", "--amount", "1.5",
                "--currency", "JPY",
            ],
            ["rule", "add", "--merchant", someone, "--rate-ppm", "1", "--event", "refund"],
            ["rule", "add", "--merchant", someone, "--rate-ppm", "1", "--valid-from", "today"],
            ["coupon", "add", "--code", "", "--merchant", someone, "--influencer", someone],
            ["partition", "make", "--from", "2026-02-30", "--to", "2026-03-01"],
            ["partition", "make", "--from", "2026-02-02", "--to", "2026-02-01"],
            ["partition", "make", "--from", "2026-01-01", "--to", "2036-01-01"],
            ["commission", "list", "--status", "lost"], ["commission", "list", "--limit", "0"],
            ["top", "--limit", "1001"],
            ["postback", "sign", "--merchant", "x", "--order", "1", "--amount", "1"],
            ["postback", "sign", "--merchant", someone, "--order", "1"],
            ["postback", "sign", "--merchant", someone, "--order", "1", "--amount=-1"],
            ["postback", "sign", "--merchant", someone, "--order", "1", "--amount", "1e3"],
            ["postback", "sign", "--merchant", someone, "--order", "a\nb", "--amount", "1"],
            [
                "postback", "sign", "--merchant", someone, "--order", "1", "--amount", "1",
                "--click", "short",
            ],
        ])
    func refusedValues(arguments: [String]) {
        let failure = OperatorTool.failure(of: arguments)
        #expect(failure?.exitCode == 64, "\(arguments): \(failure?.message ?? "")")
        let message = failure?.message ?? ""
        #expect(message.contains("allowed") || message.contains("belong"), "\(message)")
    }

    @Test(
        "A link that the edge would not serve is refused",
        arguments: [
            ("", "https://a.example/"), ("a/b", "https://a.example/"), ("é", "https://a.example/"),
            (String(repeating: "a", count: 129), "https://a.example/"),
            ("..", "https://a.example/"),
            ("pixel.gif", "https://a.example/"), (".well-known", "https://a.example/"),
            ("v1", "https://a.example/"), ("ok", ""), ("ok", "/relative"), ("ok", "//a.example/"),
            ("ok", "javascript:alert(1)"), ("ok", "https://"), ("ok", "https:///path"),
            ("ok", "https://a.example/ b"), ("ok", "https://a.example/\r\nX: y"),
            ("ok", "https://user@a.example/"), ("ok", "https://{sub1}.example/"),
            ("ok", "https://a.example:99999/"), ("ok", "https://a.example/é"),
        ])
    func refusedLinks(slug: String, destination: String) {
        let failure = failure(
            "link", "add", "--slug", slug, "--merchant", OperatorArgumentTests.someone,
            "--influencer", OperatorArgumentTests.someone, "--destination", destination)
        #expect(failure.exitCode == 64, "\(failure.message)")
    }

    @Test("A good link passes all checks and only then is the configuration missed")
    func goodLink() {
        for destination in [
            "https://a.example/", "http://a.example:8080/x?y={sub1}&z=1#f", "https://[::1]/",
            "https://a.example/{click_id}",
        ] {
            let failure = failure(
                "link", "add", "--slug", "v1x", "--domain", "go.example", "--merchant",
                OperatorArgumentTests.someone, "--influencer", OperatorArgumentTests.someone,
                "--destination", destination, "--config", "/nonexistent.yaml")
            #expect(failure.exitCode == 78, "\(failure.message)")
        }
    }

    @Test("A token that is none is bad data; a missing daemon is an I/O error")
    func otherExitCodes() {
        #expect(failure("token", "decode", "not-a-token").exitCode == 65)
        #expect(failure("stats", "--socket", "/nonexistent.sock").exitCode == 74)
        #expect(failure("migrate", "--config", "/nonexistent.yaml").exitCode == 78)
        #expect(failure("link", "import", "/nonexistent.csv").exitCode == 74)
    }

    @Test("A key file is made once and never overwritten")
    func keyFile() throws {
        let path = "/tmp/clickd-key-\(UInt64.random(in: 0...UInt64.max))"
        defer { try? FileSystem.remove(path) }
        #expect(OperatorTool.failure(of: ["key", "new", path]) == nil)
        #expect(try FileSystem.status(path).permissions == 0o600)
        let before = try FileSystem.read(path)
        #expect(failure("key", "new", path).exitCode == 73)
        #expect(try FileSystem.read(path) == before)
    }
}

@Suite("clickctl: import and output")
struct OperatorTextTests {
    private static let id = "00000000-0000-4000-8000-000000000001"
    private static let header = "slug,influencer_id,merchant_id,destination_url,fallback_url\n"

    private func parse(_ text: String) -> Result<[LinkImport.Entry], CommandError> {
        do throws(CommandError) {
            return .success(try LinkImport.parse(Array(text.utf8), file: "l.csv"))
        } catch {
            return .failure(error)
        }
    }

    @Test("Links are read with quotes, both line ends and empty fields")
    func links() throws {
        let owners = "\(OperatorTextTests.id),\(OperatorTextTests.id)"
        let text =
            OperatorTextTests.header + "a,\(owners),\"https://a.example/?x=1,2\",\r\n\n"
            + "b,\(owners),https://b.example/,\"https://c.example/\""
        let entries = try parse(text).get()
        #expect(entries.map(\.line) == [2, 4])
        #expect(entries.map(\.link.slug) == ["a", "b"])
        #expect(entries[0].link.destination == "https://a.example/?x=1,2")
        #expect(entries[0].link.fallbackURL == nil)
        #expect(entries[1].link.fallbackURL == "https://c.example/")
    }

    @Test("Every bad line is listed and none passes")
    func badLinks() {
        let owners = "\(OperatorTextTests.id),\(OperatorTextTests.id)"
        let text =
            OperatorTextTests.header + "postback,\(owners),https://a.example/,\n"
            + "a,\(owners),https://a.example/,\n" + "a,\(owners),https://a.example/,\n"
            + "b,\(owners),ftp://b,\n" + "c,\(owners)\n"
        guard case .failure(let error) = parse(text) else {
            Issue.record("bad links passed")
            return
        }
        #expect(error.exitCode == 65)
        let lines = error.message.split(separator: "\n")
        #expect(lines.map { $0.prefix(8) } == ["l.csv:2:", "l.csv:4:", "l.csv:5:", "l.csv:6:"])
    }

    @Test(
        "A file that is no table of links is refused",
        arguments: [
            "", "slug\n", "slug,slug,influencer_id,merchant_id,destination_url\n", "x\n", "\"a",
        ])
    func noTable(text: String) {
        guard case .failure(let error) = parse(text) else {
            Issue.record("passed")
            return
        }
        #expect(error.exitCode == 65)
        #expect(error.message.hasPrefix("l.csv:1:"))
    }

    @Test("Random CSV never traps")
    func randomCSV() {
        let alphabet = Array("a,\"\r\n{é".utf8)
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0..<40)).compactMap { _ in alphabet.randomElement() }
            var reader = CSVReader(bytes)
            var records = 0
            while let record = reader.next(), record.fields != nil { records += 1 }
            #expect(records <= bytes.count)
        }
    }

    @Test("A report is a table for people and an array for machines")
    func report() {
        var report = Report([("name", .text), ("n", .number), ("ok", .boolean)])
        report.rows = [["a\u{1B}[0m", "10", "true"], [nil, "7", "false"]]
        #expect(report.text == "name    n  ok\na\u{FFFD}[0m  10  true\n-       7  false\n")
        #expect(
            report.json
                == "[{\"name\":\"a\\u001b[0m\",\"n\":10,\"ok\":true},"
                + "{\"name\":null,\"n\":7,\"ok\":false}]\n")
    }

    @Test("JSON is indented outside of strings only")
    func indentation() {
        let json = #"{"a":[1,{"b":"x,{\"y"}],"c":{},"d":[]}"#
        #expect(
            indented(json: json.utf8) == """
                {
                  "a": [
                    1,
                    {
                      "b": "x,{\\"y"
                    }
                  ],
                  "c": {},
                  "d": []
                }

                """)
    }

    @Test("An answer over the socket is taken apart, anything else refused")
    func answers() {
        let good = OperationsClient.parse(Array("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}".utf8))
        #expect(good?.status == 200)
        #expect(good?.body == Array("{}".utf8))
        for text in [
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 xxx OK\r\n\r\n", "nonsense nonsense\r\n\r\n",
        ] {
            #expect(OperationsClient.parse(Array(text.utf8)) == nil)
        }
    }
}
