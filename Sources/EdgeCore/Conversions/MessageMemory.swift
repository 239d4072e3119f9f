// The signed messages of the last ten minutes, so that an id is not used for two bodies.
public import Tracking

/// A signed message as far as ``MessageMemory`` needs it.
public struct SignedMessage: Hashable, Sendable, BitwiseCopyable {
    /// 128 bits of a digest over merchant and message id.
    public let key: EntityID
    /// 128 bits of the body's digest.
    public let body: EntityID

    /// A message by its parts.
    public init(merchantID: EntityID, messageID: [UInt8], digest: [UInt8], digests: some Digests) {
        key = digests.sha256(merchantID.bytes + messageID)
            .withUnsafeBytes { EntityID(bigEndianBytes: $0) }
        let padded = digest + [UInt8](repeating: 0, count: max(0, 16 - digest.count))
        body = padded.withUnsafeBytes { EntityID(bigEndianBytes: $0) }
    }

    /// The message that a stored conversion came in; nil when it was not a signed POST.
    ///
    /// For filling the memory after a restart.
    public init?(_ record: ConversionRecord, digests: some Digests) {
        guard let messageID = record.messageID, !record.messageDigest.isEmpty else { return nil }
        self.init(
            merchantID: record.merchantID, messageID: messageID, digest: record.messageDigest,
            digests: digests)
    }
}

/// Remembers signed messages for ten minutes in bounded memory.
///
/// Two generations: a message is remembered in the younger one and forgotten with the older one.
/// When more come than fit, the oldest half is forgotten early; the database then finds the reuse.
/// Not synchronised: its owner is one thread, or a lock.
public struct MessageMemory: Sendable {
    /// What is known of a message.
    public enum Answer: Sendable {
        /// Its id was not seen in the last ten minutes.
        case new
        /// It was seen, with the same body.
        case same
        /// Its id was seen with another body.
        case different
    }

    /// How long a message is remembered.
    public static let spanMicroseconds: Int64 = 600_000_000
    /// Messages in each generation unless said otherwise.
    public static let defaultCapacity = 65_536

    private struct Sighting {
        var body: EntityID
        var at: Timestamp
    }

    private let capacity: Int
    private var young: [EntityID: Sighting] = [:]
    private var old: [EntityID: Sighting] = [:]
    private var rotatedAt: Timestamp?

    /// An empty memory for at most twice `capacity` messages.
    public init(capacity: Int = defaultCapacity) { self.capacity = max(1, capacity) }

    /// Messages that are held now.
    public var count: Int { young.count + old.count }

    /// Tells what is known of a message and remembers it, unless its id is taken by another body.
    /// - Complexity: O(1).
    public mutating func admit(_ message: SignedMessage, at now: Timestamp) -> Answer {
        rotate(at: now)
        var answer = Answer.new
        if let seen = young[message.key] ?? old[message.key],
            now.microseconds - seen.at.microseconds <= MessageMemory.spanMicroseconds
        {
            guard seen.body == message.body else { return .different }
            answer = .same
        }
        young[message.key] = Sighting(body: message.body, at: now)
        return answer
    }

    private mutating func rotate(at now: Timestamp) {
        let since = rotatedAt ?? now
        if rotatedAt == nil { rotatedAt = now }
        guard
            young.count >= capacity
                || now.microseconds - since.microseconds > MessageMemory.spanMicroseconds
        else { return }
        old = young
        young = [:]
        rotatedAt = now
    }
}
