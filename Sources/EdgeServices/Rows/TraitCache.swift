// Remembers what user agents and sources were classified as, so that a batch classifies each once.
internal import Tracking

/// A bounded, two-way memory of small values by keyed hash; a newcomer replaces what it
/// meets.
///
/// The key is secret, so that nobody can make two texts share a hash.
struct TraitCache<Value> {
    private struct Entry {
        var hash: UInt64
        var value: Value
    }

    private let key: SipHashKey
    private let slots: Int
    private var entries: [Entry?]

    /// An empty cache; its memory is taken at the first use.
    /// - Precondition: `slots` is a power of two.
    init(key: SipHashKey, slots: Int = FlusherLimits.traitSlots) {
        precondition(slots.nonzeroBitCount == 1)
        self.key = key
        self.slots = slots
        entries = []
    }

    /// The hash of a text under the cache's key, for combining.
    func hash(_ text: UnsafeRawBufferPointer) -> UInt64 { SipHash24.hash(text, key: key) }

    /// The remembered value of a hash, or what `classify` makes of it.
    mutating func value(of hash: UInt64, _ classify: () -> Value) -> Value {
        if entries.isEmpty { entries = Array(repeating: nil, count: slots) }
        // Two places for each hash: two texts that meet do not drive each other out.
        let first = Int(truncatingIfNeeded: hash) & (slots - 1)
        if let entry = entries[first], entry.hash == hash { return entry.value }
        let second = first ^ 1
        if let entry = entries[second], entry.hash == hash { return entry.value }
        let value = classify()
        let usesFirst = entries[first] == nil || entries[second] != nil && hash >> 63 == 0
        entries[usesFirst ? first : second] = Entry(hash: hash, value: value)
        return value
    }
}
