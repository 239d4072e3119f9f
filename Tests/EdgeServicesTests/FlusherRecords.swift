// Records as the edge writes them, and a migrated database to flush them into.
import LinuxIO
import Postgres
import Schema
import Tracking
import Workbench

@testable import EdgeServices

/// A fresh, migrated database: its DSN and a connection to look at it with.
func flusherDatabase() throws -> (dsn: String, connection: Connection) {
    let dsn = try TestDatabases.make { template in
        let connection = try Connection(dsn: template, applicationName: "tests")
        try SchemaRunner.migrate(connection)
        connection.close()
    }
    return (dsn, try Connection(dsn: dsn, applicationName: "tests"))
}

extension Connection {
    /// The one number of a query.
    func number(_ sql: String) throws -> Int64? { try query(sql).int64(0, 0) }
    /// The one text of a query.
    func word(_ sql: String) throws -> String? { try query(sql).text(0, 0) }
    /// The texts of a query's first column.
    func words(_ sql: String) throws -> [String?] {
        let result = try query(sql)
        return (0..<result.count).map { result.text($0, 0) }
    }
}

/// Makes click payloads.
struct ClickMaker {
    static let merchant = EntityID(high: 0xA, low: 1)
    static let influencer = EntityID(high: 0xB, low: 2)
    static let phone =
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
        + "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
    static let crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

    private var minter: ClickIDMinter
    var milliseconds: Int64

    init(ring: UInt16 = 0, milliseconds: Int64 = SystemClock.wallMicroseconds() / 1000) {
        self.milliseconds = milliseconds
        minter = ClickIDMinter(
            ring: ring, floorMilliseconds: 0, leaseMilliseconds: .max)
    }

    /// One click's payload.
    mutating func make(
        link: UInt64 = 1, visitor: UInt64 = 0, agent: String = ClickMaker.phone,
        _ change: (inout ClickRecord) -> Void = { _ in }
    ) -> (id: ClickID, bytes: [UInt8]) {
        guard let id = minter.mint(atMilliseconds: milliseconds) else {
            preconditionFailure("no lease ends it")
        }
        var record = ClickRecord(
            clickID: id, linkID: EntityID(high: 0xC, low: link), merchantID: ClickMaker.merchant,
            influencerID: ClickMaker.influencer)
        record.visitorID = visitor
        let agentBytes = Array(agent.utf8)
        let bytes = agentBytes.withUnsafeBytes { text -> [UInt8] in
            record.userAgent = text
            change(&record)
            return [UInt8](unsafeUninitializedCapacity: ClickRecord.maximumBytes) { buffer, count in
                count = record.write(to: UnsafeMutableRawBufferPointer(buffer))
            }
        }
        return (id, bytes)
    }
}

/// Makes conversion payloads.
enum ConversionMaker {
    static let merchant = EntityID(high: 0xA, low: 1)

    /// One conversion's record; verified unless it came by pixel.
    static func record(
        order: String, amount: Int64? = 1250, currency: String = "EUR", id: UInt64,
        channel: ConversionChannel = .api, event: ConversionEvent = .sale,
        status: ConversionStatus = .completed, message: String? = nil, digest: UInt8 = 1,
        receivedAt: Timestamp = Timestamp(microseconds: SystemClock.wallMicroseconds())
    ) -> ConversionRecord {
        var flags: ConversionRecord.Flags = channel == .pixel ? [] : [.verified]
        if amount != nil { flags.insert(.hasAmount) }
        var record = ConversionRecord(
            conversionID: EntityID(high: 0xD, low: id), merchantID: merchant, event: event,
            status: status, channel: channel, flags: flags, receivedAt: receivedAt,
            eventTime: receivedAt, amountMinor: amount ?? 0,
            currency: Currency(currency) ?? ConversionMaker.euro, orderID: Array(order.utf8))
        if let message {
            record.messageID = Array(message.utf8)
            record.messageDigest = Array(repeating: digest, count: 32)
        }
        return record
    }

    private static var euro: Currency {
        guard let currency = Currency("EUR") else { preconditionFailure("EUR is a currency") }
        return currency
    }

    static func bytes(_ record: ConversionRecord) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: ConversionRecord.maximumBytes) { buffer, count in
            count = record.write(to: UnsafeMutableRawBufferPointer(buffer))
        }
    }

    static func bytes(_ record: RefusalRecord) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: RefusalRecord.maximumBytes) { buffer, count in
            count = record.write(to: UnsafeMutableRawBufferPointer(buffer))
        }
    }
}

/// A flusher without a thread over fake rings and a real database.
struct RealFlush {
    let database: PostgresFlushDatabase
    let loop: FlusherLoop
    let time: FakeTime

    init(_ rings: [any RecordRing], dsn: String, batchRows: Int = 20_000, node: UInt8 = 0) {
        time = FakeTime()
        time.wall = SystemClock.wallMicroseconds()
        database = PostgresFlushDatabase(
            dsn: dsn, node: node, key: SipHashKey(first: 3, second: 4))
        loop = FlusherLoop(
            rings: rings, database: database,
            identity: NodeIdentity(
                node: node, spoolUUID: EntityID(high: 5, low: UInt64(node)), machine: "test",
                keyFingerprint: "k"),
            options: FlusherOptions(
                dsn: dsn, batchRows: batchRows, node: node, keyFingerprint: "k", machine: "test"),
            clock: time.clock, markClaimed: {})
    }

    /// Rounds until all is committed; whether that was reached.
    func settle(rounds: Int = 30) -> Bool {
        for _ in 0..<rounds {
            _ = loop.round(atOnce: true)
            if loop.isFlushed(through: loop.heads) { return true }
            time.advance(milliseconds: 6000)
        }
        return false
    }
}
