// Links from CSV: every problem is listed with its line, and nothing is written unless all is well.
internal import LinuxIO
internal import Postgres
internal import Tracking

enum LinkImport {
    enum Limits {
        static let fileBytes = 256 << 20
        /// Problems that are listed.
        static let problems = 100
        /// Links in one statement.
        static let batch = 5000
    }

    static let required = ["slug", "influencer_id", "merchant_id", "destination_url"]
    static let optional = [
        "id", "domain", "status", "redirect_status", "forward_query", "starts_at", "expires_at",
        "expired_url", "fallback_url",
    ]

    /// A link and the line that it stands on.
    struct Entry {
        var line: Int
        var link: NewLink
    }

    /// Reads and checks the whole file.
    static func parse(_ bytes: [UInt8], file: String) throws(CommandError) -> [Entry] {
        var problems: [String] = []
        var entries: [Entry] = []
        var header: [String]?
        var keys: Set<String> = []
        var reader = CSVReader(bytes)
        while problems.count < Limits.problems, let record = reader.next() {
            guard let fields = record.fields else {
                problems.append(
                    "\(file):\(record.line): a quote that does not end, or text after it")
                break
            }
            if fields == [""] { continue }
            guard let header else {
                header = try checkedHeader(fields, "\(file):\(record.line)")
                continue
            }
            do throws(CommandError) {
                let link = try link(fields, header)
                guard keys.insert("\(link.domain)/\(link.slug)").inserted else {
                    throw .data("slug: '\(link.slug)' on domain '\(link.domain)' is given twice")
                }
                entries.append(Entry(line: record.line, link: link))
            } catch {
                problems.append("\(file):\(record.line): \(error.message)")
            }
        }
        guard problems.isEmpty else { throw .data(problems.joined(separator: "\n")) }
        guard header != nil else { throw .data("\(file):1: empty (allowed: a line of columns)") }
        return entries
    }

    private static func checkedHeader(
        _ fields: [String], _ place: String
    ) throws(CommandError) -> [String] {
        let known = required + optional
        for field in fields where !known.contains(field) {
            throw .data(
                "\(place): '\(Report.plain(field))' is no column "
                    + "(allowed: \(known.joined(separator: ", ")))")
        }
        for name in required where !fields.contains(name) {
            throw .data("\(place): the column \(name) is missing")
        }
        guard Set(fields).count == fields.count else {
            throw .data("\(place): a column is given twice")
        }
        return fields
    }

    private static func link(
        _ fields: [String], _ header: [String]
    ) throws(CommandError) -> NewLink {
        guard fields.count == header.count else {
            throw .data("\(fields.count) fields instead of \(header.count)")
        }
        func field(_ name: String) -> String? {
            guard let index = header.firstIndex(of: name), !fields[index].isEmpty else {
                return nil
            }
            return fields[index]
        }
        let number = field("redirect_status") ?? "302"
        guard let redirectStatus = Int(number) else {
            throw .argument("redirect_status", number, allowed: "301, 302, 307, 308")
        }
        let forward = try Checked.word(
            "forward_query", field("forward_query") ?? "false", ["true", "false"])
        let link = NewLink(
            id: try Checked.idOrNew("id", field("id")), slug: field("slug") ?? "",
            domain: field("domain") ?? "",
            influencer: try Checked.id("influencer_id", field("influencer_id") ?? ""),
            merchant: try Checked.id("merchant_id", field("merchant_id") ?? ""),
            destination: field("destination_url") ?? "", status: field("status") ?? "active",
            redirectStatus: redirectStatus, forwardQuery: forward == "true",
            startsAt: try Checked.time("starts_at", field("starts_at")),
            expiresAt: try Checked.time("expires_at", field("expires_at")),
            expiredURL: field("expired_url"), fallbackURL: field("fallback_url"))
        try link.check { name in
            name == "destination" ? "destination_url" : String(name.map { $0 == "-" ? "_" : $0 })
        }
        return link
    }

