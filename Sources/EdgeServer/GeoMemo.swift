// Where addresses are: looked up in the database once, remembered by the loop in a fixed table.
internal import EdgeCore
internal import GeoIP
internal import LinuxIO

/// A loop's memory of look-ups, one entry a slot; a collision looks up again.
///
/// - Note: No allocation after `init`. Entries do not outlive the database that they came from.
struct GeoMemo: ~Copyable {
    static let slots = 4096

    private struct Entry: BitwiseCopyable {
        var address = PeerAddress()
        var isKnown = false
        var location = GeoLocation()
    }

    private let database: GeoDatabase
    private let entries: UnsafeMutablePointer<Entry>

    init(database: GeoDatabase) {
        self.database = database
        entries = .allocate(capacity: GeoMemo.slots)
        entries.initialize(repeating: Entry(), count: GeoMemo.slots)
    }

    deinit { entries.deallocate() }

    /// The place of an address.
    ///
    /// Its region's bytes are valid until the next call.
    mutating func place(of address: PeerAddress) -> ClickPlace {
        // The golden ratio spreads neighbours; only speed depends on it. &* is modulo 2^64 by design.
        let mixed = (address.high ^ address.low &* 31) &* 0x9E37_79B9_7F4A_7C15
        let entry = entries + Int(mixed >> 52)
        if !entry.pointee.isKnown || entry.pointee.address != address {
            entry.pointee.location = database.locate(
                high: address.high, low: address.low, isIPv6: address.isIPv6)
            entry.pointee.address = address
            entry.pointee.isKnown = true
        }
        let location = entry.pointee.location
        let offset =
            MemoryLayout<Entry>.offset(of: \.location.region) ?? MemoryLayout<Entry>.stride
        // The packed region's bytes, lowest first, are its text (the machine is little-endian).
        let region = UnsafeRawBufferPointer(
            start: UnsafeRawPointer(entry) + offset, count: min(location.regionBytes, 4))
        return ClickPlace(country: location.country, cityID: location.cityID, region: region)
    }
}
