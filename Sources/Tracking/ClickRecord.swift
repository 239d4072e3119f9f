// The payload of a click record, version 1 (docs/formats/records.md). Written on the event loop,
// read by the flusher.

/// One recorded visit to a link, as views into memory that outlives it: the request when it is
/// written, the spool when it is read.
public struct ClickRecord {
    /// Facts that are one bit each.
    public struct Flags: OptionSet, Sendable {
        /// The bits as stored.
        public let rawValue: UInt8
        /// Flags by their bits.
        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// `address` is IPv6.
        @inlinable public static var ipv6: Flags { Flags(rawValue: 1) }
        /// The visitor sent Global Privacy Control, or asked for `no_track`.
        @inlinable public static var anonymous: Flags { Flags(rawValue: 2) }
        /// The merchant was suspended when the click came.
        @inlinable public static var merchantSuspended: Flags { Flags(rawValue: 4) }
        /// The merchant was over its quota when the click came.
        @inlinable public static var overQuota: Flags { Flags(rawValue: 8) }
        /// The link was opened from a QR code (`qr` parameter).
        @inlinable public static var qr: Flags { Flags(rawValue: 16) }
        /// `address` is present.
        @inlinable public static var hasAddress: Flags { Flags(rawValue: 32) }
        /// The fetch metadata or method tells that this was no navigation.
        @inlinable public static var nonNavigational: Flags { Flags(rawValue: 64) }
    }

    /// This format's version.
    public static let version: UInt8 = 1
    /// Bytes before the first text.
    public static let fixedBytes = 96
    /// Sub-ids in a record.
    public static let maximumSubIDs = 10
    /// Text limits in bytes; longer texts are cut.
    public static let maximumUserAgentBytes = 512
    /// The limit of most texts in bytes.
    public static let maximumTextBytes = 255
    /// Bytes of the largest record.
    public static let maximumBytes =
        fixedBytes + 2 + maximumUserAgentBytes + (7 + maximumSubIDs) * (2 + maximumTextBytes)

    /// Facts that are one bit each.
    public var flags: Flags = []
    /// Why the click does not count, as ``InvalidReason`` raw value; 0 when it does.
    public var invalidReason: UInt8 = 0
    /// The click's identity.
    public var clickID: ClickID
    /// The link that was followed.
    public var linkID: EntityID
    /// The link's merchant.
    public var merchantID: EntityID
    /// The link's influencer.
    public var influencerID: EntityID
    /// The day's visitor identity, 63 bits; 0 for none.
    public var visitorID: UInt64 = 0
    /// The address as the privacy setting lets it be stored: its 16 bytes in network order as they
    /// lie in the record, read as two little-endian words; IPv4 in the first four bytes.
    public var address: (UInt64, UInt64) = (0, 0)
    /// ISO 3166 letters, first letter in the low byte; 0 for none.
    public var country: UInt16 = 0
    /// The GeoNames identity of the city; 0 for none.
    public var cityID: UInt32 = 0
    /// The User-Agent header; empty when there was none.
    public var userAgent = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The host of the Referer header.
    public var referrerHost = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The first language tag of Accept-Language.
    public var language = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The `utm_source` of the request.
    public var utmSource = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The partner's own click ID (`aff_click_id`).
    public var affiliateClickID = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The partner's sub-source (`source_id`).
    public var sourceID = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The arm of a split that was served.
    public var variant = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The ISO 3166-2 region.
    public var region = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Sub-ids 1...10; a nil base address is an absent one.
    public var subIDs = InlineArray<10, UnsafeRawBufferPointer>(
        repeating: UnsafeRawBufferPointer(start: nil, count: 0))
    /// The number of the last sub-id that is present, 0 when none is.
    public var subIDCount = 0

    /// A click of a link; all else empty.
    public init(clickID: ClickID, linkID: EntityID, merchantID: EntityID, influencerID: EntityID) {
        self.clickID = clickID
        self.linkID = linkID
        self.merchantID = merchantID
        self.influencerID = influencerID
    }

