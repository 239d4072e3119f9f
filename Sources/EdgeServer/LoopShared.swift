// The little that loops share: flags, counts of connections, the message memory, wake-ups.
internal import EdgeCore
internal import GeoIP
internal import LinuxIO
internal import Synchronization
internal import TLS
internal import Tracking

/// What every loop of a server sees.
///
/// `@unchecked Sendable`: atomics, a Mutex, and values that never change after `init`.
final class LoopShared: @unchecked Sendable {
    /// The published tables.
    let directory: EdgeDirectory
    /// Signed messages of the last minutes, for 409.
    ///
    /// Conversions only: the click path takes no lock.
    let messages = Mutex(MessageMemory())
    /// Buckets of addresses: conversions, requests for unknown slugs, clicks.
    let conversionRates: RateTable
    let unknownRates: RateTable
    let clickRates: RateTable
    /// Of hashes over addresses; random, so that nobody can aim at one place in a table.
    let addressKey = Randomness.bytes(16).withUnsafeBytes { SipHashKey(bytes: $0) }
    private let addresses: AddressCounts
    private let connectionLimit: Int
    private let connections = Atomic<Int>(0)
    /// Connections that loops are about to give up for others' newcomers.
    private let owed = Atomic<Int>(0)
    private let admission: Atomic<Bool>
    private let geo = Mutex<GeoDatabase?>(nil)
    private let geoChanges = Atomic<Int>(0)
    private let tls = Mutex<TLSContext?>(nil)
    private let tlsChanges = Atomic<Int>(0)
    private let draining = Atomic<Bool>(false)
    private let started = Atomic<Int>(0)
    private let withoutListeners = Atomic<Int>(0)
    private let leavingQueues = Atomic<Bool>(false)
    private let successorDescriptor = Atomic<CInt>(-1)
    private let adopted: Mutex<[InheritedConnection]>
    private let ended = Atomic<Int>(0)
    private let relaysEnded = Atomic<Int>(0)
    private let endingRelays = Atomic<Bool>(false)
    private let wakes: [WakeUp]
    /// The loops' signs of life, by number.
    let pulses: [LoopPulse]
    /// What the loops can give up for each other's newcomers, by number.
    let givingWay: [GivingWay]
    /// A loop that a test holds still; -1 for none.
    private let heldLoop = Atomic<Int>(-1)

    private final class WakeUp: Sendable {
        let event: EventDescriptor
        init() throws(Errno) { event = try EventDescriptor() }
    }

    init(
        loops: Int, directory: EdgeDirectory, limits: EdgeLimits, rates: ClientRates,
        isAdmitted: Bool, adopted: [InheritedConnection]
    ) throws(Errno) {
        self.adopted = Mutex(adopted)
        self.directory = directory
        conversionRates = RateTable(rates.conversions)
        unknownRates = RateTable(rates.unknownSlugs)
        clickRates = RateTable(rates.clicks)
        addresses = try AddressCounts(limit: limits.connectionsPerAddress, key: addressKey)
        connectionLimit = limits.connections
        admission = Atomic(isAdmitted)
        var wakes: [WakeUp] = []
        for _ in 0..<loops { wakes.append(try WakeUp()) }
        self.wakes = wakes
        pulses = (0..<loops).map { _ in LoopPulse() }
        givingWay = (0..<loops).map { _ in GivingWay() }
    }

    deinit {
        conversionRates.deallocate()
        unknownRates.deallocate()
        clickRates.deallocate()
    }

    /// Counts a connection in; false when the process has too many, those left out that are about to
    /// go.
    func enter() -> Bool {
        // Relaxed, here and below: the counts order nothing else.
        let most = connectionLimit + owed.load(ordering: .relaxed)
        guard connections.wrappingAdd(1, ordering: .relaxed).newValue <= most else {
            connections.wrappingSubtract(1, ordering: .relaxed)
            return false
        }
        return true
    }

    /// Counts a connection in beyond the limit, for one that another loop is about to give up; false
    /// when too many are owed.
    func overdraw() -> Bool {
        guard owed.wrappingAdd(1, ordering: .relaxed).newValue <= Limits.overdrawnConnections
        else {
            settle()
            return false
        }
        connections.wrappingAdd(1, ordering: .relaxed)
        return true
    }

    /// One is owed no more.
    func settle() { owed.wrappingSubtract(1, ordering: .relaxed) }

    /// Counts a connection out.
    func leave() { connections.wrappingSubtract(1, ordering: .relaxed) }

    /// Counts a connection of an address in; false when the address has too many.
    func enterAddress(_ peer: PeerAddress) -> Bool { addresses.enter(peer) }

    /// Counts a connection of an address out.
    func leaveAddress(_ peer: PeerAddress) { addresses.leave(peer) }

    /// Connections that are open.
    var connectionCount: Int { connections.load(ordering: .relaxed) }

