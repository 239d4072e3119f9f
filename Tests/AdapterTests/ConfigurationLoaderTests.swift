// Reading configurations: values, units, overrides, and every refusal with its line.
import Configuration
import LinuxIO
import Testing
import Tracking

@Suite("Configuration: loading")
struct ConfigurationLoaderTests {
    private func load(
        _ text: String, _ environment: [(name: String, value: String)] = []
    ) throws -> ClickdConfiguration {
        try ConfigurationLoader.parse(Array(text.utf8), file: "c.yaml", environment: environment)
    }

    private func problems(
        _ text: String, _ environment: [(name: String, value: String)] = []
    ) -> [String] {
        do {
            _ = try ConfigurationLoader.parse(
                Array(text.utf8), file: "c.yaml", environment: environment)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test("Values of every kind are read")
    func values() throws {
        let configuration = try load(
            """
            node: { id: 7 }
            http:
              listen: ["0.0.0.0:80", "[::1]:8080"]
              workers: 4
            limits: { header_bytes: 8KiB, idle_timeout: 1min, connections: 50 }
            spool: { segment: 1MiB, quota: 8MiB, retain: 0ms }
            geoip: { database: "" }
            links:
            postgres:
              dsn: 'host=/run/postgresql password=secret dbname=x'
            privacy: { ip: none, honour_gpc: false }
            ops: { listen: "" }
            log: { level: debug, format: text }
            attribution: { batch: 10, ops: { socket: /run/a.sock } }
            """)
        #expect(configuration.node.id == 7)
        #expect(configuration.http.listen.map(\.description) == ["0.0.0.0:80", "[::1]:8080"])
        #expect(configuration.http.workerCount(cores: 64) == 4)
        #expect(configuration.limits.headerBytes == 8192)
        #expect(configuration.limits.idleTimeoutMicroseconds == 60_000_000)
        #expect(configuration.limits.connections == 50)
        #expect(configuration.spool.quotaBytes == 8 << 20)
        #expect(configuration.spool.retainMicroseconds == 0)
        #expect(configuration.postgres.dsn.hasPrefix("host=/run/postgresql"))
        #expect(configuration.privacy.ip == .none)
        #expect(!configuration.privacy.honourGPC)
        #expect(configuration.ops.listen == nil)
        #expect(configuration.log.level == .debug)
        #expect(configuration.attribution.batch == 10)
        #expect(configuration.attribution.ops.socket == "/run/a.sock")
        #expect(configuration.attribution.intervalMicroseconds == 1_000_000)
    }

    @Test("Workers are one per core and at most 32 when left at 0")
    func workers() {
        var http = ClickdConfiguration().http
        #expect(http.workerCount(cores: 3) == 3)
        #expect(http.workerCount(cores: 64) == 32)
        #expect(http.workerCount(cores: 0) == 1)
        http.workers = 5
        #expect(http.workerCount(cores: 2) == 5)
    }

    @Test("The environment overrides the file, lists by commas")
    func environment() throws {
        let configuration = try load(
            "node: { id: 1 }\nhttp: { listen: [\"127.0.0.1:1\"] }",
            [
                (name: "CLICKD_NODE_ID", value: "9"),
                (name: "CLICKD_HTTP_LISTEN", value: "127.0.0.1:80, [::1]:81"),
                (name: "CLICKD_PROXY_TRUSTED", value: ""),
                (name: "CLICKD_ATTRIBUTION_OPS_LISTEN", value: ""),
                (name: "CLICKD_SPOOL_SYNC", value: "50ms"),
                (name: "CLICKD_POSTGRES_DSN", value: "host=/x dbname=y"),
                (name: "CLICKD_CONFIG", value: "elsewhere"),
            ])
        #expect(configuration.node.id == 9)
        #expect(configuration.http.listen.count == 2)
        #expect(configuration.attribution.ops.listen == nil)
        #expect(configuration.spool.syncMicroseconds == 50_000)
        #expect(configuration.postgres.dsn == "host=/x dbname=y")
        #expect(try load("", [(name: "CLICKD_NODE_ID", value: "3")]).node.id == 3)
    }

    @Test("A wrong variable is named instead of a line, and a password is not taken from one")
    func wrongEnvironment() {
        #expect(
            problems("node: { id: 0 }", [(name: "CLICKD_NODE_ID", value: "128")])
                == ["CLICKD_NODE_ID: node.id: '128' is not allowed (allowed: 0...127)"])
        for dsn in ["host=x password=hunter2", "postgresql://u:hunter2@h/d"] {
            let found = problems("node: { id: 0 }", [(name: "CLICKD_POSTGRES_DSN", value: dsn)])
            #expect(found.count == 1)
            #expect(found.allSatisfy { !$0.contains("hunter2") })
        }
        let free = problems(
            "node: { id: 0 }", [(name: "CLICKD_POSTGRES_DSN", value: "postgresql://u@h:5432/d")])
        #expect(free == [])
    }

    @Test("All problems are listed, in the order of the file")
    func allProblems() {
        let found = problems(
            """
            node: { id: 128 }
            http:
              listen: 127.0.0.1:80
              wrokers: 2
            limits:
              header_bytes: 16
              idle_timeout: 10sec
            privacy: { ip: hash, honour_gpc: yes }
            htpp: {}
            """)
        #expect(
            found == [
                "c.yaml:1: node.id: '128' is not allowed (allowed: 0...127)",
                "c.yaml:3: http.listen: a list is expected, not a single value "
                    + "(allowed: a list of \"address:port\")",
                "c.yaml:4: http.wrokers: unknown key (allowed: listen, workers)",
                "c.yaml:6: limits.header_bytes: '16' is not allowed "
                    + "(allowed: 1KiB...64KiB in B, KiB, MiB, GiB or TiB)",
                "c.yaml:7: limits.idle_timeout: '10sec' is not allowed "
                    + "(allowed: 100ms...1h in ms, s, min, h or d)",
                "c.yaml:8: privacy.ip: 'hash' is not allowed (allowed: truncate, full, none)",
                "c.yaml:8: privacy.honour_gpc: 'yes' is not allowed (allowed: true or false)",
                "c.yaml:9: htpp: unknown key (allowed: node, http, https, proxy, limits, links, "
                    + "ring, spool, postgres, geoip, privacy, keys, ops, log, attribution)",
            ])
    }

