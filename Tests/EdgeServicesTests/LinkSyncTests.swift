// Link sync against a real server: loads, changes of every kind, the snapshot, a database that is away.
import EdgeCore
import EdgeServices
import LinuxIO
import Postgres
import Schema
import Synchronization
import Testing
import Tracking
import Workbench

@Suite struct LinkSyncTests {
    let dsn: String
    let database: Connection
    let directory = EdgeDirectory(loops: 1)
    let merchant = EntityID(high: 1, low: 1)
    let influencer = EntityID(high: 2, low: 2)

    init() throws {
        dsn = try TestDatabases.make { template in
            let connection = try Connection(dsn: template, applicationName: "tests")
            try SchemaRunner.migrate(connection)
            connection.close()
        }
        database = try Connection(dsn: dsn, applicationName: "tests")
        try database.execute("INSERT INTO merchants (id, name) VALUES ($1, 'M')", [.uuid(merchant)])
    }

    /// Waits for a state that other threads bring about, by asking again.
    func eventually(_ what: String, _ isSo: () throws -> Bool) throws {
        let deadline = SystemClock.monotonicNanoseconds() + 20_000_000_000
        while SystemClock.monotonicNanoseconds() < deadline {
            if try isSo() { return }
            Thread.sleep(microseconds: 2000)
        }
        Issue.record("never happened: \(what)")
    }

    func options(_ change: (inout LinkSyncOptions) -> Void = { _ in }) -> LinkSyncOptions {
        var options = LinkSyncOptions(dsn: dsn, visitorKey: SipHashKey(first: 1, second: 2))
        options.refreshMicroseconds = 20_000
        options.joinMicroseconds = 3_600_000_000
        change(&options)
        return options
    }

    func withSync<Result>(
        _ options: LinkSyncOptions, _ body: (LinkSync) throws -> Result
    ) throws -> Result {
        let sync = try LinkSync(directory: directory, options: options)
        try sync.start()
        defer { sync.stop() }
        try eventually("the first load") { sync.status.connected }
        return try body(sync)
    }

    @discardableResult
    func addLink(
        _ slug: String, domain: String = "", to destination: String = "https://shop.example/"
    ) throws -> EntityID {
        let result = try database.query(
            """
            INSERT INTO trackable_links (slug, domain, influencer_id, merchant_id, destination_url)
            VALUES ($1, $2, $3, $4, $5) RETURNING id
            """,
            [.text(slug), .text(domain), .uuid(influencer), .uuid(merchant), .text(destination)])
        return try #require(result.uuid(0, 0))
    }

    /// Where a link leads, by the published tables.
    func destination(_ slug: String, domain: String = "") -> String? {
        guard let tables = directory.current else { return nil }
        let (domain, slug) = (Array(domain.utf8), Array(slug.utf8))
        return domain.withUnsafeBytes { domain in
            slug.withUnsafeBytes { slug in
                if tables.overlay?.hides(domain: domain, slug: slug) == true { return nil }
                let link =
                    tables.overlay?.find(domain: domain, slug: slug)
                    ?? tables.links.find(domain: domain, slug: slug)
                return link.map { String(decoding: $0.destination, as: UTF8.self) }
            }
        }
    }

