// One turn of link sync: full loads, polls, the comparison that heals what polls cannot see.
internal import EdgeCore
internal import LinuxIO
internal import Postgres
internal import Tracking

/// What the sync thread holds; used by that thread alone.
final class LinkSyncSession {
    private let sync: LinkSync
    private var connection: Connection?
    private let seed: SipHashKey

    // What is served.
    private var base: LinkTable?
    private var baseInvalid: [EntityID: String] = [:]
    private var changed: [EntityID: LinkDefinition] = [:]
    private var overlay: LinkTable?
    private var overlayInvalid: [EntityID: String] = [:]
    private var merchants: [MerchantDefinition] = []
    private var domains: [DomainDefinition] = []
    private var overQuota: Set<EntityID> = []
    private var visitorKeys = VisitorKeys()

    // What is known of the database's rows.
    private var marks: [EntityID: LinkMark] = [:]
    private var linkSum: UInt64 = 0
    private var platformSums: [Int64] = []
    /// Polls read what was stamped since.
    private var since = Timestamp(microseconds: .min)

    // When things were last done, monotonic nanoseconds.
    private var comparedAt: Int64 = 0
    private var slowAt: Int64?
    private var publishedAt: Int64 = 0
    private var changedAt: Int64?
    private var loadNanoseconds: Int64 = 0
    private var isLoaded = false
    private var fullLoads = 0

    init(_ sync: LinkSync) {
        self.sync = sync
        seed = Randomness.bytes(16).withUnsafeBytes { SipHashKey(bytes: $0) }
    }

    func disconnect() {
        connection?.close()
        connection = nil
    }

    /// Brings the published tables up to date once.
    func step() throws(PostgresError) {
        let connection = try connect()
        let now = SystemClock.monotonicNanoseconds()
        let wall = Timestamp(microseconds: SystemClock.wallMicroseconds())
        var isChanged = try readSlowly(connection, now)
        if try readPlatform(connection) { isChanged = true }
        if !isLoaded || mustJoin(now) {
            try load(connection)
            isChanged = true
        } else {
            if try readChanges(connection) { isChanged = true }
            if try compare(connection, now) { isChanged = true }
        }
        let isDue = now - publishedAt >= LinkSync.Limits.publishMicroseconds * 1000
        if isChanged || isDue { publish(now, merchantsAsOf: wall) }
        let invalid = baseInvalid.keys.count { changed[$0] == nil } + overlayInvalid.count
        let (links, loads) = (marks.count, fullLoads)
        sync.note(synced: now) { status in
            status.links = max(0, links - invalid)
            status.invalid = invalid
            status.fullLoads = loads
        }
        // A generation that a slow loop still saw is freed at the next turn.
        sync.directory.reclaim()
    }

    private func connect() throws(PostgresError) -> Connection {
        if let connection, connection.isOpen { return connection }
        let fresh = try Connection(
            dsn: sync.options.dsn, applicationName: "clickd links",
            statementTimeoutMilliseconds: LinkSync.Limits.statementMilliseconds,
            lockTimeoutMilliseconds: LinkSync.Limits.lockMilliseconds,
            interruption: sync.interruption)
        connection = fresh
        return fresh
    }

    /// Whether changes have waited long enough, or are too many, to be joined with the base.
    ///
    /// The wait grows with the cost of a load, so that loads stay a hundredth of the time.
    private func mustJoin(_ now: Int64) -> Bool {
        if changed.count > sync.options.overlayLinks { return true }
        guard let changedAt, !changed.isEmpty else { return false }
        return now - changedAt >= max(sync.options.joinMicroseconds * 1000, loadNanoseconds * 100)
    }

    private func publish(_ now: Int64, merchantsAsOf: Timestamp) {
        guard let base else { return }
        let known = merchants.map { merchant in
            var merchant = merchant
            merchant.isOverQuota = overQuota.contains(merchant.id)
            return merchant
        }
        sync.directory.publish(
            EdgeTables(
                links: base, overlay: overlay, merchants: MerchantDirectory(known),
                visitorKeys: visitorKeys, merchantsAsOf: merchantsAsOf))
        publishedAt = now
    }
}

// MARK: - Links