    @Test(
        "What is wrong with one value is said at its line",
        arguments: [
            ("", "c.yaml:1: node.id: missing"),
            ("http: { workers: 1 }", "c.yaml:1: node.id: missing"),
            ("\nnode:\n", "c.yaml:2: node.id: missing"),
            ("node: { id: }", "c.yaml:1: node.id: no value is given"),
            ("node: { id: -1 }", "c.yaml:1: node.id: '-1' is not allowed"),
            ("node: { id: 1.0 }", "c.yaml:1: node.id: '1.0' is not allowed"),
            ("node: { id: [1] }", "c.yaml:1: node.id: one value is expected, not a list"),
            ("node: 1", "c.yaml:1: node: a section is expected"),
            ("node: { id: 0 }\nlog: { level: loud }", "c.yaml:2: log.level: 'loud'"),
            ("node: { id: 0 }\nspool: { sync: 11s }", "c.yaml:2: spool.sync: '11s'"),
            ("node: { id: 0 }\nspool: { sync: 0ms }", "c.yaml:2: spool.sync: '0ms'"),
            ("node: { id: 0 }\nring: { bytes: 262145B }", "c.yaml:2: ring.bytes: '262145B'"),
            ("node: { id: 0 }\nring: { bytes: 16MB }", "c.yaml:2: ring.bytes: '16MB'"),
            ("node: { id: 0 }\nkeys: { click: '' }", "c.yaml:2: keys.click: ''"),
            ("node: { id: 0 }\nhttp: { listen: [x] }", "c.yaml:2: http.listen: 'x'"),
            ("node: { id: 0 }\nhttp: { listen: ['1.1.1.1:70000'] }", "c.yaml:2: http.listen:"),
            ("node: { id: 0 }\nproxy: { trusted: [10.0.0.1/8] }", "c.yaml:2: proxy.trusted:"),
            ("node: { id: 0 }\nproxy: { trusted: [10.0.0.0/33] }", "c.yaml:2: proxy.trusted:"),
            ("node: { id: 0 }\nnode: { id: 1 }", "c.yaml:2: node is given twice"),
            ("node: { id: 0\n", "c.yaml:2: not YAML: "),
            ("node: &a { id: 0 }", "c.yaml:1: anchors are not supported"),
            ("node: { id: !!int 0 }", "c.yaml:1: tags are not supported"),
            ("node: { id: 0 }\n---\nnode: { id: 1 }", "c.yaml:2: a second document"),
            ("- 1", "c.yaml:1: sections are expected, not a list"),
            ("\u{1}", "c.yaml:1: not YAML: "),
        ])
    func oneProblem(text: String, beginning: String) {
        let found = problems(text)
        #expect(found.contains { $0.hasPrefix(beginning) }, "\(found)")
    }

