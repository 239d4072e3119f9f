// A small disk of one's own, for breaking: an ext4 file system in an image file behind a loop device,
// whose content can be kept as it is at any instant, as a power cut leaves it.
public import LinuxIO

/// A mounted image, or several states of one.
///
/// Not Sendable: one thread mounts and unmounts.
public final class ImageDisk {
    /// Sizes and times.
    public enum Limits {
        /// XFS takes no smaller device; sparse, so that it costs what is written.
        static let shelfBytes = 2 << 30
        /// How often an unmount is tried while the kernel lets go of a killed process's files.
        static let unmountTries = 100
        /// The bit of CAP_SYS_ADMIN in a capability mask.
        static let systemAdministration: UInt64 = 21
    }

    /// Where the file system is mounted.
    public let mountPoint: String
    private let directory: String
    private let shelf: String
    private let medium: String?
    private var isMounted = false
    private var hasShelf = false

    private var image: String { "\(shelf)/disk.img" }
    private var kept: String { "\(shelf)/kept.img" }

    /// Why there can be no such disk here; nil when there can.
    public static func hindrance() -> String? {
        guard mayMount else { return "only root may mount (CAP_SYS_ADMIN)" }
        guard FileSystem.exists("/dev/loop-control") else { return "no loop devices" }
        for tool in ["/sbin/mkfs.ext4", "/bin/mount", "/sbin/losetup"]
        where !FileSystem.isExecutable(tool) { return "\(tool) is missing" }
        return nil
    }

    /// Whether this process may mount, which root in a container often may not.
    public static var mayMount: Bool {
        let status = String(
            decoding: (try? FileSystem.read("/proc/self/status")) ?? [], as: UTF8.self)
        let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        let mask = line?.split(separator: "\t").last.flatMap { UInt64($0, radix: 16) } ?? 0
        return mask >> Limits.systemAdministration & 1 == 1
    }

    /// Why no state of such a disk can be kept here; nil when it can.
    public static func cutHindrance() -> String? {
        if let reason = hindrance() { return reason }
        guard FileSystem.isExecutable("/sbin/mkfs.xfs") else {
            return "/sbin/mkfs.xfs is missing (make deps-soak installs it)"
        }
        // A module that nobody has used yet is not listed.
        _ = try? ChildProcess.start(["modprobe", "-q", "xfs"]).wait()
        let known = (try? FileSystem.read("/proc/filesystems")) ?? []
        let hasXFS = String(decoding: known, as: UTF8.self).split { $0.isWhitespace }.contains(
            "xfs")
        return hasXFS ? nil : "the kernel has no XFS"
    }

    /// A medium whose syncs cost next to nothing, in memory where there is enough of it, else beside
    /// the disk's directory.
    public static func memoryMedium(for directory: String) -> String {
        let room = (try? FileSystem.availableBytes("/dev/shm")) ?? 0
        let name = FileSystem.name(of: directory)
        return room > Limits.shelfBytes / 2 ? "/dev/shm/\(name).img" : "\(directory)/shelf.img"
    }

    /// Makes and mounts a disk.
    ///
    /// - Parameters:
    ///   - directory: An absolute path; made when missing.
    ///   - bytes: The image's size.
    ///   - medium: Where ``keepState()`` will be used: a file, made for an XFS that the image lies on.
    public init(directory: String, bytes: Int, medium: String? = nil) throws {
        self.directory = directory
        self.medium = medium
        mountPoint = "\(directory)/disk"
        shelf = "\(directory)/shelf"
        try FileSystem.makeDirectories(mountPoint, permissions: 0o755)
        try FileSystem.makeDirectories(shelf, permissions: 0o755)
        if let medium {
            try run(["truncate", "-s", "\(Limits.shelfBytes)", medium])
            try run(["mkfs.xfs", "-q", "-m", "reflink=1", medium])
            try run(["mount", "-o", "loop", medium, shelf])
            hasShelf = true
        }
        do {
            try run(["truncate", "-s", "\(bytes)", image])
            try run(["mkfs.ext4", "-q", "-F", "-m", "0", image])
            try mount()
        } catch {
            remove()
            throw error
        }
    }

    private func mount() throws {
        try run(["mount", "-o", "loop,errors=remount-ro", image, mountPoint])
        isMounted = true
    }

    private func unmount(_ path: String) throws {
        for _ in 0..<Limits.unmountTries {
            if (try? run(["umount", path])) != nil { return }
            Thread.sleep(microseconds: 50_000)
        }
        try run(["umount", "-l", path])
    }

    /// Keeps the disk as it is now: what the device was given, between two of its writes, without a
    /// sync and without what the file system has in memory alone.
    public func keepState() throws(Errno) { try FileSystem.clone(image, to: kept) }

    /// Takes the disk out and puts back what was last kept.
    public func putBackState() throws {
        try takeOut()
        try FileSystem.rename(kept, to: image)
        try mount()
    }

    /// Unmounts.
    public func takeOut() throws {
        guard isMounted else { return }
        try unmount(mountPoint)
        isMounted = false
    }

    /// Unmounts, has the file system checked and mounts it again, as after a repair.
    public func repair() throws {
        try takeOut()
        // 1: errors corrected.
        try run(["sh", "-c", "e2fsck -fp \"$0\"; [ $? -le 1 ]", image])
        try mount()
    }

    /// Has the kernel find an error in the file system: it makes it read-only at once, also for files
    /// that are open for writing.
    public func turnReadOnly() throws {
        let device = try output(of: ["findmnt", "-no", "SOURCE", mountPoint])
        try run([
            "sh", "-c", "echo 1 > \"/sys/fs/ext4/$0/trigger_fs_error\"",
            FileSystem.name(of: String(device.filter { !$0.isWhitespace })),
        ])
    }

    /// Unmounts everything; the directory is its maker's.
    public func remove() {
        if isMounted { try? unmount(mountPoint) }
        isMounted = false
        if hasShelf { try? unmount(shelf) }
        hasShelf = false
        if let medium { try? FileSystem.remove(medium) }
    }

    private func run(_ command: [String]) throws { _ = try output(of: command) }

    private func output(of command: [String]) throws -> String {
        let file = "\(directory)/\(FileSystem.name(of: command[0])).out"
        try? FileSystem.remove(file)
        defer { try? FileSystem.remove(file) }
        let path = CurrentProcess.environment("PATH") ?? ""
        let code = try ChildProcess.start(
            command, environment: ["PATH": "\(path):/usr/sbin:/sbin"], output: file
        ).wait()
        let text = String(decoding: (try? FileSystem.read(file)) ?? [], as: UTF8.self)
        guard code == 0 else {
            throw StackError("\(command.joined(separator: " ")): exit \(code): \(text)")
        }
        return text
    }
}
