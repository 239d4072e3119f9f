// The private cluster: kept data, a second user, a directory that its user cannot reach.
import LinuxIO
import Postgres
import Testing
import Workbench

@Suite(.serialized) struct PrivateClusterTests {
    func options() -> PrivateCluster.Options {
        var options = PrivateCluster.Options()
        options.syncs = false
        options.settings = ["shared_buffers=16MB"]
        return options
    }

    @Test("A cluster that was stopped starts again with its data, over the socket only")
    func again() throws {
        let folder = "/tmp/clickd-cluster-\(CurrentProcess.id)"
        defer { try? FileSystem.removeTree(folder) }
        let cluster = try PrivateCluster.start(directory: folder, options: options())
        defer { cluster.stop() }
        #expect(cluster.dsn() == "host=\(folder) dbname=clickd user=postgres")
        let first = try connect(cluster.dsn())
        try first.script("CREATE TABLE kept (a int)")
        #expect(try first.query("SHOW listen_addresses").text(0, 0) == "")

        // A second user finds it running and leaves it so.
        let second = try PrivateCluster.start(directory: folder, options: options())
        second.stop()
        #expect(try first.query("SELECT count(*) FROM kept").int64(0, 0) == 0)

        cluster.stop()
        #expect(throws: PostgresError.self) { try first.query("SELECT 1") }
        #expect(throws: PostgresError.self) { try connect(cluster.dsn()) }
        try cluster.start()
        let result = try connect(cluster.dsn()).query("SELECT count(*) FROM kept")
        #expect(result.int64(0, 0) == 0)
    }

    @Test("A directory that the server's user cannot reach is left for one that it can")
    func unreachable() throws {
        let folder = "/tmp/clickd-closed-\(CurrentProcess.id)"
        try FileSystem.makeDirectories(folder, permissions: 0o700)
        defer { try? FileSystem.removeTree(folder) }
        let cluster = try PrivateCluster.start(directory: "\(folder)/pg", options: options())
        defer {
            cluster.stop()
            try? FileSystem.removeTree(cluster.directory)
        }
        let isRoot = CurrentProcess.userID == 0
        #expect(cluster.directory.hasPrefix("/var/tmp/clickd-postgres-") == isRoot)
        #expect(try connect(cluster.dsn()).query("SELECT 1").int64(0, 0) == 1)
    }

    @Test("A refused script says so")
    func script() throws {
        let cluster = try TestDatabases.cluster()
        #expect(throws: ClusterError.self) { try cluster.script("SELEC 1", database: "postgres") }
        try cluster.script("SELECT 1", database: "postgres")
    }
}
