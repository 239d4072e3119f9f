// What the database tests share: fresh databases and connections to them.
import Postgres
import Schema
import Workbench

/// A connection to a fresh, migrated database.
func freshDatabase() throws -> (connection: Connection, dsn: String) {
    let dsn = try TestDatabases.make { template in
        let connection = try connect(template)
        try SchemaRunner.migrate(connection)
        connection.close()
    }
    return (try connect(dsn), dsn)
}

func connect(
    _ dsn: String, statementTimeoutMilliseconds: Int = 30_000
) throws(PostgresError) -> Connection {
    try Connection(
        dsn: dsn, applicationName: "tests",
        statementTimeoutMilliseconds: statementTimeoutMilliseconds)
}
