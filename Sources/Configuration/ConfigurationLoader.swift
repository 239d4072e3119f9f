// Reads the file and the environment into a checked configuration: every key with its default, unit
// and range, and the contradictions between keys.
public import LinuxIO

/// Loads configurations.
public enum ConfigurationLoader {
    /// Reads a configuration.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - environment: Variables; `CLICKD_SECTION_KEY` overrides a key.
    ///   - canRead: Whether the database's library can read a connection string.
    ///   - faults: What is wrong with certificates and keys, asked for where TLS is to be served.
    /// - Throws: ``ConfigurationError`` with every problem: of the file's text, of unknown names,
    ///   of types and ranges, of keys that contradict each other.
    public static func load(
        path: String,
        environment: [(name: String, value: String)] = CurrentProcess.environment(),
        connectionStrings canRead: (String) -> Bool = { _ in true },
        certificates faults: ([CertificateFiles]) -> [CertificateFault] = { _ in [] }
    ) throws(ConfigurationError) -> ClickdConfiguration {
        let bytes: [UInt8]
        do {
            bytes = try FileSystem.read(path, limit: YAMLDocument.Limits.fileBytes)
        } catch {
            let message =
                error == .noSuchFile
                ? "no such file; config/clickd.yaml is one to begin with"
                : "cannot be read: \(error)"
            let problem = ConfigurationProblem(origin: path, line: 1, message: message)
            let isForbidden = error == .accessDenied || error == .notPermitted
            throw ConfigurationError(problems: [problem], exitCode: isForbidden ? 77 : 78)
        }
        return try parse(
            bytes, file: path, environment: environment, connectionStrings: canRead,
            certificates: faults)
    }

    /// Reads a configuration from bytes.
    public static func parse(
        _ bytes: [UInt8], file: String, environment: [(name: String, value: String)] = [],
        connectionStrings canRead: (String) -> Bool = { _ in true },
        certificates faults: ([CertificateFiles]) -> [CertificateFault] = { _ in [] }
    ) throws(ConfigurationError) -> ClickdConfiguration {
        let root: YAMLNode
        do {
            root = try YAMLDocument.parse(bytes)
        } catch {
            throw ConfigurationError(problems: [
                ConfigurationProblem(origin: file, line: error.line, message: error.message)
            ])
        }
        let variables = Dictionary(environment.map { ($0.name, $0.value) }) { first, _ in first }
        var reader = SettingsReader(file: file, root: root, environment: variables)
        let configuration = decode(&reader)
        reader.reportUnknown()
        checkConflicts(configuration, &reader)
        if !canRead(configuration.postgres.dsn) {
            // Without quoting it: it may hold a password.
            reader.reportConflict(
                ["postgres.dsn"],
                "postgres.dsn: libpq cannot read it (allowed: a libpq connection string or "
                    + "postgresql:// URI)")
        }
        var isAboutRights = reader.problems.isEmpty
        let https = configuration.https
        if !https.listen.isEmpty {
            for fault in faults(https.certificates) where fault.index < https.certificates.count {
                let files = https.certificates[fault.index]
                reader.report(
                    "https.certificates: \(fault.message)",
                    line: fault.isKey ? files.keyLine : files.certificateLine)
                isAboutRights = isAboutRights && fault.isAboutRights
            }
        }
        guard reader.problems.isEmpty else {
            let sorted = reader.problems.enumerated().sorted {
                ($0.element.line, $0.offset) < ($1.element.line, $1.offset)
            }
            throw ConfigurationError(
                problems: sorted.map(\.element), exitCode: isAboutRights ? 77 : 78)
        }
        return configuration
    }

    /// Every key that a file may hold.
    public static var keys: [ConfigurationKey] {
        var reader = SettingsReader(
            file: "", root: .mapping([], line: 1), environment: [:])
        _ = decode(&reader)
        return reader.keys
    }

    private static let second: Int64 = 1_000_000
    private static let millisecond: Int64 = 1000
    private static let day: Int64 = 86_400 * second

