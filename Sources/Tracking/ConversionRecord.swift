// The payloads of conversion and refusal records, version 1 (docs/formats/records.md). Not on the
// click path, so texts are owned bytes here.

/// One accepted conversion message.
public struct ConversionRecord: Equatable, Sendable {
    /// Facts that are one bit each.
    public struct Flags: OptionSet, Sendable {
        /// The bits as stored.
        public let rawValue: UInt8
        /// Flags by their bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Proved by a signature or the merchant's token.
        public static let verified = Flags(rawValue: 1)
        /// Proved by the merchant's `postback_token`, the legacy way.
        public static let legacyToken = Flags(rawValue: 2)
        /// `amountMinor` was given (a refund without it takes back all that is left).
        public static let hasAmount = Flags(rawValue: 4)
        /// `eventTime` was given by the merchant, not taken from the receipt.
        public static let hasEventTime = Flags(rawValue: 8)
        /// `currency` was given by the merchant, not taken from its settings.
        public static let hasCurrency = Flags(rawValue: 16)
    }

    /// This format's version.
    public static let version: UInt8 = 1
    /// Tokens in a `click_path`.
    public static let maximumPath = 20
    /// Bytes of the largest record: the fixed part, ten texts of 255 bytes, a full path and 64 KiB of items.
    public static let maximumBytes = 128 + 10 * 257 + maximumPath * 8 + 4 + 65_536

    /// Facts that are one bit each.
    public var flags: Flags
    /// What happened.
    public var event: ConversionEvent
    /// What the merchant says of it.
    public var status: ConversionStatus
    /// How the message came in.
    public var channel: ConversionChannel
    /// The UUIDv5 that names the conversion on every node (contract, 4).
    public var conversionID: EntityID
    /// The merchant that reports it.
    public var merchantID: EntityID
    /// When the message was received: `sales.created_at`.
    public var receivedAt: Timestamp
    /// When the merchant says that it happened; the receipt when it does not say.
    public var eventTime: Timestamp
    /// The amount in minor units of `currency`; 0 when not given.
    public var amountMinor: Int64
    /// The currency.
    public var currency: Currency
    /// The click that the verified token names.
    public var clickID: ClickID?
    /// SHA-256 of the signed message; 32 bytes, or empty when unsigned.
    public var messageDigest: [UInt8]
    /// The merchant's order, the idempotency key.
    public var orderID: [UInt8]
    /// One of several refunds; empty for the first.
    public var refundID: [UInt8]
    /// The coupon; nil when none was sent.
    public var couponCode: [UInt8]?
    /// The merchant's customer.
    public var customerID: [UInt8]?
    /// The id of a signed message.
    public var messageID: [UInt8]?
    /// `adv1`…`adv5`; always five elements.
    public var advertiserFields: [[UInt8]?]
    /// The verified clicks of `click_path`, oldest first.
    public var clickPath: [ClickID]
    /// The `items` JSON as sent; empty for none.
    public var items: [UInt8]

    /// A conversion with the required fields; the rest empty.
    public init(
        conversionID: EntityID, merchantID: EntityID, event: ConversionEvent,
        status: ConversionStatus,
        channel: ConversionChannel, flags: Flags, receivedAt: Timestamp, eventTime: Timestamp,
        amountMinor: Int64, currency: Currency, orderID: [UInt8]
    ) {
        self.flags = flags
        self.event = event
        self.status = status
        self.channel = channel
        self.conversionID = conversionID
        self.merchantID = merchantID
        self.receivedAt = receivedAt
        self.eventTime = eventTime
        self.amountMinor = amountMinor
        self.currency = currency
        self.orderID = orderID
        messageDigest = []
        refundID = []
        advertiserFields = [nil, nil, nil, nil, nil]
        clickPath = []
        items = []
    }

    /// Writes the payload.
    /// - Precondition: `buffer` holds ``maximumBytes``; texts are within the contract's limits.
    /// - Returns: Bytes written.
    public func write(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        precondition(advertiserFields.count == 5 && clickPath.count <= ConversionRecord.maximumPath)
        precondition(messageDigest.isEmpty || messageDigest.count == 32)
        var writer = RecordWriter(buffer)
        writer.append(ConversionRecord.version)
        writer.append(flags.rawValue)
        writer.append(event.rawValue)
        writer.append(status.rawValue)
        writer.append(channel.rawValue)
        writer.append(UInt8(clickPath.count))
        writer.append(UInt8(messageDigest.isEmpty ? 0 : 1))
        writer.append(UInt8(0))
        writer.append(conversionID)
        writer.append(merchantID)
        writer.append(receivedAt.microseconds)
        writer.append(eventTime.microseconds)
        writer.append(amountMinor)
        writer.append(clickID?.rawValue ?? UInt64.max)
        writer.append(currency.code)
        writer.append(UInt32(0))
        for index in 0..<32 { writer.append(messageDigest.isEmpty ? 0 : messageDigest[index]) }
        for text in [orderID, refundID, couponCode, customerID, messageID] + advertiserFields {
            writer.append(optional: text)
        }
        for click in clickPath { writer.append(click.rawValue) }
        writer.append(UInt32(items.count))
        items.withUnsafeBytes { writer.append(bytes: $0) }
        return writer.count
    }

