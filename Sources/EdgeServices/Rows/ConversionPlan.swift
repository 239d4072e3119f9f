// What a batch of conversion messages does to the tables: pure, from the records and from what the
// database says of their keys.
internal import Tracking

/// The key under which an order can have one sale: `sale_keys`.
struct SaleKey: Hashable, Comparable {
    /// The merchant.
    var merchant: EntityID
    /// The event's word.
    var event: String
    /// The order, as bytes.
    var order: [UInt8]
    /// The refund; empty for none.
    var refund: [UInt8]

    /// The key of a message.
    init(_ record: ConversionRecord) {
        merchant = record.merchantID
        event = record.event.name
        order = record.orderID
        refund = record.refundID
    }

    /// A key by its parts.
    init(merchant: EntityID, event: String, order: [UInt8], refund: [UInt8]) {
        self.merchant = merchant
        self.event = event
        self.order = order
        self.refund = refund
    }

    /// One order for every writer, so that two cannot wait for each other.
    static func < (left: SaleKey, right: SaleKey) -> Bool {
        if left.merchant != right.merchant { return left.merchant < right.merchant }
        if left.event != right.event { return left.event < right.event }
        if left.order != right.order { return left.order.lexicographicallyPrecedes(right.order) }
        return left.refund.lexicographicallyPrecedes(right.refund)
    }
}

/// The key of a signed message: `message_digests`.
struct MessageKey: Hashable, Comparable {
    /// The merchant.
    var merchant: EntityID
    /// The message's id.
    var message: [UInt8]

    /// The key of a signed message; nil for one without id or digest.
    init?(_ record: ConversionRecord) {
        guard record.flags.contains(.verified), let message = record.messageID, !message.isEmpty,
            !record.messageDigest.isEmpty
        else { return nil }
        merchant = record.merchantID
        self.message = message
    }

    /// A key by its parts.
    init(merchant: EntityID, message: [UInt8]) {
        self.merchant = merchant
        self.message = message
    }

    /// One order for every writer.
    static func < (left: MessageKey, right: MessageKey) -> Bool {
        left.merchant != right.merchant
            ? left.merchant < right.merchant
            : left.message.lexicographicallyPrecedes(right.message)
    }
}

/// What of a stored sale a later message for the same key is compared with.
struct SaleContent: Equatable {
    /// Minor units; nil when no amount was given.
    var amountMinor: Int64?
    /// The currency's letters.
    var currency: String
    /// What the merchant said of it.
    var reported: String
    /// The click it named.
    var click: ClickID?
    /// The coupon it named.
    var coupon: [UInt8]?
    /// The customer it named.
    var customer: [UInt8]?

    /// The content of a message.
    init(_ record: ConversionRecord) {
        amountMinor = record.flags.contains(.hasAmount) ? record.amountMinor : nil
        currency = record.currency.letters
        reported = record.status.name
        click = record.clickID
        coupon = record.couponCode
        customer = record.customerID
    }

    /// Content by its parts.
    init(
        amountMinor: Int64?, currency: String, reported: String, click: ClickID?, coupon: [UInt8]?,
        customer: [UInt8]?
    ) {
        self.amountMinor = amountMinor
        self.currency = currency
        self.reported = reported
        self.click = click
        self.coupon = coupon
        self.customer = customer
    }

    /// The first field in which another message differs; nil when it says the same.
    func firstDifference(from other: SaleContent) -> String? {
        if amountMinor != other.amountMinor { return "amount" }
        if currency != other.currency { return "currency" }
        if click != other.click { return "click_id" }
        if coupon != other.coupon { return "coupon_code" }
        if customer != other.customer { return "customer_id" }
        if reported != other.reported { return "status" }
        return nil
    }
}

/// What the tables get from one batch of conversion messages.
struct ConversionPlan {
    /// What the database says of the batch's keys, read in its transaction.
    struct Facts {
        /// Keys that this transaction took.
        var taken: Set<SaleKey> = []
        /// What stands under the keys that were there before.
        var stored: [SaleKey: SaleContent] = [:]
        /// The digest that each message id stands for.
        var digests: [MessageKey: [UInt8]] = [:]
        /// Claims that this transaction brought in for the first time.
        var newClaims: Set<EntityID> = []
    }

