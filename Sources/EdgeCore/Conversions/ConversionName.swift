// The identity of a conversion: the same on every node, without a look-up (contract, 4).
public import Tracking

/// What a `conversion_id` is made of.
public struct ConversionName: Sendable {
    /// What happened.
    public var event: ConversionEvent
    /// The merchant's order.
    public var orderID: [UInt8]
    /// One of several refunds; empty for none.
    public var refundID: [UInt8]
    /// A claim's click token as sent, empty when it names none; nil for a verified message.
    public var claimedToken: [UInt8]?

    /// A name by its parts.
    public init(
        event: ConversionEvent, orderID: [UInt8], refundID: [UInt8] = [],
        claimedToken: [UInt8]? = nil
    ) {
        self.event = event
        self.orderID = orderID
        self.refundID = refundID
        self.claimedToken = claimedToken
    }

    /// The UUIDv5 of the name in the merchant's namespace (RFC 9562, 5.5).
    ///
    /// No part holds a line feed, so that no two names are written alike.
    public func id(of merchant: EntityID, digests: some Digests) -> EntityID {
        let feed = [UInt8(ascii: "\n")]
        var name = Array(event.name.utf8) + feed + orderID
        if let claimedToken {
            name = Array("claim".utf8) + feed + name + feed + claimedToken
        } else if !refundID.isEmpty {
            name += feed + refundID
        }
        let digest = digests.sha1(merchant.bytes + name)
        return digest.withUnsafeBytes { EntityID(bigEndianBytes: $0) }.stamped(version: 5)
    }
}
