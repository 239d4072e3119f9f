// Certificates of the tests' own authority: made once a process, gone with it.
import Glibc
import LinuxIO
import TLS
import Workbench

enum Certificates {
    private static let made = Result { () throws -> (PrivateAuthority, [TLSCertificateFiles]) in
        let path = "/dev/shm/clickd-tls-test-\(CurrentProcess.id)"
        atexit {
            try? FileSystem.removeTree("/dev/shm/clickd-tls-test-\(CurrentProcess.id)")
        }
        let authority = try PrivateAuthority(directory: path)
        return (
            authority,
            [
                try authority.issue("rsa", names: ["go.example", "www.go.example"], kind: .rsa),
                try authority.issue("ec", names: ["go.example", "www.go.example"], kind: .ecdsa),
                try authority.issue("other", names: ["*.shop.example"], kind: .ecdsa),
                try authority.issue("exact", names: ["vip.shop.example"], kind: .rsa),
                try authority.issue("renewed", names: ["renewed.example"], kind: .ecdsa),
            ]
        )
    }

    static func authority() throws -> PrivateAuthority { try made.get().0 }

    /// An RSA certificate and its EC twin, for go.example.
    static func twins() throws -> [TLSCertificateFiles] { Array(try made.get().1[..<2]) }

    /// The twins, a wildcard's and one for a name that the wildcard covers.
    static func several() throws -> [TLSCertificateFiles] { Array(try made.get().1[..<4]) }

    /// What replaces them.
    static func renewed() throws -> [TLSCertificateFiles] { [try made.get().1[4]] }

    /// A client that trusts the authority.
    static func client(
        _ change: (inout TLSClientOptions) -> Void = { _ in }
    ) throws -> TLSClientContext {
        var options = TLSClientOptions()
        options.authority = try authority().root
        change(&options)
        return try TLSClientContext(options)
    }
}
