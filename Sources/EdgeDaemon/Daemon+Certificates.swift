// https.certificates: checked with the configuration, loaded at the start and upon HUP.
public import Configuration
internal import Logging
internal import TLS

extension TLSProblems {
    /// 77 when rights are all that is wrong, else 78.
    var exitCode: Int32 { problems.allSatisfy(\.isAboutRights) ? 77 : 78 }
}

extension Daemon {
    /// What is wrong with certificates and keys; for ``ConfigurationLoader``.
    public static func certificateFaults(_ files: [CertificateFiles]) -> [CertificateFault] {
        guard !files.isEmpty else { return [] }
        return TLSContext.check(files.map { TLSCertificateFiles($0) }).map {
            CertificateFault(
                index: $0.index, isKey: $0.part == .key, isAboutRights: $0.isAboutRights,
                message: $0.message)
        }
    }

    /// The certificates of a configuration; nil where TLS is not served.
    func loadCertificates(
        _ configuration: ClickdConfiguration
    ) throws(TLSProblems) -> TLSContext? {
        let files = configuration.https.certificates.map { TLSCertificateFiles($0) }
        guard !configuration.https.listen.isEmpty, !files.isEmpty else { return nil }
        let context = try TLSContext(files, tickets: tickets, loops: workers)
        for warning in context.warnings { log.warning("https.certificates: \(warning)") }
        log.info("certificates loaded", metadata: ["certificates": "\(files.count)"])
        return context
    }
}

extension TLSCertificateFiles {
    /// The files that a configuration names.
    init(_ files: CertificateFiles) {
        self.init(certificate: files.certificate, key: files.key)
    }
}
