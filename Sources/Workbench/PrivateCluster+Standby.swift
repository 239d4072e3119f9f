// A second cluster that follows a first by streaming replication, and takes its place.

extension PrivateCluster {
    /// Starts a hot standby of a running cluster, as a copy of it.
    ///
    /// - Parameter directory: A new one; it is not made from anything that lies there.
    public static func startStandby(
        of primary: PrivateCluster, directory: String, options: Options
    ) throws(ClusterError) -> PrivateCluster {
        let standby = try PrivateCluster(directory: directory, options: options)
        let status = standby.run(
            "pg_basebackup",
            [
                "-h", primary.socketDirectory, "-p", "5432", "-U", "postgres", "-D", standby.data,
                "-R", "-X", "stream", "-c", "fast", "--no-sync",
            ])
        guard status == 0 else {
            throw ClusterError(
                description: "pg_basebackup failed (\(status)): see \(standby.log)")
        }
        try standby.start()
        return standby
    }

    /// Makes a standby the primary.
    public func promote() throws(ClusterError) {
        guard run("pg_ctl", ["promote", "-D", data, "-w"]) == 0 else {
            throw ClusterError(description: "the standby cannot be promoted: see \(log)")
        }
    }
}
