// `make run`: everything started in order, the job shown on real input, then kept up until Ctrl-C.
internal import LinuxIO
internal import Tracking

/// Starts the whole product in a directory and proves that it does its job.
public struct Demonstration {
    private let directory: String
    private let port: UInt16
    private let started = SystemClock.monotonicNanoseconds()

    /// A demonstration over a directory.
    ///
    /// - Parameters:
    ///   - directory: Where everything is kept; relative to the working directory or absolute.
    ///   - port: clickd's port.
    public init(directory: String, port: UInt16) throws {
        let absolute =
            directory.hasPrefix("/") ? directory : "\(FileSystem.workingDirectory)/\(directory)"
        do {
            try FileSystem.makeDirectories(absolute, permissions: 0o755)
        } catch { throw StackError("\(absolute) cannot be made: \(error)") }
        self.directory = FileSystem.realPath(absolute)
        self.port = port
    }

    /// Runs until TERM or INT; the exit code.
    public func run() throws -> Int32 {
        Signals.blockAll()
        let signals = try Signals.descriptor()
        let lock = try FileDescriptor.open("\(directory)/lock", [.readWrite, .create])
        do { try lock.lockExclusively() } catch {
            throw StackError(
                "\(directory) is in use by another run; stop that, or choose another VAR and PORT")
        }
        defer { lock.unlock() }
        say("PostgreSQL: starting a private cluster")
        let cluster = try PrivateCluster.start(directory: "\(directory)/postgres")
        let stack = ServiceStack(directory: directory, port: port, cluster: cluster)
        defer { stop(stack) }
        say("schema: migrating \(cluster.dsn())")
        try stack.prepare()
        if try stack.count("SELECT count(*) FROM trackable_links") == 0 {
            say("sample data: 3 merchants, 12 influencers, \(SampleData.links) links")
            _ = try stack.psql(SampleData.sql(), ["-q"])
        } else {
            say("sample data: there already")
        }
        say("clickd: starting on \(stack.url)")
        try stack.startClickd()
        say("attributiond: starting")
        try stack.startAttributiond()
        try prove(stack)
        printCommands(stack)
        say("up; Ctrl-C stops all of it")
        while true {
            if Socket.waitReadable(signals.rawValue, milliseconds: 500) {
                let signal = try Signals.next(from: signals)
                if signal == .terminate || signal == .interrupt { return 0 }
            }
            for (name, daemon) in [("clickd", stack.clickd), ("attributiond", stack.attributiond)] {
                guard let code = daemon?.poll() else { continue }
                throw StackError("\(name) ended with \(code):\n\(stack.tail(name))")
            }
        }
    }

    /// A browser's name, for the commands to paste.
    private static let browser =
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"

    private func stop(_ stack: ServiceStack) {
        say("stopping")
        stack.stop()
        stack.cluster.stop()
        say("stopped")
    }

