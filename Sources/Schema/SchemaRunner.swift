// Brings a database to this release's schema: one runner at a time, each migration once and unchanged.
public import Postgres
internal import Tracking

/// Why a database cannot be brought to this release's schema.
public enum SchemaError: Error, Sendable, CustomStringConvertible {
    /// An applied migration had another text than this release's.
    case changed(number: Int, name: String)
    /// A migration was refused; nothing of it has happened.
    case refused(number: Int, name: String, PostgresError)
    /// The database could not be asked.
    case database(PostgresError)

    /// One sentence for people.
    public var description: String {
        switch self {
        case .changed(let number, let name):
            "migration \(number) (\(name)) was applied with another text than this release has"
        case .refused(let number, let name, let error):
            "migration \(number) (\(name)) was refused: \(error)"
        case .database(let error): "the schema cannot be read: \(error)"
        }
    }
}

/// One migration that was applied just now.
public struct AppliedMigration: Equatable, Sendable {
    /// Its number.
    public let number: Int
    /// Its name.
    public let name: String
}

/// Runs migrations.
public enum SchemaRunner {
    /// Bounds of the schema's upkeep.
    public enum Limits {
        /// Days of `clicks_logs` that migrating makes ahead.
        public static let clickDaysAhead = 7
        /// Months of `sales` that migrating makes ahead.
        public static let saleMonthsAhead = 2
    }

    /// Whoever migrates holds this advisory lock of the database.
    static let advisoryLock: Int64 = 0x636C_6963_6B64_0001

    /// The newest migration of this release.
    public static var latestVersion: Int { Migration.all.last?.number ?? 0 }

    /// Applies what is missing and makes the next partitions; what was applied, in order.
    ///
    /// - Throws: ``SchemaError``; migrations before the refused one stay applied.
    /// - Note: Migrations newer than this release's are left alone.
    @discardableResult
    public static func migrate(
        _ connection: Connection
    ) throws(SchemaError) -> [AppliedMigration] {
        try migrate(connection, with: Migration.all)
    }

    /// The number of the newest applied migration; 0 for an empty database.
    public static func version(_ connection: Connection) throws(SchemaError) -> Int {
        do {
            let found = try connection.query("SELECT to_regclass('schema_migrations') IS NOT NULL")
            guard found.bool(0, 0) == true else { return 0 }
            let result = try connection.query(
                "SELECT coalesce(max(version), 0) FROM schema_migrations")
            return Int(result.int64(0, 0) ?? 0)
        } catch { throw .database(error) }
    }

    static func migrate(
        _ connection: Connection, with migrations: [Migration]
    ) throws(SchemaError) -> [AppliedMigration] {
        do {
            try connection.execute("SELECT pg_advisory_lock($1)", [.int64(advisoryLock)])
        } catch { throw .database(error) }
        let outcome: Result<[AppliedMigration], SchemaError>
        do {
            outcome = .success(try applyMissing(connection, migrations))
        } catch { outcome = .failure(error) }
        do {
            if connection.isOpen {
                try connection.execute("SELECT pg_advisory_unlock($1)", [.int64(advisoryLock)])
            }
        } catch {
            connection.close()  // The lock ends with the session.
        }
        return try outcome.get()
    }

    private static func applyMissing(
        _ connection: Connection, _ migrations: [Migration]
    ) throws(SchemaError) -> [AppliedMigration] {
        let known = try checksums(connection)
        var applied: [AppliedMigration] = []
        for migration in migrations {
            if let checksum = known[migration.number] {
                guard checksum == migration.checksum else {
                    throw .changed(number: migration.number, name: migration.name)
                }
                continue
            }
            do {
                try connection.transaction { () throws(PostgresError) in
                    try connection.script(migration.sql)
                    try connection.execute(
                        """
                        INSERT INTO schema_migrations (version, name, checksum)
                        VALUES ($1, $2, $3)
                        """,
                        [
                            .int32(Int32(migration.number)), .text(migration.name),
                            .text(migration.checksum),
                        ])
                }
            } catch {
                throw .refused(number: migration.number, name: migration.name, error)
            }
            applied.append(AppliedMigration(number: migration.number, name: migration.name))
        }
        do {
            try makePartitionsAhead(connection)
        } catch { throw .database(error) }
        return applied
    }

    private static func checksums(
        _ connection: Connection
    ) throws(SchemaError) -> [Int: String] {
        do {
            try connection.script(
                """
                CREATE TABLE IF NOT EXISTS schema_migrations (
                    version integer PRIMARY KEY,
                    name text NOT NULL,
                    checksum text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                )
                """)
            let rows = try connection.query("SELECT version, checksum FROM schema_migrations")
            var known: [Int: String] = [:]
            for row in 0..<rows.count {
                if let version = rows.int64(row, 0) {
                    known[Int(version)] = rows.text(row, 1) ?? ""
                }
            }
            return known
        } catch { throw .database(error) }
    }

    /// Makes the partitions of yesterday and of the time ahead; those that are there stay.
    private static func makePartitionsAhead(_ connection: Connection) throws(PostgresError) {
        let found = try connection.query(
            "SELECT to_regprocedure('make_sale_partitions(date, date)') IS NOT NULL")
        guard found.bool(0, 0) == true else { return }
        try connection.execute(
            """
            SELECT make_click_partitions(today - 1, today + $1),
                   make_sale_partitions(today - 1, (today + make_interval(months => $2))::date)
            FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock
            """,
            [.int32(Int32(Limits.clickDaysAhead)), .int32(Int32(Limits.saleMonthsAhead))])
    }
}
