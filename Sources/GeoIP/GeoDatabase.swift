// Country, region and city of an address, from a MaxMind database that is held in memory and has been
// checked whole before the first look-up.
internal import CMaxMindDB
internal import LinuxIO

/// Where an address is, as far as the database knows.
public struct GeoLocation: Hashable, Sendable, BitwiseCopyable {
    /// ISO 3166 letters of the country, first letter in the low byte; 0 for none.
    public var country: UInt16 = 0
    /// The region's ISO 3166-2 part behind the country (`IDF`), first byte in the low byte; at most
    /// four letters or digits, 0 for none.
    public var region: UInt32 = 0
    /// The GeoNames identity of the city; 0 for none.
    public var cityID: UInt32 = 0

    /// Nowhere.
    public init() {}

    /// Bytes in ``region``, 0...4, of which its text is made, lowest first.
    public var regionBytes: Int { (32 - region.leadingZeroBitCount + 7) / 8 }

    /// The country's two letters; empty for none.
    public var countryText: String { GeoLocation.text(UInt32(country)) }
    /// The region's text; empty for none.
    public var regionText: String { GeoLocation.text(region) }

    private static func text(_ packed: UInt32) -> String {
        var rest = packed
        var bytes: [UInt8] = []
        while rest != 0 {
            bytes.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Why a database cannot be used.
public struct GeoDatabaseError: Error, Equatable, Sendable {
    /// One line that names the file.
    public let message: String
}

/// An open database.
///
/// `@unchecked Sendable`: after `init` nothing of it is written, and libmaxminddb only reads; it is
/// closed by the last reference's end.
public final class GeoDatabase: @unchecked Sendable {
    /// Limits on what is opened.
    public enum Limits {
        /// Bytes of a file.
        public static let maxFileBytes = 1 << 30
    }

    private let database: UnsafeMutablePointer<MMDB_s>
    /// The database's own name of its kind, such as `GeoLite2-City`.
    public let kind: String
    /// When it was built, seconds since 1970.
    public let builtAtSeconds: Int64

    /// Reads a database into memory and checks every node and every entry of it.
    ///
    /// - Parameter path: An `.mmdb` file with countries or cities.
    /// - Throws: ``GeoDatabaseError`` for a file that is missing, broken or of another kind.
    /// - Complexity: O(file); about a second for a full city database.
    public init(path: String) throws(GeoDatabaseError) {
        let memory = try GeoDatabase.copy(path)
        let database = UnsafeMutablePointer<MMDB_s>.allocate(capacity: 1)
        let status = MMDB_open(memory.descriptorPath, UInt32(MMDB_MODE_MMAP), database)
        guard status == MMDB_SUCCESS else {
            database.deallocate()
            throw GeoDatabaseError(message: "\(path): \(GeoDatabase.reason(status))")
        }
        do throws(GeoDatabaseError) {
            try GeoDatabase.check(database, path)
        } catch {
            MMDB_close(database)
            database.deallocate()
            throw error
        }
        self.database = database
        kind = database.pointee.metadata.database_type.map { String(cString: $0) } ?? ""
        builtAtSeconds = Int64(clamping: database.pointee.metadata.build_epoch)
    }

    deinit {
        MMDB_close(database)
        database.deallocate()
    }

    /// Where an address is.
    ///
    /// - Parameters:
    ///   - high: Bytes 0...7 of the address, big-endian; IPv4 in the first four.
    ///   - low: Bytes 8...15; 0 for IPv4.
    ///   - isIPv6: Whether all sixteen bytes count.
    /// - Complexity: O(1); no allocation.
    public func locate(high: UInt64, low: UInt64, isIPv6: Bool) -> GeoLocation {
        var location = GeoLocation()
        var error: CInt = 0
        var result = cmaxminddb_lookup(database, high, low, isIPv6, &error)
        guard error == MMDB_SUCCESS, result.found_entry else { return location }
        location.country = UInt16(
            truncatingIfNeeded: text(&result.entry, CMAXMINDDB_COUNTRY, bytes: 2...2))
        location.region = text(&result.entry, CMAXMINDDB_REGION, bytes: 1...4)
        var value = MMDB_entry_data_s()
        if read(&result.entry, CMAXMINDDB_CITY, &value), value.type == UInt32(MMDB_DATA_TYPE_UINT32)
        {
            location.cityID = value.uint32
        }
        return location
    }

    /// Where a 16-byte address is; an IPv4-mapped one counts as IPv4.
    ///
    /// Nowhere for any other length.
    public func locate(_ address: UnsafeRawBufferPointer) -> GeoLocation {
        guard address.count == 16 else { return GeoLocation() }
        let high = UInt64(bigEndian: address.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        let low = UInt64(bigEndian: address.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        if high == 0, low >> 32 == 0xFFFF { return locate(high: low << 32, low: 0, isIPv6: false) }
        return locate(high: high, low: low, isIPv6: true)
    }

    private func read(
        _ entry: inout MMDB_entry_s, _ field: cmaxminddb_field, _ value: inout MMDB_entry_data_s
    ) -> Bool {
        cmaxminddb_value(&entry, CInt(field.rawValue), &value) == MMDB_SUCCESS && value.has_data
    }

    /// A short text of letters and digits, first byte lowest; 0 when absent or anything else.
    private func text(
        _ entry: inout MMDB_entry_s, _ field: cmaxminddb_field, bytes: ClosedRange<UInt32>
    ) -> UInt32 {
        var value = MMDB_entry_data_s()
        guard read(&entry, field, &value), value.type == UInt32(MMDB_DATA_TYPE_UTF8_STRING),
            bytes.contains(value.data_size), let text = value.utf8_string
        else { return 0 }
        var packed: UInt32 = 0
        for index in 0..<Int(value.data_size) {
            let byte = UInt8(bitPattern: text[index])
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
                packed |= UInt32(byte) << UInt32(8 * index)
            default: return 0
            }
        }
        return packed
    }
}

// MARK: Opening

extension GeoDatabase {
    private static func reason(_ status: CInt) -> String {
        MMDB_strerror(status).map { String(cString: $0) } ?? "error \(status)"
    }

    /// A copy in memory, so that a file that is cut short later cannot kill the process.
    private static func copy(_ path: String) throws(GeoDatabaseError) -> FileDescriptor {
        do throws(Errno) {
            guard try FileSystem.status(path).isRegularFile else {
                throw .invalidArgument
            }
            let bytes = try FileSystem.read(path, limit: Limits.maxFileBytes)
            let memory = try FileDescriptor.inMemory("geoip")
            try bytes.withUnsafeBufferPointer { (buffer) throws(Errno) in
                try memory.writeAll(UnsafeRawBufferPointer(buffer))
            }
            return memory
        } catch {
            throw GeoDatabaseError(message: "\(path): \(error)")
        }
    }

    /// Reads every node and, once each, every entry that the nodes lead to.
    private static func check(
        _ database: UnsafeMutablePointer<MMDB_s>, _ path: String
    ) throws(GeoDatabaseError) {
        var entries: Set<UInt32> = []
        var node = MMDB_search_node_s()
        for number in 0..<database.pointee.metadata.node_count {
            let status = MMDB_read_node(database, number, &node)
            guard status == MMDB_SUCCESS else {
                throw GeoDatabaseError(message: "\(path): node \(number): \(reason(status))")
            }
            try check(node.left_record_type, node.left_record_entry, number, &entries, path)
            try check(node.right_record_type, node.right_record_entry, number, &entries, path)
        }
        let kind = database.pointee.metadata.database_type.map { String(cString: $0) } ?? ""
        guard ["City", "Country", "Enterprise"].contains(where: kind.contains) else {
            throw GeoDatabaseError(
                message: "\(path): not a database of countries or cities; "
                    + "set geoip.database to one, or to nothing")
        }
    }

    private static func check(
        _ type: UInt8, _ entry: MMDB_entry_s, _ number: UInt32, _ entries: inout Set<UInt32>,
        _ path: String
    ) throws(GeoDatabaseError) {
        switch CInt(type) {
        case MMDB_RECORD_TYPE_SEARCH_NODE, MMDB_RECORD_TYPE_EMPTY: return
        case MMDB_RECORD_TYPE_DATA:
            guard entries.insert(entry.offset).inserted else { return }
            var start = entry
            var list: UnsafeMutablePointer<MMDB_entry_data_list_s>?
            let status = MMDB_get_entry_data_list(&start, &list)
            MMDB_free_entry_data_list(list)
            guard status == MMDB_SUCCESS else {
                throw GeoDatabaseError(
                    message: "\(path): entry at \(entry.offset): \(reason(status))")
            }
        default:
            throw GeoDatabaseError(message: "\(path): node \(number) leads nowhere")
        }
    }
}