    @Test(
        "Keys that contradict each other are refused at a line of theirs",
        arguments: [
            ("spool: { quota: 16MiB }", "spool.quota"),
            ("spool: { directory: /dev/shm/clickd }", "ring.directory"),
            ("spool: { directory: /dev/./shm//clickd/ }", "ring.directory"),
            ("http: { listen: [] }", "http.listen"),
            ("http: { listen: ['127.0.0.1:9180'] }", "ops.listen"),
            ("http: { listen: ['0.0.0.0:9180'] }", "ops.listen"),
            ("http: { listen: ['127.0.0.1:80', '0.0.0.0:80'] }", "http.listen"),
            ("http: { listen: ['[::1]:80', '[::]:80', '0.0.0.0:80'] }", "http.listen"),
            ("ops: { listen: '127.0.0.1:9181' }", "attribution.ops.listen"),
            ("ops: { socket: var/attributiond.sock }", "attribution.ops.socket"),
            ("https: { listen: ['127.0.0.1:443'] }", "https.listen"),
            ("https: { certificates: [{ certificate: a, key: b }] }", "https.certificates"),
            ("proxy: { protocol: v2 }", "proxy.protocol"),
            ("limits: { buffered_bytes: 1MiB, body_bytes: 65KiB }", "limits.body_bytes"),
            (
                "limits: { buffered_bytes: 2047KiB }\n"
                    + "https: { listen: ['127.0.0.1:443'], certificates: "
                    + "[{ certificate: a, key: b }] }", "limits.buffered_bytes"
            ),
        ])
    func contradictions(text: String, key: String) {
        let found = problems("node: { id: 0 }\n\(text)")
        #expect(found.contains { $0.hasPrefix("c.yaml:2: \(key): ") }, "\(found)")
    }

