// One turn of link sync: full loads, polls, the comparison that heals what polls cannot see.
internal import EdgeCore
internal import LinuxIO
internal import Postgres
internal import Tracking

/// What the sync thread holds; used by that thread alone.
final class LinkSyncSession {
    private let sync: LinkSync
    private var connection: Connection?
    /// For polls while the other one loads.
    private var besides: Connection?
    private let seed: SipHashKey

    // What is served.
    private var base: LinkTable?
    private var baseInvalid: [EntityID: String] = [:]
    private var changed: [EntityID: LinkDefinition] = [:]
    /// Keys of the base that are no more, or another link's.
    private var hidden: Set<LinkKey> = []
    private var overlay: LinkTable?
    private var overlayInvalid: [EntityID: String] = [:]
    private var merchants: [MerchantDefinition] = []
    private var domains: [DomainDefinition] = []
    private var overQuota: Set<EntityID> = []
    private var visitorKeys = VisitorKeys()

    // What is known of the database's rows.
    private var marks = LinkMarks(rangeRows: LinkSync.Limits.rangeRows)
    private var comparison: LinkComparison
    /// The ranges of the pass under way.
    private var thresholds = Parameter.null
    private var platformSums: [Int64] = []
    /// Polls read what was stamped since.
    private var since = Timestamp(microseconds: .min)

    // When things were last done, monotonic nanoseconds.
    private var slowAt: Int64?
    private var publishedAt: Int64 = 0
    private var changedAt: Int64?
    private var loadNanoseconds: Int64 = 0
    private var isLoaded = false
    private var fullLoads = 0

    init(_ sync: LinkSync) {
        self.sync = sync
        seed = Randomness.bytes(16).withUnsafeBytes { SipHashKey(bytes: $0) }
        comparison = LinkComparison(interval: sync.options.comparisonMicroseconds * 1000, now: 0)
    }

    func disconnect() {
        connection?.close()
        connection = nil
        besides?.close()
        besides = nil
        comparison.abandon()
    }

    /// Brings the published tables up to date once; whether more is due at once.
    func step() throws(PostgresError) -> Bool {
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
            if try compare(connection) { isChanged = true }
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
        return comparison.next(SystemClock.monotonicNanoseconds()) != .rest
    }

    private func connect() throws(PostgresError) -> Connection {
        if let connection, connection.isOpen { return connection }
        let fresh = try open()
        connection = fresh
        return fresh
    }

    private func open() throws(PostgresError) -> Connection {
        try Connection(
            dsn: sync.options.dsn, applicationName: "clickd links",
            statementTimeoutMilliseconds: LinkSync.Limits.statementMilliseconds,
            lockTimeoutMilliseconds: LinkSync.Limits.lockMilliseconds,
            interruption: sync.interruption)
    }

    /// Whether changes have waited long enough, or are too many, to be joined with the base.
    ///
    /// The wait grows with the cost of a load, so that loads stay a hundredth of the time.
    private func mustJoin(_ now: Int64) -> Bool {
        if overlaid > sync.options.overlayLinks { return true }
        guard let changedAt, overlaid > 0 else { return false }
        return now - changedAt >= max(sync.options.joinMicroseconds * 1000, loadNanoseconds * 100)
    }

