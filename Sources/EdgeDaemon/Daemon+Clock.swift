// The time that click IDs begin at when the wall clock is in doubt, and what the log says of it.
internal import EdgeServices
internal import Logging

extension Daemon {
    /// Judges a wall clock that is a day or more off the latest lease; microseconds since 1970.
    static func startTime(wall: Int64, lease: Int64, dsn: String, _ log: Logger) -> Int64 {
        let day: Int64 = 86_400_000_000
        let days = "\((wall - lease) / day)"
        let database = ClockDoubt.databaseTime(dsn: dsn)
        switch ClockDoubt.judge(wall: wall, lease: lease, database: database) {
        case .wall:
            log.warning(
                "the wall clock is a day or more off the last click ID of this spool, and is believed",
                metadata: ["days": "\(days)"])
            return wall
        case .database(let time):
            log.critical(
                "the wall clock is wrong: it is a day or more off the database's, which click IDs begin at; set it and restart clickd",
                metadata: ["days": "\((wall - time) / day)"])
            return time
        case .lease:
            log.critical(
                "the wall clock is not believed and the database is away: click IDs go on from the last one; set the clock and restart clickd",
                metadata: ["days": "\(days)"])
            return lease
        }
    }
}
