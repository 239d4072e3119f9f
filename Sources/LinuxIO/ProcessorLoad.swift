// How busy the machine's processors are, by the kernel's own count.

/// The share of its time that the machine has idled lately; one thread's.
public struct ProcessorLoad {
    /// Time between two looks, in microseconds: shorter ones would see only a few ticks.
    public static let intervalMicroseconds: Int64 = 200_000

    private let file: String
    private var idleTicks = 0
    private var allTicks = 0
    private var nextLook: Int64 = 0
    /// Thousandths of all processors' time that were idle between the last two looks; 1,000 before
    /// the second look, and where the kernel does not tell.
    public private(set) var idleThousandths = 1000

    /// A load; `file` is `/proc/stat`, or what a test puts in its place.
    public init(file: String = "/proc/stat") { self.file = file }

    /// Looks if it is time to.
    ///
    /// - Parameter now: Microseconds that never step.
    public mutating func look(now: Int64) {
        guard now >= nextLook else { return }
        nextLook = now + ProcessorLoad.intervalMicroseconds
        guard let bytes = try? FileSystem.read(file, limit: 1 << 20),
            let (idle, all) = ProcessorLoad.ticks(bytes)
        else {
            idleThousandths = 1000
            return
        }
        defer { (idleTicks, allTicks) = (idle, all) }
        guard allTicks > 0, all > allTicks, idle >= idleTicks else { return }
        idleThousandths = min(1000, (idle - idleTicks) * 1000 / (all - allTicks))
    }

    /// Idle and all ticks of the first line: `cpu user nice system idle iowait irq softirq steal …`
    /// (proc(5)).
    ///
    /// Guest time is in the user's already.
    static func ticks(_ bytes: [UInt8]) -> (idle: Int, all: Int)? {
        let line = bytes.prefix { $0 != UInt8(ascii: "\n") }
        let fields = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard fields.count >= 9, fields[0] == "cpu" else { return nil }
        let ticks = fields[1...8].compactMap { Int($0) }
        guard ticks.count == 8, ticks.allSatisfy({ $0 >= 0 && $0 < 1 << 56 }) else { return nil }
        return (ticks[3] + ticks[4], ticks.reduce(0, +))
    }
}
