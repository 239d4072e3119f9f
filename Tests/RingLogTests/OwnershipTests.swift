// Who may open what: locks, rights, nodes.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Ownership of the directories")
struct OwnershipTests {
    @Test("A second opener is refused at once, by the holder's pid")
    func locked() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        let error = #expect(throws: RingLogError.self) { try directories.open() }
        guard case .lockedBy(let pid, let path) = try #require(error) else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(pid == CurrentProcess.id && path == directories.ring)
        #expect(error?.exitCode == 73)
        store.abandon()
        try directories.open().abandon()
    }

    @Test("Lock files that somebody removed let nobody in, whatever becomes of them")
    func lockFilesRemoved() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        for place in [directories.ring, directories.spool] {
            try FileSystem.remove("\(place)/lock")
        }
        for _ in 0..<2 {
            let error = #expect(throws: RingLogError.self) { try directories.open() }
            #expect(error?.exitCode == 73)
            #expect(error?.message.contains("another process") == true, "\(error?.message ?? "")")
        }
        store.abandon()
        try directories.open().abandon()
    }

    @Test("The spool is locked too, when two rings share it")
    func sharedSpool() throws {
        let directories = TestDirectories()
        let store = try directories.open()
        defer { store.abandon() }
        let other = RingOptions(directory: "\(directories.root)/other", bytes: 262_144)
        let spool = SpoolOptions(
            directory: directories.spool, segmentBytes: 139_264, quotaBytes: 1 << 20,
            syncMicroseconds: 1000, retainMicroseconds: 0)
        let error = #expect(throws: RingLogError.self) {
            try RingLogStore(node: 3, workers: 1, ring: other, spool: spool)
        }
        #expect(error?.message.contains("process \(CurrentProcess.id)") == true)
    }

    @Test("The refusal names the pid that the lock file holds")
    func lockedByAnother() throws {
        let directories = TestDirectories()
        try FileSystem.makeDirectories(directories.ring)
        // An open-file-description lock, as another process holds it.
        let lock = try FileDescriptor.open("\(directories.ring)/lock", [.readWrite, .create])
        try lock.lockExclusively()
        try Array("4711\n".utf8).withUnsafeBufferPointer { (bytes) throws(Errno) in
            try lock.writeAll(UnsafeRawBufferPointer(bytes), at: 0)
        }
        let error = #expect(throws: RingLogError.self) { try directories.open() }
        #expect(error?.message.contains("4711") == true)
    }

    @Test("A spool of another node is refused, and so is its ring")
    func foreignNode() throws {
        let directories = TestDirectories()
        try directories.open(node: 3).abandon()
        let error = #expect(throws: RingLogError.self) { try directories.open(node: 4) }
        #expect(error?.exitCode == 73)
        #expect(error?.message.contains("node 3") == true, "\(String(describing: error))")
        try FileSystem.removeTree(directories.spool)
        let ring = #expect(throws: RingLogError.self) { try directories.open(node: 4) }
        #expect(ring?.exitCode == 73)
    }

    @Test("A symbolic link, a file and a directory that others write to are refused as rights")
    func rights() throws {
        let directories = TestDirectories()
        try FileSystem.makeDirectories(directories.root)
        try FileSystem.makeDirectories(directories.ring)
        try FileSystem.setPermissions(directories.ring, 0o777)
        let open = #expect(throws: RingLogError.self) { try directories.open() }
        #expect(open?.exitCode == 77)
        try FileSystem.removeTree(directories.ring)
        _ = try FileDescriptor.open(directories.ring, [.readWrite, .create])
        let file = #expect(throws: RingLogError.self) { try directories.open() }
        #expect(file?.exitCode == 77)
        try FileSystem.remove(directories.ring)
        #expect(
            ChildProcess.run(["ln", "-s", "/dev/shm", directories.ring]) == 0)
        let link = #expect(throws: RingLogError.self) { try directories.open() }
        #expect(link?.exitCode == 77)
    }

    @Test("New directories are the owner's alone")
    func modes() throws {
        let directories = TestDirectories()
        try directories.open().abandon()
        for path in [directories.ring, directories.spool] {
            #expect(try FileSystem.status(path).permissions == 0o700)
            for name in try FileSystem.list(path) {
                #expect(try FileSystem.status("\(path)/\(name)").permissions == 0o600)
            }
        }
    }
}

extension ChildProcess {
    /// Runs a program to its end.
    static func run(_ arguments: [String]) -> Int32 {
        (try? ChildProcess.start(arguments))?.wait() ?? -1
    }
}
