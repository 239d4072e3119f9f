// Databases for tests: one cluster a process, and a fresh copy of a migrated template for each test.
internal import LinuxIO
internal import Synchronization

/// Fresh databases of a shared cluster that ends with the process.
public enum TestDatabases {
    private enum Limits {
        /// Bytes free in memory below which the cluster goes to disk.
        static let memoryBytes = 4 << 30
    }

    private struct State {
        var cluster: PrivateCluster?
        var failure: ClusterError?
        var hasTemplate = false
        var count = 0
    }

    private static let state = Mutex(State())
    private static let template = "migrated_template"

    /// The cluster that all tests of this process share.
    ///
    /// Do not stop it: start another to test that.
    /// - Throws: ``ClusterError`` when PostgreSQL is not installed; tests fail then, they are not skipped.
    public static func cluster() throws -> PrivateCluster {
        try state.withLock { state in try cluster(&state) }
    }

    /// The DSN of a new database, a copy of the template.
    ///
    /// - Parameter migrating: Brings the template (its DSN is given) to the schema, once a process, and
    ///   closes its connections.
    public static func make(migrating: (String) throws -> Void) throws -> String {
        try state.withLock { state in
            let cluster = try cluster(&state)
            if !state.hasTemplate {
                try cluster.script("DROP DATABASE IF EXISTS \(template)", database: "postgres")
                try cluster.script("CREATE DATABASE \(template)", database: "postgres")
                try migrating(cluster.dsn(database: template))
                state.hasTemplate = true
            }
            state.count += 1
            let name = "test_\(state.count)"
            try cluster.script(
                "CREATE DATABASE \(name) TEMPLATE \(template)", database: "postgres")
            return cluster.dsn(database: name)
        }
    }

    /// The DSN of a new, empty database.
    public static func makeEmpty() throws -> String {
        try state.withLock { state in
            let cluster = try cluster(&state)
            state.count += 1
            let name = "test_\(state.count)"
            try cluster.script("CREATE DATABASE \(name)", database: "postgres")
            return cluster.dsn(database: name)
        }
    }

    /// Memory where there is plenty: a database a test is some hundred megabytes that nobody keeps.
    private static var folder: String {
        let memory = "/dev/shm"
        let room = (try? FileSystem.availableBytes(memory)) ?? 0
        let isMemory = (try? FileSystem.isMemoryBacked(memory)) ?? false
        return isMemory && room > Limits.memoryBytes ? memory : "/tmp"
    }

    private static func cluster(_ state: inout State) throws(ClusterError) -> PrivateCluster {
        if let cluster = state.cluster { return cluster }
        if let failure = state.failure { throw failure }
        var options = PrivateCluster.Options()
        options.syncs = false
        options.isTemporary = true
        options.settings = ["max_connections=200", "shared_buffers=64MB"]
        do {
            let cluster = try PrivateCluster.start(
                directory: "\(folder)/clickd-test-\(CurrentProcess.id)", options: options)
            state.cluster = cluster
            return cluster
        } catch {
            state.failure = error
            throw error
        }
    }
}
