// One TLS connection of the server, without I/O: ciphertext and plaintext are in memory. A handle of one
// pointer, so that a connection's slot stays trivially copyable; its owner ends it once.
internal import COpenSSL

/// What came of asking a session for its next step.
public enum TLSStep: BitwiseCopyable, Sendable {
    /// So many bytes of plaintext.
    case bytes(Int)
    /// The handshake is complete.
    case established(isResumed: Bool)
    /// Nothing more without more ciphertext.
    case needsMore
    /// The handshake waits for a turn whose budget allows it.
    case deferred
    /// The client has said its last (close_notify).
    case ended
    /// The protocol is broken; an alert may lie in the output.
    case failed
}

/// A TLS session.
public struct TLSSession: BitwiseCopyable {
    private var ssl: OpaquePointer?

    /// No session.
    @inline(__always) public init() {}

    /// Whether there is one.
    @inline(__always) public var isActive: Bool { ssl != nil }

    /// Begins one over a loop's wire; false without memory.
    public mutating func begin(_ context: TLSContext, loop: Int, wire: borrowing TLSWire) -> Bool {
        precondition(ssl == nil)
        guard let made = context.makeSSL(loop: loop) else { return false }
        // One reference for both directions.
        BIO_up_ref(wire.bio)
        SSL_set_bio(made, wire.bio, wire.bio)
        SSL_set_default_read_buffer_len(made, TLSWire.Limits.readBufferBytes)
        SSL_set_accept_state(made)
        ssl = made
        return true
    }

    /// Goes on with the handshake as far as the received ciphertext leads.
    public func handshake() -> TLSStep {
        let result = SSL_do_handshake(ssl)
        if result == 1 { return .established(isResumed: SSL_session_reused(ssl) == 1) }
        return step(result)
    }

    /// Plaintext into `target`, which is not empty.
    @inline(__always) public func read(into target: UnsafeMutableRawBufferPointer) -> TLSStep {
        var count = 0
        let result = SSL_read_ex(ssl, target.baseAddress, target.count, &count)
        if result == 1 { return .bytes(count) }
        return step(result)
    }

    private func step(_ result: CInt) -> TLSStep {
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .needsMore
        case SSL_ERROR_WANT_CLIENT_HELLO_CB: return .deferred
        case SSL_ERROR_ZERO_RETURN: return .ended
        default:
            ERR_clear_error()
            SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
            return .failed
        }
    }

    /// Whether received bytes lie in the session: plaintext that nobody has read, whole records, or
    /// the beginning of one.
    @inline(__always) public var hasPending: Bool { SSL_has_pending(ssl) == 1 }

    /// Seals plaintext into the wire's output; false when the session is broken.
    @inline(__always) public func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var count = 0
        if SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count) == 1, count == bytes.count {
            return true
        }
        abandon()
        return false
    }

    /// Says close_notify into the wire's output, unless it is said, or there is no session to end.
    public func sayGoodbye() {
        guard SSL_is_init_finished(ssl) == 1, SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN == 0
        else { return }
        if SSL_shutdown(ssl) < 0 { ERR_clear_error() }
    }

    /// Takes the session for broken: nothing more is said.
    public func abandon() {
        ERR_clear_error()
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
    }

    /// Frees it.
    public mutating func end() {
        SSL_free(ssl)
        ssl = nil
    }
}
