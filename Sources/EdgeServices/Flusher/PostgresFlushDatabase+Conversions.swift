// Conversions and refusals: keys, digests, sales, claims and the intake log in one transaction.
internal import Postgres
internal import Tracking

extension PostgresFlushDatabase {
    /// The `event` under which a claim's own ID is kept in `sale_keys`: no event of a message has
    /// this name, so a claim never meets the key of an order.
    private static let claimEvent = "claim"

    func writeConversions(
        _ move: CursorMove, _ records: ArraySlice<PendingRecord>
    ) throws(FlushFailure) -> FlushCount {
        var messages: [ConversionRecord] = []
        var refusals: [(sequence: UInt64, record: RefusalRecord)] = []
        var drops: [(sequence: UInt64, record: DropRecord)] = []
        for record in records {
            switch RecordKind(rawValue: record.kind) {
            case .conversion:
                guard let message = ConversionRecord(payload: record.payload) else {
                    throw FlushFailure(.unreadableRecord)
                }
                messages.append(message)
            case .refusal:
                guard let refusal = RefusalRecord(payload: record.payload) else {
                    throw FlushFailure(.unreadableRecord)
                }
                refusals.append((record.sequence, refusal))
            case .drop:
                guard let drop = DropRecord(payload: record.payload) else {
                    throw FlushFailure(.unreadableRecord)
                }
                drops.append((record.sequence, drop))
            case .click, nil: throw FlushFailure(.unreadableRecord)
            }
        }
        try makeSaleLeaves(messages)
        try transaction { connection throws(PostgresError) in
            try moveCursor(move, connection)
            if !messages.isEmpty { try settle(messages, connection) }
            try log(refusals, ring: move.lane.ring, connection)
            try note(drops, of: move.lane, connection)
        }
        return FlushCount(conversions: records.count - drops.count)
    }