    /// Writes the payload.
    ///
    /// Mutating, so that so large a value is passed by its place; it is not changed.
    ///
    /// - Precondition: `buffer` holds ``maximumBytes``.
    /// - Returns: Bytes written.
    /// - Complexity: O(n); no allocation.
    @inline(__always) public mutating func write(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        var writer = RecordWriter(buffer)
        writer.append(ClickRecord.version)
        writer.append(flags.rawValue)
        writer.append(invalidReason)
        writer.append(UInt8(subIDCount))
        writer.append(cityID)
        writer.append(clickID.rawValue)
        writer.append(linkID)
        writer.append(merchantID)
        writer.append(influencerID)
        writer.append(visitorID)
        writer.append(address.0)
        writer.append(address.1)
        writer.append(country)
        writer.append(UInt16(0))
        writer.append(UInt32(0))
        writer.append(text: userAgent, limit: ClickRecord.maximumUserAgentBytes)
        writer.append(text: referrerHost, limit: ClickRecord.maximumTextBytes)
        writer.append(text: language, limit: ClickRecord.maximumTextBytes)
        writer.append(text: utmSource, limit: ClickRecord.maximumTextBytes)
        writer.append(text: affiliateClickID, limit: ClickRecord.maximumTextBytes)
        writer.append(text: sourceID, limit: ClickRecord.maximumTextBytes)
        writer.append(text: variant, limit: ClickRecord.maximumTextBytes)
        writer.append(text: region, limit: ClickRecord.maximumTextBytes)
        for index in 0..<subIDCount {
            if subIDs[index].baseAddress == nil {
                writer.appendAbsentText()
            } else {
                writer.append(text: subIDs[index], limit: ClickRecord.maximumTextBytes)
            }
        }
        return writer.count
    }

    /// Reads a payload; nil when it is of another version or breaks off.
    /// - Complexity: O(fields); no allocation. The texts are views into `bytes`.
    public init?(payload bytes: UnsafeRawBufferPointer) {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == ClickRecord.version,
            let flags = reader.integer(UInt8.self), let reason = reader.integer(UInt8.self),
            let subIDCount = reader.integer(UInt8.self), subIDCount <= ClickRecord.maximumSubIDs,
            let cityID = reader.integer(UInt32.self),
            let id = reader.integer(UInt64.self), let clickID = ClickID(rawValue: id),
            let linkID = reader.entityID(), let merchantID = reader.entityID(),
            let influencerID = reader.entityID(), let visitorID = reader.integer(UInt64.self),
            let address0 = reader.integer(UInt64.self), let address1 = reader.integer(UInt64.self),
            let country = reader.integer(UInt16.self), reader.take(6) != nil
        else { return nil }
        self.init(
            clickID: clickID, linkID: linkID, merchantID: merchantID, influencerID: influencerID)
        self.flags = Flags(rawValue: flags)
        invalidReason = reason
        self.cityID = cityID
        self.visitorID = visitorID
        address = (address0, address1)
        self.country = country
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        guard let userAgent = reader.text(), let referrerHost = reader.text(),
            let language = reader.text(), let utmSource = reader.text(),
            let affiliateClickID = reader.text(), let sourceID = reader.text(),
            let variant = reader.text(), let region = reader.text()
        else { return nil }
        self.userAgent = userAgent ?? none
        self.referrerHost = referrerHost ?? none
        self.language = language ?? none
        self.utmSource = utmSource ?? none
        self.affiliateClickID = affiliateClickID ?? none
        self.sourceID = sourceID ?? none
        self.variant = variant ?? none
        self.region = region ?? none
        for index in 0..<Int(subIDCount) {
            guard let text = reader.text() else { return nil }
            subIDs[index] = text ?? none
        }
        self.subIDCount = Int(subIDCount)
    }
}