    /// Changes that lie over the base.
    private var overlaid: Int { changed.count + hidden.count }

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
        var marks = LinkMarks(rangeRows: LinkSync.Limits.rangeRows)
        var polledAt = started
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
                    marks.append(
                        link.definition.id,
                        LinkMark(keyHash: link.keyHash, rowHash: link.rowHash))
                }
                pollBesides(&polledAt)
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
        changed.removeAll()
        hidden.removeAll()
        overlay = nil
        overlayInvalid.removeAll()
        changedAt = nil
        since = floor
        isLoaded = true
        fullLoads += 1
        let now = SystemClock.monotonicNanoseconds()
        comparison = LinkComparison(
            interval: sync.options.comparisonMicroseconds * 1000, now: now)
        loadNanoseconds = now - started
        sync.writeSnapshot(table)
    }

    /// Serves changes over the tables of before while millions of links are loaded.
    ///
    /// A failure is the next step's business: what is missed here is read again after the load.
    private func pollBesides(_ polledAt: inout Int64) {
        let now = SystemClock.monotonicNanoseconds()
        guard isLoaded, now - polledAt >= LinkSync.Limits.loadingMilliseconds * 1_000_000 else {
            return
        }
        do throws(PostgresError) {
            let wall = Timestamp(microseconds: SystemClock.wallMicroseconds())
            if besides?.isOpen != true { besides = try open() }
            if let besides, try readChanges(besides, mayLoad: false) {
                publish(now, merchantsAsOf: wall)
                sync.directory.reclaim()
            }
        } catch {
            besides = nil
        }
        // Beyond what may lie over a base the load itself has to bring them.
        let isFull = overlaid > sync.options.overlayLinks
        polledAt = isFull ? .max : SystemClock.monotonicNanoseconds()
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
    private func readChanges(
        _ connection: Connection, mayLoad: Bool = true
    ) throws(PostgresError) -> Bool {
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
            // A load that is under way reads them too.
            if mayLoad { try load(connection) }
            return mayLoad
        }
        since = floor
        if outcome == .some { layOver() }
        return outcome == .some
    }

    /// What came of reading changes.
    private enum ChangesOutcome {
        case none, some
        /// More than an overlay should hold.
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
                if overlaid > sync.options.overlayLinks { total = .needsLoad }
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
                if known.keyHash != link.keyHash { hideBase(id, known) }
            }
            marks[id] = LinkMark(keyHash: link.keyHash, rowHash: link.rowHash)
            changed[id] = link.definition
            outcome = .some
        }
        return outcome
    }

    /// Hides a link of the base, whose key is no more or another one now.
    private func hideBase(_ id: EntityID, _ mark: LinkMark) {
        if let key = base?.key(of: id, trace: mark.keyHash) { hidden.insert(key) }
    }

    /// Makes the overlay of all that has changed since the base.
    private func layOver() {
        if changedAt == nil { changedAt = SystemClock.monotonicNanoseconds() }
        let (table, rejected) = LinkTable.build(
            links: Array(changed.values), merchants: merchants, domains: domains,
            removed: Array(hidden), isOverlay: true, seed: seed)
        let before = overlayInvalid
        overlay = table
        overlayInvalid = Dictionary(rejected, uniquingKeysWith: { $1 })
        name(overlayInvalid, unless: before.merging(baseInvalid) { $1 })
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

// MARK: - Comparison

extension LinkSyncSession {
    /// Goes on comparing for a while, and heals ranges that differ: a forgotten `updated_at`, a DELETE,
    /// or a transaction that the polls could not see; whether anything has changed.
    private func compare(_ connection: Connection) throws(PostgresError) -> Bool {
        var now = SystemClock.monotonicNanoseconds()
        let end = now + LinkSync.Limits.comparingMilliseconds * 1_000_000
        var isChanged = false
        while now < end {
            switch comparison.next(now) {
            case .rest: return isChanged
            case .begin:
                let pages = try connection.query(LinkQueries.tablePages).int64(0, 0) ?? 0
                comparison.begin(now, pages: pages, ranges: marks.rangeCount)
                thresholds = .uuidArray(marks.thresholds)
            case .read(let from, let to): try read(from, to, connection)
            case .verify(let range):
                let loads = fullLoads
                if try !isTrue(range, connection), try heal(range, connection) {
                    isChanged = true
                }
                // A load begins anew.
                if fullLoads == loads { comparison.clear() }
            }
            now = SystemClock.monotonicNanoseconds()
        }
        return isChanged
    }

    /// Sums a stretch of the table up.
    private func read(
        _ from: Int64, _ to: Int64?, _ connection: Connection
    ) throws(PostgresError) {
        let begin = Parameter.text("(\(from),0)")
        let sums: QueryResult
        if let to {
            sums = try connection.query(
                LinkQueries.pageSums, [thresholds, begin, .text("(\(to),0)")])
        } else {
            sums = try connection.query(LinkQueries.lastPageSums, [thresholds, begin])
        }
        for row in 0..<sums.count {
            guard let range = sums.int32(row, 0), let count = sums.int64(row, 1),
                let hash = sums.int64(row, 2)
            else { continue }
            comparison.add(
                LinkSum(count: count, rows: UInt64(bitPattern: hash)), range: Int(range))
        }
        comparison.advance { marks.sum(of: $0) }
    }

    private func rows(
        _ range: Int, _ connection: Connection, within: String, last: String
    ) throws(PostgresError) -> QueryResult {
        let (from, to) = marks.bounds(of: range)
        guard let to else { return try connection.query(last, [.uuid(from)]) }
        return try connection.query(within, [.uuid(from), .uuid(to)])
    }

    /// Whether a range is the database's.
    private func isTrue(_ range: Int, _ connection: Connection) throws(PostgresError) -> Bool {
        let known = marks.sum(of: range)
        let result = try rows(
            range, connection, within: LinkQueries.rangeSum, last: LinkQueries.lastRangeSum)
        return result.int64(0, 0) == known.count
            && result.int64(0, 1) == Int64(bitPattern: known.rows)
    }

    /// Makes a range the database's, by the links that differ; whether anything has changed.
    private func heal(_ range: Int, _ connection: Connection) throws(PostgresError) -> Bool {
        var gone = marks.ids(of: range)
        var differing: [EntityID] = []
        let hashes = try rows(
            range, connection, within: LinkQueries.rangeHashes, last: LinkQueries.lastRangeHashes)
        for row in 0..<hashes.count {
            guard let id = hashes.uuid(row, 0), let hash = hashes.int64(row, 1) else { continue }
            gone.remove(id)
            if marks[id]?.rowHash != UInt64(bitPattern: hash) { differing.append(id) }
        }
        if overlaid + gone.count + differing.count > sync.options.overlayLinks {
            try load(connection)
            return true
        }
        for id in gone {
            if let mark = marks[id] { hideBase(id, mark) }
            marks[id] = nil
            changed[id] = nil
            baseInvalid[id] = nil
        }
        var isChanged = !gone.isEmpty
        while !differing.isEmpty {
            let some = Array(differing.suffix(LinkSync.Limits.healedRows))
            differing.removeLast(some.count)
            let read = try connection.query(LinkQueries.linksByID, [.uuidArray(some)])
            if note(read) != .none { isChanged = true }
        }
        if isChanged { layOver() }
        return isChanged
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
