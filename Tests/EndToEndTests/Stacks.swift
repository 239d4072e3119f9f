// What every end-to-end test starts from: the real executables over a real PostgreSQL, in a directory
// of their own, with the sample platform loaded.
import LinuxIO
import Synchronization
import TLS
import Testing
import Tracking
import Workbench

enum Stacks {
    private static let number = Atomic<Int>(0)

    /// Runs a body, which starts the daemons itself, over a fresh stack and cleans up after it.
    ///
    /// - Parameters:
    ///   - ownCluster: Whether the test stops PostgreSQL and so needs one of its own.
    ///   - settings: Sections put over the defaults.
    static func with(
        ownCluster: Bool = false, settings: [String: String] = [:],
        _ body: (ServiceStack) throws -> Void
    ) throws {
        let id = number.add(1, ordering: .relaxed).newValue
        let directory = "/var/tmp/clickd-e2e-\(CurrentProcess.id)-\(id)"
        try FileSystem.makeDirectories(directory, permissions: 0o755)
        defer { try? FileSystem.removeTree(directory) }
        let cluster =
            ownCluster
            ? try PrivateCluster.start(directory: "\(directory)/postgres")
            : try TestDatabases.cluster()
        defer { if ownCluster { cluster.stop() } }
        let database = "e2e_\(id)"
        try cluster.script("CREATE DATABASE \(database)")
        let stack = ServiceStack(
            directory: directory, port: try SocketAddress.freePort(), cluster: cluster,
            database: database)
        stack.settings = settings
        stack.settings["log"] = "{ level: warning, format: text }"
        try stack.prepare()
        _ = try stack.psql(SampleData.sql(), ["-q"])
        defer { stack.stop(removingRings: true) }
        try body(stack)
    }
}

extension ServiceStack {
    /// A visit; the click's token and ID.
    func click(_ target: String = "/demo", headers: [String] = LoadGenerator.browser) throws
        -> (token: String, id: UInt64)
    {
        var probe = try HTTPProbe(address)
        let answer = try probe.request("GET", target, headers: headers)
        let location = try #require(answer.header("location"))
        let range = try #require(location.firstRange(of: "click_id="))
        let token = String(location[range.upperBound...].prefix(ClickToken.length))
        return (token, try #require(LoadGenerator.clickID(in: location)))
    }

    /// The signing secret of a sample merchant, as bytes.
    func signingKey(merchant: String) throws -> [UInt8] {
        let text = try psql("SELECT signing_secret FROM merchants WHERE id = '\(merchant)'")
            .filter { !$0.isNewline }
        return try #require(Base64.decode(text.dropFirst("whsec_".count).utf8))
    }

    /// Header lines that sign a body after Standard Webhooks.
    func signature(of body: String, key: [UInt8], id: String? = nil, age: Int64 = 0) -> [String] {
        let messageID = id ?? "msg_" + hexadecimalText(Randomness.bytes(8))
        let timestamp = SystemClock.wallMicroseconds() / 1_000_000 - age
        let digest = OpenSSLDigests().hmacSHA256(
            key: key, message: Array("\(messageID).\(timestamp).\(body)".utf8))
        return [
            "webhook-id: \(messageID)", "webhook-timestamp: \(timestamp)",
            "webhook-signature: v1,\(Base64.encode(digest))", "Content-Type: application/json",
        ]
    }

    /// Sends a signed conversion of the second sample merchant (the one of `/demo`).
    func convert(
        order: String, token: String?, amount: String = "100.00", event: String = "sale"
    ) throws -> ProbeResponse {
        let merchant = SampleData.merchant(2)
        var body =
            "{\"merchant_id\":\"\(merchant)\",\"order_id\":\"\(order)\",\"amount\":\"\(amount)\","
        body += "\"currency\":\"USD\",\"event\":\"\(event)\""
        if let token { body += ",\"click_id\":\"\(token)\"" }
        body += "}"
        let lines = try signature(of: body, key: signingKey(merchant: merchant))
        var probe = try HTTPProbe(address)
        return try probe.request("POST", "/v1/conversions", headers: lines, body: body)
    }

    /// A whole number of `/stats`, by the path of its keys.
    func statistic(_ group: String, _ field: String) throws -> Int {
        let text = try ask("/stats").text
        let start = try #require(text.firstRange(of: "\"\(group)\""), "\(text)")
        let found = try #require(
            text[start.upperBound...].firstRange(of: "\"\(field)\":"), "\(text)")
        let digits = text[found.upperBound...].drop { $0 == " " }.prefix { $0.isNumber }
        return try #require(Int(digits))
    }

    /// Asks the database until a number is as wanted; fails after half a minute.
    func eventually(_ wanted: Int, _ sql: String) throws {
        var last = -1
        for _ in 0..<300 {
            last = try count(sql)
            if last == wanted { return }
            Thread.sleep(microseconds: 100_000)
        }
        Issue.record("\(last) instead of \(wanted): \(sql)")
    }
}
