// One run: take due sales, read the evidence, decide, write, all in one transaction.
internal import Attribution
public import Postgres
public import Tracking

/// What a run did.
public struct RunSummary: Equatable, Sendable {
    /// Sales that were taken.
    public var taken = 0
    /// Sales and refunds that were decided for good.
    public var completed = 0
    /// Rejected.
    public var rejected = 0
    /// Still waiting for something on its way.
    public var waiting = 0
    /// Held: something is missing.
    public var held = 0
    /// Left to another message or a person.
    public var parked = 0
    /// First rows of `commissions` among the completed.
    public var commissions = 0
    /// Commissions that became payable.
    public var released = 0

    /// Nothing.
    public init() {}
}

/// Runs attribution over one connection.
public struct AttributionRun {
    let connection: Connection

    /// Runs over a connection that nobody else uses.
    public init(_ connection: Connection) {
        self.connection = connection
    }

    /// Decides at most `limit` due sales.
    ///
    /// - Parameter now: The time to judge by; nil for the database's.
    public func decide(limit: Int, now: Timestamp? = nil) throws(PostgresError) -> RunSummary {
        try connection.transaction { () throws(PostgresError) in
            let due = try DueSales.take(connection, limit: limit, now: now)
            guard !due.sales.isEmpty else { return RunSummary() }
            var batch = Batch(now: due.now)
            let evidence = try EvidenceLoader(connection: connection).load(due.sales)
            var results: [(DueSale, Verdict, Evidence)] = []
            for row in due.sales where row.sale.event != .refund {
                var sale = row.sale
                sale.items = evidence.items[sale.id] ?? []
                let known = evidence.evidence(for: sale)
                var judged = row
                judged.sale = sale
                results.append((judged, verdict(judged, known, evidence), known))
            }
            batch.standings = try standings(
                of: results.compactMap { completion($0.1)?.commission?.influencerID })
            for (row, verdict, known) in results { batch.add(row, verdict, known) }
            try decideRefunds(due.sales.filter { $0.sale.event == .refund }, evidence, &batch)
            try batch.results.write(connection)
            return batch.summary
        }
    }

    private func completion(_ verdict: Verdict) -> Completion? {
        guard case .complete(let completion) = verdict else { return nil }
        return completion
    }

    private func verdict(
        _ row: DueSale, _ known: Evidence, _ evidence: BatchEvidence
    ) -> Verdict {
        if let problem = row.problem { return .reject(reason: problem) }
        let rules = evidence.rules[row.sale.merchantID] ?? RuleBook([])
        let verdict = Attribution.decide(row.sale, known, rules)
        // A sale that has earned already earns for no one else, whatever is found later.
        if let earned = evidence.existing[row.sale.id], let completion = completion(verdict),
            completion.commission.map({ !earned.contains($0.influencerID) }) ?? true
        {
            return .hold(reason: "commission_exists")
        }
        return verdict
    }

    private func standings(
        of influencers: [EntityID]
    ) throws(PostgresError) -> [EntityID: InfluencerStanding] {
        guard !influencers.isEmpty else { return [:] }
        let rows = try connection.query(
            "SELECT id, status, kyc_status FROM influencers WHERE id = ANY ($1)",
            [.uuidArray(Array(Set(influencers)).sorted())])
        var found: [EntityID: InfluencerStanding] = [:]
        for row in 0..<rows.count {
            guard let id = rows.uuid(row, 0), let status = rows.text(row, 1),
                let kyc = rows.text(row, 2)
            else { continue }
            found[id] = InfluencerStanding(isActive: status == "active", kyc: kyc)
        }
        return found
    }

    /// Refunds of one run in the order of their events, so that the same ones give the same rows.
    private func decideRefunds(
        _ due: [DueSale], _ evidence: BatchEvidence, _ batch: inout Batch
    ) throws(PostgresError) {
        guard !due.isEmpty else { return }
        let orders = due.filter(\.sale.isVerified).map {
            OrderKey(merchantID: $0.sale.merchantID, orderID: $0.sale.orderID)
        }
        var targets = try RefundLoader(connection: connection).load(Set(orders))
        let sorted = due.sorted {
            ($0.sale.eventTime, $0.sale.id) < ($1.sale.eventTime, $1.sale.id)
        }
        for row in sorted {
            let key = OrderKey(merchantID: row.sale.merchantID, orderID: row.sale.orderID)
            var target = targets[key]?.target
            let verdict =
                row.problem.map { RefundVerdict.reject(reason: $0) }
                ?? Attribution.refund(
                    row.sale, of: &target,
                    isSuperseded: evidence.superseded.contains(row.sale.id))
            if let target { targets[key]?.target = target }
            batch.add(row, verdict, targets[key])
        }
    }
}

/// The verdicts of one run on their way into rows.
struct Batch {
    let now: Timestamp
    var standings: [EntityID: InfluencerStanding] = [:]
    var results = BatchResults()
    var summary = RunSummary()

    init(now: Timestamp) { self.now = now }

    private func row(_ due: DueSale, _ status: String, _ reason: String?, _ decision: String)
        -> SaleRows.Row
    {
        SaleRows.Row(
            merchantID: due.sale.merchantID, id: due.sale.id, createdAt: due.sale.receivedAt,
            status: status, reason: reason, decision: decision,
            exponent: due.sale.amount.currency.exponent)
    }

