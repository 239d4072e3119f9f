// Migrating: once, unchanged, one runner at a time.
import Postgres
import Testing
import Tracking
import Workbench

@testable import Schema

@Suite struct MigrationTests {
    @Test("An empty database is migrated once; the second time nothing is applied")
    func twice() throws {
        let connection = try connect(try TestDatabases.makeEmpty())
        #expect(try SchemaRunner.version(connection) == 0)
        let applied = try SchemaRunner.migrate(connection)
        #expect(applied.map { $0.number } == Array(1...SchemaRunner.latestVersion))
        #expect(try SchemaRunner.version(connection) == SchemaRunner.latestVersion)
        #expect(try SchemaRunner.migrate(connection).isEmpty)
    }

    @Test("Two runners at once apply each migration once")
    func concurrently() async throws {
        let dsn = try TestDatabases.makeEmpty()
        let counts = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<3 {
                group.addTask {
                    do {
                        return try SchemaRunner.migrate(connect(dsn)).count
                    } catch {
                        Issue.record(error)
                        return -1
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(counts.sorted() == [0, 0, SchemaRunner.latestVersion])
    }

    @Test("An applied migration whose text has changed is an error that names it")
    func changedText() throws {
        let (connection, _) = try freshDatabase()
        var list = Migration.all
        list[1] = Migration(number: 2, name: "clicks", sql: list[1].sql + " ")
        let failure = #expect(throws: SchemaError.self) {
            try SchemaRunner.migrate(connection, with: list)
        }
        guard case .changed(2, "clicks") = failure else {
            Issue.record("another failure: \(String(describing: failure))")
            return
        }
        #expect(failure?.description.contains("2 (clicks)") == true)
    }

    @Test("A refused migration leaves nothing of itself, and what came before it stays")
    func refused() throws {
        let connection = try connect(try TestDatabases.makeEmpty())
        let list = [
            Migration(number: 1, name: "good", sql: "CREATE TABLE good (a int)"),
            Migration(number: 2, name: "bad", sql: "CREATE TABLE bad (a int); SELECT 1 / 0"),
        ]
        let failure = #expect(throws: SchemaError.self) {
            try SchemaRunner.migrate(connection, with: list)
        }
        guard case .refused(2, "bad", _) = failure else {
            Issue.record("another failure: \(String(describing: failure))")
            return
        }
        #expect(try SchemaRunner.version(connection) == 1)
        #expect(try connection.query("SELECT to_regclass('bad') IS NULL").bool(0, 0) == true)
        #expect(try SchemaRunner.migrate(connection, with: [list[0]]).isEmpty)
    }

    @Test("A newer release's migrations are left alone")
    func newer() throws {
        let (connection, _) = try freshDatabase()
        try connection.script("INSERT INTO schema_migrations VALUES (999, 'future', 'x')")
        #expect(try SchemaRunner.migrate(connection).isEmpty)
        #expect(try SchemaRunner.version(connection) == 999)
    }

    @Test("Numbers have no holes and names are unique")
    func numbers() {
        #expect(Migration.all.map { $0.number } == Array(1...Migration.all.count))
        #expect(Set(Migration.all.map { $0.name }).count == Migration.all.count)
    }
}
