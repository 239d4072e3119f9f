// One event loop: its epoll, connections, buffers, ring and engine. Owned by one thread; nothing here
// is shared but what LoopShared holds. The files EventLoop+…swift are its steps.
internal import EdgeCore
internal import LinuxIO
internal import RingLog
internal import TLS
internal import Telemetry
internal import Tracking

/// What a loop is made with.
struct LoopSettings {
    var number: Int
    var limits: EdgeLimits
    /// Connections of one loop at most.
    var slabCapacity: Int
    /// This loop's part of the buffered bytes.
    var budgetBytes: Int
    var clickKey: SipHashKey
    var verifyKeys: [SipHashKey]
    var privacy: AddressPrivacy
    var honoursGPC: Bool
    var proxies: TrustedProxies
    var proxyHeader: ProxyVersion?
}

/// What an event's data names when its generation is 0.
enum LoopSignal {
    /// The appender's eventfd: a sync has passed.
    static let durable: UInt64 = 0
    /// Another thread asks for attention.
    static let wake: UInt64 = 1
    /// The first listener; the others follow.
    static let firstListener: UInt64 = 2
}

extension Epoll.Events {
    /// What a connection that waits for its client is watched for: bytes, or the client's end.
    static var incoming: Epoll.Events {
        Epoll.Events(rawValue: readable.rawValue | readHangUp.rawValue | edge.rawValue)
    }
}

/// A loop and all that it owns.
struct EventLoop: ~Copyable {
    let settings: LoopSettings
    let limits: EdgeLimits
    let shared: LoopShared
    let counters: CounterBlock
    /// Handles of ``LoopShared``'s buckets.
    let conversionRates: RateTable
    let unknownRates: RateTable
    let clickRates: RateTable
    let pulse: LoopPulse
    let giving: GivingWay
    let epoll: Epoll
    let events: Epoll.EventList
    var listeners: ListenerSet
    var slab: ConnectionSlab
    var wheel: TimerWheel
    /// Who gives way when there is no room.
    var yields: YieldOrder
    var pool: BlockPool
    var parked: ParkedQueue
    var appender: RingAppender
    var engine: ClickEngine
    var intake: ConversionIntake<OpenSSLDigests>
    private let tableReader: TableReader
    /// The tables of this turn.
    var tables: UnsafePointer<EdgeTableView>?
    /// Where addresses are; nil without a database.
    var geo: GeoMemo?
    private var geoVersion = 0
    var clock = LoopClock()
    var carried: CarriedClock
    /// What recv fills when a connection has nothing left over.
    let receiveSlab: UnsafeMutableRawBufferPointer
    /// Answers of the connection being served, `0..<pendingOutput`.
    let sendSlab: UnsafeMutableRawBufferPointer
    var pendingOutput = 0
    /// The head being answered: in one place, so that it is neither made anew nor copied for each.
    let head: UnsafeMutablePointer<RequestHead>
    /// Microseconds of the monotonic clock at this turn.
    var now: Int64
    /// A call of ``serve(_:_:)`` is under way.
    var isServing = false
    /// More deadlines have come than one turn looks at.
    var hasMoreDue = false
    /// The connection that is being served has more requests in its block.
    var servesKept = false
    /// A conversion was appended in this turn.
    var wantsSync = false
    /// The spool has claimed its node: identities may be minted.
    var isAdmitted = false
    var drain = DrainState()
    /// TLS connections whose answers come from the successor, once this process has handed over.
    var relays: [RelayedConnection] = []
    /// The predecessor's connections are this loop's.
    var hasAdopted = false
    /// Between the sockets and OpenSSL.
    let wire: TLSWire
    /// Certificates for new TLS connections; nil without any.
    private(set) var tlsContext: TLSContext?
    private var tlsVersion = 0
    /// Handshakes that may begin in a turn.
    var handshakesPerTurn = HandshakeBudget(
        full: Limits.fullHandshakesPerTurn, resumed: Limits.resumedHandshakesPerTurn)
    /// TLS handshakes that wait for a turn with time for them.
    var deferredHandshakes = DeferredHandshakes()
    /// The connection whose bytes lie in ``wire``.
    var sealing = -1

