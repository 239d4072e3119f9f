// Connections as trivially copyable structs in one slab; epoll's 64-bit data names one by index and
// generation, so that an event of a closed connection is not taken for one of its successor.
internal import EdgeCore
internal import LinuxIO
internal import TLS

/// What a connection waits for.
enum ConnectionPhase: UInt8, BitwiseCopyable {
    /// A slot that no connection uses.
    case free
    /// The rest of the TLS handshake.
    case handshake
    /// The first byte of its first request.
    case fresh
    /// The first byte of another request.
    case idle
    /// The rest of a head.
    case head
    /// The rest of a conversion's body.
    case body
    /// The disk: the answer lies in `output` until its record is durable.
    case parked
    /// The client, to read what lies in `output`.
    case sending
    /// The client's end: everything is said, its bytes are thrown away.
    case lingering
}

/// What OpenSSL holds for a connection beside its session.
enum SealedUse: UInt8, BitwiseCopyable {
    case nothing
    /// A handshake under way.
    case handshake
    /// A record of which a part has come.
    case part

    /// What is counted for it.
    var bytes: Int {
        switch self {
        case .nothing: 0
        case .handshake: Limits.handshakeBytes
        case .part: Limits.partialRecordBytes
        }
    }
}

/// One connection.
///
/// An idle one owns no buffer. The order of the fields leaves no holes: three cache lines.
struct Connection: BitwiseCopyable {
    var descriptor: CInt = -1
    /// Raised at each use of the slot; never 0.
    var generation: UInt32 = 1
    var phase = ConnectionPhase.free
    /// Close when the output has gone.
    var closesAfterOutput = false
    /// Let the client read before the close, for bytes of its own may still be under way.
    var lingers = false
    /// The peer is a trusted proxy, so its address counts for no limit.
    var isProxy = false
    /// A PROXY header has to come before anything else.
    var awaitsProxyHeader = false
    /// What comes and goes is sealed.
    var isTLS = false
    /// The predecessor carries it, for it is TLS: its next answer is its last.
    var isRelayed = false
    /// What OpenSSL holds for it, as far as it is counted.
    var sealedUse = SealedUse.nothing
    /// Whether epoll knows the descriptor.
    var isWatched = false
    /// The socket may hold bytes, or the client's end, that no event will tell of again.
    var isUnread = false
    var inputClass = BlockClass.small
    var outputClass = BlockClass.small
    /// What epoll watches for.
    var interest = Epoll.Events()
    /// Unfinished request bytes, at the block's start.
    var input: UnsafeMutableRawPointer?
    var inputCount: UInt32 = 0
    /// In phase body: bytes of the head at the block's start.
    var headBytes: UInt32 = 0
    /// In phase body: the body's length, or -1 while a chunked one comes.
    var bodyTotal: Int32 = 0
    /// Bytes thrown away while lingering.
    var discarded: UInt32 = 0
    /// Received ciphertext that its session has not read: ``sealedInputCount`` bytes at the start of the
    /// smallest block that holds them.
    var sealedInput: UnsafeMutableRawPointer?
    /// Unsent bytes `outputStart..<outputEnd`.
    var output: UnsafeMutableRawPointer?
    var outputStart: UInt32 = 0
    var outputEnd: UInt32 = 0
    /// When patience ends, microseconds of the monotonic clock.
    var deadline: Int64 = 0
    /// Microseconds that it may still leave answers unread; what it reads refills them.
    var readingCredit: UInt32 = 0
    /// The next free slot, or ``ConnectionSlab/none``.
    var nextFree: UInt32 = ConnectionSlab.none
    /// The sequence that must be durable before a parked answer leaves.
    var parkedSequence: UInt64 = 0
    /// The state of a chunked body.
    var chunks = ChunkedDecoder()
    /// The client as far as addresses of connections tell: the socket's peer, or the address that a
    /// PROXY header gave.
    var peer = PeerAddress()
    /// `100 Continue` was written for the body that is awaited.
    var hasContinued = false
    /// The handshake waits for a turn with time for it.
    var isDeferred = false
    /// At most ``TLSWire/Limits/inputBytes``.
    var sealedInputCount: UInt16 = 0
    /// The TLS session; none before the first byte.
    var tls = TLSSession()

    @inline(__always) var ownsBuffer: Bool {
        input != nil || output != nil || sealedInput != nil
    }
    /// A handshake is expected, and nothing of it has come.
    var isBeforeHandshake: Bool { phase == .handshake && !tls.isActive }
}

/// Fixed room for connections.
///
/// Memory is touched only where connections have been.
struct ConnectionSlab: ~Copyable {
    static let none = UInt32.max
    let capacity: Int
    private let storage: UnsafeMutablePointer<Connection>
    /// Slots that have ever been used.
    private(set) var highWater = 0
    private(set) var count = 0
    private var firstFree = ConnectionSlab.none

    init(capacity: Int) {
        precondition(capacity > 0 && capacity < Int(ConnectionSlab.none))
        self.capacity = capacity
        storage = .allocate(capacity: capacity)
    }

    deinit { storage.deallocate() }

    /// A free slot's index, in phase fresh; nil when all are in use.
    mutating func take(descriptor: CInt, peer: PeerAddress) -> Int? {
        let index: Int
        if firstFree != ConnectionSlab.none {
            index = Int(firstFree)
            firstFree = storage[index].nextFree
        } else {
            guard highWater < capacity else { return nil }
            index = highWater
            highWater += 1
            (storage + index).initialize(to: Connection())
        }
        let generation = storage[index].generation
        storage[index] = Connection()
        storage[index].generation = generation
        storage[index].descriptor = descriptor
        storage[index].peer = peer
        storage[index].phase = .fresh
        count += 1
        return index
    }

    /// Frees a slot; events that still name it are stale from here on.
    mutating func give(_ index: Int) {
        assert(storage[index].phase != .free && !storage[index].ownsBuffer)
        assert(!storage[index].tls.isActive)
        storage[index].phase = .free
        storage[index].descriptor = -1
        // 2^32 uses of one slot between an event and its handling do not happen; 0 is kept out.
        storage[index].generation &+= 1
        if storage[index].generation == 0 { storage[index].generation = 1 }
        storage[index].nextFree = firstFree
        firstFree = UInt32(truncatingIfNeeded: index)
        count -= 1
    }

    /// The connection in a slot below ``highWater``.
    @inline(__always) subscript(index: Int) -> UnsafeMutablePointer<Connection> {
        assert(index < highWater)
        return storage + index
    }

    /// The 64 bits that name a connection.
    @inline(__always) func data(_ index: Int) -> UInt64 {
        UInt64(storage[index].generation) << 32 | UInt64(truncatingIfNeeded: index)
    }

    /// The index that an event's data names; nil when its connection is gone.
    @inline(__always) func index(_ data: UInt64) -> Int? {
        let index = Int(data & 0xFFFF_FFFF)
        guard index < highWater,
            storage[index].generation == UInt32(truncatingIfNeeded: data >> 32),
            storage[index].phase != .free
        else { return nil }
        return index
    }
}
