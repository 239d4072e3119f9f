// Remembers what user agents and sources were classified as, so that a batch classifies each once.
internal import Tracking

/// A bounded, direct-mapped memory of small values by keyed hash; a newcomer replaces what it
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
        let index = Int(truncatingIfNeeded: hash) & (slots - 1)
        if let entry = entries[index], entry.hash == hash { return entry.value }
        let value = classify()
        entries[index] = Entry(hash: hash, value: value)
        return value
    }
}
