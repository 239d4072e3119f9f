// How heavily the scheduler weighs a session against the others (sched(7), "The autogroup feature"), as
// CPUWeight= weighs a unit.
internal import LinuxIO

enum SessionWeight {
    /// What every session begins with.
    static let ordinary = 0
    /// What the unit of clickd asks for among services of the ordinary weight: about ten times.
    static let edge = -10
    /// As if the session had a machine of its own.
    static let apart = -19

    /// Gives a process's session a niceness, -20...19; without root, or with cgroups in its stead, all
    /// stays as it is.
    static func set(_ niceness: Int, of process: Int32) {
        guard let session = try? FileDescriptor.open("/proc/\(process)/autogroup", .readWrite)
        else { return }
        try? Array("\(niceness)".utf8).withUnsafeBytes { try session.writeAll($0) }
    }
}