    @Test("A connection string that libpq cannot read is refused without being quoted")
    func connectionString() {
        let text = "node: { id: 0 }\npostgres: { dsn: 'bogus=1 password=hunter2' }"
        let error = #expect(throws: ConfigurationError.self) {
            try ConfigurationLoader.parse(
                Array(text.utf8), file: "c.yaml", connectionStrings: { _ in false })
        }
        let found = error?.problems.map(\.description) ?? []
        #expect(found.contains { $0.hasPrefix("c.yaml:2: postgres.dsn: libpq cannot read it") })
        #expect(!found.contains { $0.contains("hunter2") || $0.contains("bogus") })
    }

    @Test("One port on two addresses, or on all of each family, is no contradiction")
    func onePort() throws {
        _ = try load("node: { id: 0 }\nhttp: { listen: ['127.0.0.1:80', '127.0.0.2:80'] }")
        _ = try load("node: { id: 0 }\nhttp: { listen: ['0.0.0.0:80', '[::]:80'] }")
    }

    @Test("Port 0 never contradicts itself")
    func anyPort() throws {
        _ = try load(
            "node: { id: 0 }\nhttp: { listen: ['127.0.0.1:0'] }\nops: { listen: '127.0.0.1:0' }")
    }

    @Test("A missing file is 78 and a directory is no file")
    func missing() {
        for path in ["/nonexistent/clickd.yaml", "/tmp"] {
            let error = #expect(throws: ConfigurationError.self) {
                try ConfigurationLoader.load(path: path, environment: [])
            }
            #expect(error?.exitCode == 78)
            #expect(error?.description.hasPrefix("\(path):1: ") == true)
        }
    }

    @Test("Deep and random text never traps")
    func randomText() {
        _ = problems(String(repeating: "[", count: 5000))
        _ = problems(
            "a: " + String(repeating: "{a: ", count: 20) + "1" + String(repeating: "}", count: 20))
        let alphabet = Array("node: {id}[],\n-#&*!|>'\"%@`0:é\t \u{0}")
        for _ in 0..<3000 {
            let text = (0..<Int.random(in: 0..<60)).compactMap { _ in alphabet.randomElement() }
            _ = problems(String(text))
        }
    }

    @Test("Sizes and durations read what they write")
    func units() {
        for bytes in [0, 1, 1023, 1024, 65_536, 3 << 30, 1 << 40] {
            #expect(ByteSize.parse(ByteSize.text(bytes)) == bytes)
        }
        for duration in [0, 1000, 1_500_000, 60_000_000, 86_400_000_000] as [Int64] {
            #expect(DurationText.parse(DurationText.text(duration)) == duration)
        }
        for text in ["", "1", "KiB", "1 k", "-1B", "1.5MiB", "9999999999999TiB", "１KiB", "1Kib"] {
            #expect(ByteSize.parse(text) == nil, "\(text)")
        }
        for text in ["", "5", "s", "1m", "-1s", "99999999999999999999d"] {
            #expect(DurationText.parse(text) == nil, "\(text)")
        }
    }

    @Test("Ranges contain their addresses and no others")
    func ranges() throws {
        let four = try #require(AddressRange("10.0.0.0/8"))
        #expect(four.description == "10.0.0.0/8")
        #expect(four.contains(PeerAddress(high: 0x0A01_0203 << 32, low: 0, isIPv6: false)))
        #expect(!four.contains(PeerAddress(high: 0x0B01_0203 << 32, low: 0, isIPv6: false)))
        #expect(!four.contains(PeerAddress(high: 0x0A01_0203 << 32, low: 0, isIPv6: true)))
        let six = try #require(AddressRange("2001:db8::/33"))
        #expect(six.contains(PeerAddress(high: 0x2001_0DB8_7FFF_0000, low: 5, isIPv6: true)))
        #expect(!six.contains(PeerAddress(high: 0x2001_0DB8_8000_0000, low: 5, isIPv6: true)))
        let one = try #require(AddressRange("::1"))
        #expect(one.prefixBits == 128)
        #expect(one.contains(PeerAddress(high: 0, low: 1, isIPv6: true)))
        #expect(!one.contains(PeerAddress(high: 0, low: 2, isIPv6: true)))
        #expect(
            AddressRange("0.0.0.0/0")?.contains(PeerAddress(high: 1 << 63, low: 0, isIPv6: false))
                == true)
        for text in [
            "", "/8", "10.0.0.0/", "10.0.0.0/x", "localhost/8", "*", "10.0.0.0/08x", "::1/129",
        ] {
            #expect(AddressRange(text) == nil, "\(text)")
        }
    }
}
