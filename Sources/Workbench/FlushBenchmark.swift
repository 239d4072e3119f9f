// flush/copy: rows a second that the flusher moves from the spool into PostgreSQL, against psql's
// \copy of the same rows, binary, into a table of the same shape. The server has the first core; who
// brings it the rows, clickd or psql, has the second: in a fleet the database is another machine. Once
// more with all of them on the first core, where the rows' way costs the server its time.
internal import LinuxIO

/// One backlog, flushed and then copied, in pairs.
struct FlushBenchmark {
    let stack: ServiceStack
    let pairs: Int
    /// The core of clickd while it drains, and of psql.
    private let core: String
    private static let backlogSeconds = 8
    private static let waitNanoseconds: Int64 = 120_000_000_000

    init(stack: ServiceStack, pairs: Int, core: String) {
        self.stack = stack
        self.pairs = pairs
        self.core = core
    }

    func run() throws -> String {
        var ratios: [Ratio] = []
        for pair in 1...pairs {
            let ours = try flushBacklog()
            let theirs = try copySameRows()
            CurrentProcess.writeOutput(
                "pair \(pair), core \(core): flush: \(ours) rows/s; psql \\copy: \(theirs) rows/s\n"
            )
            ratios.append(Ratio(ours, theirs))
        }
        return Ratio.median(ratios)
    }

    /// Fills the spool while PostgreSQL is away, then times the way from its return to the last row.
    private func flushBacklog() throws -> Int {
        try flushWhenBack()
        _ = try stack.psql("TRUNCATE clicks_logs", ["-q"])
        stack.cluster.stop()
        let load = try ChildProcess.start(
            [
                "wrk", "-t", "1", "-c", "64", "-d", "\(FlushBenchmark.backlogSeconds)s",
                "\(stack.url)/demo",
            ],
            output: "\(stack.directory)/wrk.txt")
        guard load.wait() == 0 else { throw StackError("wrk failed") }
        let before = try flushed()
        try pinClickd(core)
        defer { try? pinClickd("0") }
        try stack.cluster.start()
        try Benchmark.pin(stack.cluster)
        try wait { try flushed() != before }
        let start = SystemClock.monotonicNanoseconds()
        let first = try flushed()
        try flushWhenBack()
        let elapsed = SystemClock.monotonicNanoseconds() - start
        let rows = try flushed() - first
        return rows * 1_000_000_000 / max(1, Int(elapsed))
    }

    /// Waits until the flusher has found the server again, which has just started, and all is committed.
    private func flushWhenBack() throws {
        try wait { try stack.ask("/flush", method: "POST").status == 200 }
    }

    private func wait(until holds: () throws -> Bool) throws {
        let end = SystemClock.monotonicNanoseconds() + FlushBenchmark.waitNanoseconds
        while try !holds() {
            guard SystemClock.monotonicNanoseconds() < end else {
                throw StackError("the flusher has done nothing for two minutes")
            }
            Thread.sleep(microseconds: 1000)
        }
    }

    private func pinClickd(_ core: String) throws {
        guard let clickd = stack.clickd else { throw StackError("clickd is not running") }
        try ChildProcess.start(
            ["taskset", "-a", "-p", "-c", core, "\(clickd.id)"], output: "/dev/null"
        ).wait()
    }

    private func copy(_ table: String, from file: String) throws {
        let code = try ChildProcess.start(
            [
                "taskset", "-c", core, "\(PrivateCluster.Limits.binaries)/psql", "-X", "-q", "-d",
                stack.cluster.dsn(), "-c", "\\copy \(table) FROM '\(file)' (FORMAT binary)",
            ], output: "\(stack.directory)/psql.txt"
        ).wait()
        guard code == 0 else { throw StackError("psql: see \(stack.directory)/psql.txt") }
    }

    private func flushed() throws -> Int {
        let text = try stack.ask("/stats").text
        guard let clicks = text.firstRange(of: "\"clicks\""),
            let field = text[clicks.upperBound...].firstRange(of: "\"flushed\":")
        else { throw StackError("no clicks.flushed in /stats: \(text)") }
        let digits = text[field.upperBound...].drop { $0 == " " }.prefix { $0.isNumber }
        return Int(digits) ?? 0
    }

    private func copySameRows() throws -> Int {
        let leaf = try stack.psql(
            """
            SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'clicks_logs'::regclass
            ORDER BY (SELECT count(*) FROM clicks_logs c WHERE c.tableoid = inhrelid) DESC LIMIT 1
            """
        ).filter { !$0.isNewline }
        let rows = try stack.count("SELECT count(*) FROM \(leaf)")
        let file = "\(stack.directory)/rows.bin"
        defer { try? FileSystem.remove(file) }
        _ = try stack.psql("\\copy \(leaf) TO '\(file)' (FORMAT binary)", ["-q"])
        _ = try stack.psql("CREATE TABLE copied (LIKE \(leaf) INCLUDING ALL)", ["-q"])
        defer { _ = try? stack.psql("DROP TABLE copied", ["-q"]) }
        // A server that has just started for both: its buffers are touched for the first time.
        stack.cluster.stop()
        try stack.cluster.start()
        try Benchmark.pin(stack.cluster)
        let start = SystemClock.monotonicNanoseconds()
        try copy("copied", from: file)
        let elapsed = SystemClock.monotonicNanoseconds() - start
        return rows * 1_000_000_000 / max(1, Int(elapsed))
    }
}
