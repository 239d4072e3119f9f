// The settings of clickd and attributiond: one struct a section, as the rest of the code sees them.
public import LinuxIO

/// Every setting, checked.
///
/// Names, units and defaults are those of `config/clickd.yaml`, the manual.
public struct ClickdConfiguration: Sendable, Equatable {
    /// Who this node is in the fleet.
    public var node = NodeSettings()
    /// Plain HTTP.
    public var http = HTTPSettings()
    /// HTTP over TLS.
    public var https = HTTPSSettings()
    /// Proxies in front.
    public var proxy = ProxySettings()
    /// What one client, and all together, may take.
    public var limits = LimitSettings()
    /// The link table.
    public var links = LinkSettings()
    /// The rings in memory.
    public var ring = RingSettings()
    /// The spool on disk.
    public var spool = SpoolSettings()
    /// The database.
    public var postgres = PostgresSettings()
    /// Where addresses are.
    public var geoip = GeoIPSettings()
    /// What is kept of visitors.
    public var privacy = PrivacySettings()
    /// Secrets in files.
    public var keys = KeySettings()
    /// clickd's operations endpoint.
    public var ops = OperationsSettings(socket: "var/clickd.sock", listen: defaultOperations)
    /// Logging, of both daemons.
    public var log = LogSettings()
    /// attributiond.
    public var attribution = AttributionSettings()

    /// Every default.
    public init() {}

    static let defaultOperations = SocketAddress("127.0.0.1:9180")
    static let defaultAttributionOperations = SocketAddress("127.0.0.1:9181")
}

/// `node`.
public struct NodeSettings: Sendable, Equatable {
    /// The node's number, 0...127; ring number = id * 32 + worker.
    public var id: UInt8 = 0
}

/// `http`.
public struct HTTPSettings: Sendable, Equatable {
    /// Addresses that clickd listens on.
    public var listen: [SocketAddress] = SocketAddress("127.0.0.1:8080").map { [$0] } ?? []
    /// Event loops; 0 is one per core.
    public var workers = 0

    /// Event loops on a machine of so many cores, 1...32.
    public func workerCount(cores: Int) -> Int {
        max(1, min(workers == 0 ? cores : workers, HTTPSettings.maximumWorkers))
    }

    /// The rings of one node, and so its most event loops.
    public static let maximumWorkers = 32
}

/// A certificate chain and its private key.
public struct CertificateFiles: Sendable, Equatable {
    /// PEM file of the chain.
    public var certificate: String
    /// PEM file of the private key.
    public var key: String
    /// The line that names the certificate, from 1.
    public var certificateLine = 0
    /// The line that names the key, from 1.
    public var keyLine = 0

    /// Two paths.
    public init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// What is wrong with one of the files that ``CertificateFiles`` name.
public struct CertificateFault: Sendable {
    /// The position in `https.certificates`.
    public var index: Int
    /// Whether the key is at fault, not the certificate.
    public var isKey: Bool
    /// Whether rights are what is wrong: exit code 77.
    public var isAboutRights: Bool
    /// What is wrong, with the file's name.
    public var message: String

    /// A fault.
    public init(index: Int, isKey: Bool, isAboutRights: Bool, message: String) {
        self.index = index
        self.isKey = isKey
        self.isAboutRights = isAboutRights
        self.message = message
    }
}

/// `https`.
public struct HTTPSSettings: Sendable, Equatable {
    /// Addresses that clickd listens on with TLS.
    public var listen: [SocketAddress] = []
    /// Certificates, chosen by server name.
    public var certificates: [CertificateFiles] = []
}

/// `proxy`.
public struct ProxySettings: Sendable, Equatable {
    /// How a proxy tells the client's address ahead of HTTP.
    public enum Header: String, CaseIterable, Sendable {
        /// Not at all.
        case none
        /// PROXY protocol, version 1 (text).
        case v1
        /// PROXY protocol, version 2 (binary).
        case v2
    }

