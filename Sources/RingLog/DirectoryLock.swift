// A directory of one's own: made 0700, owner checked, held by its own lock and by a lock file with the
// holder's pid. The file alone would not do: who removes it lets a second process in.
internal import LinuxIO

/// The exclusive use of a directory, given back when its owner lets go of it.
final class DirectoryLock: Sendable {
    private let file: FileDescriptor
    private let whole: FileDescriptor

    /// Makes the directory when it is missing, checks whose it is, and takes its lock at once.
    init(_ directory: String) throws(RingLogError) {
        whole = try DirectoryLock.prepare(directory)
        do {
            try whole.lockWhole()
        } catch .wouldBlock {
            throw .lockedBy(pid: DirectoryLock.holder(of: directory) ?? 0, path: directory)
        } catch {
            // A network's file system may lock files alone.
        }
        let path = "\(directory)/lock"
        do {
            file = try FileDescriptor.open(path, [.readWrite, .create])
        } catch .noSpace {
            throw .cannotCreate(path: path, .noSpace)
        } catch {
            throw .access(path, error)
        }
        do {
            try file.lockExclusively()
        } catch {
            guard error == .wouldBlock || error == .accessDenied else {
                throw .inputOutput(path: path, error)
            }
            throw .lockedBy(pid: DirectoryLock.holder(of: file), path: directory)
        }
        do {
            try file.truncate(to: 0)
            let text = Array("\(CurrentProcess.id)\n".utf8)
            try text.withUnsafeBufferPointer { (bytes) throws(Errno) in
                try file.writeAll(UnsafeRawBufferPointer(bytes), at: 0)
            }
        } catch {
            throw .inputOutput(path: path, error)
        }
    }

    deinit {
        whole.unlockWhole()
        file.unlock()
    }

    /// The process that a directory's lock file names; nil without one.
    static func holder(of directory: String) -> Int32? {
        guard let file = try? FileDescriptor.open("\(directory)/lock", .read) else { return nil }
        let process = holder(of: file)
        return process > 0 ? process : nil
    }

    /// The pid in a lock file; 0 when its holder has not written it yet.
    private static func holder(of file: borrowing FileDescriptor) -> Int32 {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { buffer in
            guard let count = try? file.read(into: buffer, at: 0) else { return 0 }
            let digits = buffer[..<count].prefix { $0 >= 0x30 && $0 <= 0x39 }
            return Int32(String(decoding: digits, as: UTF8.self)) ?? 0
        }
    }

    /// Makes the directory, opens it, and checks that it is one, our own, and closed to others'
    /// writing.
    private static func prepare(_ directory: String) throws(RingLogError) -> FileDescriptor {
        do {
            try FileSystem.makeDirectories(directory, permissions: 0o700)
        } catch .accessDenied {
            throw .rights(path: directory, reason: "no right to create it")
        } catch {
            throw error == .notDirectory
                ? .access(directory, error) : .cannotCreate(path: directory, error)
        }
        let whole = try open(directory)
        let status: FileStatus
        do {
            status = try whole.status()
        } catch {
            throw .access(directory, error)
        }
        guard status.ownerID == CurrentProcess.userID else {
            throw .rights(path: directory, reason: "belongs to user \(status.ownerID)")
        }
        guard status.permissions & 0o022 == 0 else {
            throw .rights(path: directory, reason: "others can write to it; chmod 700 it")
        }
        return whole
    }

    private static func open(_ directory: String) throws(RingLogError) -> FileDescriptor {
        do {
            return try FileDescriptor.open(directory, [.read, .directory])
        } catch {
            throw .access(directory, error)
        }
    }
}
