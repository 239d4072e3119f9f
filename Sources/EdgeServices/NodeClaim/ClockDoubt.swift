// What time it is when the wall clock at the start is a day or more off what the spool last knew: click
// IDs never go back, so a clock that is believed while it is ahead could not be put right any more.
internal import Postgres
internal import RingLog

/// The judge of a doubtful clock.
public enum ClockDoubt {
    private enum Limits {
        /// How long the database may take to say what time it has.
        static let connectSeconds = 2
        static let statementMilliseconds = 2000
        /// Without a database: the longest that a node is thought to have been off, microseconds.
        static let longestOff: Int64 = 400 * 86_400_000_000
    }

    /// Whose time is used.
    public enum Verdict: Equatable, Sendable {
        /// The wall clock is right: the node was off for a while.
        case wall
        /// The database's, to which the wall clock is a day or more off.
        case database(Int64)
        /// The lease's: identities go on from where they were.
        case lease
    }

    /// Decides; microseconds since 1970.
    ///
    /// - Parameter database: What the database's clock says; nil when it is away.
    public static func judge(wall: Int64, lease: Int64, database: Int64?) -> Verdict {
        if let database {
            let doubt = RingLogLimits.doubtMilliseconds * 1000
            return abs(wall - database) <= doubt ? .wall : .database(database)
        }
        return wall < lease || wall - lease > Limits.longestOff ? .lease : .wall
    }

    /// The database's clock, microseconds since 1970; nil when it does not answer at once.
    public static func databaseTime(dsn: String) -> Int64? {
        guard
            let connection = try? Connection(
                dsn: dsn, applicationName: "clickd-clock",
                connectTimeoutSeconds: Limits.connectSeconds,
                statementTimeoutMilliseconds: Limits.statementMilliseconds),
            let row = try? connection.query(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        else { return nil }
        return row.int64(0, 0)
    }
}