    /// Ranges whose `X-Forwarded-For` and `Forwarded` count.
    public var trusted: [AddressRange] = []
    /// `proxy.protocol`.
    public var header = Header.none
}

/// `limits`.
public struct LimitSettings: Sendable, Equatable {
    /// Longest request head.
    public var headerBytes = 16 << 10
    /// Longest request body.
    public var bodyBytes = 64 << 10
    /// Time for a whole request to arrive.
    public var headerTimeoutMicroseconds: Int64 = 10_000_000
    /// Time between requests of a connection.
    public var idleTimeoutMicroseconds: Int64 = 15_000_000
    /// Connections of the process.
    public var connections = 100_000
    /// Connections of one client address (a /64 for IPv6).
    public var perAddress = 1024
    /// Bytes in the buffers of all connections.
    public var bufferedBytes = 256 << 20
    /// Time for a conversion to become durable.
    public var commitWaitMicroseconds: Int64 = 5_000_000
}

/// `links`.
public struct LinkSettings: Sendable, Equatable {
    /// Time between two polls for changes.
    public var refreshMicroseconds: Int64 = 1_000_000
    /// The file that keeps the table for a start without the database.
    public var snapshot = "var/links.snapshot"
}

/// `ring`.
public struct RingSettings: Sendable, Equatable {
    /// Where rings live; memory that outlives the process.
    public var directory = "/dev/shm/clickd"
    /// Bytes of one ring.
    public var bytes = 16 << 20
}

/// `spool`.
public struct SpoolSettings: Sendable, Equatable {
    /// Where segments live.
    public var directory = "var/spool"
    /// Bytes of one segment.
    public var segmentBytes = 16 << 20
    /// Bytes of the directory.
    public var quotaBytes = 4 << 30
    /// Time between syncs.
    public var syncMicroseconds: Int64 = 100_000
    /// How long flushed segments are kept.
    public var retainMicroseconds: Int64 = 900_000_000
}

/// `postgres`.
public struct PostgresSettings: Sendable, Equatable {
    /// libpq connection string.
    ///
    /// It may hold a password: never log it.
    public var dsn = "dbname=clickd"
    /// Most rows in a flush.
    public var batchRows = 20_000
    /// Longest wait for a batch to fill.
    public var batchDelayMicroseconds: Int64 = 200_000
}

/// `geoip`.
public struct GeoIPSettings: Sendable, Equatable {
    /// An .mmdb file; empty: no country.
    public var database = ""
}

/// `privacy`.
public struct PrivacySettings: Sendable, Equatable {
    /// What is stored of an address.
    public enum Address: String, CaseIterable, Sendable {
        /// The /24 or /48.
        case truncate
        /// All of it.
        case full
        /// Nothing.
        case none
    }

    /// `privacy.ip`.
    public var ip = Address.truncate
    /// Whether Global Privacy Control takes the visitor identity away.
    public var honourGPC = true
}

/// `keys`.
public struct KeySettings: Sendable, Equatable {
    /// The click key file.
    public var click = "var/secrets/click.key"
}

/// `ops` and `attribution.ops`.
public struct OperationsSettings: Sendable, Equatable {
    /// Path of the Unix socket.
    public var socket: String
    /// TCP address for reading; nil: none.
    public var listen: SocketAddress?
}

/// `log`.
public struct LogSettings: Sendable, Equatable {
    /// The least level that is written; raw values are those of swift-log.
    public enum Level: String, CaseIterable, Sendable {
        /// Each step.
        case trace
        /// For those who look for a fault.
        case debug
        /// Starts, stops, reloads.
        case info
        /// Unusual, yet right.
        case notice
        /// It will need attention.
        case warning
        /// Data lost, or an operator needed.
        case error
        /// The process cannot go on.
        case critical
    }

    /// How records are written.
    public enum Format: String, CaseIterable, Sendable {
        /// One JSON object a line.
        case json
        /// Text for people.
        case text
    }

    /// `log.level`.
    public var level = Level.info
    /// `log.format`.
    public var format = Format.json
}

/// `attribution`.
public struct AttributionSettings: Sendable, Equatable {
    /// Time between runs.
    public var intervalMicroseconds: Int64 = 1_000_000
    /// Most sales in a run.
    public var batch = 5000
    /// attributiond's operations endpoint.
    public var ops = OperationsSettings(
        socket: "var/attributiond.sock", listen: ClickdConfiguration.defaultAttributionOperations)
}
