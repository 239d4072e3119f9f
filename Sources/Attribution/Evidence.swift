// What a decision looks at: the conversion, the candidate clicks, the settings.
public import Tracking

/// One line of a sale's basket.
public struct SaleItem: Equatable, Sendable {
    /// The merchant's article.
    public var sku: String?
    /// The merchant's category.
    public var category: String?
    /// How many, at least 1.
    public var quantity: Int64
    /// The price of one, in minor units of the sale's currency.
    public var priceMinor: Int64

    /// A line.
    public init(sku: String?, category: String?, quantity: Int64, priceMinor: Int64) {
        self.sku = sku
        self.category = category
        self.quantity = quantity
        self.priceMinor = priceMinor
    }
}

/// A conversion as it lies in `sales`, waiting for its decision.
public struct Sale: Equatable, Sendable {
    /// `sales.id`, the conversion's identity.
    public var id: EntityID
    /// Who sold.
    public var merchantID: EntityID
    /// What happened.
    public var event: ConversionEvent
    /// What the merchant says of it.
    public var reported: ConversionStatus
    /// Proved by a signature or the merchant's token.
    public var isVerified: Bool
    /// The merchant's order.
    public var orderID: String
    /// The amount; zero when there is none.
    public var amount: Money
    /// Whether the merchant gave an amount.
    public var hasAmount: Bool
    /// When it happened: windows and rules are judged then.
    public var eventTime: Timestamp
    /// When the message came: `sales.created_at`.
    public var receivedAt: Timestamp
    /// The click that the verified token names.
    public var clickID: ClickID?
    /// The coupon.
    public var couponCode: String?
    /// The merchant's customer.
    public var customerID: String?
    /// The basket.
    public var items: [SaleItem]

    /// A conversion with what every one has; the rest empty.
    public init(
        id: EntityID, merchantID: EntityID, event: ConversionEvent, reported: ConversionStatus,
        isVerified: Bool, orderID: String, amount: Money, hasAmount: Bool, eventTime: Timestamp,
        receivedAt: Timestamp
    ) {
        self.id = id
        self.merchantID = merchantID
        self.event = event
        self.reported = reported
        self.isVerified = isVerified
        self.orderID = orderID
        self.amount = amount
        self.hasAmount = hasAmount
        self.eventTime = eventTime
        self.receivedAt = receivedAt
        items = []
    }
}

/// A click as the database has it.
public struct CandidateClick: Equatable, Sendable {
    /// Its identity; its time is in it.
    public var id: ClickID
    /// The link that was followed.
    public var linkID: EntityID
    /// Whose link it is.
    public var influencerID: EntityID
    /// Whose shop it led to.
    public var merchantID: EntityID
    /// A known bot.
    public var isBot: Bool
    /// Why it was not counted.
    public var invalidReason: InvalidReason?

    /// A click.
    public init(
        id: ClickID, linkID: EntityID, influencerID: EntityID, merchantID: EntityID,
        isBot: Bool = false, invalidReason: InvalidReason? = nil
    ) {
        self.id = id
        self.linkID = linkID
        self.influencerID = influencerID
        self.merchantID = merchantID
        self.isBot = isBot
        self.invalidReason = invalidReason
    }
}

/// A row of `ingest_cursors` for clicks.
public struct RingCursor: Equatable, Sendable {
    /// All records of the ring older than this are committed; nil before the first flush.
    public var watermark: Timestamp?
    /// Nothing more will come from it.
    public var isRetired: Bool

    /// A cursor.
    public init(watermark: Timestamp?, isRetired: Bool) {
        self.watermark = watermark
        self.isRetired = isRetired
    }
}

/// Whether the ring that recorded a click has committed all it had at the click's time.
public enum RingProgress: Equatable, Sendable {
    /// No cursor: the ring has never flushed.
    case unknown
    /// Not yet.
    case behind
    /// A click of that time that is not in the database will not come by itself.
    case passed

    /// Judges by all cursors of the ring (one for each life of it).
    ///
    /// A click's time is its millisecond, so the watermark has to reach the end of it.
    public static func judge(_ cursors: [RingCursor], clickedAt: Timestamp) -> RingProgress {
        guard !cursors.isEmpty else { return .unknown }
        let end = clickedAt.advanced(byMicroseconds: 1_000)
        let hasPassed = cursors.allSatisfy { cursor in
            cursor.isRetired || cursor.watermark.map { $0 >= end } ?? false
        }
        return hasPassed ? .passed : .behind
    }
}

/// What the database knows of the click that a sale names.
public enum ClickEvidence: Equatable, Sendable {
    /// The sale names none.
    case notNamed
    /// One row.
    case landed(CandidateClick)
    /// Several rows for one identity, which cannot be.
    case ambiguous
    /// No row, and how far its ring is.
    case missing(RingProgress)
}

/// Who owns the coupon that a sale names.
public struct CouponOwner: Equatable, Sendable {
    /// The influencer.
    public var influencerID: EntityID
    /// The link that its sales count for.
    public var linkID: EntityID?

    /// An owner.
    public init(influencerID: EntityID, linkID: EntityID?) {
        self.influencerID = influencerID
        self.linkID = linkID
    }
}

/// What a customer's first conversion with the merchant says.
public enum CustomerEvidence: Equatable, Sendable {
    /// Nothing known, or the first belongs to nobody.
    case unknown
    /// The first one is not decided yet.
    case undecided
    /// The first one belongs to a partner.
    case first(influencerID: EntityID, linkID: EntityID?, at: Timestamp)
}

/// A merchant's settings.
public struct MerchantSettings: Equatable, Sendable {
    /// The model it asks for; `last_click` decides here.
    public var model: String
    /// How old a click may be at the event.
    public var lookbackDays: Int32
    /// How long a commission is held after the event.
    public var holdDays: Int32
    /// The platform's fee, in parts per million of the commission, on top of it.
    public var platformFeePPM: Int32

    /// Settings; days and parts out of range are brought into it.
    public init(model: String, lookbackDays: Int32, holdDays: Int32, platformFeePPM: Int32) {
        self.model = model
        self.lookbackDays = min(max(lookbackDays, 0), Limits.maximumDays)
        self.holdDays = min(max(holdDays, 0), Limits.maximumDays)
        self.platformFeePPM = min(max(platformFeePPM, 0), Limits.partsPerMillion)
    }
}

/// Everything that the database knows about one sale.
public struct Evidence: Sendable {
    /// The merchant's settings; nil when there is no such merchant.
    public var settings: MerchantSettings?
    /// The click.
    public var click: ClickEvidence
    /// The coupon's owner.
    public var coupon: CouponOwner?
    /// The customer's first conversion.
    public var customer: CustomerEvidence
    /// A verified message for the same order and event exists (asked for claims only).
    public var isSuperseded: Bool

    /// Evidence.
    public init(
        settings: MerchantSettings?, click: ClickEvidence = .notNamed, coupon: CouponOwner? = nil,
        customer: CustomerEvidence = .unknown, isSuperseded: Bool = false
    ) {
        self.settings = settings
        self.click = click
        self.coupon = coupon
        self.customer = customer
        self.isSuperseded = isSuperseded
    }
}
