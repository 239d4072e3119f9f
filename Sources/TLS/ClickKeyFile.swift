// Reading and making the key file: who may read it, and what to do when something is wrong.
internal import LinuxIO

/// Why there are no keys; its message is one line that says what to do.
public struct ClickKeyFileError: Error, Equatable, Sendable {
    /// What kind of trouble it is.
    public enum Kind: Equatable, Sendable {
        /// There is no such file.
        case missing
        /// It is there, but is no key file.
        case malformed
        /// This process may not read it, or others may.
        case rights
        /// It is there already, or cannot be made.
        case cannotCreate
        /// The device failed.
        case inputOutput
    }

    /// What kind of trouble it is.
    public let kind: Kind
    /// One line for the operator; never a byte of a key.
    public let message: String

    /// The exit code of the contract (section 1).
    public var exitCode: Int32 {
        switch kind {
        case .missing, .malformed: 78
        case .rights: 77
        case .cannotCreate: 73
        case .inputOutput: 74
        }
    }
}

/// The file that `keys.click` names.
public enum ClickKeyFile {
    /// Reads the keys.
    ///
    /// A symbolic link is followed, as secrets are often mounted through one; what it leads to must
    /// be a regular file without a permission for group or others.
    public static func load(_ path: String) throws(ClickKeyFileError) -> ClickKeys {
        let bytes = try read(path)
        do throws(ClickKeys.ParseError) {
            return try ClickKeys(file: bytes)
        } catch {
            let place = error.line > 0 ? "\(path):\(error.line)" : path
            throw ClickKeyFileError(
                kind: .malformed,
                message: "\(place): not a key file: \(error.reason); "
                    + "make a new one under another name with `clickctl key new FILE`")
        }
    }

    /// Makes a key file with one new key: 0600, synced, never over another file.
    public static func create(_ path: String) throws(ClickKeyFileError) {
        do throws(Errno) {
            try FileSystem.makeDirectories(FileSystem.directory(of: path))
            let file = try FileDescriptor.open(path, [.readWrite, .create, .exclusive])
            do throws(Errno) {
                let line = Array(ClickKeys.makeKeyLine().utf8)
                try line.withUnsafeBufferPointer { (bytes) throws(Errno) in
                    try file.writeAll(UnsafeRawBufferPointer(bytes))
                }
                try file.sync()
                try FileSystem.syncDirectory(FileSystem.directory(of: path))
            } catch {
                try? FileSystem.remove(path)  // A key file without a key would stand in the way.
                throw error
            }
        } catch {
            throw creationError(path, error)
        }
    }

    private static func creationError(_ path: String, _ error: Errno) -> ClickKeyFileError {
        switch error {
        case .fileExists, .symbolicLink:
            ClickKeyFileError(
                kind: .cannotCreate,
                message:
                    "\(path): already there, and a key is never overwritten; choose another name")
        case .accessDenied, .notPermitted:
            ClickKeyFileError(
                kind: .rights, message: "\(path): \(error); run as a user who may write there")
        case .inputOutput, .noSpace:
            ClickKeyFileError(kind: .inputOutput, message: "\(path): \(error)")
        default:
            ClickKeyFileError(kind: .cannotCreate, message: "\(path): cannot be made: \(error)")
        }
    }

    private static func read(_ path: String) throws(ClickKeyFileError) -> [UInt8] {
        do throws(Errno) {
            // Asked first, because opening a FIFO would wait for its writer.
            guard try FileSystem.status(path).isRegularFile else { throw .invalidArgument }
            let file = try FileDescriptor.open(path, .read, followingLinks: true)
            let status = try file.status()
            guard status.isRegularFile else { throw .invalidArgument }
            guard status.permissions & 0o077 == 0 else {
                throw Errno.notPermitted
            }
            // One byte more than is allowed, so that parsing sees that it is too long.
            var bytes = [UInt8](repeating: 0, count: ClickKeys.Limits.maxFileBytes + 1)
            var filled = 0
            while filled < bytes.count {
                let count = try bytes.withUnsafeMutableBufferPointer {
                    (buffer) throws(Errno) -> Int in
                    let rest = UnsafeMutableBufferPointer(rebasing: buffer[filled...])
                    return try file.read(into: UnsafeMutableRawBufferPointer(rest))
                }
                if count == 0 { break }
                filled += count
            }
            return Array(bytes.prefix(filled))
        } catch {
            throw readError(path, error)
        }
    }

    private static func readError(_ path: String, _ error: Errno) -> ClickKeyFileError {
        switch error {
        case .noSuchFile, .notDirectory:
            ClickKeyFileError(
                kind: .missing,
                message: "\(path): no key file; make one with `clickctl key new \(path)`")
        case .notPermitted:
            ClickKeyFileError(
                kind: .rights,
                message: "\(path): group or others have rights on the key file; "
                    + "run `chmod 600 \(path)`, or make a new one with `clickctl key new FILE`")
        case .accessDenied:
            ClickKeyFileError(
                kind: .rights,
                message: "\(path): \(error); give the file to the user that clickd runs as, "
                    + "or make one with `clickctl key new FILE`")
        case .invalidArgument:
            ClickKeyFileError(
                kind: .malformed,
                message: "\(path): not a regular file; make a key file with `clickctl key new FILE`"
            )
        default:
            ClickKeyFileError(
                kind: .inputOutput,
                message: "\(path): \(error); make a key file with `clickctl key new FILE`")
        }
    }
}