extension LinkSyncSession {
    /// Reads every link into a new base.
    private func load(_ connection: Connection) throws(PostgresError) {
        let started = SystemClock.monotonicNanoseconds()
        let floor = try floor(connection)
        var builder = LinkTableBuilder(seed: seed)
        for merchant in merchants { builder.add(merchant) }
        for domain in domains { builder.add(domain) }
        var marks: [EntityID: LinkMark] = [:]
        var sum: UInt64 = 0
        var unreadable: [EntityID: String] = [:]
        // One snapshot for all pages.
        try connection.transaction { () throws(PostgresError) in
            try connection.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            var last: EntityID?
            while true {
                let page: QueryResult
                let limit = Parameter.int32(LinkSync.Limits.pageRows)
                if let last {
                    page = try connection.query(LinkQueries.linkPage, [.uuid(last), limit])
                } else {
                    page = try connection.query(LinkQueries.firstLinkPage, [limit])
                }
                for row in 0..<page.count {
                    guard let link = page.link(row, key: seed) else {
                        if let id = page.uuid(row, 0) { unreadable[id] = "a column is missing" }
                        continue
                    }
                    builder.add(link.definition)
                    sum ^= link.rowHash
                    marks[link.definition.id] = LinkMark(
                        keyHash: link.keyHash, rowHash: link.rowHash)
                }
                last = page.uuid(page.count - 1, 0)
                if page.count < Int(LinkSync.Limits.pageRows) { break }
            }
        }
        let (table, rejected) = builder.finish(allocate: LinkSyncSession.tableMemory)
        let invalidBefore = baseInvalid
        base = table
        baseInvalid = unreadable
        for (id, reason) in rejected { baseInvalid[id] = reason }
        name(baseInvalid, unless: invalidBefore.merging(overlayInvalid) { $1 })
        self.marks = marks
        linkSum = sum
        changed.removeAll()
        overlay = nil
        overlayInvalid.removeAll()
        changedAt = nil
        since = floor
        isLoaded = true
        fullLoads += 1
        comparedAt = SystemClock.monotonicNanoseconds()
        loadNanoseconds = comparedAt - started
        sync.writeSnapshot(table)
    }

    /// Memory in huge pages; the allocator's own when the system gives none.
    private static func tableMemory(_ count: Int) -> LinkTableBuilder.Memory {
        do throws(Errno) {
            let memory = try TableMemory(byteCount: count)
            return (memory.bytes, { memory.deallocate() })
        } catch {
            return LinkTableBuilder.plainMemory(count)
        }
    }

    /// From when on the next poll has to read.
    private func floor(_ connection: Connection) throws(PostgresError) -> Timestamp {
        let oldest = try connection.query(LinkQueries.floor).timestamp(0, 0)
        return (oldest ?? Timestamp(microseconds: .min))
            .advanced(byMicroseconds: -LinkSync.Limits.overlapMicroseconds)
    }

    /// Reads what was stamped since the last poll; whether anything is new.
    private func readChanges(_ connection: Connection) throws(PostgresError) -> Bool {
        let floor = try floor(connection)
        let limit = LinkSync.Limits.pageRows
        let rows = try connection.query(
            LinkQueries.someChangedLinks, [.timestamp(since), .int32(limit + 1)])
        var outcome = ChangesOutcome.none
        if rows.count <= Int(limit) {
            outcome = note(rows)
        } else {
            outcome = try readManyChanges(connection)
        }
        if outcome == .needsLoad {
            try load(connection)
            return true
        }
        since = floor
        if outcome == .some { layOver() }
        return outcome == .some
    }

    /// What came of reading changes.
    private enum ChangesOutcome {
        case none, some
        /// Renamed links, or more than an overlay should hold.
        case needsLoad
    }

    /// More changes than one result may hold: page by page, so that an import of millions is never
    /// in memory at once.
    private func readManyChanges(_ connection: Connection) throws(PostgresError) -> ChangesOutcome {
        var total = ChangesOutcome.none
        try connection.transaction { () throws(PostgresError) in
            try connection.execute(LinkQueries.openChangedLinks, [.timestamp(since)])
            while total != .needsLoad {
                let rows = try connection.query(LinkQueries.nextChangedLinks)
                if rows.count == 0 { break }
                let outcome = note(rows)
                if outcome != .none { total = outcome }
                if changed.count > sync.options.overlayLinks { total = .needsLoad }
            }
        }
        return total
    }

    /// Takes changed rows in.
    private func note(_ rows: borrowing QueryResult) -> ChangesOutcome {
        var outcome = ChangesOutcome.none
        for row in 0..<rows.count {
            guard let link = rows.link(row, key: seed) else { continue }
            let id = link.definition.id
            if let known = marks[id] {
                if known.rowHash == link.rowHash { continue }
                // Renamed: what the old name was is only known to the base.
                if known.keyHash != link.keyHash { return .needsLoad }
                linkSum ^= known.rowHash
            }
            linkSum ^= link.rowHash
            marks[id] = LinkMark(keyHash: link.keyHash, rowHash: link.rowHash)
            changed[id] = link.definition
            outcome = .some
        }
        return outcome
    }