    init(
        settings: LoopSettings, shared: LoopShared, counters: CounterBlock,
        epoll: consuming Epoll, listeners: consuming ListenerSet,
        appender: consuming RingAppender, idFloorMilliseconds: Int64, ringID: UInt16,
        clockCorrection: Int64 = 0
    ) {
        self.settings = settings
        self.shared = shared
        tableReader = shared.directory.reader(loop: settings.number)
        self.counters = counters
        conversionRates = shared.conversionRates
        unknownRates = shared.unknownRates
        clickRates = shared.clickRates
        pulse = shared.pulses[settings.number]
        giving = shared.givingWay[settings.number]
        limits = settings.limits
        self.epoll = epoll
        events = Epoll.EventList(capacity: Limits.eventsPerTurn)
        now = SystemClock.monotonicNanoseconds() / 1000
        slab = ConnectionSlab(capacity: settings.slabCapacity)
        wheel = TimerWheel(capacity: settings.slabCapacity, now: now)
        yields = YieldOrder(capacity: settings.slabCapacity, key: shared.addressKey)
        let large = max(
            settings.limits.headerBytes + settings.limits.bodyBytes + 4096,
            max(Limits.receiveBytes, Limits.sendBytes + Limits.sealingBytes))
        pool = BlockPool(
            smallBytes: settings.limits.headerBytes + 1024, largeBytes: large,
            budgetBytes: settings.budgetBytes)
        parked = ParkedQueue()
        wire = TLSWire(plaintextBytes: Limits.sendBytes)
        let boot = SystemClock.bootMicroseconds()
        carried = CarriedClock(
            wall: SystemClock.wallMicroseconds() + clockCorrection, boot: boot)
        clock.update(wallMicroseconds: carried.now(boot: boot))
        engine = ClickEngine(
            clickKey: settings.clickKey, privacy: settings.privacy,
            honourGPC: settings.honoursGPC,
            minter: ClickIDMinter(
                ring: ringID, floorMilliseconds: idFloorMilliseconds,
                leaseMilliseconds: appender.leaseMilliseconds))
        intake = ConversionIntake(digests: OpenSSLDigests(), clickKeys: settings.verifyKeys)
        receiveSlab = .allocate(byteCount: Limits.receiveBytes, alignment: 64)
        sendSlab = .allocate(byteCount: Limits.sendBytes, alignment: 64)
        head = .allocate(capacity: 1)
        head.initialize(to: RequestHead())
        self.appender = appender
        self.appender.noteClock(offset: carried.offset)
        self.listeners = listeners
        followLease()
    }

    /// Watches the descriptors that are not connections.
    ///
    /// Once, before the first turn.
    mutating func begin() throws(Errno) {
        try epoll.add(appender.durableEventDescriptor, .readable, data: LoopSignal.durable)
        try epoll.add(
            shared.wakeDescriptor(of: settings.number), .readable, data: LoopSignal.wake)
        try startListening()
    }

    deinit {
        receiveSlab.deallocate()
        sendSlab.deallocate()
        head.deallocate()
    }

    /// Serves until a drain has ended.
    mutating func run() {
        turn(milliseconds: 0)  // The predecessor's connections have waited long enough.
        while !drain.isOver {
            turn(milliseconds: patience)
        }
        closeAll()
        appender.recordDrops(now: clock.wall, isLast: true)
        pulse.rest(connections: 0)
    }

    /// How long a turn may wait for events, milliseconds.
    private var patience: Int32 {
        if hasMoreDue { return 0 }
        if drain.isDraining { return 10 }
        return slab.count > 0 ? 125 : 1000
    }