    private static func decode(_ reader: inout SettingsReader) -> ClickdConfiguration {
        var result = ClickdConfiguration()
        result.node.id = UInt8(clamping: reader.required("node.id", 0...127))
        result.http.listen = reader.addresses("http.listen", result.http.listen)
        result.http.workers = reader.integer(
            "http.workers", result.http.workers, 0...HTTPSettings.maximumWorkers)
        result.https.listen = reader.addresses("https.listen", result.https.listen)
        result.https.certificates = reader.certificates("https.certificates")
        result.proxy.trusted = reader.ranges("proxy.trusted")
        result.proxy.header = reader.word("proxy.protocol", result.proxy.header)
        decodeLimits(&result.limits, &reader)
        result.links.refreshMicroseconds = reader.duration(
            "links.refresh", result.links.refreshMicroseconds, 100 * millisecond...60 * second)
        result.links.snapshot = reader.path("links.snapshot", result.links.snapshot, "a file path")
        decodeStorage(&result, &reader)
        result.postgres.dsn = reader.connectionString("postgres.dsn", result.postgres.dsn)
        result.postgres.batchRows = reader.integer(
            "postgres.batch_rows", result.postgres.batchRows, 1...1_000_000)
        result.postgres.batchDelayMicroseconds = reader.duration(
            "postgres.batch_delay", result.postgres.batchDelayMicroseconds,
            millisecond...5 * second)
        result.geoip.database = reader.path(
            "geoip.database", result.geoip.database, "the path of an .mmdb file",
            mayBeEmpty: true)
        result.privacy.ip = reader.word("privacy.ip", result.privacy.ip)
        result.privacy.honourGPC = reader.boolean(
            "privacy.honour_gpc", result.privacy.honourGPC)
        result.keys.click = reader.path("keys.click", result.keys.click, "a file path")
        result.ops = operations("ops", result.ops, &reader)
        result.log.level = reader.word("log.level", result.log.level)
        result.log.format = reader.word("log.format", result.log.format)
        result.attribution.intervalMicroseconds = reader.duration(
            "attribution.interval", result.attribution.intervalMicroseconds,
            10 * millisecond...3600 * second)
        result.attribution.batch = reader.integer(
            "attribution.batch", result.attribution.batch, 1...100_000)
        result.attribution.ops = operations("attribution.ops", result.attribution.ops, &reader)
        return result
    }

    private static func decodeLimits(
        _ limits: inout LimitSettings, _ reader: inout SettingsReader
    ) {
        limits.headerBytes = reader.bytes(
            "limits.header_bytes", limits.headerBytes, 1 << 10...64 << 10)
        limits.bodyBytes = reader.bytes("limits.body_bytes", limits.bodyBytes, 1 << 10...64 << 10)
        limits.headerTimeoutMicroseconds = reader.duration(
            "limits.header_timeout", limits.headerTimeoutMicroseconds,
            100 * millisecond...300 * second)
        limits.idleTimeoutMicroseconds = reader.duration(
            "limits.idle_timeout", limits.idleTimeoutMicroseconds,
            100 * millisecond...3600 * second)
        limits.connections = reader.integer(
            "limits.connections", limits.connections, 1...1_000_000)
        limits.perAddress = reader.integer(
            "limits.per_address", limits.perAddress, 1...1_000_000)
        limits.bufferedBytes = reader.bytes(
            "limits.buffered_bytes", limits.bufferedBytes, 1 << 20...64 << 30)
        limits.commitWaitMicroseconds = reader.duration(
            "limits.commit_wait", limits.commitWaitMicroseconds, 10 * millisecond...60 * second)
    }

    private static func decodeStorage(
        _ result: inout ClickdConfiguration, _ reader: inout SettingsReader
    ) {
        result.ring.directory = reader.path(
            "ring.directory", result.ring.directory, "a directory's path")
        result.ring.bytes = reader.bytes(
            "ring.bytes", result.ring.bytes, 256 << 10...1 << 30, multiple: 4 << 10)
        result.spool.directory = reader.path(
            "spool.directory", result.spool.directory, "a directory's path")
        result.spool.segmentBytes = reader.bytes(
            "spool.segment", result.spool.segmentBytes, 256 << 10...1 << 30, multiple: 4 << 10)
        result.spool.quotaBytes = reader.bytes(
            "spool.quota", result.spool.quotaBytes, 512 << 10...16 << 40)
        result.spool.syncMicroseconds = reader.duration(
            "spool.sync", result.spool.syncMicroseconds, millisecond...10 * second)
        result.spool.retainMicroseconds = reader.duration(
            "spool.retain", result.spool.retainMicroseconds, 0...7 * day)
    }

    private static func operations(
        _ section: String, _ fallback: OperationsSettings, _ reader: inout SettingsReader
    ) -> OperationsSettings {
        OperationsSettings(
            socket: reader.path(
                "\(section).socket", fallback.socket, "a socket's path",
                maximumBytes: SettingsReader.Limits.socketBytes),
            listen: reader.address("\(section).listen", fallback.listen))
    }
}