    /// Reads a payload; nil when it is of another version, breaks off, or holds an unknown word.
    public init?(payload bytes: UnsafeRawBufferPointer) {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == ConversionRecord.version,
            let flags = reader.integer(UInt8.self),
            let event = reader.integer(UInt8.self).flatMap(ConversionEvent.init),
            let status = reader.integer(UInt8.self).flatMap(ConversionStatus.init),
            let channel = reader.integer(UInt8.self).flatMap(ConversionChannel.init),
            let pathCount = reader.integer(UInt8.self), pathCount <= ConversionRecord.maximumPath,
            let hasDigest = reader.integer(UInt8.self), reader.take(1) != nil,
            let conversionID = reader.entityID(), let merchantID = reader.entityID(),
            let receivedAt = reader.integer(Int64.self), let eventTime = reader.integer(Int64.self),
            let amountMinor = reader.integer(Int64.self), let click = reader.integer(UInt64.self),
            let currency = reader.integer(UInt32.self).flatMap(Currency.init(packed:)),
            reader.take(4) != nil, let digest = reader.take(32)
        else { return nil }
        var texts: [[UInt8]?] = []
        for _ in 0..<10 {
            guard let text = reader.text() else { return nil }
            texts.append(text.map(Array.init))
        }
        guard let orderID = texts[0], let refundID = texts[1] else { return nil }
        self.init(
            conversionID: conversionID, merchantID: merchantID, event: event, status: status,
            channel: channel, flags: Flags(rawValue: flags),
            receivedAt: Timestamp(microseconds: receivedAt),
            eventTime: Timestamp(microseconds: eventTime), amountMinor: amountMinor,
            currency: currency, orderID: orderID)
        self.refundID = refundID
        couponCode = texts[2]
        customerID = texts[3]
        messageID = texts[4]
        advertiserFields = Array(texts[5..<10])
        clickID = ClickID(rawValue: click)
        messageDigest = hasDigest == 1 ? Array(digest) : []
        for _ in 0..<Int(pathCount) {
            guard let id = reader.integer(UInt64.self).flatMap(ClickID.init(rawValue:)) else {
                return nil
            }
            clickPath.append(id)
        }
        guard let itemBytes = reader.integer(UInt32.self), let items = reader.take(Int(itemBytes))
        else {
            return nil
        }
        self.items = Array(items)
    }
}

extension RecordWriter {
    /// Appends an owned text, or the mark of an absent one.
    public mutating func append(optional text: [UInt8]?) {
        guard let text else { return appendAbsentText() }
        text.withUnsafeBytes { append(text: $0, limit: 255) }
    }
}

/// One refused conversion message, for the intake log.
public struct RefusalRecord: Equatable, Sendable {
    /// This format's version.
    public static let version: UInt8 = 1
    /// Bytes of the largest record.
    public static let maximumBytes = 32 + 4 * 257

    /// When the message was received.
    public var receivedAt: Timestamp
    /// The merchant it named; zero when it named none that parses.
    public var merchantID: EntityID
    /// How it came in.
    public var channel: ConversionChannel
    /// The HTTP status that was decided (a pixel answers 200 all the same).
    public var httpStatus: UInt16
    /// The field at fault.
    public var field: [UInt8]
    /// What was wrong with it, in one word such as `forged_token`.
    public var reason: [UInt8]
    /// The order it named, if any.
    public var orderID: [UInt8]?

    /// A refusal.
    public init(
        receivedAt: Timestamp, merchantID: EntityID, channel: ConversionChannel, httpStatus: UInt16,
        field: [UInt8], reason: [UInt8], orderID: [UInt8]?
    ) {
        self.receivedAt = receivedAt
        self.merchantID = merchantID
        self.channel = channel
        self.httpStatus = httpStatus
        self.field = field
        self.reason = reason
        self.orderID = orderID
    }

    /// Writes the payload.
    /// - Precondition: `buffer` holds ``maximumBytes``.
    public func write(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        var writer = RecordWriter(buffer)
        writer.append(RefusalRecord.version)
        writer.append(channel.rawValue)
        writer.append(httpStatus)
        writer.append(UInt32(0))
        writer.append(receivedAt.microseconds)
        writer.append(merchantID)
        writer.append(optional: field)
        writer.append(optional: reason)
        writer.append(optional: orderID)
        return writer.count
    }

    /// Reads a payload; nil when it is of another version or breaks off.
    public init?(payload bytes: UnsafeRawBufferPointer) {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == RefusalRecord.version,
            let channel = reader.integer(UInt8.self).flatMap(ConversionChannel.init),
            let status = reader.integer(UInt16.self), reader.take(4) != nil,
            let receivedAt = reader.integer(Int64.self), let merchantID = reader.entityID(),
            let field = reader.text(), let field, let reason = reader.text(), let reason,
            let orderID = reader.text()
        else { return nil }
        self.init(
            receivedAt: Timestamp(microseconds: receivedAt), merchantID: merchantID,
            channel: channel,
            httpStatus: status, field: Array(field), reason: Array(reason),
            orderID: orderID.map(Array.init))
    }
}
