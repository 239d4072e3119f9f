// A certificate authority of one directory's own, made with the openssl command: for tests, benchmarks and
// the looks at TLS. Nobody else trusts it.
internal import LinuxIO
public import TLS

/// Issues certificates: root, intermediate, leaf.
public struct PrivateAuthority: Sendable {
    /// A kind of key.
    public enum Kind: String, Sendable {
        /// EC, P-256.
        case ecdsa
        /// RSA, 2048 bits.
        case rsa

        fileprivate var options: [String] {
            switch self {
            case .ecdsa: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            case .rsa: ["-newkey", "rsa:2048"]
            }
        }
    }

    /// Where the files are.
    public let directory: String
    /// PEM file of the root, for those who are to trust it.
    public var root: String { "\(directory)/root.pem" }

    /// Makes a root and an intermediate in a directory, which is made when missing.
    public init(directory: String) throws {
        self.directory = directory
        try FileSystem.makeDirectories(directory, permissions: 0o755)
        try openssl(
            ["req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=Private Root"]
                + Kind.ecdsa.options + ["-keyout", "\(directory)/root.key", "-out", root])
        try request("intermediate", .ecdsa, subject: "Private Intermediate")
        try sign(
            "intermediate", by: "root", days: 1825,
            extensions: [
                "basicConstraints=critical,CA:true,pathlen:0",
                "keyUsage=critical,keyCertSign,cRLSign",
            ])
    }

    /// Issues a certificate; its files are named after `label`.
    ///
    /// - Parameters:
    ///   - label: Not used before in this directory.
    ///   - names: DNS names; the first is the common name too.
    ///   - kind: The kind of key.
    ///   - days: Days of validity.
    public func issue(
        _ label: String, names: [String], kind: Kind, days: Int = 90
    ) throws -> TLSCertificateFiles {
        try request(label, kind, subject: names.first ?? label)
        try sign(
            label, by: "intermediate", days: days,
            extensions: [
                "basicConstraints=critical,CA:false", "keyUsage=critical,digitalSignature",
                "extendedKeyUsage=serverAuth",
                "subjectAltName=" + names.map { "DNS:\($0)" }.joined(separator: ","),
            ])
        let chain =
            try FileSystem.read("\(directory)/\(label).pem")
            + FileSystem.read("\(directory)/intermediate.pem")
        let path = "\(directory)/\(label).chain.pem"
        try chain.withUnsafeBytes { try FileSystem.replace(path, with: $0, permissions: 0o644) }
        return TLSCertificateFiles(certificate: path, key: "\(directory)/\(label).key")
    }

    private func request(_ label: String, _ kind: Kind, subject: String) throws {
        try openssl(
            ["req", "-new", "-nodes", "-subj", "/CN=\(subject)"] + kind.options
                + ["-keyout", "\(directory)/\(label).key", "-out", "\(directory)/\(label).csr"])
    }

    private func sign(
        _ label: String, by issuer: String, days: Int, extensions: [String]
    ) throws {
        let file = "\(directory)/\(label).ext"
        try Array((extensions.joined(separator: "\n") + "\n").utf8).withUnsafeBytes {
            try FileSystem.replace(file, with: $0)
        }
        let serial = Randomness.bytes(15).reduce(into: "0x7") {
            $0 += ($1 < 16 ? "0" : "") + String($1, radix: 16)
        }
        try openssl([
            "x509", "-req", "-in", "\(directory)/\(label).csr", "-CA", "\(directory)/\(issuer).pem",
            "-CAkey", "\(directory)/\(issuer).key", "-days", "\(days)", "-sha256",
            "-set_serial", serial, "-extfile", file, "-out", "\(directory)/\(label).pem",
        ])
    }

    private func openssl(_ arguments: [String]) throws {
        let output = "\(directory)/openssl.log"
        let code = try ChildProcess.start(["openssl"] + arguments, output: output).wait()
        guard code == 0 else {
            let text = String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
            throw StackError("openssl \(arguments.first ?? ""): \(text)")
        }
    }
}
