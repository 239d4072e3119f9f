// What was open before this process: sockets of the service manager, or a predecessor's sockets and
// connections; and the door for the successor.
internal import Configuration
internal import EdgeServer
internal import LinuxIO
internal import Logging
internal import RingLog

/// Sockets and connections that were open before this process.
struct Inherited: Sendable {
    var sockets = InheritedSockets.none
    var connections: [InheritedConnection] = []
    /// Waits to hear that this process serves.
    var waiting: WaitingPredecessor?

    /// What a service manager passed, if it passed anything, or this process before it was replaced.
    init(_ passed: PassedSockets) {
        guard !passed.descriptors.isEmpty else { return }
        sockets = InheritedSockets(
            passed.areOwn ? .predecessor : .serviceManager, passed.descriptors)
    }
}

/// The descriptors that a process begins with.
struct PassedSockets {
    var descriptors: [PassedDescriptor]
    /// They are this process's own, of before it was replaced: nobody else keeps them.
    var areOwn: Bool
}

extension Daemon {
    /// The descriptors of socket activation.
    static func takePassedSockets() throws(StartError) -> PassedSockets {
        do throws(Errno) {
            let areOwn = SocketActivation.takeOwnership()
            return PassedSockets(
                descriptors: try SocketActivation.takePassed(), areOwn: areOwn)
        } catch {
            throw StartError(
                78,
                "LISTEN_FDS does not name open descriptors (at most "
                    + "\(SocketActivation.maximumDescriptors)): start by the socket unit, or unset it"
            )
        }
    }

    /// Has the running daemon hand over and end.
    ///
    /// What a service manager passed is preferred to the same sockets from the predecessor.
    static func takeOver(
        _ configuration: ClickdConfiguration, _ passed: PassedSockets, _ log: Logger
    ) throws(StartError) -> Inherited {
        var inherited = Inherited(passed)
        let path = HandOverLimits.path(besides: configuration.ops.socket)
        let begun = SystemClock.monotonicNanoseconds()
        do throws(HandOverError) {
            let spool = configuration.spool.directory
            let found = try Predecessor.takeOver(path: path) { process in
                // It would end, and this one be refused the node.
                RingLogStore.holder(of: spool) == process
                    ? nil
                    : "spool.directory \(spool) is not that of the running process \(process): a "
                        + "take-over goes on with the same spool; it serves on"
            }
            guard let found else {
                log.notice("nothing to take over: no clickd behind \(path)")
                return inherited
            }
            inherited.connections = found.connections
            inherited.waiting = found.waiting
            if passed.descriptors.isEmpty {
                inherited.sockets = InheritedSockets(.predecessor, found.sockets)
            } else {
                for socket in found.sockets { Socket.close(socket.descriptor) }
            }
            let elapsed = (SystemClock.monotonicNanoseconds() - begun) / 1000
            log.notice(
                "taken over",
                metadata: [
                    "pid": "\(found.processID)", "sockets": "\(found.sockets.count)",
                    "connections": "\(found.connections.count)", "microseconds": "\(elapsed)",
                ])
            return inherited
        } catch {
            throw StartError(73, error.message)
        }
    }

    /// Opens ring and spool, which takes their locks.
    ///
    /// - Parameter waits: Whether a holder that is about to end is waited for.
    static func openStore(
        _ configuration: ClickdConfiguration, _ workers: Int, waits: Bool, _ log: Logger
    ) throws(StartError) -> RingLogStore {
        let end =
            SystemClock.monotonicNanoseconds() / 1_000_000
            + Int64(waits ? HandOverLimits.lockMilliseconds : 0)
        while true {
            do throws(RingLogError) {
                return try RingLogStore(
                    node: configuration.node.id, workers: workers,
                    ring: RingOptions(
                        directory: configuration.ring.directory, bytes: configuration.ring.bytes),
                    spool: SpoolOptions(
                        directory: configuration.spool.directory,
                        segmentBytes: configuration.spool.segmentBytes,
                        quotaBytes: configuration.spool.quotaBytes,
                        syncMicroseconds: configuration.spool.syncMicroseconds,
                        retainMicroseconds: configuration.spool.retainMicroseconds),
                    judge: { wall, lease in
                        Daemon.startTime(
                            wall: wall, lease: lease, dsn: configuration.postgres.dsn, log)
                    })
            } catch {
                guard case .lockedBy = error, SystemClock.monotonicNanoseconds() / 1_000_000 < end
                else { throw StartError(error.exitCode, error.message) }
            }
            Thread.sleep(microseconds: 1000)
        }
    }

    /// Opens the door for a successor; without one a restart has a gap.
    func openDoor(_ edge: EdgeServer) -> SuccessorDoor? {
        let path = HandOverLimits.path(besides: configuration.ops.socket)
        do throws(Errno) {
            let door = try SuccessorDoor(path: path)
            try door.open(edge) { [state, log] process in
                log.notice("handing over", metadata: ["pid": "\(process)"])
                state.requestDrain()
            }
            return door
        } catch {
            log.warning("no successor can take over: \(path): \(error)")
            return nil
        }
    }
}

// MARK: - Leaving

extension Daemon {
    /// Milliseconds from the start of a drain in which a successor has to serve: the ten seconds of a
    /// drain, less what an exit takes.
    private static let successorMilliseconds: Int64 = 9_000
    /// The option that names the text of the configuration file as it was read before.
    public static let textOption = "--configuration-text"

    /// Leaves ring and spool to the successor, carries TLS connections to it until they have had
    /// their answer, and is there again when it never serves.
    ///
    /// - Parameter begun: When the drain began, monotonic nanoseconds.
    func leave(to door: SuccessorDoor, _ edge: EdgeServer, since begun: Int64) {
        store.release()
        let spent = (SystemClock.monotonicNanoseconds() - begun) / 1_000_000
        let left = max(0, Daemon.successorMilliseconds - spent)
        switch door.release(waitingMilliseconds: Int(left)) {
        case .serves:
            edge.waitForRelays()
        case .silent:
            log.critical("the successor does not serve yet, and the time of a drain is over")
        case .ended:
            log.critical("the successor has ended before it served: this process serves again")
            edge.waitForRelays(atOnce: true)
            resume(edge)
        }
    }

    /// Becomes a new process of the same program, with the listening sockets and their queues.
    ///
    /// With the configuration as it was read: the file may hold what the successor could not start with.
    private func resume(_ edge: EdgeServer) {
        var arguments = CommandLine.arguments.filter { $0 != "--take-over" }
        if let option = arguments.firstIndex(of: Daemon.textOption) {
            arguments.removeSubrange(option...min(option + 1, arguments.count - 1))
        }
        do throws(Errno) {
            let memory = try FileDescriptor.inMemory("clickd configuration")
            try state.configurationText.withUnsafeBufferPointer { (bytes) throws(Errno) in
                try memory.writeAll(UnsafeRawBufferPointer(bytes), at: 0)
            }
            arguments += [
                Daemon.textOption, "/proc/self/fd/\(try memory.duplicateForProgram())",
            ]
            try CurrentProcess.replace(
                by: CurrentProcess.executable, arguments: arguments,
                passing: edge.passableSockets,
                areOwn: inherited.sockets.origin != .serviceManager)
        } catch {
            log.critical("cannot serve again: \(error)")
            state.requestDrain(exitCode: 70)
        }
    }
}
