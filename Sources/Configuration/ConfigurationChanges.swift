// What differs between two configurations, by the keys of the file: a reload names what it cannot
// take over.

extension ClickdConfiguration {
    /// A key of the file and whether two configurations agree on it.
    private struct Key {
        let path: String
        let agrees: (ClickdConfiguration, ClickdConfiguration) -> Bool

        init<Value: Equatable>(_ path: String, _ value: KeyPath<ClickdConfiguration, Value>) {
            self.path = path
            agrees = { $0[keyPath: value] == $1[keyPath: value] }
        }
    }

    private static var comparable: [Key] {
        [
            Key("node.id", \.node.id), Key("http.listen", \.http.listen),
            Key("http.workers", \.http.workers), Key("https.listen", \.https.listen),
            Key("https.certificates", \.https.certificates),
            Key("proxy.trusted", \.proxy.trusted), Key("proxy.protocol", \.proxy.header),
            Key("limits.header_bytes", \.limits.headerBytes),
            Key("limits.body_bytes", \.limits.bodyBytes),
            Key("limits.header_timeout", \.limits.headerTimeoutMicroseconds),
            Key("limits.idle_timeout", \.limits.idleTimeoutMicroseconds),
            Key("limits.connections", \.limits.connections),
            Key("limits.per_address", \.limits.perAddress),
            Key("limits.buffered_bytes", \.limits.bufferedBytes),
            Key("limits.commit_wait", \.limits.commitWaitMicroseconds),
            Key("links.refresh", \.links.refreshMicroseconds),
            Key("links.snapshot", \.links.snapshot), Key("ring.directory", \.ring.directory),
            Key("ring.bytes", \.ring.bytes), Key("spool.directory", \.spool.directory),
            Key("spool.segment", \.spool.segmentBytes), Key("spool.quota", \.spool.quotaBytes),
            Key("spool.sync", \.spool.syncMicroseconds),
            Key("spool.retain", \.spool.retainMicroseconds),
            Key("postgres.dsn", \.postgres.dsn), Key("postgres.batch_rows", \.postgres.batchRows),
            Key("postgres.batch_delay", \.postgres.batchDelayMicroseconds),
            Key("geoip.database", \.geoip.database), Key("privacy.ip", \.privacy.ip),
            Key("privacy.honour_gpc", \.privacy.honourGPC), Key("keys.click", \.keys.click),
            Key("ops.socket", \.ops.socket), Key("ops.listen", \.ops.listen),
            Key("log.level", \.log.level), Key("log.format", \.log.format),
            Key("attribution.interval", \.attribution.intervalMicroseconds),
            Key("attribution.batch", \.attribution.batch),
            Key("attribution.ops.socket", \.attribution.ops.socket),
            Key("attribution.ops.listen", \.attribution.ops.listen),
        ]
    }

    /// The keys that ``changedKeys(from:)`` compares: all.
    public static var comparableKeys: [String] { comparable.map(\.path) }

    /// The keys whose values differ, in the order of the manual; never their values, which may be
    /// secret.
    public func changedKeys(from other: ClickdConfiguration) -> [String] {
        ClickdConfiguration.comparable.filter { !$0.agrees(self, other) }.map(\.path)
    }
}