    /// Real clicks and a signed conversion through the public port, then the rows that came of them.
    private func prove(_ stack: ServiceStack) throws {
        say("clicks: three visits to \(stack.url)/demo, one to \(stack.url)/s2")
        var tokens: [String] = []
        for (slug, agent) in [
            (
                "demo?sub1=story",
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
            ),
            (
                "demo",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"
            ),
            ("demo", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
            ("s2", "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"),
        ] {
            var probe = try HTTPProbe(stack.address)
            let answer = try probe.request(
                "GET", "/\(slug)",
                headers: ["User-Agent: \(agent)", "Referer: https://www.instagram.com/p/1"])
            guard answer.status == 302, let location = answer.header("location"),
                let range = location.firstRange(of: "click_id=")
            else { throw StackError("/\(slug) answered \(answer.status) \(answer.text)") }
            tokens.append(String(location[range.upperBound...].prefix(ClickToken.length)))
            print("  302 \(location)")
        }
        let order = "DEMO-\(SystemClock.wallMicroseconds() / 1000)"
        say("conversion: order \(order), 129.90 USD, signed, for the first click")
        let command = try stack.expect(
            stack.clickctl(signing(order: order, token: tokens[0], url: stack.url))
        )
        .output
        try sendConversion(command, in: stack)
        try stack.flush()
        try waitForCommission(of: order, in: stack)
        print(
            try stack.psql(
                """
                SELECT clicked_at, device, os, browser, source, sub_ids[1] AS sub1, is_bot,
                       is_unique, invalid_reason
                FROM clicks_logs ORDER BY click_id DESC LIMIT 4
                """, []))
        print(
            try stack.psql(
                """
                SELECT s.order_id, s.amount, s.currency, s.status, s.attribution,
                       c.amount_minor AS commission_minor, c.status AS commission_status, c.payable,
                       i.name AS influencer
                FROM sales s
                     JOIN commissions c ON c.merchant_id = s.merchant_id AND c.sale_id = s.id
                     JOIN influencers i ON i.id = c.influencer_id
                WHERE s.order_id = '\(order)'
                """, []))
    }

    /// Sends the conversion until it is taken: a start from the snapshot knows no secrets, and
    /// answers 503 until the merchants are read from the database.
    private func sendConversion(_ command: String, in stack: ServiceStack) throws {
        var answer = ""
        for _ in 0..<100 {
            answer = try stack.expect(stack.run(["sh", "-c", command])).output
            if answer.contains("\"accepted\"") { return print("  " + answer) }
            guard answer.contains("merchant_data_stale") else { break }
            Thread.sleep(microseconds: 100_000)
        }
        throw StackError("the conversion was not taken: \(answer)")
    }

    private func waitForCommission(of order: String, in stack: ServiceStack) throws {
        for _ in 0..<300 {
            let rows = try stack.count(
                """
                SELECT count(*) FROM commissions c JOIN sales s
                    ON s.merchant_id = c.merchant_id AND s.id = c.sale_id
                WHERE s.order_id = '\(order)'
                """)
            if rows > 0 { return }
            Thread.sleep(microseconds: 100_000)
        }
        throw StackError(
            "no commission came of \(order) within 30 s:\n\(stack.tail("attributiond"))")
    }

    private func signing(order: String, token: String, url: String) -> [String] {
        [
            "postback", "sign", "--merchant", SampleData.merchant(2), "--order", order, "--amount",
            "129.90",
            "--currency", "USD", "--click", token, "--url", url,
        ]
    }

    private func printCommands(_ stack: ServiceStack) {
        let clickctl = "\(stack.binaries)/clickctl"
        let operations = "http://127.0.0.1:\(Int(stack.port) + 1100)"
        let configuration = "--config \(stack.configuration)"
        let token =
            "$(curl -sA '\(Demonstration.browser)' -o /dev/null -w '%{redirect_url}' '\(stack.url)/demo'"
            + " | sed 's/.*click_id=//; s/[&#].*//')"
        let signed =
            "\(clickctl) postback sign \(configuration) --merchant \(SampleData.merchant(2))"
            + " --order \"TRY-$(date +%s)\" --amount 49.90 --currency USD --click \"\(token)\""
            + " --url \(stack.url) | sh"
        print(
            """

            click edge    \(stack.url)/demo           (and /s2 … /s1000)
            operations    \(operations)/stats  /metrics  /healthz  /readyz
            attribution   http://127.0.0.1:\(Int(stack.port) + 1101)/stats
            database      psql "\(stack.cluster.dsn(database: stack.database))"

            # a click (as a browser: curl by its own name is a bot, recorded and never paid)
            curl -siA '\(Demonstration.browser)' '\(stack.url)/demo?sub1=me'
            # a signed conversion for a click of that link
            \(signed)
            # the stats
            curl -s --unix-socket \(stack.socket) http://clickd/stats
            # the commission that came of it
            \(clickctl) commission list \(configuration) --merchant \(SampleData.merchant(2))

            """)
    }

    private func say(_ text: String) {
        let seconds = (SystemClock.monotonicNanoseconds() - started) / 1_000_000
        CurrentProcess.writeOutput("[\(seconds / 1000).\((seconds % 1000) / 100) s] \(text)\n")
    }

    private func print(_ text: String) { CurrentProcess.writeOutput(text + "\n") }
}
