// The snapshot: the link table's own bytes in a file, for a start without the database. No secret is
// in the table, so none is in the file.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry
internal import Tracking

extension LinkSync {
    /// Publishes the links of the snapshot, if there is a sound one; whether there was.
    ///
    /// Merchants are not in it, so conversions wait for the database. Called before ``start()``.
    public func loadSnapshot() -> Bool {
        guard !options.snapshotPath.isEmpty, FileSystem.exists(options.snapshotPath) else {
            return false
        }
        do {
            guard let table = try readSnapshot() else {
                options.log(true, "\(options.snapshotPath) is no sound snapshot of links: ignored")
                return false
            }
            directory.publish(
                EdgeTables(
                    links: table, overlay: nil, merchants: MerchantDirectory([]),
                    visitorKeys: VisitorKeys(), merchantsAsOf: nil))
            note(snapshot: table.count)
            options.log(false, "\(table.count) links from \(options.snapshotPath)")
            return true
        } catch {
            options.log(true, "\(options.snapshotPath) cannot be read: \(error)")
            return false
        }
    }

    private func readSnapshot() throws(Errno) -> LinkTable? {
        let file = try FileDescriptor.open(options.snapshotPath, .read, followingLinks: true)
        let length = try file.status().bytes
        guard length > 0, length <= Limits.snapshotBytes else { return nil }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 64)
        var done = 0
        do {
            while done < length {
                let rest = UnsafeMutableRawBufferPointer(rebasing: memory[done...])
                let count = try file.read(into: rest, at: done)
                guard count > 0 else { break }
                done += count
            }
        } catch {
            memory.deallocate()
            throw error
        }
        let bytes = UnsafeRawBufferPointer(memory)
        guard done == length,
            let table = LinkTable(snapshot: bytes, release: { bytes.deallocate() })
        else {
            memory.deallocate()
            return nil
        }
        return table.passesFullCheck() ? table : nil
    }

    /// Replaces the snapshot in one step; a failure is logged and costs nothing else.
    func writeSnapshot(_ table: LinkTable) {
        guard !options.snapshotPath.isEmpty else { return }
        do {
            try FileSystem.makeDirectories(FileSystem.directory(of: options.snapshotPath))
            try FileSystem.replace(options.snapshotPath, with: table.bytes, permissions: 0o600)
            errors.clear("snapshot")
        } catch {
            let now = SystemClock.monotonicNanoseconds()
            if errors.note("snapshot", nowNanoseconds: now) != nil {
                options.log(true, "\(options.snapshotPath) cannot be written: \(error)")
            }
        }
    }
}