    /// Writes all links in one transaction; how many.
    static func write(
        _ entries: [Entry], _ connection: Connection, file: String, update: Bool
    ) throws(CommandError) -> Int {
        try requireOwners(entries, connection, file: file)
        let onConflict =
            update
            ? """
            ON CONFLICT (domain, slug) DO UPDATE SET influencer_id = excluded.influencer_id,
                merchant_id = excluded.merchant_id, destination_url = excluded.destination_url,
                status = excluded.status, redirect_status = excluded.redirect_status,
                forward_query = excluded.forward_query, starts_at = excluded.starts_at,
                expires_at = excluded.expires_at, expired_url = excluded.expired_url,
                fallback_url = excluded.fallback_url, updated_at = now()
            """ : ""
        do throws(PostgresError) {
            try connection.transaction { () throws(PostgresError) in
                var start = 0
                while start < entries.count {
                    let batch = entries[start..<min(start + Limits.batch, entries.count)]
                    _ = try connection.execute(
                        """
                        INSERT INTO trackable_links (\(NewLink.columns))
                        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[],
                            $5::uuid[], $6::text[], $7::text[], $8::int[], $9::bool[],
                            $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[])
                        \(onConflict)
                        """, columns(batch.map(\.link)))
                    start += Limits.batch
                }
            }
        } catch {
            if error.state == .uniqueViolation {
                throw .data("\(file): \(error); --update changes links that are there already")
            }
            throw .database(error)
        }
        return entries.count
    }

    private static func columns(_ links: [NewLink]) -> [Parameter] {
        [
            .uuidArray(links.map(\.id)), .textArray(links.map(\.slug)),
            .textArray(links.map(\.domain)), .uuidArray(links.map(\.influencer)),
            .uuidArray(links.map(\.merchant)), .textArray(links.map(\.destination)),
            .textArray(links.map(\.status)), .int32Array(links.map { Int32($0.redirectStatus) }),
            .boolArray(links.map(\.forwardQuery)), .timestampArray(links.map(\.startsAt)),
            .timestampArray(links.map(\.expiresAt)), .textArray(links.map(\.expiredURL)),
            .textArray(links.map(\.fallbackURL)),
        ]
    }

    private static func requireOwners(
        _ entries: [Entry], _ connection: Connection, file: String
    ) throws(CommandError) {
        let owners: [(table: String, column: String, ids: [EntityID])] = [
            ("merchants", "merchant_id", entries.map(\.link.merchant)),
            ("influencers", "influencer_id", entries.map(\.link.influencer)),
        ]
        for (table, column, ids) in owners {
            let missing = try connection.rows(
                """
                SELECT given.id FROM (SELECT DISTINCT unnest($1::uuid[]) AS id) AS given
                WHERE NOT EXISTS (SELECT FROM \(table) AS t WHERE t.id = given.id) LIMIT 1
                """, [.uuidArray(Array(Set(ids)))])
            guard missing.count > 0, let id = missing.uuid(0, 0) else { continue }
            let line = zip(entries, ids).first { $0.1 == id }?.0.line ?? 1
            throw .data("\(file):\(line): \(column): \(id) is not in \(table)")
        }
    }
}

/// Reads CSV records (RFC 4180), lines ending in LF or CR LF.
struct CSVReader {
    private let bytes: [UInt8]
    private var index = 0
    private var line = 1

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The next record and its first line; fields are nil when its quotes are broken.
    mutating func next() -> (line: Int, fields: [String]?)? {
        guard index < bytes.count else { return nil }
        let first = line
        var fields: [String] = []
        while true {
            guard let field = field() else { return (first, nil) }
            fields.append(field)
            guard index < bytes.count else { return (first, fields) }
            let byte = bytes[index]
            index += 1
            if byte == UInt8(ascii: ",") { continue }
            if byte == 0x0D, index < bytes.count, bytes[index] == 0x0A { index += 1 }
            line += 1
            return (first, fields)
        }
    }

    private mutating func field() -> String? {
        if index < bytes.count, bytes[index] == UInt8(ascii: "\"") { return quoted() }
        let start = index
        while index < bytes.count, !isEnd(bytes[index]) { index += 1 }
        return String(decoding: bytes[start..<index], as: UTF8.self)
    }

    private mutating func quoted() -> String? {
        var text: [UInt8] = []
        index += 1
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            guard byte == UInt8(ascii: "\"") else {
                if byte == 0x0A { line += 1 }
                text.append(byte)
                continue
            }
            if index < bytes.count, bytes[index] == UInt8(ascii: "\"") {
                text.append(byte)
                index += 1
                continue
            }
            let isComplete = index == bytes.count || isEnd(bytes[index])
            return isComplete ? String(decoding: text, as: UTF8.self) : nil
        }
        return nil
    }

    private func isEnd(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ",") || byte == 0x0A || byte == 0x0D
    }
}
