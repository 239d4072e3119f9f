// Clicks into their day's leaf: cursor, COPY and roll-up in one transaction.
internal import Postgres
internal import Tracking

extension PostgresFlushDatabase {
    func write(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount {
        switch move.lane.stream {
        case .clicks: try writeClicks(move, records, meanwhile)
        case .conversions: try writeConversions(move, records)
        }
    }

    private func writeClicks(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>, _ meanwhile: () -> Void
    ) throws(FlushFailure) -> FlushCount {
        let days = try days(of: records)
        try makeLeaves(days)
        hours.reset()
        var count = FlushCount()
        do {
            try transaction(isDurable: move.isDurable) { connection throws(PostgresError) in
                count = FlushCount()
                try moveCursor(move, connection)
                for day in days { try copy(records, of: day, &count, connection, meanwhile) }
                try addHours(connection)
            }
        } catch {
            if error.state == SQLState.undefinedTable.rawValue { knownClickLeaves = [] }
            throw error
        }
        return count
    }

    /// The days of a batch, as they come.
    private func days(of records: ArraySlice<PendingRecord>) throws(FlushFailure) -> [Day] {
        var days: [Day] = []
        for record in records {
            guard let day = ClickRowEncoder.clickID(of: record.payload)?.clickedAt.day else {
                throw FlushFailure(.unreadableRecord)
            }
            if days.last != day, !days.contains(day) { days.append(day) }
            // So many days at once are no traffic: smaller attempts find whose they are.
            if days.count > FlusherLimits.maximumDaysPerAttempt, records.count > 1 {
                throw FlushFailure(kind: .tooSlow, message: "too many days in one batch")
            }
        }
        return days
    }

    private func makeLeaves(_ days: [Day]) throws(FlushFailure) {
        let missing = days.filter { !knownClickLeaves.contains($0) }
        guard !missing.isEmpty else { return }
        let connection = try link()
        do throws(PostgresError) {
            let today = try connection.query("SELECT (now() AT TIME ZONE 'UTC')::date").date(0, 0)
            guard let today else { throw PostgresError("the server does not tell the day") }
            for day in missing {
                let isWithinReason =
                    day >= today.advanced(by: -FlusherLimits.oldestLeafDays)
                    && day <= today.advanced(by: FlusherLimits.furthestLeafDays)
                if isWithinReason {
                    try connection.execute(
                        "SELECT make_click_partitions($1, $1)", [.date(day)])
                    knownClickLeaves.insert(day)
                } else if try connection.query(
                    "SELECT to_regclass($1::text) IS NOT NULL",
                    [.text("clicks_logs_\(day.compact)")]
                ).bool(0, 0) == true {
                    knownClickLeaves.insert(day)
                } else {
                    throw PostgresError.farDay(day)
                }
            }
        } catch {
            throw FlushFailure(error)
        }
    }

    /// Copies one day's clicks of a batch, encoding while the server stores what it has.
    private func copy(
        _ records: ArraySlice<PendingRecord>, of day: Day, _ count: inout FlushCount,
        _ connection: Connection, _ meanwhile: () -> Void
    ) throws(PostgresError) {
        var rest = records
        var encoded = 0
        var bots = 0
        let stored = try connection.copy(
            """
            COPY clicks_logs_\(day.compact) (\(ClickRowEncoder.columns)) FROM STDIN (FORMAT binary)
            """, through: &rows
        ) { rows throws(PostgresError) in
            if encoded > 0 { meanwhile() }
            while let record = rest.popFirst() {
                guard ClickRowEncoder.clickID(of: record.payload)?.clickedAt.day == day else {
                    continue
                }
                let isRead = encoder.encode(
                    record.payload, into: &rows, counting: &hours, bots: &bots)
                guard isRead else { throw PostgresError.unreadableRecord }
                encoded += 1
                if rows.byteCount >= FlusherLimits.copyChunkBytes { return true }
            }
            return false
        }
        count.clicks += encoded
        count.bots += bots
        guard stored == encoded else {
            throw PostgresError("COPY stored \(stored) rows of \(encoded)")
        }
    }

    private func addHours(_ connection: Connection) throws(PostgresError) {
        let sorted = hours.sorted
        guard !sorted.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO link_hours AS held (merchant_id, link_id, influencer_id, hour, ring_slot,
                clicks, unique_clicks, bots, invalid)
            SELECT merchant, link, influencer, hour, $1, clicks, firsts, bots, invalid
            FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::bigint[],
                    $7::bigint[], $8::bigint[], $9::bigint[])
                AS new (merchant, link, influencer, hour, clicks, firsts, bots, invalid)
            ON CONFLICT (merchant_id, link_id, hour, ring_slot) DO UPDATE
            SET clicks = held.clicks + excluded.clicks,
                unique_clicks = held.unique_clicks + excluded.unique_clicks,
                bots = held.bots + excluded.bots, invalid = held.invalid + excluded.invalid
            """,
            [
                .int16(Int16(node)), .uuidArray(sorted.map { $0.key.merchant }),
                .uuidArray(sorted.map { $0.key.link }),
                .uuidArray(sorted.map { $0.value.influencer }),
                .timestampArray(
                    sorted.map { Timestamp(microseconds: Int64($0.key.hour) * 3_600_000_000) }),
                .int64Array(sorted.map { $0.value.clicks }),
                .int64Array(sorted.map { $0.value.unique }),
                .int64Array(sorted.map { $0.value.bots }),
                .int64Array(sorted.map { $0.value.invalid }),
            ])
    }
}

extension PostgresError {
    /// A record whose payload this release cannot read: poison, as if the server had refused it.
    static let unreadableRecord = PostgresError(
        "unreadable record", state: SQLState(rawValue: "CK002"))

    /// A click of a day for which there is no leaf and none is made: poison.
    static func farDay(_ day: Day) -> PostgresError {
        PostgresError(
            "no leaf for \(day.dashed), a day far off", state: SQLState(rawValue: "CK003"))
    }
}
