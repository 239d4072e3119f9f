// A blocking TLS client: what tests and benchmarks talk to the public port with.
internal import COpenSSL
public import LinuxIO

/// What a client offers and demands.
public struct TLSClientOptions: Sendable {
    /// A protocol version.
    public enum Version: CInt, Sendable, CaseIterable {
        /// TLS 1.1, which must be refused.
        case tls11 = 0x0302
        /// TLS 1.2.
        case tls12 = 0x0303
        /// TLS 1.3.
        case tls13 = 0x0304
    }

    /// The lowest and the highest version that it offers.
    public var versions: ClosedRange<CInt> = Version.tls12.rawValue...Version.tls13.rawValue
    /// PEM file of the authority that it trusts; nil trusts anyone.
    public var authority: String?
    /// TLS 1.2 ciphers, in OpenSSL's words.
    public var ciphers: String?
    /// Signature algorithms, in OpenSSL's words.
    public var signatureAlgorithms: String?
    /// Key exchange groups, in OpenSSL's words.
    public var groups: String?
    /// ALPN protocols.
    public var protocols: [String] = []

    /// Offers everything that OpenSSL does.
    public init() {}

    /// Offers one version only.
    public init(only version: Version) { versions = version.rawValue...version.rawValue }
}

/// Why a TLS client could not go on.
public struct TLSClientError: Error, CustomStringConvertible, Sendable {
    /// OpenSSL's words.
    public let description: String
    /// What the kernel said, where it was a call of its that failed.
    public let cause: Errno?

    /// - Parameter result: What SSL_get_error(3) made of it, if it was asked.
    init(_ doing: String, result: CInt = SSL_ERROR_SSL) {
        let last = Errno.current
        switch result {
        case SSL_ERROR_SYSCALL: cause = last
        // On a blocking socket: its time was over.
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: cause = .wouldBlock
        default: cause = nil
        }
        var text = [CChar](repeating: 0, count: 256)
        let code = ERR_get_error()
        ERR_error_string_n(code, &text, text.count)
        ERR_clear_error()
        let words = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        description = "\(doing): " + (code == 0 ? "ended" : String(decoding: words, as: UTF8.self))
    }
}

/// A session that may be resumed.
///
/// `@unchecked Sendable`: OpenSSL counts references atomically; a session is not changed.
public final class TLSClientSession: @unchecked Sendable {
    let session: OpaquePointer
    init(_ session: OpaquePointer) { self.session = session }
    deinit { SSL_SESSION_free(session) }

    /// The lifetime that the server gave its ticket, seconds.
    public var lifetimeHint: UInt { SSL_SESSION_get_ticket_lifetime_hint(session) }
}

/// What many clients share.
///
/// `@unchecked Sendable`: an SSL_CTX that nothing changes after `init`.
public final class TLSClientContext: @unchecked Sendable {
    fileprivate let context: OpaquePointer

    /// A context for clients of these options.
    public init(_ options: TLSClientOptions = TLSClientOptions()) throws(TLSClientError) {
        guard let context = SSL_CTX_new(TLS_client_method()) else {
            throw TLSClientError("SSL_CTX_new")
        }
        self.context = context
        // Old versions need the lowest level, so that it is the server that refuses them.
        if options.versions.lowerBound < TLS1_2_VERSION { SSL_CTX_set_security_level(context, 0) }
        var isGood =
            copenssl_set_versions(
                context, options.versions.lowerBound, options.versions.upperBound) == 1
        if let ciphers = options.ciphers {
            isGood = isGood && SSL_CTX_set_cipher_list(context, ciphers) == 1
        }
        if let algorithms = options.signatureAlgorithms {
            isGood = isGood && copenssl_set_signature_algorithms(context, algorithms) == 1
        }
        if let groups = options.groups {
            isGood = isGood && copenssl_set_groups(context, groups) == 1
        }
        if let authority = options.authority {
            isGood = isGood && SSL_CTX_load_verify_file(context, authority) == 1
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        }
        let list = options.protocols.flatMap { [UInt8(clamping: $0.utf8.count)] + Array($0.utf8) }
        if !list.isEmpty {
            isGood = isGood && SSL_CTX_set_alpn_protos(context, list, UInt32(list.count)) == 0
        }
        guard isGood else { throw TLSClientError("options") }
    }

