// What a migration is, and the list of all of them in order.
internal import Tracking

/// One numbered step of the schema; its text never changes once a release has carried it.
struct Migration: Sendable {
    /// 1 and up, without holes.
    let number: Int
    /// What it brings, in words joined by hyphens.
    let name: String
    /// The statements, run in one transaction.
    let sql: String

    /// A fingerprint of the text: it tells an edited migration from the one that was applied.
    var checksum: String {
        // The key is arbitrary and must stay as it is: the fingerprints of applied migrations are stored.
        let key = SipHashKey(first: 0x636C_6963_6B64_2D73, second: 0x6368_656D_612D_7631)
        var copy = sql
        let hash = copy.withUTF8 { SipHash24.hash(UnsafeRawBufferPointer($0), key: key) }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }

    /// All migrations of this release, in order.
    static let all: [Migration] = [
        .platform, .clicks, .sales, .money, .ingest, .partitions, .rollUps, .statistics,
    ]
}
