// A loop's end of every TLS connection: ciphertext that was received goes in, ciphertext to be sent comes
// out, both in memory. OpenSSL sees it as one BIO, which all connections of the loop share, because
// only one of them is being served at a time.
internal import COpenSSL

/// How many handshakes may begin in one turn.
public struct HandshakeBudget: BitwiseCopyable, Sendable {
    /// Full handshakes that may still begin.
    public var full: Int
    /// Handshakes with a ticket that may still begin.
    ///
    /// A ticket may turn out to be worthless; then it has cost as much as a full handshake.
    public var resumed: Int
    /// Handshakes that were put off since ``HandshakeBudget`` was set.
    public private(set) var deferred = 0

    /// A turn's budget.
    public init(full: Int, resumed: Int) {
        self.full = full
        self.resumed = resumed
    }

    mutating func admit(resumes: Bool) -> Bool {
        if resumes, resumed > 0 {
            resumed -= 1
            return true
        }
        if full > 0 {
            full -= 1
            return true
        }
        deferred += 1
        return false
    }
}

/// The memory between a loop's sockets and OpenSSL.
///
/// Owned by one loop thread.
public struct TLSWire: ~Copyable {
    /// Limits of a wire.
    public enum Limits {
        /// Bytes of ciphertext that one ``receive(count:)`` may bring.
        ///
        /// OpenSSL's own buffer has room for two records of this size, but for the end of a record
        /// that it knows to be unfinished it reads no further: the rest is ``TLSWire/unread``.
        public static let inputBytes = 16 << 10
        /// Bytes of OpenSSL's read buffer: an unfinished record and all that one receive brings.
        static let readBufferBytes = 2 * ((16 << 10) + 512)
        /// Bytes beside the plaintext that one turn of one connection may put out: a chain of
        /// certificates, tickets, answers to key updates, and what sealing adds.
        public static let overheadBytes = 96 << 10
    }

    /// What the BIO reads from and writes to.
    struct State {
        var input: UnsafeRawPointer?
        var inputCount = 0
        let output: UnsafeMutableRawPointer
        let outputCapacity: Int
        var outputCount = 0
        var budget = HandshakeBudget(full: .max, resumed: .max)
    }

    let state: UnsafeMutablePointer<State>
    let bio: OpaquePointer
    private let received: UnsafeMutableRawBufferPointer

    /// A wire that takes out so many bytes of plaintext at a time.
    public init(plaintextBytes: Int) {
        let capacity = plaintextBytes + Limits.overheadBytes
        state = .allocate(capacity: 1)
        state.initialize(
            to: State(
                output: .allocate(byteCount: capacity, alignment: 64), outputCapacity: capacity))
        received = .allocate(byteCount: Limits.inputBytes, alignment: 64)
        // Without a method or a BIO there is no memory at all at the start of the process.
        guard let method = TLSWire.method, let made = BIO_new(method) else {
            preconditionFailure("OpenSSL gives no BIO")
        }
        bio = made
        BIO_set_data(bio, state)
        BIO_set_init(bio, 1)
    }

    deinit {
        BIO_set_data(bio, nil)
        BIO_free(bio)
        state.pointee.output.deallocate()
        state.deallocate()
        received.deallocate()
    }

    /// Where received ciphertext is to be written.
    public var room: UnsafeMutableRawBufferPointer { received }

    /// Makes the first bytes of ``room`` what the next session reads, and forgets unsent output.
    public func receive(count: Int) {
        precondition(count <= received.count)
        state.pointee.input = UnsafeRawPointer(received.baseAddress)
        state.pointee.inputCount = count
        state.pointee.outputCount = 0
    }

    /// Ciphertext of this turn that no session has read.
    public var unreadCount: Int { state.pointee.inputCount }
    /// Its bytes, until the next ``receive(count:)``.
    public var unread: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: state.pointee.input, count: state.pointee.inputCount)
    }

    /// Ciphertext to be sent.
    @inline(__always) public var output: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: state.pointee.output, count: state.pointee.outputCount)
    }

    /// Forgets the output from a position on, for it is sent or nobody wants it.
    @inline(__always) public func clearOutput(from start: Int = 0) {
        state.pointee.outputCount = min(start, state.pointee.outputCount)
    }

    /// How many handshakes may still begin.
    public var budget: HandshakeBudget {
        get { state.pointee.budget }
        nonmutating set { state.pointee.budget = newValue }
    }

    // MARK: The BIO

    private static let retryFlags = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY

    /// One for the process; OpenSSL keeps it.
    private nonisolated(unsafe) static let method: OpaquePointer? = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "clickd")
        else { return nil }
        BIO_meth_set_read(method, read)
        BIO_meth_set_write(method, write)
        BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return method
    }()

    private static let read:
        @Sendable @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, CInt) -> CInt = {
            bio, target, wanted in
            guard let bio, let target, wanted > 0, let memory = BIO_get_data(bio) else { return -1 }
            BIO_clear_flags(bio, TLSWire.retryFlags)
            let state = memory.assumingMemoryBound(to: State.self)
            guard let source = state.pointee.input, state.pointee.inputCount > 0 else {
                BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
                return -1
            }
            let count = min(Int(wanted), state.pointee.inputCount)
            UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count)
            state.pointee.input = source + count
            state.pointee.inputCount -= count
            return CInt(truncatingIfNeeded: count)
        }

    private static let write:
        @Sendable @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, CInt) -> CInt = {
            bio, source, count in
            guard let bio, let source, count > 0, let memory = BIO_get_data(bio) else { return -1 }
            BIO_clear_flags(bio, TLSWire.retryFlags)
            let state = memory.assumingMemoryBound(to: State.self)
            // More than any turn puts out: an error of the connection, not a reason to wait.
            guard Int(count) <= state.pointee.outputCapacity - state.pointee.outputCount else {
                return -1
            }
            (state.pointee.output + state.pointee.outputCount).copyMemory(
                from: source, byteCount: Int(count))
            state.pointee.outputCount += Int(count)
            return count
        }
}
