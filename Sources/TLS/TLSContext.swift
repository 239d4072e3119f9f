// The certificates that the public port serves, ready for every loop: checked and built as a whole, never
// changed, swapped whole.
internal import COpenSSL
internal import LinuxIO

/// Everything that a handshake needs.
///
/// `@unchecked Sendable`: built once, read only; the SSL_CTX of a loop is used by that loop's thread.
public final class TLSContext: @unchecked Sendable {
    /// TLS 1.2: Mozilla's "intermediate" list without finite-field Diffie-Hellman, which lets a client
    /// buy much of our CPU for little of its own; ECDSA first.
    private static let ciphers =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
        + "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"
    private static let suites =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    private static let curves = "X25519:P-256:P-384"
    private static let signatures =
        "ECDSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:"
        + "RSA+SHA256:RSA+SHA384:RSA+SHA512"

    /// For each loop the SSL_CTX of the first certificate, which knows the others.
    private let contexts: [OpaquePointer]
    /// What the operator should hear: certificates that clients will not take.
    public let warnings: [String]
    /// When the certificate that ends first ends, seconds since 1970.
    public let expiresAtSeconds: Int64

    /// Loads certificates and makes them ready for so many loops.
    ///
    /// - Parameters:
    ///   - files: At least one; the first is for clients that ask for no name or for an unknown one.
    ///   - tickets: Shared with the contexts before and after this one, so that sessions outlive it.
    ///   - loops: Event loops.
    /// - Throws: Every file's problem, in order; at least one.
    public init(
        _ files: [TLSCertificateFiles], tickets: TLSTicketKeys, loops: Int
    ) throws(TLSProblems) {
        let certificates = try TLSContext.load(files)
        var made: [OpaquePointer] = []
        for _ in 0..<loops {
            guard let context = TLSContext.make(certificates, tickets) else {
                for context in made { SSL_CTX_free(context) }
                ERR_clear_error()
                throw TLSProblems(problems: [
                    TLSFileError(
                        index: 0, part: .certificate, isAboutRights: false,
                        message: "\(files[0].certificate): OpenSSL does not serve this certificate")
                ])
            }
            made.append(context)
        }
        contexts = made
        expiresAtSeconds = certificates.map(\.expiresAtSeconds).min() ?? 0
        warnings = zip(files, certificates).compactMap { files, certificate in
            if certificate.hasExpired { return "\(files.certificate): has expired" }
            return certificate.isEarly ? "\(files.certificate): is not valid yet" : nil
        }
    }

    deinit { for context in contexts { SSL_CTX_free(context) } }

    /// Loads certificates only to see what is wrong with them; empty when nothing is.
    public static func check(_ files: [TLSCertificateFiles]) -> [TLSFileError] {
        do throws(TLSProblems) {
            _ = try load(files)
            return []
        } catch {
            return error.problems
        }
    }

    private static func load(
        _ files: [TLSCertificateFiles]
    ) throws(TLSProblems) -> [ServerCertificate] {
        var problems: [TLSFileError] = []
        var loaded: [(index: Int, value: ServerCertificate)] = []
        for (index, pair) in files.enumerated() {
            do throws(CertificateProblem) {
                let certificate = try ServerCertificate(pair)
                if let first = loaded.firstIndex(where: { certificate.isSame(as: $0.value) }) {
                    // One of the two is a slip: the other name's certificate is missing.
                    let twin = files[loaded[first].index].certificate
                    throw CertificateProblem(
                        part: .certificate,
                        message: "\(pair.certificate): the same certificate as \(twin) before it")
                }
                loaded.append((index, certificate))
            } catch {
                problems.append(
                    TLSFileError(
                        index: index, part: error.part, isAboutRights: error.isAboutRights,
                        message: error.message))
            }
        }
        precondition(!files.isEmpty)
        guard problems.isEmpty else { throw TLSProblems(problems: problems) }
        return loaded.map(\.value)
    }

    /// A new connection's SSL, of a loop's context; nil without memory.
    func makeSSL(loop: Int) -> OpaquePointer? { SSL_new(contexts[loop]) }

    // MARK: One loop's contexts