    /// Whether the spool has claimed its node, so that identities may be minted.
    var isAdmitted: Bool { admission.load(ordering: .acquiring) }

    /// Opens the doors, once the node is claimed.
    func admit() {
        admission.store(true, ordering: .releasing)
        wakeAll()
    }

    /// Closes the doors: nothing may be minted.
    func suspend() { admission.store(false, ordering: .releasing) }

    /// The database of places, if there is one.
    var geoDatabase: GeoDatabase? { geo.withLock { $0 } }

    /// Changes with every ``replaceGeo(_:)``; loops compare it once a turn.
    var geoVersion: Int { geoChanges.load(ordering: .acquiring) }

    /// Publishes another database of places.
    func replaceGeo(_ database: GeoDatabase?) {
        geo.withLock { $0 = database }
        geoChanges.wrappingAdd(1, ordering: .releasing)
    }

    /// The certificates of new TLS connections.
    var tlsContext: TLSContext? { tls.withLock { $0 } }

    /// Changes with every ``replaceTLS(_:)``; loops compare it once a turn.
    var tlsVersion: Int { tlsChanges.load(ordering: .acquiring) }

    /// Publishes other certificates.
    func replaceTLS(_ context: TLSContext) {
        tls.withLock { $0 = context }
        tlsChanges.wrappingAdd(1, ordering: .releasing)
    }

    /// Whether the loops are to end.
    var isDraining: Bool { draining.load(ordering: .acquiring) }

    /// Tells the loops to end.
    func beginDrain() {
        draining.store(true, ordering: .releasing)
        wakeAll()
    }

    /// Notes that a loop watches its own share of the listeners, or never will.
    func noteStart() { started.wrappingAdd(1, ordering: .releasing) }

    /// Loops that watch their own share.
    var startedLoops: Int { started.load(ordering: .acquiring) }

    /// Leaves the listeners' queues to the next process: they stay open when this one ends.
    func leaveQueues() { leavingQueues.store(true, ordering: .releasing) }

    /// Whether the queues are the next process's.
    var leavesQueues: Bool { leavingQueues.load(ordering: .acquiring) }

    /// Where open connections are passed to; nil without a successor, or when it has gone.
    var successor: CInt? {
        let descriptor = successorDescriptor.load(ordering: .acquiring)
        return descriptor >= 0 ? descriptor : nil
    }

    /// Names the successor; its owner keeps the descriptor open until the process ends.
    func setSuccessor(_ descriptor: CInt) {
        successorDescriptor.store(descriptor, ordering: .releasing)
    }

    /// The successor takes no more: what is open ends here.
    func loseSuccessor() { successorDescriptor.store(-1, ordering: .releasing) }

    /// A loop's part of the predecessor's connections, once.
    func takeAdopted(by loop: Int) -> [InheritedConnection] {
        adopted.withLock { all in
            let count = loopCount
            let share = all.enumerated().filter { $0.offset % count == loop }.map(\.element)
            return share
        }
    }

    /// Notes that a loop accepts no more.
    func noteListenersLeft() { withoutListeners.wrappingAdd(1, ordering: .releasing) }

    /// Loops that accept no more.
    var loopsWithoutListeners: Int { withoutListeners.load(ordering: .acquiring) }

    /// How many loops there are.
    var loopCount: Int { wakes.count }

    /// Notes that a loop has ended.
    func noteEnd() { ended.wrappingAdd(1, ordering: .releasing) }

    /// Loops that have ended.
    var endedLoops: Int { ended.load(ordering: .acquiring) }

    /// Notes that a loop carries nothing any more.
    func noteRelayEnd() { relaysEnded.wrappingAdd(1, ordering: .releasing) }

    /// Loops that carry nothing any more.
    var endedRelays: Int { relaysEnded.load(ordering: .acquiring) }

    /// Has the loops end what they carry.
    func endRelays() { endingRelays.store(true, ordering: .releasing) }

    /// Whether what is carried is to end.
    var endsRelays: Bool { endingRelays.load(ordering: .acquiring) }

    func wakeDescriptor(of loop: Int) -> CInt { wakes[loop].event.descriptor.rawValue }

    func clearWake(of loop: Int) { wakes[loop].event.clear() }

    /// Holds a loop still from its next wake-up on, or with -1 none; tests only.
    func hold(_ loop: Int) {
        heldLoop.store(loop, ordering: .releasing)
        wakeAll()
    }

    /// Whether a loop is to stand still.
    func isHeld(_ loop: Int) -> Bool { heldLoop.load(ordering: .acquiring) == loop }

    /// Has one loop look at the flags here.
    func wake(_ loop: Int) { wakes[loop].event.signal() }

    /// Has every loop look at the flags here, and at the listeners.
    func wakeAll() { for wake in wakes { wake.event.signal() } }
}
