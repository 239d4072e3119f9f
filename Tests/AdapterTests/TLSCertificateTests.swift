// Certificate files and their refusals; names; ticket keys.
import LinuxIO
import Testing
import Workbench

@testable import TLS

@Suite struct TLSCertificateTests {
    /// A scratch directory with an authority.
    private struct Desk {
        let scratch = try? ScratchDirectory()
        let authority: PrivateAuthority

        init() throws {
            authority = try PrivateAuthority(directory: "\(scratch?.path ?? "")/authority")
        }
    }

    private func problem(_ files: TLSCertificateFiles) -> TLSFileError? {
        let problems = TLSContext.check([files])
        #expect(problems.count <= 1)
        return problems.first
    }

    @Test("A good pair is taken; each of its neighbours is refused at the file that is wrong")
    func files() throws {
        let desk = try Desk()
        let scratch = try #require(desk.scratch)
        let good = try desk.authority.issue("good", names: ["a.example"], kind: .ecdsa)
        let other = try desk.authority.issue("other", names: ["a.example"], kind: .ecdsa)
        #expect(problem(good) == nil)
        var files = good
        files.key = other.key
        #expect(problem(files)?.part == .key)
        #expect(problem(files)?.message.contains("not the key of") == true)
        files.key = "\(scratch.path)/absent.key"
        #expect(problem(files)?.part == .key)
        files.key = try scratch.write("", to: "empty.key")
        #expect(problem(files)?.part == .key)
        files.key = try scratch.write("no key at all", to: "text.key")
        #expect(problem(files)?.message.contains("no private key in PEM") == true)
        files.key = good.certificate
        try FileSystem.setPermissions(good.certificate, 0o600)
        #expect(problem(files)?.part == .key)
        files = good
        files.certificate = good.key
        #expect(problem(files)?.part == .certificate)
        files.certificate = scratch.path
        #expect(problem(files)?.part == .certificate)
        let pem = String(decoding: try FileSystem.read(good.certificate), as: UTF8.self)
        files.certificate = try scratch.write(
            pem + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", to: "bad.pem")
        #expect(problem(files)?.message.contains("certificate 3 of the chain is damaged") == true)
        files.certificate = try scratch.write(
            String(repeating: pem, count: 6), to: "long.pem")
        #expect(problem(files)?.message.contains("a chain of more than 10") == true)
        let leaf = try FileSystem.read("\(desk.authority.directory)/good.pem")
        files.certificate = try scratch.write(
            String(repeating: String(decoding: leaf, as: UTF8.self), count: 10), to: "ten.pem")
        #expect(problem(files) == nil)
    }

    @Test("A key with rights for group or others is refused as such", arguments: [0o640, 0o604])
    func rights(mode: UInt32) throws {
        let desk = try Desk()
        let files = try desk.authority.issue("a", names: ["a.example"], kind: .ecdsa)
        try FileSystem.setPermissions(files.key, mode)
        #expect(problem(files)?.isAboutRights == true)
        #expect(problem(files)?.message.contains("chmod 600") == true)
        try FileSystem.setPermissions(files.key, 0o400)
        #expect(problem(files) == nil)
    }

    @Test("Short RSA keys, other curves, other kinds and passphrases are refused")
    func kinds() throws {
        let desk = try Desk()
        let folder = try #require(desk.scratch).path
        let kinds = [
            (["-newkey", "rsa:1024"], "fewer than 2048 bits"),
            (["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"], "on a curve"),
            (["-newkey", "ed25519"], "neither an RSA nor an EC key"),
        ]
        for (index, kind) in kinds.enumerated() {
            let files = TLSCertificateFiles(
                certificate: "\(folder)/\(index).pem", key: "\(folder)/\(index).key")
            let code = try ChildProcess.start(
                ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=a"] + kind.0
                    + ["-keyout", files.key, "-out", files.certificate], output: "/dev/null"
            ).wait()
            #expect(code == 0)
            #expect(problem(files)?.message.contains(kind.1) == true)
        }
        let locked = "\(folder)/locked.key"
        let code = try ChildProcess.start(
            [
                "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-aes256", "-pass", "pass:x", "-out", locked,
            ], output: "/dev/null"
        ).wait()
        #expect(code == 0)
        let files = try desk.authority.issue("b", names: ["b.example"], kind: .ecdsa)
        let pair = TLSCertificateFiles(certificate: files.certificate, key: locked)
        #expect(problem(pair)?.message.contains("without a passphrase") == true)
    }

    @Test("Every pair's problem is told, and an expired certificate is a warning")
    func several() throws {
        let desk = try Desk()
        let good = try desk.authority.issue("good", names: ["a.example"], kind: .rsa)
        let old = try desk.authority.issue("old", names: ["b.example"], kind: .ecdsa, days: -1)
        let absent = TLSCertificateFiles(certificate: "/absent", key: "/absent")
        #expect(TLSContext.check([absent, good, absent]).map(\.index) == [0, 2])
        let context = try TLSContext([good, old], tickets: TLSTicketKeys(), loops: 2)
        #expect(context.warnings == ["\(old.certificate): has expired"])
        let now = SystemClock.wallMicroseconds() / 1_000_000
        // Made a moment ago, and over since a day before that.
        #expect((now - 86_400 - 600...now - 86_400).contains(context.expiresAtSeconds))
        let fresh = try TLSContext([good], tickets: TLSTicketKeys(), loops: 1)
        #expect(fresh.expiresAtSeconds > now)
    }

    @Test("A certificate that is listed twice is refused where it stands again, copied or not")
    func listedTwice() throws {
        let desk = try Desk()
        let scratch = try #require(desk.scratch)
        let good = try desk.authority.issue("good", names: ["a.example"], kind: .ecdsa)
        let other = try desk.authority.issue("other", names: ["a.example"], kind: .ecdsa)
        #expect(TLSContext.check([good, other]).isEmpty)
        let twice = TLSContext.check([good, other, good])
        #expect(twice.map(\.index) == [2] && twice.map(\.part) == [.certificate])
        #expect(twice[0].message.contains("the same certificate as \(good.certificate)"))
        var copy = good
        copy.certificate = try scratch.write(
            String(decoding: try FileSystem.read(good.certificate), as: UTF8.self), to: "copy.pem")
        #expect(TLSContext.check([good, copy]).map(\.index) == [1])
        // What could not be read before it shifts no number.
        let absent = TLSCertificateFiles(certificate: "/absent", key: "/absent")
        let both = TLSContext.check([absent, good, copy])
        #expect(both.map(\.index) == [0, 2])
        #expect(both[1].message.contains("\(copy.certificate): the same"))
    }

    @Test("A wildcard stands for one label, and case does not count")
    func names() {
        let cases = [
            ("a.example", "a.example", true), ("a.example", "A.EXAMPLE", true),
            ("a.example", "b.example", false), ("*.example", "a.example", true),
            ("*.example", "example", false), ("*.example", ".example", false),
            ("*.example", "a.b.example", false), ("*.example", "a.examplex", false),
        ]
        for (name, asked, expected) in cases {
            let matches = Array(asked.utf8).withUnsafeBufferPointer {
                ServerName.matches(Array(name.utf8), $0)
            }
            #expect(matches == expected, "\(name) \(asked)")
        }
    }

    @Test("A budget lets resumptions go first, and counts what it puts off")
    func budget() {
        var budget = HandshakeBudget(full: 1, resumed: 1)
        let verdicts = [false, false, true, true].map { budget.admit(resumes: $0) }
        #expect(verdicts == [true, false, true, false])
        #expect(budget.deferred == 2)
    }
}
