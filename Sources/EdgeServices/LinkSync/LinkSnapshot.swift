// The snapshot: the link table's own bytes in a file, served in place at a start, before or without
// the database. No secret is in the table, so none is in the file.
internal import EdgeCore
internal import LinuxIO
internal import Telemetry
internal import Tracking

extension LinkSync {
    /// Publishes the links of the snapshot, if there is a usable one; whether there was.
    ///
    /// The file is served where it lies, mapped, each look-up verifying what it reads; a thread then
    /// copies it to memory, checks the copy as a whole and publishes that instead. Damage is found
    /// in time: a link in a damaged part is 503 until the database is read.
    ///
    /// Merchants are not in it, so conversions wait for the database. Called before ``start()``.
    public func loadSnapshot() -> Bool {
        guard !options.snapshotPath.isEmpty, FileSystem.exists(options.snapshotPath) else {
            return false
        }
        do {
            if let mapped = try mapSnapshot() {
                let tables = publish(mapped)
                _ = try Thread.start(name: "snapshot") { [self] in settleSnapshot(tables) }
            } else if let table = try readSnapshot(), table.passesFullCheck() {
                // The version before cannot be verified in parts.
                _ = publish(table)
            } else {
                options.log(true, "\(options.snapshotPath) is no sound snapshot of links: ignored")
                return false
            }
            return true
        } catch {
            options.log(true, "\(options.snapshotPath) cannot be read: \(error)")
            return directory.current != nil
        }
    }

    private func publish(_ table: LinkTable) -> EdgeTables {
        let tables = LinkSync.tables(ofSnapshot: table)
        directory.publish(tables)
        note(snapshot: table.count)
        options.log(false, "\(table.count) links from \(options.snapshotPath)")
        return tables
    }

    private static func tables(ofSnapshot table: LinkTable) -> EdgeTables {
        EdgeTables(
            links: table, overlay: nil, merchants: MerchantDirectory([]),
            visitorKeys: VisitorKeys(), merchantsAsOf: nil)
    }

    /// The file in place; nil when it is no table whose parts can be verified one by one.
    ///
    /// It is ours alone and replaced by renaming, so nobody cuts it short under the mapping.
    private func mapSnapshot() throws(Errno) -> LinkTable? {
        let file = try FileDescriptor.open(options.snapshotPath, .read, followingLinks: true)
        let length = try file.status().bytes
        guard length > 0, length <= Limits.snapshotBytes else { return nil }
        let bytes = try MappedFile(file, length: length, writable: false).release()
        guard
            let table = LinkTable(
                snapshot: bytes, isGuarded: true, release: { MappedFile.unmap(bytes) })
        else {
            MappedFile.unmap(bytes)
            return nil
        }
        return table
    }

    /// Puts a checked copy in memory in the mapped file's place, unless the database was faster.
    private func settleSnapshot(_ mapped: EdgeTables) {
        Thread.giveWay(nice: Limits.settlingNice)
        do {
            let copy = try readSnapshot()
            let isSound =
                copy?.passesFullCheck(unless: { self.directory.current !== mapped }) == true
            guard let copy, isSound else {
                guard directory.current === mapped else { return }
                options.log(
                    true,
                    "\(options.snapshotPath) is damaged: links in its damaged parts are 503 until "
                        + "the database is read")
                return
            }
            let isPublished = directory.publish(
                LinkSync.tables(ofSnapshot: copy), replacing: mapped)
            if isPublished { options.log(false, "\(copy.count) links of the snapshot checked") }
        } catch {
            options.log(true, "\(options.snapshotPath) cannot be read: \(error)")
        }
    }

    /// The file's table in memory of its own, its header checked.
    private func readSnapshot() throws(Errno) -> LinkTable? {
        let file = try FileDescriptor.open(options.snapshotPath, .read, followingLinks: true)
        let length = try file.status().bytes
        guard length > 0, length <= Limits.snapshotBytes else { return nil }
        let memory = try TableMemory(byteCount: length)
        var done = 0
        do {
            while done < length {
                let rest = memory.bytes[done..<min(length, done + Limits.readBytes)]
                let count = try file.read(
                    into: UnsafeMutableRawBufferPointer(rebasing: rest), at: done)
                guard count > 0 else { break }
                done += count
            }
        } catch {
            memory.deallocate()
            throw error
        }
        guard done == length,
            let table = LinkTable(
                snapshot: UnsafeRawBufferPointer(memory.bytes),
                release: { memory.deallocate() })
        else {
            memory.deallocate()
            return nil
        }
        return table
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
