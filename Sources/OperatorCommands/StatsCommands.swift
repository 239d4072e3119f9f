// `clickctl stats`, over the daemon's Unix socket, and `clickctl top`, from the roll-ups.
internal import ArgumentParser
internal import Configuration
internal import LinuxIO
internal import Postgres
internal import Tracking

struct StatsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "What the running daemon says of itself.")

    @Flag(help: "Ask attributiond instead of clickd.") var attribution = false
    @Option(help: ArgumentHelp("The socket; that of the configuration when not given."))
    var socket: String?
    @OptionGroup var options: ConfigurationOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        var path = socket ?? ""
        if socket == nil {
            let configuration = try options.load()
            path = attribution ? configuration.attribution.ops.socket : configuration.ops.socket
        }
        let answer = try OperationsClient.get(path, "/stats")
        guard answer.status == 200 else {
            throw CommandError(exitCode: 74, message: "\(path): answered \(answer.status)")
        }
        if output.json {
            CurrentProcess.writeOutput(String(decoding: answer.body, as: UTF8.self))
        } else {
            CurrentProcess.writeOutput(indented(json: answer.body))
        }
    }
}

/// Asks a daemon over its Unix socket.
enum OperationsClient {
    enum Limits {
        static let timeoutSeconds = 15
        static let answerBytes = 16 << 20
    }

    static func get(
        _ socket: String, _ target: String
    ) throws(CommandError) -> (status: Int, body: [UInt8]) {
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try exchange(socket, "GET \(target) HTTP/1.1\r\nHost: clickctl\r\n\r\n")
        } catch {
            if error == .noSuchFile || error == .connectionRefused {
                throw CommandError(exitCode: 74, message: "\(socket): no daemon answers there")
            }
            throw .inputOutput(socket, error)
        }
        guard let answer = parse(bytes) else {
            throw CommandError(exitCode: 74, message: "\(socket): no answer that is HTTP")
        }
        return answer
    }

    private static func exchange(_ path: String, _ request: String) throws(Errno) -> [UInt8] {
        let fd = try Socket.connect(unix: path, timeoutSeconds: Limits.timeoutSeconds)
        let text = Array(request.utf8)
        let sent = text.withUnsafeBytes { Socket.send(fd.rawValue, $0) }
        guard sent == text.count else { throw Errno(rawValue: CInt(clamping: -min(sent, 0))) }
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { chunk.deallocate() }
        var bytes: [UInt8] = []
        while bytes.count <= Limits.answerBytes {
            let count = Socket.receive(fd.rawValue, chunk)
            if count == 0 { return bytes }
            guard count > 0 else { throw Errno(rawValue: CInt(clamping: -count)) }
            bytes.append(contentsOf: chunk[..<count])
        }
        throw .invalidArgument
    }

    /// Status and body of an answer that ends with its connection.
    static func parse(_ bytes: [UInt8]) -> (status: Int, body: [UInt8])? {
        guard bytes.count >= 16, bytes.starts(with: Array("HTTP/1.1 ".utf8)),
            let status = Int(String(decoding: bytes[9..<12], as: UTF8.self))
        else { return nil }
        for end in 4...bytes.count where bytes[(end - 4)..<end] == [13, 10, 13, 10] {
            return (status, Array(bytes[end...]))
        }
        return nil
    }
}

struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "The links with the most valid clicks.")

    @Option(help: "Of the last so many hours, 1...8760.") var hours = 24
    @Option(help: "So many links, 1...1000.") var limit = 20
    @Option(help: ArgumentHelp("Only this merchant's.", valueName: "uuid")) var merchant: String?
    @OptionGroup var options: ConfigurationOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let hours = try Checked.integer("--hours", hours, 1...8760)
        let limit = try Checked.integer("--limit", limit, 1...1000)
        let merchant = try Checked.id("--merchant", merchant)
        let result = try options.connect().rows(
            """
            SELECT l.slug, l.domain, h.link_id::text, h.influencer_id::text, h.merchant_id::text,
                sum(h.clicks)::text, sum(h.unique_clicks)::text, sum(h.bots)::text,
                sum(h.invalid)::text
            FROM link_hours AS h LEFT JOIN trackable_links AS l ON l.id = h.link_id
            WHERE h.hour >= date_trunc('hour', now()) - $1::bigint * interval '1 hour'
              AND ($2::uuid IS NULL OR h.merchant_id = $2)
            GROUP BY h.merchant_id, h.link_id, h.influencer_id, l.slug, l.domain
            ORDER BY sum(h.clicks) DESC, h.link_id LIMIT $3::bigint
            """, [.int64(hours), .optional(merchant), .int64(limit)])
        Report(
            [
                ("slug", .text), ("domain", .text), ("link_id", .text), ("influencer_id", .text),
                ("merchant_id", .text), ("clicks", .number), ("unique_clicks", .number),
                ("bots", .number), ("invalid", .number),
            ], result
        ).write(output)
    }
}
