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

    /// What a service manager passed, if it passed anything.
    init(passed: [PassedDescriptor]) {
        if !passed.isEmpty { sockets = InheritedSockets(.serviceManager, passed) }
    }
}

extension Daemon {
    /// The descriptors of socket activation.
    static func takePassedSockets() throws(StartError) -> [PassedDescriptor] {
        do throws(Errno) {
            return try SocketActivation.takePassed()
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
        _ configuration: ClickdConfiguration, _ passed: [PassedDescriptor], _ log: Logger
    ) throws(StartError) -> Inherited {
        var inherited = Inherited(passed: passed)
        let path = HandOverLimits.path(besides: configuration.ops.socket)
        let begun = SystemClock.monotonicNanoseconds()
        do throws(HandOverError) {
            guard let found = try Predecessor.takeOver(path: path) else {
                log.notice("nothing to take over: no clickd behind \(path)")
                return inherited
            }
            inherited.connections = found.connections
            if passed.isEmpty {
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