    /// One wait and all that came of it.
    mutating func turn(milliseconds: Int32) {
        pulse.rest(connections: slab.count)
        let count = epoll.wait(events, milliseconds: deferredHandshakes.isEmpty ? milliseconds : 0)
        counters.add(.callsWait)
        tick()
        // Once a turn, not for each request: the store that pins them is a fence.
        tables = tableReader.enter()
        if !hasAdopted { adoptConnections() }
        for position in 0..<count {
            let data = events.data(position)
            if data >> 32 == 0 {
                handleSignal(data)
            } else if let index = slab.index(data) {
                handle(index, events.events(position))
            }
        }
        if !deferredHandshakes.isEmpty { continueHandshakes() }
        if wantsSync {
            wantsSync = false
            appender.requestSync()
        }
        appender.recordDrops(now: clock.wall)
        expire()
        giving.offer(yields.count, rank: yields.firstRank)
        if drain.isDraining { continueDrain() }
        tables = nil
        tableReader.leave()
    }

    /// Reads the clocks, once a turn.
    private mutating func tick() {
        now = SystemClock.monotonicNanoseconds() / 1000
        pulse.work(now)
        let boot = SystemClock.bootMicroseconds()
        if carried.isDue(boot: boot) {
            correctClock(boot: boot)
            appender.noteClock(offset: carried.offset)
            if listeners.isPaused { try? resumeListeners() }
        }
        clock.update(wallMicroseconds: carried.now(boot: boot))
        followLease()
        isAdmitted = shared.isAdmitted
        if shared.geoVersion != geoVersion { replaceGeo() }
        if shared.tlsVersion != tlsVersion {
            tlsVersion = shared.tlsVersion
            tlsContext = shared.tlsContext
        }
        wire.budget = handshakesPerTurn
    }

    /// Draws the carried time towards the wall clock; the first loop counts the steps for all.
    private mutating func correctClock(boot: Int64) {
        let steps = carried.steps
        carried.correct(wall: SystemClock.wallMicroseconds(), boot: boot)
        if settings.number == 0, carried.steps > steps { counters.add(.clockSteps, 1) }
    }

    /// Lets identities go as far as the disk knows, and tells where they and the clock are.
    ///
    /// Idle too: the lease keeps ahead of the clock, and the watermark follows it.
    @inline(__always)
    private mutating func followLease() {
        let wall = clock.wall.milliseconds
        engine.extend(leaseMilliseconds: appender.leaseMilliseconds)
        appender.noteOldestStamp(milliseconds: engine.oldestMilliseconds(atMilliseconds: wall))
        appender.noteLatestIdentity(milliseconds: max(engine.latestMilliseconds, wall))
    }

    /// Takes over another database; what was remembered of the old one goes with it.
    private mutating func replaceGeo() {
        geoVersion = shared.geoVersion
        if let database = shared.geoDatabase {
            geo = GeoMemo(database: database)
        } else {
            geo = nil
        }
    }

    private mutating func handleSignal(_ signal: UInt64) {
        switch signal {
        case LoopSignal.durable:
            appender.clearDurableEvent()
            releaseParked()
        case LoopSignal.wake:
            shared.clearWake(of: settings.number)
            giveWhatIsAsked()
            while shared.isHeld(settings.number) { Thread.sleep(microseconds: 1000) }
            if shared.isDraining && !drain.isDraining { return beginDrain() }
            for position in listeners.sockets.indices { accept(position) }
        default:
            accept(Int(signal - LoopSignal.firstListener))
        }
    }

    private mutating func handle(_ index: Int, _ came: Epoll.Events) {
        // By bits: an option set's literal is an array where nothing is optimised.
        let isBroken =
            came.rawValue & (Epoll.Events.error.rawValue | Epoll.Events.hangUp.rawValue) != 0
        if came.rawValue & Epoll.Events.readHangUp.rawValue != 0 {
            slab[index].pointee.isUnread = true
        }
        switch slab[index].pointee.phase {
        case .fresh, .idle, .head, .body, .handshake: receive(index)
        case .sending: isBroken ? close(index) : continueSending(index)
        case .parked: if isBroken { close(index) }
        case .lingering: discard(index)
        case .free: break
        }
        if slab[index].pointee.isUnread { watchUnread(index) }
    }
}