    private func soon(_ due: DueSale) -> Timestamp {
        now.advanced(
            byMicroseconds: Attribution.retryMicroseconds(receivedAt: due.sale.receivedAt, now: now)
        )
    }

    /// Leaves a sale pending, with its reason, for a later run.
    private mutating func postpone(_ due: DueSale, _ reason: String, _ decision: String) {
        var row = row(due, "pending", reason, decision)
        row.dueAt = soon(due)
        results.sales.rows.append(row)
    }

    mutating func add(_ due: DueSale, _ verdict: Verdict, _ evidence: Evidence) {
        summary.taken += 1
        let decision = Attribution.explanation(of: verdict, due.sale, evidence)
        switch verdict {
        case .wait(let reason):
            summary.waiting += 1
            postpone(due, reason, decision)
        case .hold(let reason):
            summary.held += 1
            postpone(due, reason, decision)
        case .park(let reason):
            summary.parked += 1
            results.sales.rows.append(row(due, "pending", reason, decision))
        case .reject(let reason):
            summary.rejected += 1
            results.sales.rows.append(row(due, "rejected", reason, decision))
        case .complete(let completion):
            summary.completed += 1
            add(completion, row(due, "completed", completion.unpaidReason, decision), due)
            if case .landed(let click) = evidence.click {
                let weight = completion.attribution.kind == .click ? Limits.partsPerMillion : 0
                results.touchpoints.rows.append(
                    TouchpointRows.Row(
                        merchantID: due.sale.merchantID, saleID: due.sale.id, click: click,
                        weightPPM: weight))
            }
        }
    }

    private mutating func add(_ completion: Completion, _ base: SaleRows.Row, _ due: DueSale) {
        var row = base
        row.attribution = completion.attribution.kind.rawValue
        row.influencerID = completion.attribution.influencerID
        row.linkID = completion.attribution.linkID
        row.commissionMinor = completion.commission?.amountMinor ?? 0
        row.feeMinor = completion.feeMinor
        results.superseding.append(
            (due.sale.merchantID, due.sale.orderID, due.sale.event.name, due.refundID))
        results.entries += completion.entries
        if let commission = completion.commission {
            summary.commissions += 1
            let obstacle = PayableGate.obstacle(
                isVerified: due.sale.isVerified, doubt: commission.doubt,
                standing: standings[commission.influencerID], holdUntil: commission.holdUntil,
                now: now)
            results.commissions.rows.append(
                CommissionRows.Row(
                    id: commission.id, merchantID: due.sale.merchantID, saleID: due.sale.id,
                    influencerID: commission.influencerID, amountMinor: commission.amountMinor,
                    status: obstacle == nil ? "approved" : "pending", isPayable: obstacle == nil,
                    holdUntil: commission.holdUntil, ruleID: commission.ruleID, reverses: nil,
                    terms: commission.terms, reason: obstacle))
            if obstacle == nil {
                summary.released += 1
                if let release = LedgerEntry.release(
                    commission: commission.id, merchant: due.sale.merchantID,
                    influencer: commission.influencerID, amountMinor: commission.amountMinor,
                    currency: commission.terms.currency)
                {
                    results.entries.append(release)
                }
            }
        }
        results.sales.rows.append(row)
    }

    mutating func add(_ due: DueSale, _ verdict: RefundVerdict, _ locked: LockedTarget?) {
        summary.taken += 1
        let decision = Attribution.explanation(of: verdict)
        switch verdict {
        case .wait(let reason):
            summary.waiting += 1
            postpone(due, reason, decision)
        case .park(let reason):
            summary.parked += 1
            results.sales.rows.append(row(due, "pending", reason, decision))
        case .reject(let reason):
            summary.rejected += 1
            results.sales.rows.append(row(due, "rejected", reason, decision))
        case .apply(let applied):
            summary.completed += 1
            var row = row(due, "completed", nil, decision)
            row.amountMinor = applied.amountMinor
            row.attribution = locked?.attribution
            row.influencerID = locked?.influencerID
            row.linkID = locked?.linkID
            row.commissionMinor = -applied.reversals.reduce(0) { $0 + $1.amountMinor }
            row.feeMinor = -applied.reversals.reduce(0) { $0 + $1.feeMinor }
            results.sales.rows.append(row)
            results.entries += applied.entries
            results.superseding.append(
                (due.sale.merchantID, due.sale.orderID, due.sale.event.name, due.refundID))
            if applied.isWhole {
                results.refunded.append((due.sale.merchantID, applied.saleID))
            }
            for reversal in applied.reversals { add(reversal, of: applied, due) }
        }
    }

    private mutating func add(_ reversal: Reversal, of applied: AppliedRefund, _ due: DueSale) {
        if reversal.isWhole { results.reversed.append((due.sale.merchantID, reversal.reverses)) }
        guard reversal.amountMinor > 0 else { return }
        results.commissions.rows.append(
            CommissionRows.Row(
                id: reversal.id, merchantID: due.sale.merchantID, saleID: applied.saleID,
                influencerID: reversal.influencerID, amountMinor: -reversal.amountMinor,
                status: "reversed", isPayable: reversal.isReleased, holdUntil: nil, ruleID: nil,
                reverses: reversal.reverses, terms: reversal.terms, reason: "refund"))
    }
}