    /// The SSL_CTX of the first certificate, with the others behind its server name callback.
    private static func make(
        _ certificates: [ServerCertificate], _ tickets: TLSTicketKeys
    ) -> OpaquePointer? {
        var directory = NameDirectory()
        var sets: [(members: [Int], context: OpaquePointer?)] = []
        func setIndex(_ members: [Int]) -> Int? {
            if let index = sets.firstIndex(where: { $0.members == members }) { return index }
            guard let context = context(of: members.map { certificates[$0] }, tickets) else {
                return nil
            }
            sets.append((members, context))
            return sets.count - 1
        }
        func free() { for set in sets { if let context = set.context { SSL_CTX_free(context) } } }
        let twin = certificates.indices.dropFirst().first {
            certificates[$0].isTwin(of: certificates[0])
        }
        guard setIndex([0] + (twin.map { [$0] } ?? [])) != nil else { return nil }
        for certificate in certificates {
            for name in certificate.names where !directory.knows(name) {
                // For each name the first certificate of each kind of key.
                let ecdsa = certificates.firstIndex { $0.isECDSA && $0.names.contains(name) }
                let rsa = certificates.firstIndex { !$0.isECDSA && $0.names.contains(name) }
                guard let index = setIndex([ecdsa, rsa].compactMap { $0 }.sorted()) else {
                    free()
                    return nil
                }
                directory.add(name, index)
            }
        }
        guard let first = sets[0].context else { return nil }
        directory.contexts = [nil] + sets.dropFirst().map(\.context)
        let names = Unmanaged.passRetained(NameTable(directory))
        guard SSL_CTX_set_ex_data(first, namesSlot, names.toOpaque()) == 1 else {
            names.release()
            SSL_CTX_free(first)
            return nil
        }
        // Without a choice there is nothing to ask for.
        if directory.isNeeded {
            copenssl_set_server_name_callback(first, chooseByName, names.toOpaque())
        }
        return first
    }

    private static func context(
        of certificates: [ServerCertificate], _ tickets: TLSTicketKeys
    ) -> OpaquePointer? {
        guard let context = SSL_CTX_new(TLS_server_method()) else { return nil }
        guard configure(context), keepTickets(context, tickets),
            certificates.allSatisfy({
                SSL_CTX_use_certificate(context, $0.leaf) == 1
                    && SSL_CTX_use_PrivateKey(context, $0.key) == 1
                    && copenssl_set_chain(context, $0.chain) == 1
            })
        else {
            SSL_CTX_free(context)
            return nil
        }
        return context
    }

    private static func configure(_ context: OpaquePointer) -> Bool {
        SSL_CTX_set_options(context, copenssl_server_options())
        copenssl_release_buffers(context)
        copenssl_read_ahead(context)
        // Tickets alone: a cache of our own would be memory for strangers.
        copenssl_session_cache(context, CInt(SSL_SESS_CACHE_OFF))
        SSL_CTX_set_timeout(context, TLSTicketKeys.Limits.sessionSeconds)
        SSL_CTX_set_alpn_select_cb(context, chooseProtocol, nil)
        SSL_CTX_set_client_hello_cb(context, admitHello, nil)
        let group = Array("clickd".utf8)
        return copenssl_set_versions(context, TLS1_2_VERSION, TLS1_3_VERSION) == 1
            && SSL_CTX_set_cipher_list(context, ciphers) == 1
            && SSL_CTX_set_ciphersuites(context, suites) == 1
            && copenssl_set_groups(context, curves) == 1
            && copenssl_set_signature_algorithms(context, signatures) == 1
            && SSL_CTX_set_num_tickets(context, 1) == 1
            && SSL_CTX_set_max_early_data(context, 0) == 1
            && SSL_CTX_set_session_id_context(context, group, UInt32(group.count)) == 1
    }

