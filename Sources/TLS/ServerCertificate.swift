// One certificate of https.certificates: its chain, its private key, the names it is for.
internal import COpenSSL
internal import LinuxIO

/// The PEM files of one certificate.
public struct TLSCertificateFiles: Sendable, Equatable {
    /// The chain, the server's own certificate first.
    public var certificate: String
    /// The private key.
    public var key: String

    /// Two paths.
    public init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// Why a certificate cannot be served; never a byte of a key.
public struct TLSFileError: Error, Equatable, Sendable {
    /// Which of the two files is at fault.
    public enum Part: String, Sendable {
        /// `certificate`.
        case certificate
        /// `key`.
        case key
    }

    /// The position in the list of certificates.
    public let index: Int
    /// The file at fault.
    public let part: Part
    /// Whether rights are what is wrong (exit code 77, else 78).
    public let isAboutRights: Bool
    /// One line that names the file and says what to do.
    public let message: String
}

/// What is wrong with one of the files, before it is known whose it is.
struct CertificateProblem: Error {
    let part: TLSFileError.Part
    var isAboutRights = false
    let message: String
}

/// A loaded certificate.
///
/// `@unchecked Sendable`: OpenSSL counts references atomically, and nothing changes after `init`.
final class ServerCertificate: @unchecked Sendable {
    /// Limits of certificate files.
    enum Limits {
        /// Bytes of a PEM file.
        static let fileBytes = 256 << 10
        /// Certificates of a chain.
        static let chain = 10
        /// Bytes of a chain as a handshake carries it.
        static let chainBytes = 48 << 10
        /// The shortest RSA key, bits.
        static let rsaBits = 2048
    }

    let leaf: OpaquePointer
    /// The rest of the chain; OpenSSL's own stack.
    let chain: OpaquePointer
    let key: OpaquePointer
    /// Lower-case DNS names, sorted; wildcards begin with `*.`.
    let names: [[UInt8]]
    let isECDSA: Bool
    /// The end of its validity, seconds since 1970.
    let expiresAtSeconds: Int64
    /// Whether that has passed.
    let hasExpired: Bool
    /// Whether its validity has not begun.
    let isEarly: Bool

    init(_ files: TLSCertificateFiles) throws(CertificateProblem) {
        (leaf, chain) = try ServerCertificate.readChain(files.certificate)
        do throws(CertificateProblem) {
            key = try ServerCertificate.readKey(files.key)
        } catch {
            X509_free(leaf)
            copenssl_chain_free(chain)
            throw error
        }
        names = ServerCertificate.names(of: leaf)
        isECDSA = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC
        expiresAtSeconds = ServerCertificate.seconds(X509_get0_notAfter(leaf))
        hasExpired = X509_cmp_time(X509_get0_notAfter(leaf), nil) < 0
        isEarly = X509_cmp_time(X509_get0_notBefore(leaf), nil) > 0
        // From here on deinit frees what was read.
        try check(files)
    }

    deinit {
        X509_free(leaf)
        copenssl_chain_free(chain)
        EVP_PKEY_free(key)
    }

    /// A time of OpenSSL's as seconds since 1970.
    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        let epoch = ASN1_TIME_set(nil, 0)
        defer { ASN1_TIME_free(epoch) }
        var days: CInt = 0
        var seconds: CInt = 0
        ASN1_TIME_diff(&days, &seconds, epoch, time)
        return Int64(days) * 86_400 + Int64(seconds)
    }

    /// Whether it is another file of the same certificate.
    func isSame(as other: ServerCertificate) -> Bool { X509_cmp(leaf, other.leaf) == 0 }

    /// Whether it is for every name that another is for, with another kind of key.
    func isTwin(of other: ServerCertificate) -> Bool {
        isECDSA != other.isECDSA && names == other.names
    }

    private func check(_ files: TLSCertificateFiles) throws(CertificateProblem) {
        defer { ERR_clear_error() }
        switch EVP_PKEY_get_base_id(key) {
        case EVP_PKEY_RSA:
            guard EVP_PKEY_get_bits(key) >= Limits.rsaBits else {
                throw CertificateProblem(
                    part: .key, message: "\(files.key): an RSA key of fewer than 2048 bits")
            }
        case EVP_PKEY_EC:
            let curve = ServerCertificate.curve(of: key)
            guard curve == "prime256v1" || curve == "secp384r1" else {
                throw CertificateProblem(
                    part: .key,
                    message: "\(files.key): a key on a curve that browsers do not take "
                        + "(allowed: P-256, P-384)")
            }
        default:
            throw CertificateProblem(
                part: .key, message: "\(files.key): neither an RSA nor an EC key")
        }
        guard X509_check_private_key(leaf, key) == 1 else {
            throw CertificateProblem(
                part: .key,
                message: "\(files.key): not the key of the first certificate in "
                    + "\(files.certificate)")
        }
    }

