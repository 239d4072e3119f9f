// HTTPS of the real daemon, as a visitor's machine sees it: openssl s_client, curl, HUP, refusals.
import LinuxIO
import TLS
import Testing
import Workbench

/// A stack that serves TLS too.
struct SecuredStack {
    let stack: ServiceStack
    let port: UInt16
    let authority: PrivateAuthority

    /// Runs a body over a stack whose clickd is started.
    static func with(_ body: (SecuredStack) throws -> Void) throws {
        try Stacks.with { stack in
            let authority = try PrivateAuthority(directory: "\(stack.directory)/authority")
            let secured = SecuredStack(
                stack: stack, port: try SocketAddress.freePort(), authority: authority)
            _ = try authority.issue("rsa", names: ["go.example"], kind: .rsa)
            _ = try authority.issue("ec", names: ["go.example"], kind: .ecdsa)
            try secured.configure(["rsa", "ec"])
            try stack.startClickd()
            try body(secured)
        }
    }

    /// Writes a configuration with the certificates of these labels.
    func configure(_ labels: [String]) throws {
        let list = labels.map {
            "{ certificate: \(authority.directory)/\($0).chain.pem, "
                + "key: \(authority.directory)/\($0).key }"
        }
        stack.settings["https"] =
            "{ listen: [\"127.0.0.1:\(port)\"], certificates: [\(list.joined(separator: ", "))] }"
        try stack.writeConfiguration()
    }

    /// Runs a shell command line with the port as $PORT and the root as $ROOT; its output.
    func shell(_ line: String) throws -> String {
        let output = "\(stack.directory)/shell.txt"
        try? FileSystem.remove(output)
        _ = try ChildProcess.start(
            ["timeout", "60", "sh", "-c", line],
            environment: ["PORT": "\(port)", "ROOT": authority.root], output: output
        ).wait()
        return String(decoding: (try? FileSystem.read(output)) ?? [], as: UTF8.self)
    }

    /// A client of the in-process library.
    func client(name: String = "go.example") throws -> TLSClient {
        var options = TLSClientOptions()
        options.authority = authority.root
        return try TLSClient(
            try Socket.connect(.loopback(port: port), timeoutSeconds: 20),
            context: TLSClientContext(options), name: name)
    }
}

extension TLSClient {
    /// A request for the demonstration's link; whether it was redirected.
    func isRedirected() throws -> Bool {
        try write(Array("GET /demo HTTP/1.1\r\nHost: go.example\r\n\r\n".utf8))
        return try read().starts(with: "HTTP/1.1 302".utf8)
    }
}

@Suite("TLS of the real daemon", .serialized)
struct TLSTests {
    @Test("openssl s_client verifies the chain in both versions and resumes; h2 alone is refused")
    func clients() throws {
        try SecuredStack.with { secured in
            let connect =
                "openssl s_client -connect 127.0.0.1:$PORT -servername go.example "
                + "-CAfile $ROOT -verify_return_error"
            for version in ["-tls1_2", "-tls1_3"] {
                let session = "\(secured.stack.directory)/session\(version)"
                let first = try secured.shell(
                    "printf 'GET /demo HTTP/1.0\\r\\nHost: go.example\\r\\n\\r\\n' | "
                        + "\(connect) \(version) -sess_out \(session) -ign_eof")
                #expect(first.contains("Verify return code: 0 (ok)"), "\(first)")
                #expect(first.contains("HTTP/1.1 302 Found"), "\(first)")
                #expect(first.contains("id-ecPublicKey") || first.contains("ECDSA"), "\(first)")
                let second = try secured.shell(
                    "\(connect) \(version) -sess_in \(session) </dev/null")
                #expect(second.contains("Reused, "), "\(second)")
            }
            let other = try secured.shell("\(connect) -alpn h2 </dev/null")
            #expect(other.contains("no application protocol"), "\(other)")
            let old = try secured.shell(
                "openssl s_client -connect 127.0.0.1:$PORT -tls1_1 "
                    + "-cipher ALL:@SECLEVEL=0 </dev/null")
            #expect(old.contains("alert protocol version"), "\(old)")
            let curl = try secured.shell(
                "curl -sS -o /dev/null -w '%{http_code} %{http_version}' --cacert $ROOT "
                    + "--resolve go.example:$PORT:127.0.0.1 https://go.example:$PORT/demo")
            #expect(curl == "302 1.1")
            let stats = try secured.shell(
                "curl -sS --unix-socket \(secured.stack.socket) http://x/stats")
            #expect(stats.contains("\"handshakes_resumed\":2"), "\(stats)")
            let metrics = try secured.shell(
                "curl -sS --unix-socket \(secured.stack.socket) http://x/metrics")
            #expect(metrics.contains("\nclickd_certificate_expiry_seconds "), "\(metrics)")
        }
    }

    @Test("HUP serves new certificates to new connections; what cannot be read leaves the old ones")
    func reload() throws {
        try SecuredStack.with { secured in
            let open = try secured.client()
            #expect(try open.isRedirected())
            _ = try secured.authority.issue(
                "new", names: ["new.example", "go.example"], kind: .ecdsa)
            try secured.configure(["new"])
            try reload(secured, expecting: "200")
            #expect(try secured.client().peerName == "new.example")
            #expect(try open.isRedirected())
            let key = "\(secured.authority.directory)/new.key"
            try FileSystem.setPermissions(key, 0o640)
            try reload(secured, expecting: "400")
            try FileSystem.setPermissions(key, 0o600)
            try FileSystem.rename("\(secured.authority.directory)/ec.key", to: key)
            try reload(secured, expecting: "400")
            #expect(try secured.client().peerName == "new.example")
            #expect(try open.isRedirected())
        }
    }

    private func reload(_ secured: SecuredStack, expecting status: String) throws {
        let answer = try secured.shell(
            "curl -sS -w ' %{http_code}' -X POST --unix-socket \(secured.stack.socket) "
                + "http://x/reload")
        #expect(answer.hasSuffix(status), "\(answer)")
        #expect(status == "200" || answer.contains("new.key"), "\(answer)")
        #expect(!answer.contains("PRIVATE KEY"))
    }

    @Test("--check-config names key file and line: 77 for rights, 78 for what is no key of it")
    func checkConfig() throws {
        try SecuredStack.with { secured in
            let check =
                "\(secured.stack.binaries)/clickd run --check-config --config "
                + "\(secured.stack.configuration); echo \"code $?\""
            #expect(try secured.shell(check).contains("code 0"))
            let key = "\(secured.authority.directory)/ec.key"
            try FileSystem.setPermissions(key, 0o644)
            let rights = try secured.shell(check)
            #expect(rights.contains("code 77") && rights.contains("clickd.yaml:"), "\(rights)")
            #expect(rights.contains(key))
            try FileSystem.setPermissions(key, 0o600)
            try secured.configure(["rsa", "ec", "rsa"])
            let twice = try secured.shell(check)
            #expect(twice.contains("code 78") && twice.contains("clickd.yaml:"), "\(twice)")
            #expect(twice.contains("rsa.chain.pem: the same certificate as"), "\(twice)")
            try secured.configure(["rsa", "ec"])
            try FileSystem.rename("\(secured.authority.directory)/rsa.key", to: key)
            let mismatch = try secured.shell(check)
            #expect(mismatch.contains("code 78"), "\(mismatch)")
            #expect(mismatch.contains("not the key of"), "\(mismatch)")
            #expect(mismatch.contains("rsa.key: cannot be read"))
        }
    }
}