    private static func keepTickets(_ context: OpaquePointer, _ tickets: TLSTicketKeys) -> Bool {
        let keys = Unmanaged.passRetained(tickets)
        guard SSL_CTX_set_ex_data(context, ticketsSlot, keys.toOpaque()) == 1 else {
            keys.release()
            return false
        }
        return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, answerTicket) == 1
    }

    /// Where an SSL_CTX keeps the ticket keys; it releases them with itself.
    private static let ticketsSlot = copenssl_context_index { _, value, _, _, _, _ in
        if let value { Unmanaged<TLSTicketKeys>.fromOpaque(value).release() }
    }

    /// Where the first SSL_CTX keeps the names of all; it releases them with itself.
    private static let namesSlot = copenssl_context_index { _, value, _, _, _, _ in
        if let value { Unmanaged<NameTable>.fromOpaque(value).release() }
    }

    // MARK: OpenSSL's questions

    private static let answerTicket:
        @Sendable @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?,
            OpaquePointer?, OpaquePointer?, CInt
        ) -> CInt = { ssl, name, vector, cipher, mac, seals in
            guard let name, let vector, let cipher, let mac,
                let keys = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), TLSContext.ticketsSlot)
            else { return -1 }
            return Unmanaged<TLSTicketKeys>.fromOpaque(keys).takeUnretainedValue().answer(
                name: name, vector: vector, cipher: cipher, mac: mac, seals: seals == 1)
        }

    private static let chooseByName:
        @Sendable @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<CInt>?, UnsafeMutableRawPointer?
        ) -> CInt = { ssl, _, argument in
            guard let argument, let text = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) else {
                return SSL_TLSEXT_ERR_NOACK
            }
            let table = Unmanaged<NameTable>.fromOpaque(argument).takeUnretainedValue()
            if let context = table.context(for: text) { SSL_set_SSL_CTX(ssl, context) }
            return SSL_TLSEXT_ERR_OK
        }

    /// HTTP/1.1 for who offers it; who offers only others is told so.
    private static let chooseProtocol:
        @Sendable @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
            UnsafeMutablePointer<UInt8>?, UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
        ) -> CInt = { _, chosen, chosenCount, offered, count, _ in
            guard let chosen, let chosenCount, let offered else {
                return SSL_TLSEXT_ERR_ALERT_FATAL
            }
            let list = UnsafeBufferPointer(start: offered, count: Int(count))
            var position = 0
            while position < list.count {
                let length = Int(list[position])
                let end = position + 1 + length
                guard end <= list.count else { break }
                let name = UnsafeBufferPointer(rebasing: list[position + 1..<end])
                if name.elementsEqual("http/1.1".utf8) {
                    chosen.pointee = name.baseAddress
                    chosenCount.pointee = UInt8(truncatingIfNeeded: length)
                    return SSL_TLSEXT_ERR_OK
                }
                position = end
            }
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }

    /// A handshake that seems to resume goes on at once; others while the turn's budget lasts.
    private static let admitHello:
        @Sendable @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<CInt>?, UnsafeMutableRawPointer?
        ) -> CInt = { ssl, _, _ in
            guard let ssl, let memory = BIO_get_data(SSL_get_rbio(ssl)) else {
                return SSL_CLIENT_HELLO_ERROR
            }
            let wire = memory.assumingMemoryBound(to: TLSWire.State.self)
            var bytes: UnsafePointer<UInt8>?
            var count = 0
            func offers(_ type: CInt) -> Bool {
                SSL_client_hello_get0_ext(ssl, UInt32(type), &bytes, &count) == 1 && count > 0
            }
            let resumes = offers(TLSEXT_TYPE_psk) || offers(TLSEXT_TYPE_session_ticket)
            let isAdmitted = wire.pointee.budget.admit(resumes: resumes)
            return isAdmitted ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_RETRY
        }
}

/// Every problem of the files.
public struct TLSProblems: Error, Sendable {
    /// At least one.
    public let problems: [TLSFileError]
}

/// Names on their way to a ``NameTable``: for each the position of its SSL_CTX, 0 for the first.
struct NameDirectory {
    var entries: [(name: [UInt8], set: Int)] = []
    /// By position; nil for the first.
    var contexts: [OpaquePointer?] = []

    func knows(_ name: [UInt8]) -> Bool { entries.contains { $0.name == name } }

    mutating func add(_ name: [UInt8], _ set: Int) { entries.append((name, set)) }

    /// Whether any name leads elsewhere than to the first.
    var isNeeded: Bool { entries.contains { $0.set != 0 } }
}

/// The names that lead to other SSL_CTX than the first.
///
/// Owned by the first SSL_CTX, whose last connection may outlive the ``TLSContext``.
final class NameTable {
    private let directory: NameDirectory

    init(_ directory: NameDirectory) { self.directory = directory }

    deinit { for context in directory.contexts { if let context { SSL_CTX_free(context) } } }

    /// The SSL_CTX for an asked name; nil to stay with the first.
    ///
    /// Exact names go before wildcards. O(names).
    func context(for text: UnsafePointer<CChar>) -> OpaquePointer? {
        var count = 0
        while text[count] != 0 { count += 1 }
        // A trailing dot says that the name is complete.
        if count > 0, text[count - 1] == 0x2E { count -= 1 }
        return text.withMemoryRebound(to: UInt8.self, capacity: count) { bytes in
            let asked = UnsafeBufferPointer(start: bytes, count: count)
            var found: Int?
            for entry in directory.entries where ServerName.matches(entry.name, asked) {
                if entry.name.first != 0x2A { return directory.contexts[entry.set] }
                if found == nil { found = entry.set }
            }
            return found.flatMap { directory.contexts[$0] }
        }
    }
}
