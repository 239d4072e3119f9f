// What the benchmark measures with: CPU time by the kernel's own accounting, wrk's count of requests,
// exact ratios and their median.
internal import LinuxIO

/// What one run gave.
struct LoadSample {
    let requestsPerSecond: Int
    let loopNanosecondsPerRequest: Int
    let processNanosecondsPerRequest: Int

    /// `N requests in …` of wrk's report.
    static func requests(in text: String) throws -> Int {
        for line in text.split(separator: "\n") where line.contains(" requests in ") {
            if let count = line.split(separator: " ").first.flatMap({ Int($0) }), count > 0 {
                return count
            }
        }
        throw StackError("no count of requests in: \(text)")
    }
}

/// CPU time of a process in nanoseconds, from the kernel's own accounting.
struct CPUTime {
    /// Threads whose name begins with `loop` (`schedstat`); the whole process where none does.
    let loops: Int
    /// All threads, those that have ended too (`stat`, in ticks of 10 ms).
    let process: Int

    init(of process: ChildProcess) throws {
        var loops = 0
        for thread in try CPUTime.loopThreads(of: process) {
            // A thread may end in between.
            let path = "/proc/\(process.id)/task/\(thread)/schedstat"
            guard let statistics = try? FileSystem.read(path) else { continue }
            let fields = String(decoding: statistics, as: UTF8.self).split(separator: " ")
            loops += fields.first.flatMap { Int($0) } ?? 0
        }
        let bytes = try FileSystem.read("/proc/\(process.id)/stat")
        let text = String(decoding: bytes, as: UTF8.self)
        // The name in brackets may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields = (text.split(separator: ")").last ?? "").split(separator: " ")
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
            throw StackError("no CPU time in \(text)")
        }
        self.process = (user + system) * 10_000_000
        if loops == 0 {
            let own = try FileSystem.read("/proc/\(process.id)/schedstat")
            let used = String(decoding: own, as: UTF8.self).split(separator: " ").first
            loops = used.flatMap { Int($0) } ?? self.process
        }
        self.loops = loops
    }

    /// The threads that serve clients: those whose name begins with `loop`.
    static func loopThreads(of process: ChildProcess) throws -> [Int32] {
        try FileSystem.list("/proc/\(process.id)/task").filter { task in
            let name = try? FileSystem.read("/proc/\(process.id)/task/\(task)/comm")
            return name?.starts(with: "loop".utf8) == true
        }.compactMap { Int32($0) }
    }
}

/// A ratio of two counts, kept exact until it is printed.
struct Ratio: Comparable {
    let numerator: Int
    let denominator: Int

    init(_ numerator: Int, _ denominator: Int) {
        self.numerator = numerator
        self.denominator = max(1, denominator)
    }

    static func < (left: Ratio, right: Ratio) -> Bool {
        left.numerator * right.denominator < right.numerator * left.denominator
    }
    static func == (left: Ratio, right: Ratio) -> Bool { !(left < right) && !(right < left) }

    /// The middle ratio with three decimals.
    static func median(_ ratios: [Ratio]) -> String {
        guard !ratios.isEmpty else { return "none" }
        let middle = ratios.sorted()[ratios.count / 2]
        let thousandths = (middle.numerator * 1000 + middle.denominator / 2) / middle.denominator
        let decimals = String(thousandths % 1000)
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - decimals.count)
            + decimals
    }
}