    private static func curve(of key: OpaquePointer) -> String {
        var text = [CChar](repeating: 0, count: 64)
        var count = 0
        guard EVP_PKEY_get_group_name(key, &text, text.count, &count) == 1 else { return "" }
        return String(
            decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: Files

    private static func readChain(
        _ path: String
    ) throws(CertificateProblem) -> (OpaquePointer, OpaquePointer) {
        let bytes = try read(path, .certificate)
        defer { ERR_clear_error() }
        guard let chain = copenssl_chain_new() else {
            throw CertificateProblem(part: .certificate, message: "\(path): no memory")
        }
        var leaf: OpaquePointer?
        var count = 0
        var encoded = 0
        withSource(bytes) { source in
            while count <= Limits.chain,
                let next = PEM_read_bio_X509(source, nil, noPassword, nil)
            {
                count += 1
                encoded += Int(max(i2d_X509(next, nil), 0))
                if leaf == nil {
                    leaf = next
                } else if copenssl_chain_push(chain, next) == 0 {
                    X509_free(next)
                }
            }
        }
        guard let leaf else {
            copenssl_chain_free(chain)
            throw CertificateProblem(
                part: .certificate,
                message: "\(path): no certificate in PEM (-----BEGIN CERTIFICATE-----)")
        }
        // The reader stops without an error only at the end of the text.
        let error = ERR_peek_last_error()
        let isAtEnd = copenssl_is_no_start_line(error) == 1
        let isShort = count <= Limits.chain && encoded <= Limits.chainBytes
        guard isAtEnd, isShort else {
            X509_free(leaf)
            copenssl_chain_free(chain)
            throw CertificateProblem(
                part: .certificate,
                message: !isShort
                    ? "\(path): a chain of more than \(Limits.chain) certificates or "
                        + "\(Limits.chainBytes >> 10) KiB"
                    : "\(path): certificate \(count + 1) of the chain is damaged")
        }
        return (leaf, chain)
    }

    private static func readKey(_ path: String) throws(CertificateProblem) -> OpaquePointer {
        var bytes = try read(path, .key)
        defer {
            bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
            ERR_clear_error()
        }
        var key: OpaquePointer?
        withSource(bytes) { key = PEM_read_bio_PrivateKey($0, nil, noPassword, nil) }
        guard let key else {
            throw CertificateProblem(
                part: .key,
                message: "\(path): no private key in PEM without a passphrase "
                    + "(-----BEGIN PRIVATE KEY-----)")
        }
        return key
    }

    private static func withSource(_ bytes: [UInt8], _ body: (OpaquePointer) -> Void) {
        bytes.withUnsafeBytes { buffer in
            guard let source = BIO_new_mem_buf(buffer.baseAddress, CInt(clamping: buffer.count))
            else { return }
            body(source)
            BIO_free(source)
        }
    }

    private static func read(
        _ path: String, _ part: TLSFileError.Part
    ) throws(CertificateProblem) -> [UInt8] {
        do throws(Errno) {
            // Asked first, because opening a FIFO would wait for its writer.
            let status = try FileSystem.status(path)
            guard status.isRegularFile else {
                throw Errno.invalidArgument
            }
            guard part == .certificate || status.permissions & 0o077 == 0 else {
                throw Errno.notPermitted
            }
            let bytes = try FileSystem.read(path, limit: Limits.fileBytes)
            guard !bytes.isEmpty else { throw Errno.invalidArgument }
            return bytes
        } catch {
            throw problem(path, part, error)
        }
    }

    private static func problem(
        _ path: String, _ part: TLSFileError.Part, _ error: Errno
    ) -> CertificateProblem {
        switch error {
        case .notPermitted where part == .key:
            CertificateProblem(
                part: part, isAboutRights: true,
                message: "\(path): group or others have rights on the private key; "
                    + "run `chmod 600 \(path)`")
        case .accessDenied, .notPermitted:
            CertificateProblem(
                part: part,
                message: "\(path): cannot be read: \(error); give it to clickd's user")
        case .invalidArgument:
            CertificateProblem(
                part: part, message: "\(path): empty, or not a regular file")
        default:
            CertificateProblem(part: part, message: "\(path): cannot be read: \(error)")
        }
    }

    // MARK: Names

    private static func names(of leaf: OpaquePointer) -> [[UInt8]] {
        var names: [[UInt8]] = []
        withUnsafeMutablePointer(to: &names) { list in
            copenssl_each_name(leaf, list) { list, bytes, count in
                guard let list, let bytes, count > 0 else { return }
                let name = UnsafeBufferPointer(start: bytes, count: Int(count))
                list.assumingMemoryBound(to: [[UInt8]].self).pointee.append(
                    name.map { ServerName.lowercased($0) })
            }
        }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }
}

/// OpenSSL's question for a passphrase: nobody sits at a terminal to be asked.
private func noPassword(
    _: UnsafeMutablePointer<CChar>?, _: CInt, _: CInt, _: UnsafeMutableRawPointer?
) -> CInt { 0 }

/// Comparing the names of certificates with the name that a client asks for.
enum ServerName {
    @inline(__always) static func lowercased(_ byte: UInt8) -> UInt8 {
        (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
    }

    /// Whether a certificate's name covers an asked one; a wildcard stands for one whole label.
    static func matches(_ name: [UInt8], _ asked: UnsafeBufferPointer<UInt8>) -> Bool {
        guard name.starts(with: [0x2A, 0x2E]) else { return isSame(name[...], asked) }
        guard let dot = asked.firstIndex(of: 0x2E), dot > 0 else { return false }
        return isSame(name.dropFirst(), UnsafeBufferPointer(rebasing: asked[dot...]))
    }

    private static func isSame(
        _ name: ArraySlice<UInt8>, _ asked: UnsafeBufferPointer<UInt8>
    ) -> Bool {
        name.count == asked.count && zip(name, asked).allSatisfy { $0 == lowercased($1) }
    }
}