    /// Clicks that never had a sequence are a gap of the click stream all the same: by time, under
    /// the sequence of the note.
    private func note(
        _ drops: [(sequence: UInt64, record: DropRecord)], of lane: LaneID,
        _ connection: Connection
    ) throws(PostgresError) {
        guard !drops.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO ingest_gaps
                (ring_id, ring_uuid, stream, first_seq, last_seq, from_time, to_time, cause)
            SELECT $1, $2, $3, seq, seq, first_at, last_at,
                'ring_full: ' || clicks || ' clicks dropped'
            FROM unnest($4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
                AS note (seq, clicks, first_at, last_at)
            ON CONFLICT DO NOTHING
            """,
            [
                .int32(Int32(lane.ring)), .uuid(lane.ringUUID),
                .int16(RecordStream.clicks.rawValue),
                .int64Array(drops.map { Int64(clamping: $0.sequence) }),
                .int64Array(drops.map { Int64(clamping: $0.record.count) }),
                .timestampArray(drops.map { $0.record.firstAt }),
                .timestampArray(drops.map { $0.record.lastAt }),
            ])
    }

    private func makeSaleLeaves(_ messages: [ConversionRecord]) throws(FlushFailure) {
        for message in messages {
            let month = message.receivedAt.day.firstOfMonth
            guard !knownSaleLeaves.contains(month) else { continue }
            let connection = try link()
            do throws(PostgresError) {
                let found = try connection.query("SELECT (now() AT TIME ZONE 'UTC')::date")
                let today = found.date(0, 0) ?? month
                let isWithinReason =
                    month >= today.advanced(by: -FlusherLimits.oldestLeafDays).firstOfMonth
                    && month <= today.advanced(by: FlusherLimits.furthestLeafDays)
                guard isWithinReason else { throw PostgresError.farDay(month) }
                try connection.execute("SELECT make_sale_partitions($1, $1)", [.date(month)])
            } catch {
                throw FlushFailure(error)
            }
            knownSaleLeaves.insert(month)
        }
    }

    private func settle(
        _ messages: [ConversionRecord], _ connection: Connection
    ) throws(PostgresError) {
        var facts = ConversionPlan.Facts()
        try takeMessages(messages, &facts, connection)
        try takeKeys(messages, &facts, connection)
        try takeClaims(messages, &facts, connection)
        let plan = ConversionPlan(messages, facts: facts)
        try insert(plan.sales, connection)
        try supersede(plan.superseded, connection)
        try update(plan.updates, connection)
        try log(plan.remarks, connection)
    }

    // MARK: - Keys

    /// The first message of an id makes its digest stand; later ones are compared with that.
    private func takeMessages(
        _ messages: [ConversionRecord], _ facts: inout ConversionPlan.Facts,
        _ connection: Connection
    ) throws(PostgresError) {
        var first: [MessageKey: ConversionRecord] = [:]
        for message in messages {
            if let key = MessageKey(message), first[key] == nil { first[key] = message }
        }
        guard !first.isEmpty else { return }
        let sorted = first.sorted { $0.key < $1.key }
        let merchants = Parameter.uuidArray(sorted.map { $0.key.merchant })
        let identities = Parameter.textArray(sorted.map { text($0.key.message) })
        try connection.execute(
            """
            INSERT INTO message_digests (merchant_id, message_id, digest, sale_id, received_at)
            SELECT merchant, message, decode(digest, 'hex'), sale, received
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
                AS new (merchant, message, digest, sale, received)
            ON CONFLICT (merchant_id, message_id) DO NOTHING
            """,
            [
                merchants, identities,
                .textArray(sorted.map { hexadecimal($0.value.messageDigest) }),
                .uuidArray(sorted.map { $0.value.conversionID }),
                .timestampArray(sorted.map { $0.value.receivedAt }),
            ])
        let found = try connection.query(
            """
            SELECT held.merchant_id, held.message_id, held.digest FROM message_digests AS held
            JOIN unnest($1::uuid[], $2::text[]) AS mine (merchant, message)
                ON held.merchant_id = mine.merchant AND held.message_id = mine.message
            """, [merchants, identities])
        for row in 0..<found.count {
            guard let merchant = found.uuid(row, 0), let message = found.text(row, 1),
                let digest = found.bytes(row, 2)
            else { continue }
            facts.digests[MessageKey(merchant: merchant, message: Array(message.utf8))] = digest
        }
    }

    private func takeKeys(
        _ messages: [ConversionRecord], _ facts: inout ConversionPlan.Facts,
        _ connection: Connection
    ) throws(PostgresError) {
        var first: [SaleKey: ConversionRecord] = [:]
        var asked: Set<SaleKey> = []
        for message in messages {
            let key = SaleKey(message)
            asked.insert(key)
            if message.flags.contains(.verified), first[key] == nil { first[key] = message }
        }
        if !first.isEmpty {
            facts.taken = try insertKeys(
                first.map { ($0.key, $0.value.conversionID, $0.value.receivedAt) }, connection)
        }
        let others = asked.subtracting(facts.taken).sorted()
        guard !others.isEmpty else { return }
        let found = try connection.query(
            """
            SELECT key.merchant_id, key.event, key.order_id, key.refund_id, sale.amount,
                sale.has_amount, sale.currency, sale.reported_status, sale.click_id,
                sale.coupon_code, sale.customer_id
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
                AS mine (merchant, event, order_id, refund_id)
            JOIN sale_keys AS key ON key.merchant_id = mine.merchant AND key.event = mine.event
                AND key.order_id = mine.order_id AND key.refund_id = mine.refund_id
            JOIN sales AS sale ON sale.merchant_id = key.merchant_id AND sale.id = key.sale_id
                AND sale.created_at = key.created_at
            """, keyParameters(others))
        for row in 0..<found.count {
            guard let merchant = found.uuid(row, 0), let event = found.text(row, 1),
                let order = found.text(row, 2), let refund = found.text(row, 3)
            else { continue }
            let key = SaleKey(
                merchant: merchant, event: event, order: Array(order.utf8),
                refund: Array(refund.utf8))
            facts.stored[key] = content(found, row)
        }
    }

    private func content(_ found: QueryResult, _ row: Int) -> SaleContent {
        let letters = found.text(row, 6) ?? ""
        let exponent = Currency(letters)?.exponent ?? 2
        return SaleContent(
            amountMinor: found.bool(row, 5) == true
                ? found.numericMinor(row, 4, exponent: exponent) : nil,
            currency: letters, reported: found.text(row, 7) ?? "",
            click: found.int64(row, 8).flatMap { ClickID(rawValue: UInt64(clamping: $0)) },
            coupon: found.text(row, 9).map { Array($0.utf8) },
            customer: found.text(row, 10).map { Array($0.utf8) })
    }

    /// Takes keys that nobody has; which they were.
    ///
    /// Sorted, so that two nodes never wait in a circle.
    private func insertKeys(
        _ keys: [(key: SaleKey, sale: EntityID, received: Timestamp)], _ connection: Connection
    ) throws(PostgresError) -> Set<SaleKey> {
        let sorted = keys.sorted { $0.key < $1.key }
        let found = try connection.query(
            """
            INSERT INTO sale_keys (merchant_id, event, order_id, refund_id, sale_id, created_at)
            SELECT merchant, event, order_id, refund_id, sale, received
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[],
                    $6::timestamptz[])
                AS new (merchant, event, order_id, refund_id, sale, received)
            ON CONFLICT (merchant_id, event, order_id, refund_id) DO NOTHING
            RETURNING merchant_id, event, order_id, refund_id
            """,
            keyParameters(sorted.map { $0.key }) + [
                .uuidArray(sorted.map { $0.sale }), .timestampArray(sorted.map { $0.received }),
            ])
        var taken: Set<SaleKey> = []
        for row in 0..<found.count {
            guard let merchant = found.uuid(row, 0), let event = found.text(row, 1),
                let order = found.text(row, 2), let refund = found.text(row, 3)
            else { continue }
            taken.insert(
                SaleKey(
                    merchant: merchant, event: event, order: Array(order.utf8),
                    refund: Array(refund.utf8)))
        }
        return taken
    }

    private func takeClaims(
        _ messages: [ConversionRecord], _ facts: inout ConversionPlan.Facts,
        _ connection: Connection
    ) throws(PostgresError) {
        var first: [EntityID: (key: SaleKey, received: Timestamp)] = [:]
        for message in messages where !message.flags.contains(.verified) {
            guard first[message.conversionID] == nil else { continue }
            let key = SaleKey(
                merchant: message.merchantID, event: PostgresFlushDatabase.claimEvent,
                order: Array(message.conversionID.description.utf8), refund: [])
            first[message.conversionID] = (key, message.receivedAt)
        }
        guard !first.isEmpty else { return }
        let taken = try insertKeys(
            first.map { ($0.value.key, $0.key, $0.value.received) }, connection)
        facts.newClaims = Set(first.filter { taken.contains($0.value.key) }.keys)
    }

    private func keyParameters(_ keys: [SaleKey]) -> [Parameter] {
        [
            .uuidArray(keys.map { $0.merchant }), .textArray(keys.map { $0.event }),
            .textArray(keys.map { text($0.order) }), .textArray(keys.map { text($0.refund) }),
        ]
    }

    // MARK: - Rows

    private func insert(
        _ sales: [ConversionPlan.Sale], _ connection: Connection
    ) throws(PostgresError) {
        for sale in sales {
            try connection.execute(
                """
                INSERT INTO sales (id, created_at, merchant_id, order_id, refund_id, event,
                    event_time, amount, has_amount, currency, status, reported_status, verified,
                    legacy_token, channel, click_id, click_path, customer_id, coupon_code,
                    message_id, message_digest, adv, items, reason, due_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8::numeric, $9, $10, $11, $12, $13, $14, $15,
                    $16::bigint, $17::bigint[], $18, $19, $20, $21::bytea, $22::text[], $23::jsonb,
                    $24, CASE WHEN $25 THEN now() END)
                """, parameters(sale))
        }
    }

    private func parameters(_ sale: ConversionPlan.Sale) -> [Parameter] {
        let record = sale.record
        let isVerified = record.flags.contains(.verified)
        let hasAmount = record.flags.contains(.hasAmount)
        // Nobody vouches for a claim's items, and nothing is computed from them.
        let items = isVerified && !record.items.isEmpty ? text(record.items) : nil
        let isDue = isVerified && sale.status == "pending" && record.status == .completed
        return [
            .uuid(record.conversionID), .timestamp(record.receivedAt), .uuid(record.merchantID),
            .text(text(record.orderID)), .text(text(record.refundID)), .text(record.event.name),
            .timestamp(record.eventTime),
            hasAmount
                ? .numeric(minorUnits: record.amountMinor, exponent: record.currency.exponent)
                : .null,
            .bool(hasAmount), .text(record.currency.letters), .text(sale.status),
            .text(record.status.name), .bool(isVerified),
            .bool(record.flags.contains(.legacyToken)), .text(record.channel.name),
            record.clickID.map { .int64(Int64(clamping: $0.rawValue)) } ?? .null,
            record.clickPath.isEmpty
                ? .null : .int64Array(record.clickPath.map { Int64(clamping: $0.rawValue) }),
            optional(record.customerID), optional(record.couponCode), optional(record.messageID),
            record.messageDigest.isEmpty ? .null : .bytea(record.messageDigest),
            record.advertiserFields.contains { $0 != nil }
                ? .textArray(record.advertiserFields.map { $0.map(text) }) : .null,
            items.map { .json($0) } ?? .null, .optional(sale.reason), .bool(isDue),
        ]
    }

    /// Claims of an order end with its verified message.
    private func supersede(_ keys: [SaleKey], _ connection: Connection) throws(PostgresError) {
        guard !keys.isEmpty else { return }
        try connection.execute(
            """
            UPDATE sales AS claim SET status = 'rejected', reason = 'superseded', due_at = NULL,
                updated_at = now()
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
                AS mine (merchant, event, order_id, refund_id)
            WHERE claim.merchant_id = mine.merchant AND claim.order_id = mine.order_id
                AND claim.event = mine.event AND claim.refund_id = mine.refund_id
                AND NOT claim.verified AND claim.status = 'pending'
            """, keyParameters(keys.sorted()))
    }

    /// A sale that was reported as pending becomes due, or is rejected.
    private func update(
        _ updates: [ConversionPlan.Update], _ connection: Connection
    ) throws(PostgresError) {
        guard !updates.isEmpty else { return }
        try connection.execute(
            """
            UPDATE sales AS sale SET reported_status = mine.reported, updated_at = now(),
                status = CASE mine.reported WHEN 'rejected' THEN 'rejected' ELSE sale.status END,
                reason = CASE mine.reported WHEN 'rejected' THEN 'merchant' ELSE sale.reason END,
                due_at = CASE mine.reported WHEN 'completed' THEN now() END
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                AS mine (merchant, event, order_id, refund_id, reported)
            JOIN sale_keys AS key ON key.merchant_id = mine.merchant AND key.event = mine.event
                AND key.order_id = mine.order_id AND key.refund_id = mine.refund_id
            WHERE sale.merchant_id = key.merchant_id AND sale.id = key.sale_id
                AND sale.created_at = key.created_at AND sale.status = 'pending'
            """,
            keyParameters(updates.map { $0.key }) + [.textArray(updates.map { $0.reported })])
    }

    // MARK: - Intake log

    private func log(
        _ remarks: [ConversionPlan.Remark], _ connection: Connection
    ) throws(PostgresError) {
        guard !remarks.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO intake_log
                (merchant_id, received_at, channel, http_status, field, reason, order_id)
            SELECT merchant, received, channel, 200, field, reason, order_id
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
                    $6::text[])
                AS new (merchant, received, channel, field, reason, order_id)
            """,
            [
                .uuidArray(remarks.map { $0.merchant }),
                .timestampArray(remarks.map { $0.receivedAt }),
                .textArray(remarks.map { $0.channel }), .textArray(remarks.map { $0.field }),
                .textArray(remarks.map { $0.reason }), .textArray(remarks.map { text($0.order) }),
            ])
    }

    private func log(
        _ refusals: [(sequence: UInt64, record: RefusalRecord)], ring: UInt16,
        _ connection: Connection
    ) throws(PostgresError) {
        guard !refusals.isEmpty else { return }
        try connection.execute(
            """
            INSERT INTO intake_log
                (merchant_id, received_at, channel, http_status, field, reason, order_id, ring_id,
                seq)
            SELECT merchant, received, channel, status, field, reason, order_id, $8, sequence
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::smallint[], $5::text[],
                    $6::text[], $7::text[], $9::bigint[])
                AS new (merchant, received, channel, status, field, reason, order_id, sequence)
            """,
            [
                .uuidArray(refusals.map { $0.record.merchantID }),
                .timestampArray(refusals.map { $0.record.receivedAt }),
                .textArray(refusals.map { $0.record.channel.name }),
                .int16Array(refusals.map { Int16(clamping: $0.record.httpStatus) }),
                .textArray(refusals.map { text($0.record.field) }),
                .textArray(refusals.map { text($0.record.reason) }),
                .textArray(refusals.map { $0.record.orderID.map(text) }), .int32(Int32(ring)),
                .int64Array(refusals.map { Int64(clamping: $0.sequence) }),
            ])
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private func optional(_ bytes: [UInt8]?) -> Parameter { .optional(bytes.map(text)) }

    private func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return text(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }
}