    /// One row of `sales`.
    struct Sale {
        /// The message.
        var record: ConversionRecord
        /// `sales.status`.
        var status: String
        /// `sales.reason`.
        var reason: String?
    }

    /// One line of the intake log.
    struct Remark: Equatable {
        /// The message that it is about.
        var merchant: EntityID
        var order: [UInt8]
        var channel: String
        var receivedAt: Timestamp
        /// The field at fault.
        var field: String
        /// What was wrong.
        var reason: String
    }

    /// A merchant's later word on a sale that it had reported as pending.
    struct Update: Equatable {
        /// The sale.
        var key: SaleKey
        /// `completed` or `rejected`.
        var reported: String
    }

    /// Sales to insert.
    private(set) var sales: [Sale] = []
    /// Keys whose claims are superseded.
    private(set) var superseded: [SaleKey] = []
    /// Lines for the intake log.
    private(set) var remarks: [Remark] = []
    /// Later words on pending sales.
    private(set) var updates: [Update] = []

    private var seen: [SaleKey: SaleContent]
    private let facts: Facts
    private var openKeys: Set<SaleKey>
    private var openClaims: Set<EntityID>

    /// Plans a batch, message by message in the order of the ring.
    init(_ records: [ConversionRecord], facts: Facts) {
        self.facts = facts
        seen = facts.stored
        openKeys = facts.taken
        openClaims = facts.newClaims
        for record in records {
            if record.flags.contains(.verified) { settle(record) } else { claim(record) }
        }
    }

    /// A claim stands beside the order's key and never takes it.
    private mutating func claim(_ record: ConversionRecord) {
        guard openClaims.remove(record.conversionID) != nil else { return }
        if seen[SaleKey(record)] != nil {
            sales.append(Sale(record: record, status: "rejected", reason: "superseded"))
        } else if record.status == .rejected {
            sales.append(Sale(record: record, status: "rejected", reason: "merchant"))
        } else {
            sales.append(Sale(record: record, status: "pending", reason: nil))
        }
    }

    private mutating func settle(_ record: ConversionRecord) {
        let key = SaleKey(record)
        var isReuse = false
        if let message = MessageKey(record), let digest = facts.digests[message] {
            isReuse = digest != record.messageDigest
        }
        if openKeys.remove(key) != nil {
            seen[key] = SaleContent(record)
            if isReuse {
                sales.append(Sale(record: record, status: "rejected", reason: "message_id_reuse"))
                return
            }
            superseded.append(key)
            let isRejected = record.status == .rejected
            sales.append(
                Sale(
                    record: record, status: isRejected ? "rejected" : "pending",
                    reason: isRejected ? "merchant" : nil))
            return
        }
        if isReuse { return remark(record, field: "webhook-id", reason: "message_id_reuse") }
        guard let stored = seen[key] else {
            // The key is there and its sale is not: a partition was dropped. Nothing to compare
            // with.
            return remark(record, field: "order_id", reason: "sale_not_found")
        }
        compare(record, with: stored, key: key)
    }

    /// The stored row is compared, never silently believed; and never replaced.
    private mutating func compare(
        _ record: ConversionRecord, with stored: SaleContent, key: SaleKey
    ) {
        let content = SaleContent(record)
        guard let field = stored.firstDifference(from: content) else { return }
        let isLaterWord =
            field == "status" && stored.reported == ConversionStatus.pending.name
        guard isLaterWord else {
            return remark(record, field: field, reason: "conflicting_message")
        }
        seen[key] = content
        updates.append(Update(key: key, reported: content.reported))
    }

    private mutating func remark(_ record: ConversionRecord, field: String, reason: String) {
        remarks.append(
            Remark(
                merchant: record.merchantID, order: record.orderID, channel: record.channel.name,
                receivedAt: record.receivedAt, field: field, reason: reason))
    }
}