    /// Makes the overlay of all that has changed since the base.
    private func layOver() {
        if changedAt == nil { changedAt = SystemClock.monotonicNanoseconds() }
        let (table, rejected) = LinkTable.build(
            links: Array(changed.values), merchants: merchants, domains: domains, isOverlay: true,
            seed: seed)
        let before = overlayInvalid
        overlay = table
        overlayInvalid = Dictionary(rejected, uniquingKeysWith: { $1 })
        name(overlayInvalid, unless: before.merging(baseInvalid) { $1 })
    }

    /// Compares the checksum of all links, from time to time; loads all when it differs: a forgotten
    /// `updated_at`, a DELETE, or a transaction that the polls could not see.
    private func compare(_ connection: Connection, _ now: Int64) throws(PostgresError) -> Bool {
        let interval = min(sync.options.comparisonMicroseconds, 55_000_000) * 1000
        guard now - comparedAt >= max(interval, min(loadNanoseconds * 20, 30_000_000_000)) else {
            return false
        }
        let result = try connection.query(LinkQueries.linkSum)
        comparedAt = now
        let count = result.int64(0, 0) ?? -1
        let sum = result.int64(0, 1).map { UInt64(bitPattern: $0) }
        if count == Int64(marks.count), sum == linkSum { return false }
        // A change that came between the poll and this may be all: one more poll tells.
        let isChanged = try readChanges(connection)
        if count == Int64(marks.count), sum == linkSum { return isChanged }
        try load(connection)
        return true
    }

    /// Names links that cannot be served, once each.
    private func name(_ invalid: [EntityID: String], unless named: [EntityID: String]) {
        let fresh = invalid.filter { named[$0.key] != $0.value }.sorted { $0.key < $1.key }
        for (id, reason) in fresh.prefix(LinkSync.Limits.namedInvalidLinks) {
            sync.options.log(true, "link \(id) cannot be served: \(reason)")
        }
        let more = fresh.count - LinkSync.Limits.namedInvalidLinks
        if more > 0 { sync.options.log(true, "\(more) more links cannot be served") }
    }
}

// MARK: - Merchants, domains, salts

extension LinkSyncSession {
    /// Reads merchants and domains when any of them has changed, in whatever way; whether one has.
    private func readPlatform(_ connection: Connection) throws(PostgresError) -> Bool {
        let result = try connection.query(LinkQueries.platformSums)
        let sums = (0..<4).map { result.int64(0, $0) ?? -1 }
        if isLoaded, sums == platformSums { return false }
        let rows = try connection.query(LinkQueries.merchants)
        var read: [MerchantDefinition] = []
        for row in 0..<rows.count {
            if let merchant = rows.merchant(row) {
                read.append(merchant)
            } else if let id = rows.uuid(row, 0) {
                sync.options.log(true, "merchant \(id) has no currency of ISO 4217: left out")
            }
        }
        let names = try connection.query(LinkQueries.domains)
        domains = (0..<names.count).compactMap { row in
            names.bytes(row, 0).map { DomainDefinition(name: $0, defaultURL: names.bytes(row, 1)) }
        }
        merchants = read
        // Defaults of domains are in the base: it has to be built anew.
        if sums.suffix(2) != platformSums.suffix(2) { isLoaded = false }
        platformSums = sums
        return true
    }

    /// Reads salts and quotas now and then; whether they differ.
    private func readSlowly(
        _ connection: Connection, _ now: Int64
    ) throws(PostgresError) -> Bool {
        if let slowAt, now - slowAt < LinkSync.Limits.slowMicroseconds * 1000 { return false }
        try connection.execute("SELECT make_visitor_salts()")
        let rows = try connection.query(LinkQueries.salts)
        let entries = (0..<rows.count).compactMap { row -> VisitorKeys.Entry? in
            guard let day = rows.date(row, 0), let salt = rows.bytes(row, 1), salt.count == 32
            else { return nil }
            return VisitorKeys.Entry(
                day: day, key: visitorKey(salt: salt, node: sync.options.visitorKey))
        }
        let keys = VisitorKeys(entries.first, entries.dropFirst().first)
        let isSame =
            keys.first?.day == visitorKeys.first?.day
            && keys.second?.day == visitorKeys.second?.day
            && keys.first?.key == visitorKeys.first?.key
            && keys.second?.key == visitorKeys.second?.key
        visitorKeys = keys
        let over = try connection.query(LinkQueries.overQuota)
        let ids = Set((0..<over.count).compactMap { over.uuid($0, 0) })
        let isSameQuota = ids == overQuota
        overQuota = ids
        slowAt = now
        return !(isSame && isSameQuota)
    }
}

/// A day's visitor key: the fleet's salt under the fleet's key, so that neither alone makes it.
func visitorKey(salt: [UInt8], node: SipHashKey) -> SipHashKey {
    let halves = [UInt8(0), 1].map { half in
        (salt + [half]).withUnsafeBytes { SipHash24.hash($0, key: node) }
    }
    return SipHashKey(first: halves[0], second: halves[1])
}