    @Test("A link is served with all its columns after the first load")
    func firstLoad() throws {
        try database.script(
            """
            INSERT INTO trackable_links (id, slug, domain, influencer_id, merchant_id,
                destination_url, status, redirect_status, forward_query, starts_at, expires_at,
                expired_url, fallback_url)
            VALUES ('00000000-0000-0003-0000-000000000003', 'a.B', 'Go.Example', \
            '00000000-0000-0002-0000-000000000002', '00000000-0000-0001-0000-000000000001', \
            'https://shop.example/x', 'paused', 307, true, '2026-01-01Z', '2027-01-01Z',
                'https://shop.example/e', 'https://shop.example/f')
            """)
        try withSync(options()) { sync in
            let tables = try #require(directory.current)
            let link = try #require(
                Array("go.example".utf8).withUnsafeBytes { domain in
                    Array("a.B".utf8).withUnsafeBytes {
                        tables.links.find(domain: domain, slug: $0)
                    }
                })
            #expect(link.id == EntityID(high: 3, low: 3))
            #expect(link.merchantID == merchant)
            #expect(link.influencerID == influencer)
            #expect(String(decoding: link.destination, as: UTF8.self) == "https://shop.example/x")
            #expect(link.status == .paused)
            #expect(link.redirectStatus == 307)
            #expect(link.forwardsQuery)
            #expect(link.startsAt?.description == "2026-01-01T00:00:00.000000Z")
            #expect(link.expiresAt?.description == "2027-01-01T00:00:00.000000Z")
            #expect(link.expiredURL == Array("https://shop.example/e".utf8))
            #expect(link.fallbackURL == Array("https://shop.example/f".utf8))
            #expect(sync.status.links == 1)
            #expect(sync.status.invalid == 0)
            #expect(sync.status.loaded)
            #expect(sync.status.lastSyncAgeMicroseconds != nil)
        }
    }

    @Test("Inserts, updates and renames are followed without a full load")
    func changes() throws {
        try addLink("old")
        try withSync(options()) { sync in
            #expect(destination("old") != nil)
            try addLink("new", to: "https://shop.example/new")
            try eventually("the new link") { destination("new") == "https://shop.example/new" }
            try database.execute(
                """
                UPDATE trackable_links SET destination_url = 'https://shop.example/2',
                    updated_at = now() WHERE slug = 'old'
                """)
            try eventually("the update") { destination("old") == "https://shop.example/2" }
            #expect(sync.status.fullLoads == 1)
            try database.execute(
                """
                UPDATE trackable_links SET slug = 'renamed', updated_at = now() WHERE slug = 'old'
                """)
            try eventually("the rename") { destination("renamed") == "https://shop.example/2" }
            #expect(destination("old") == nil)
            #expect(destination("new") == "https://shop.example/new")
            // The name is free again, and a link that has moved to it is served there.
            try database.execute(
                """
                UPDATE trackable_links SET slug = 'old', domain = 'Go.Example', updated_at = now()
                WHERE slug = 'new'
                """)
            try eventually("the move") { destination("old", domain: "go.example") != nil }
            #expect(destination("new") == nil && destination("old") == nil)
            try addLink("old", to: "https://shop.example/3")
            try eventually("the old name") { destination("old") == "https://shop.example/3" }
            #expect(sync.status.fullLoads == 1)
            #expect(sync.status.links == 3)
        }
    }

    @Test("More changes than one result may hold are read page by page, then loaded as a whole")
    func manyChanges() throws {
        try addLink("first", to: "https://shop.example/first")
        try withSync(options { $0.overlayLinks = 15_000 }) { sync in
            let loads = sync.status.fullLoads
            for round in 1...2 {
                // The first import fits over the base, the second does not.
                try database.execute(
                    """
                    INSERT INTO trackable_links
                        (id, slug, influencer_id, merchant_id, destination_url)
                    SELECT gen_random_uuid(), 'm\(round)-' || n, influencer_id, merchant_id,
                           'https://shop.example/' || n
                    FROM trackable_links, generate_series(1, 11000) AS n WHERE slug = 'first'
                    """)
                sync.poll()
                try eventually("the import") { sync.status.links == 1 + 11_000 * round }
                #expect(sync.status.fullLoads == loads + round - 1)
            }
        }
    }

    @Test("A transaction that was open across polls is seen once it commits")
    func longTransaction() throws {
        try withSync(options()) { sync in
            let writer = try Connection(dsn: dsn, applicationName: "tests")
            try writer.transaction { () throws(PostgresError) in
                try writer.execute(
                    """
                    INSERT INTO trackable_links (slug, influencer_id, merchant_id, destination_url)
                    VALUES ('slow', $1, $2, 'https://shop.example/')
                    """, [.uuid(influencer), .uuid(merchant)])
                // Two later changes are followed while this one is still open.
                do {
                    for slug in ["one", "two"] {
                        try addLink(slug)
                        try eventually("link \(slug)") { destination(slug) != nil }
                    }
                } catch { Issue.record(error) }
            }
            try eventually("the slow link") { destination("slow") != nil }
            #expect(sync.status.fullLoads == 1)
        }
    }

    @Test("A forgotten updated_at and a DELETE are seen by the comparison")
    func comparison() throws {
        try addLink("kept")
        try addLink("gone")
        // Stamped long ago, so that no poll's overlap reaches it.
        let hide = "UPDATE trackable_links SET updated_at = '2001-01-01Z'"
        try database.execute(hide)
        try withSync(options { $0.comparisonMicroseconds = 30_000 }) { sync in
            try database.execute(
                "UPDATE trackable_links SET destination_url = 'https://shop.example/9' WHERE slug = 'kept'"
            )
            try eventually("the change") { destination("kept") == "https://shop.example/9" }
            try database.execute("DELETE FROM trackable_links WHERE slug = 'gone'")
            try eventually("the delete") { destination("gone") == nil }
            #expect(destination("kept") != nil)
            // Deleted and made again under another identity, and again.
            for number in 1...2 {
                try addLink("gone", to: "https://shop.example/\(number)")
                try eventually("the link again") {
                    destination("gone") == "https://shop.example/\(number)"
                }
                try database.execute("DELETE FROM trackable_links WHERE slug = 'gone'")
                try eventually("the delete again") { destination("gone") == nil }
            }
            #expect(sync.status.fullLoads == 1 && sync.status.links == 1)
        }
    }

    @Test(
        "Deletes and silent changes in several ranges are healed link by link, many of them by a load"
    )
    func ranges() throws {
        try database.execute(
            """
            INSERT INTO trackable_links
                (slug, influencer_id, merchant_id, destination_url, updated_at)
            SELECT 'r' || n, $1, $2, 'https://shop.example/', '2001-01-01Z'
            FROM generate_series(1, 50000) AS n
            """, [.uuid(influencer), .uuid(merchant)])
        try withSync(options { $0.comparisonMicroseconds = 30_000 }) { sync in
            try database.execute("DELETE FROM trackable_links WHERE slug LIKE 'r1%7'")
            let counted = try database.query("SELECT count(*) FROM trackable_links")
            let left = Int(counted.int64(0, 0) ?? 0)
            try eventually("the deletes") { sync.status.links == left }
            #expect(left > 48_000 && left < 49_000)
            #expect(destination("r17") == nil && destination("r127") == nil)
            #expect(destination("r18") != nil)
            try database.execute(
                "UPDATE trackable_links SET destination_url = 'https://shop.example/s' "
                    + "WHERE slug LIKE 'r2%5'")
            try eventually("the changes") {
                destination("r25") == "https://shop.example/s"
                    && destination("r29995") == "https://shop.example/s"
            }
            #expect(sync.status.fullLoads == 1)
            try database.execute("DELETE FROM trackable_links WHERE slug LIKE 'r3%'")
            try eventually("the many deletes") { destination("r3") == nil }
            // More than may lie over a base: they are joined with it.
            try eventually("the load") { sync.status.fullLoads > 1 }
            #expect(sync.status.links < 40_000 && destination("r4") != nil)
        }
    }

    @Test("Changes are joined with the base after a while, and served all along")
    func joining() throws {
        try withSync(options { $0.joinMicroseconds = 0 }) { sync in
            try addLink("a")
            try eventually("the link in the base") {
                directory.current.map { $0.links.count == 1 && $0.overlay == nil } ?? false
            }
            #expect(sync.status.fullLoads > 1)
        }
    }

    @Test("Links that cannot be served are counted and named, the others are served")
    func invalidLinks() throws {
        let messages = Mutex<[String]>([])
        let bad = try addLink("bad", to: "javascript:alert(1)")
        try addLink("good")
        try withSync(
            options { options in
                options.log = { _, text in messages.withLock { $0.append(text) } }
            }
        ) { sync in
            #expect(destination("good") != nil)
            #expect(destination("bad") == nil)
            #expect(sync.status.links == 1)
            #expect(sync.status.invalid == 1)
            #expect(messages.withLock { $0.contains { $0.contains("\(bad)") } })
            try database.execute(
                """
                UPDATE trackable_links SET destination_url = 'https://shop.example/',
                    updated_at = now()
                WHERE slug = 'bad'
                """)
            try eventually("the mended link") { destination("bad") != nil }
            try eventually("the count") { sync.status.invalid == 0 && sync.status.links == 2 }
        }
    }

    @Test("Merchants are followed in whatever way they change, with their secrets")
    func merchants() throws {
        try withSync(options()) { _ in
            let before = try #require(directory.current?.merchants[merchant])
            #expect(!before.isSuspended)
            #expect(before.postbackToken == nil)
            try database.execute(
                """
                UPDATE merchants SET status = 'suspended', postback_token = 'token-of-sixteen',
                    signing_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', click_param = 'cid',
                    currency = 'JPY'
                """)
            try eventually("the change") {
                directory.current?.merchants[merchant]?.isSuspended == true
            }
            let after = try #require(directory.current?.merchants[merchant])
            #expect(after.postbackToken == Array("token-of-sixteen".utf8))
            #expect(after.clickParameter == Array("cid".utf8))
            #expect(after.currency.letters == "JPY")
            try database.execute("DELETE FROM merchants")
            try eventually("the delete") { directory.current?.merchants[merchant] == nil }
            #expect(directory.current?.merchantsAsOf != nil)
        }
    }

    @Test("A merchant over its month's quota is marked")
    func quota() throws {
        try database.execute("UPDATE merchants SET monthly_click_quota = 10")
        try database.execute(
            """
            INSERT INTO link_hours (merchant_id, link_id, influencer_id, hour, ring_slot, clicks,
                                    bots)
            VALUES ($1, $1, $1, date_trunc('hour', now()), 0, 6, 100),
                   ($1, $1, $1, date_trunc('hour', now()), 1, 4, 0)
            """, [.uuid(merchant)])
        try withSync(options()) { _ in
            #expect(directory.current?.merchants[merchant]?.isOverQuota == true)
        }
    }

    @Test("Domains with a default are followed")
    func domains() throws {
        try withSync(options()) { sync in
            try database.execute(
                "INSERT INTO domains (name, default_url) VALUES ('Go.Example', 'https://a.example/')"
            )
            try eventually("a new base") { sync.status.fullLoads == 2 }
        }
    }

    @Test("Today's and tomorrow's visitor keys are published, different and the same on every node")
    func visitorKeys() throws {
        func keys() throws -> VisitorKeys {
            try withSync(options()) { _ in try #require(directory.current).visitorKeys }
        }
        let keys1 = try keys()
        let first = try #require(keys1.first)
        let second = try #require(keys1.second)
        #expect(second.day == first.day.advanced(by: 1))
        #expect(first.key != second.key)
        let keys2 = try keys()
        #expect(keys2.first?.key == first.key)
        #expect(keys2.second?.key == second.key)
    }

    @Test("The snapshot serves without the database, and no secret is in it")
    func snapshot() throws {
        let folder = "/tmp/clickd-linksync-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(folder)
        defer { try? FileSystem.removeTree(folder) }
        let path = "\(folder)/links.snapshot"
        try database.execute(
            "UPDATE merchants SET postback_token = 'very-secret-token', click_param = 'cid'")
        try addLink("kept", to: "https://shop.example/kept")
        try withSync(options { $0.snapshotPath = path }) { _ in }
        let bytes = try FileSystem.read(path)
        #expect(try FileSystem.status(path).permissions == 0o600)
        #expect(!String(decoding: bytes, as: UTF8.self).contains("very-secret"))

        let away = EdgeDirectory(loops: 1)
        var lost = options { $0.snapshotPath = path }
        lost.dsn = "host=/nowhere-at-all dbname=x user=y password=s3cret-pass"
        let sync = try LinkSync(directory: away, options: lost)
        #expect(!sync.status.loaded)
        #expect(sync.loadSnapshot())
        #expect(sync.status.loaded)
        #expect(sync.status.links == 1)
        let tables = try #require(away.current)
        #expect(tables.merchantsAsOf == nil)
        let link = Array("kept".utf8).withUnsafeBytes { slug in
            tables.links.find(domain: UnsafeRawBufferPointer(start: nil, count: 0), slug: slug)
        }
        #expect(link?.destination == Array("https://shop.example/kept".utf8))
        try sync.start()
        defer { sync.stop() }
        try eventually("the failure") { sync.status.lastError != nil }
        #expect(sync.status.lastError?.contains("s3cret-pass") == false)
        #expect(!sync.status.connected)
        #expect(away.current?.links.count == 1)
        #expect(away.current?.merchantsAsOf == nil)
    }

    @Test("A snapshot that is missing, cut or rotten is no other answer than the right one")
    func badSnapshots() throws {
        let folder = "/tmp/clickd-linksync-bad-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(folder)
        defer { try? FileSystem.removeTree(folder) }
        let path = "\(folder)/links.snapshot"
        try addLink("kept", to: "https://shop.example/kept")
        try withSync(options { $0.snapshotPath = path }) { _ in }
        let good = try FileSystem.read(path)
        func load(_ bytes: [UInt8]?) throws -> Bool {
            let path = bytes == nil ? "\(folder)/none" : "\(folder)/changed"
            if let bytes { try bytes.withUnsafeBytes { try FileSystem.replace(path, with: $0) } }
            let directory = EdgeDirectory(loops: 1)
            let sync = try LinkSync(
                directory: directory, options: options { $0.snapshotPath = path })
            let isLoaded = sync.loadSnapshot()
            #expect((directory.current != nil) == isLoaded)
            if isLoaded {
                let found = Array("kept".utf8).withUnsafeBytes { slug in
                    directory.current?.links.find(
                        domain: UnsafeRawBufferPointer(start: nil, count: 0), slug: slug)
                }
                #expect(
                    found == nil || found?.destination == Array("https://shop.example/kept".utf8))
            }
            return isLoaded
        }
        #expect(try load(good))
        #expect(try !load(nil))
        #expect(try !load([]))
        #expect(try !load(Array(good.dropLast())))
        for index in stride(from: 0, to: good.count, by: max(1, good.count / 40)) {
            var rotten = good
            rotten[index] ^= 0x10
            _ = try load(rotten)
        }
    }

    @Test("A mapped snapshot is replaced by its checked copy; a rotten one goes on serving guarded")
    func settledSnapshot() throws {
        let folder = "/tmp/clickd-linksync-settle-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(folder)
        defer { try? FileSystem.removeTree(folder) }
        let path = "\(folder)/links.snapshot"
        for number in 0..<200 { try addLink("k\(number)", to: "https://shop.example/\(number)") }
        try withSync(options { $0.snapshotPath = path }) { _ in }
        let logged = LoggedLines()
        var away = options {
            $0.snapshotPath = path
            $0.log = { _, text in logged.append(text) }
        }
        away.dsn = "host=/nowhere-at-all"
        let directory = EdgeDirectory(loops: 1)
        let sync = try LinkSync(directory: directory, options: away)
        #expect(sync.loadSnapshot())
        let mapped = try #require(directory.current)
        try eventually("the copy") { directory.current !== mapped }
        #expect(directory.current?.links.count == 200)

        // A byte of a slot or a record: some blocks are rotten, the header is not.
        var rotten = try FileSystem.read(path)
        rotten[5000] ^= 1
        try rotten.withUnsafeBytes { try FileSystem.replace(path, with: $0) }
        let other = EdgeDirectory(loops: 1)
        let second = try LinkSync(directory: other, options: away)
        #expect(second.loadSnapshot())
        let served = try #require(other.current)
        try eventually("the verdict") { logged.contains("is damaged") }
        #expect(other.current === served)
        let nowhere = UnsafeRawBufferPointer(start: nil, count: 0)
        var found = 0
        for number in 0..<200 {
            let link = Array("k\(number)".utf8).withUnsafeBytes {
                served.links.find(domain: nowhere, slug: $0)
            }
            guard let link else { continue }
            #expect(link.destination == Array("https://shop.example/\(number)".utf8))
            found += 1
        }
        #expect(found > 0 && found < 200)
    }

    @Test("A connection that the server cuts is made again, and changes are followed")
    func reconnects() throws {
        try withSync(options()) { sync in
            try database.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'clickd links' AND datname = current_database()
                """)
            try addLink("after")
            try eventually("the link") { destination("after") != nil }
            try eventually("the connection") { sync.status.connected }
        }
    }
}

/// What was logged.
private final class LoggedLines: Sendable {
    private let lines = Mutex<[String]>([])

    func append(_ text: String) { lines.withLock { $0.append(text) } }

    func contains(_ text: String) -> Bool { lines.withLock { $0.contains { $0.contains(text) } } }
}
