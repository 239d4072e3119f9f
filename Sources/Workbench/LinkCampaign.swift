// Ten million links followed from PostgreSQL: how long the first load takes and what it needs, how soon
// changes and deletes are served, while all links are compared again and again.
internal import LinuxIO

/// The campaign of many links.
public struct LinkCampaign {
    /// What is promised of a change and of a delete, milliseconds (contract, 5).
    private static let changeMilliseconds: Int64 = 1_000
    private static let deleteMilliseconds: Int64 = 60_000
    /// Statements that take longer are counted, milliseconds.
    private static let slowMilliseconds = 2_000

    private let links: Int
    private let rounds: Int

    /// So many links; so many changes, and a delete for each five of them.
    public init(links: Int, rounds: Int) {
        self.links = links
        self.rounds = rounds
    }

    /// Runs it and prints the figures.
    /// - Returns: Whether changes, deletes and statements kept to their limits.
    public func run() throws -> Bool {
        var isFine = false
        try CampaignStage.with("links", settings: [:]) { stack in
            try fill(stack)
            try load(stack)
            let before = try slowStatements(stack)
            let (change, delete) = try follow(stack)
            let slow = try slowStatements(stack) - before
            CampaignStage.say(
                "\(rounds) changes: served after at most \(change) ms; "
                    + "\(rounds / 5) deletes: after at most \(delete) ms")
            CampaignStage.say(
                "statements of more than \(LinkCampaign.slowMilliseconds) ms once loaded: \(slow)")
            isFine =
                change <= LinkCampaign.changeMilliseconds
                && delete <= LinkCampaign.deleteMilliseconds && slow == 0
        }
        return isFine
    }

    /// Fills the table without its indexes, which are made afterwards, as an import would.
    private func fill(_ stack: ServiceStack) throws {
        let begun = SystemClock.monotonicNanoseconds()
        _ = try stack.psql(
            """
            SET synchronous_commit = off; SET maintenance_work_mem = '1GB';
            CREATE TEMP TABLE indexes AS SELECT pg_get_indexdef(indexrelid) AS made,
                indexrelid::regclass::text AS name FROM pg_index
                WHERE indrelid = 'trackable_links'::regclass AND NOT indisunique;
            DO $$ DECLARE i record; BEGIN
                FOR i IN SELECT name FROM indexes LOOP EXECUTE 'DROP INDEX ' || i.name; END LOOP;
            END $$;
            INSERT INTO trackable_links
                (slug, influencer_id, merchant_id, destination_url, created_at, updated_at)
            SELECT 'l' || n, '00000000-0000-4000-8000-000000002001', '\(SampleData.merchant(2))',
                'https://shop.example/products/' || n || '?ref=campaign',
                now() - interval '1 day', now() - interval '1 day'
            FROM generate_series(1, \(links)) AS n;
            DO $$ DECLARE i record; BEGIN
                FOR i IN SELECT made FROM indexes LOOP EXECUTE i.made; END LOOP;
            END $$;
            ALTER ROLE postgres SET log_min_duration_statement = \(LinkCampaign.slowMilliseconds);
            """, ["-q"])
        _ = try stack.psql("VACUUM ANALYZE trackable_links", ["-q"])
        CampaignStage.say("\(links) links made in \(seconds(since: begun)) s")
    }

    private func load(_ stack: ServiceStack) throws {
        let begun = SystemClock.monotonicNanoseconds()
        try stack.startClickd(waitsForReady: false)
        while try stack.metric("links") < links {
            guard SystemClock.monotonicNanoseconds() - begun < 1_800_000_000_000 else {
                throw StackError("not loaded within half an hour:\n\(stack.tail("clickd"))")
            }
            Thread.sleep(microseconds: 100_000)
        }
        let took = seconds(since: begun)
        CampaignStage.say("first load: \(took) s, then resident \(try megabytes(stack)) MB")
    }

    /// Changes and deletes links, and gives the longest time to each, milliseconds.
    private func follow(_ stack: ServiceStack) throws -> (change: Int64, delete: Int64) {
        var (change, delete) = (Int64(0), Int64(0))
        var random = SeededGenerator(seed: UInt64(links))
        for round in 1...rounds {
            let number = Int.random(in: 1...links / 2, using: &random)
            let target = "https://shop.example/changed/\(round)"
            _ = try stack.psql(
                "UPDATE trackable_links SET destination_url = '\(target)', updated_at = now() "
                    + "WHERE domain = '' AND slug = 'l\(number)'", ["-q"])
            change = max(
                change,
                try wait(stack, "l\(number)", atMost: 120_000) {
                    $0.header("location")?.hasPrefix(target) == true
                })
            Thread.sleep(microseconds: Int64.random(in: 100_000...3_000_000, using: &random))
            guard round % 5 == 0 else { continue }
            let gone = links / 2 + round
            _ = try stack.psql(
                "DELETE FROM trackable_links WHERE domain = '' AND slug = 'l\(gone)'", ["-q"])
            let took = try wait(stack, "l\(gone)", atMost: 300_000) { $0.status == 404 }
            CampaignStage.say("a delete: \(took) ms; resident \(try megabytes(stack)) MB")
            delete = max(delete, took)
        }
        return (change, delete)
    }

    /// Asks for a link until its answer is as wanted; the time that took, milliseconds.
    private func wait(
        _ stack: ServiceStack, _ slug: String, atMost limit: Int64,
        until isSo: (ProbeResponse) -> Bool
    ) throws -> Int64 {
        let begun = SystemClock.monotonicNanoseconds()
        var probe = try HTTPProbe(stack.address)
        while true {
            if try isSo(probe.request("GET", "/\(slug)")) { break }
            guard SystemClock.monotonicNanoseconds() - begun < limit * 1_000_000 else {
                throw StackError("/\(slug) is not as wanted after \(limit) ms")
            }
            Thread.sleep(microseconds: 20_000)
        }
        return (SystemClock.monotonicNanoseconds() - begun) / 1_000_000
    }

    /// Statements of clickd that the server found slow.
    private func slowStatements(_ stack: ServiceStack) throws -> Int {
        let text = String(decoding: try FileSystem.read(stack.cluster.log), as: UTF8.self)
        return text.split(separator: "\n").count {
            $0.contains("duration: ") && $0.contains("execute clickd_")
        }
    }

    private func megabytes(_ stack: ServiceStack) throws -> Int {
        try stack.residentKibibytes() / 1024
    }

    private func seconds(since begun: Int64) -> Int64 {
        (SystemClock.monotonicNanoseconds() - begun) / 1_000_000_000
    }
}
