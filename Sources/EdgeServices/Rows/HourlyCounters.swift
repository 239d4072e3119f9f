// The roll-up of one batch: clicks per link and hour, for `link_hours`.
internal import Tracking

/// Counters per link and hour; bounded by the rows of the batch that they count.
struct HourlyCounters {
    /// Which row of `link_hours` (the ring slot is the flusher's own).
    struct Key: Hashable, Comparable {
        /// The merchant.
        var merchant: EntityID
        /// The link.
        var link: EntityID
        /// Hours since 1970.
        var hour: Int32

        /// Takes in what differs; links are random already.
        func hash(into hasher: inout Hasher) {
            hasher.combine(link.low)
            hasher.combine(hour)
        }

        /// The order of the primary key, in which rows are locked.
        static func < (left: Key, right: Key) -> Bool {
            if left.merchant != right.merchant { return left.merchant < right.merchant }
            if left.link != right.link { return left.link < right.link }
            return left.hour < right.hour
        }
    }

    /// What is counted.
    ///
    /// Each click is in exactly one of `clicks`, `bots` and `invalid`.
    struct Counts {
        /// The link's influencer.
        var influencer: EntityID
        /// Valid clicks.
        var clicks: Int64 = 0
        /// Valid clicks that are the first of their visitor that day.
        var unique: Int64 = 0
        /// Clicks of known bots.
        var bots: Int64 = 0
        /// Clicks that do not count for another reason.
        var invalid: Int64 = 0
    }

    /// The counters.
    private(set) var counts: [Key: Counts] = [:]

    /// Nothing counted.
    init() {}

    /// Counts one click.
    mutating func count(
        _ key: Key, influencer: EntityID, isBot: Bool, isInvalid: Bool, isUnique: Bool
    ) {
        // No overflow: one step a row.
        if isBot {
            counts[key, default: Counts(influencer: influencer)].bots &+= 1
        } else if isInvalid {
            counts[key, default: Counts(influencer: influencer)].invalid &+= 1
        } else {
            counts[key, default: Counts(influencer: influencer)].clicks &+= 1
            if isUnique { counts[key]?.unique &+= 1 }
        }
    }

    /// Forgets all; the memory stays.
    mutating func reset() { counts.removeAll(keepingCapacity: true) }

    /// The rows in the order of the primary key.
    var sorted: [(key: Key, value: Counts)] { counts.sorted { $0.key < $1.key } }
}
