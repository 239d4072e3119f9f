// Keys that are each allowed and together make no sense.
internal import LinuxIO

extension ConfigurationLoader {
    /// Reports every contradiction between keys.
    static func checkConflicts(
        _ configuration: ClickdConfiguration, _ reader: inout SettingsReader
    ) {
        checkListeners(configuration, &reader)
        let spool = configuration.spool
        let workers = configuration.http.workerCount(cores: CurrentProcess.availableCores)
        let leastQuota = (workers + 1) * spool.segmentBytes
        if spool.quotaBytes < leastQuota {
            reader.reportConflict(
                ["spool.quota", "spool.segment", "http.workers"],
                "spool.quota: \(ByteSize.text(spool.quotaBytes)) holds no segment of spool.segment for "
                    + "each of \(workers) workers and one more "
                    + "(allowed: at least \(ByteSize.text(leastQuota)))")
        }
        if plain(configuration.ring.directory) == plain(spool.directory) {
            reader.reportConflict(
                ["ring.directory", "spool.directory"],
                "ring.directory: is spool.directory too (allowed: two directories, "
                    + "the ring's on tmpfs and the spool's on a disk)")
        }
        let limits = configuration.limits
        if limits.headerBytes + limits.bodyBytes > limits.bufferedBytes {
            reader.reportConflict(
                ["limits.buffered_bytes", "limits.header_bytes", "limits.body_bytes"],
                "limits.buffered_bytes: less than one request of limits.header_bytes and "
                    + "limits.body_bytes")
        }
        if !configuration.https.listen.isEmpty, limits.bufferedBytes < leastSealedBytes {
            reader.reportConflict(
                ["limits.buffered_bytes", "https.listen"],
                "limits.buffered_bytes: \(ByteSize.text(limits.bufferedBytes)) has no room for a TLS "
                    + "handshake in each event loop "
                    + "(allowed: at least \(ByteSize.text(leastSealedBytes)) with https.listen)")
        }
        if configuration.proxy.header != .none && configuration.proxy.trusted.isEmpty {
            reader.reportConflict(
                ["proxy.protocol", "proxy.trusted"],
                "proxy.protocol: \(configuration.proxy.header.rawValue), but proxy.trusted is empty, "
                    + "so nobody could connect (allowed: none, or the proxies in proxy.trusted)")
        }
    }

    /// The parts of a path that count: `./var//spool/` is `var/spool`.
    private static func plain(_ path: String) -> [Substring] {
        (path.hasPrefix("/") ? ["/"] : []) + path.split(separator: "/").filter { $0 != "." }
    }

    /// A handshake's bytes, and the eighth that is kept for answers, in each of 32 loops.
    private static let leastSealedBytes = 32 * (64 << 10)

    /// Whether only one of two can be listened on: all addresses of a family are one of them.
    private static func overlap(_ one: SocketAddress, _ other: SocketAddress) -> Bool {
        func isAll(_ address: SocketAddress) -> Bool { address.bytes.allSatisfy { $0 == 0 } }
        return one.port == other.port && one.bytes.count == other.bytes.count
            && (one.bytes == other.bytes || isAll(one) || isAll(other))
    }

    private static func checkListeners(
        _ configuration: ClickdConfiguration, _ reader: inout SettingsReader
    ) {
        let https = configuration.https
        if configuration.http.listen.isEmpty && https.listen.isEmpty {
            reader.reportConflict(
                ["http.listen", "https.listen"],
                "http.listen: empty, and https.listen too (allowed: at least one address)")
        }
        if https.listen.isEmpty != https.certificates.isEmpty {
            reader.reportConflict(
                https.listen.isEmpty ? ["https.certificates"] : ["https.listen"],
                https.listen.isEmpty
                    ? "https.certificates: given, but https.listen is empty"
                    : "https.listen: given, but https.certificates is empty")
        }
        var taken: [(key: String, address: SocketAddress)] = []
        let named =
            configuration.http.listen.map { ("http.listen", $0) }
            + https.listen.map { ("https.listen", $0) }
            + [("ops.listen", configuration.ops.listen)].compactMap { pair in
                pair.1.map { (pair.0, $0) }
            }
            + [("attribution.ops.listen", configuration.attribution.ops.listen)].compactMap {
                pair in pair.1.map { (pair.0, $0) }
            }
        for (key, address) in named where address.port != 0 {
            if let other = taken.first(where: { overlap($0.address, address) }) {
                reader.reportConflict(
                    [key, other.key],
                    other.address == address
                        ? "\(key): \(address) is \(other.key)'s too"
                        : "\(key): \(address) and \(other.key)'s \(other.address) are one port")
            }
            taken.append((key, address))
        }
        if plain(configuration.ops.socket) == plain(configuration.attribution.ops.socket) {
            reader.reportConflict(
                ["attribution.ops.socket", "ops.socket"],
                "attribution.ops.socket: \(configuration.ops.socket) is ops.socket too")
        }
    }
}