    deinit { SSL_CTX_free(context) }
}

/// A client's connection.
public final class TLSClient {
    private let socket: FileDescriptor
    private let ssl: OpaquePointer

    /// Connects and shakes hands.
    ///
    /// - Parameters:
    ///   - socket: A connected, blocking socket.
    ///   - context: What is offered.
    ///   - name: The server name to ask for, and to verify where there is an authority.
    ///   - session: A session to resume.
    public init(
        _ socket: consuming FileDescriptor, context: TLSClientContext, name: String? = nil,
        session: TLSClientSession? = nil
    ) throws(TLSClientError) {
        ERR_clear_error()
        guard let ssl = SSL_new(context.context) else { throw TLSClientError("SSL_new") }
        self.ssl = ssl
        self.socket = socket
        SSL_set_fd(ssl, self.socket.rawValue)
        if let name {
            copenssl_set_host_name(ssl, name)
            SSL_set1_host(ssl, name)
        }
        if let session { SSL_set_session(ssl, session.session) }
        let result = SSL_connect(ssl)
        guard result == 1 else {
            throw TLSClientError("handshake", result: SSL_get_error(ssl, result))
        }
    }

    deinit {
        // Else OpenSSL would forget the session, as if the connection had been cut off.
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(ssl)
    }

    /// Whether the session was resumed.
    public var isResumed: Bool { SSL_session_reused(ssl) == 1 }
    /// The protocol version.
    public var version: CInt { SSL_version(ssl) }
    /// The cipher, in OpenSSL's words.
    public var cipher: String { String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(ssl))) }

    /// Whether the server's certificate has an EC key.
    public var hasECDSA: Bool {
        guard let certificate = SSL_get0_peer_certificate(ssl),
            let key = X509_get0_pubkey(certificate)
        else { return false }
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC
    }

    /// The common name of the server's certificate.
    public var peerName: String {
        var text = [CChar](repeating: 0, count: 256)
        guard let certificate = SSL_get0_peer_certificate(ssl) else { return "" }
        X509_NAME_get_text_by_NID(
            X509_get_subject_name(certificate), NID_commonName, &text, CInt(text.count))
        let name = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: name, as: UTF8.self)
    }

    /// The protocol that ALPN chose; empty for none.
    public var chosenProtocol: String {
        var bytes: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &bytes, &count)
        return String(decoding: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
    }

    /// The session as it is now; in TLS 1.3 it can be resumed once an answer has been read.
    public func session() -> TLSClientSession? {
        SSL_get1_session(ssl).map { TLSClientSession($0) }
    }

    /// Sends everything.
    public func write(_ bytes: [UInt8]) throws(TLSClientError) {
        var sent = 0
        ERR_clear_error()
        guard bytes.isEmpty || SSL_write_ex(ssl, bytes, bytes.count, &sent) == 1 else {
            throw TLSClientError("write", result: SSL_get_error(ssl, 0))
        }
    }

    /// What comes next, at most `limit` bytes; empty after the server's close_notify.
    ///
    /// - Throws: ``TLSClientError`` when the server ends without one, too.
    public func read(limit: Int = 65_536) throws(TLSClientError) -> [UInt8] {
        var count = 0
        ERR_clear_error()
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, filled in
            _ = SSL_read_ex(ssl, buffer.baseAddress, limit, &count)
            filled = count
        }
        guard count == 0 else { return bytes }
        let result = SSL_get_error(ssl, 0)
        guard result == SSL_ERROR_ZERO_RETURN else {
            throw TLSClientError("read", result: result)
        }
        return bytes
    }

    /// Asks for new keys of both directions (TLS 1.3), or for a new handshake (TLS 1.2).
    public func renew() throws(TLSClientError) {
        ERR_clear_error()
        if version == TLS1_3_VERSION {
            guard SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1,
                SSL_do_handshake(ssl) == 1
            else { throw TLSClientError("key update") }
        } else {
            guard SSL_renegotiate(ssl) == 1, SSL_do_handshake(ssl) == 1 else {
                throw TLSClientError("renegotiation")
            }
        }
    }

    /// Says close_notify.
    public func finishSending() { if SSL_shutdown(ssl) < 0 { ERR_clear_error() } }

    /// The connected socket, for bytes that are no TLS.
    public var descriptor: CInt { socket.rawValue }
}
