// The digests against published vectors and the Wycheproof corpus; the key file and its refusals.
import LinuxIO
import TLS
import Testing
import Tracking

/// A directory of a test, gone with it.
final class ScratchDirectory {
    let path: String

    init() throws {
        path = "/tmp/clickd-test-\(hexadecimalText(Randomness.bytes(8)))"
        try FileSystem.makeDirectories(path)
    }

    deinit { try? FileSystem.removeTree(path) }

    func write(_ text: String, to name: String, permissions: UInt32 = 0o600) throws -> String {
        let file = "\(path)/\(name)"
        let bytes = Array(text.utf8)
        try bytes.withUnsafeBytes { try FileSystem.replace(file, with: $0) }
        try FileSystem.setPermissions(file, permissions)
        return file
    }
}

/// Where the corpora lie, when they are there.
enum Corpora {
    static let directory = CurrentProcess.environment("CLICKD_CORPORA") ?? "../shared/corpora"

    static func read(_ name: String) -> [UInt8]? {
        guard let bytes = try? FileSystem.read("\(directory)/\(name)") else {
            print("skipped: no corpus \(name) in \(directory)")
            return nil
        }
        return bytes
    }
}

private func bytes(hex text: String) -> [UInt8] {
    Array(text.utf8).withUnsafeBytes { hexadecimalBytes($0) } ?? []
}

@Suite("Digests of OpenSSL")
struct DigestTests {
    let digests = OpenSSLDigests()

    @Test("SHA-1 and SHA-256 give the published digests, of the empty message too")
    func published() {
        #expect(
            hexadecimalText(digests.sha1(Array("abc".utf8)))
                == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(hexadecimalText(digests.sha1([])) == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(
            hexadecimalText(digests.sha256(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            hexadecimalText(digests.sha256([]))
                == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    @Test("An empty key is an empty key and not the key of the call before")
    func emptyKey() {
        _ = digests.hmacSHA256(key: [1, 2, 3], message: [4])
        #expect(
            hexadecimalText(digests.hmacSHA256(key: [], message: []))
                == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
    }

    @Test("HKDF gives RFC 5869's first and third vector")
    func hkdf() {
        let secret = [UInt8](repeating: 0x0b, count: 22)
        #expect(
            hexadecimalText(
                digests.hkdfSHA256(
                    secret: secret, salt: bytes(hex: "000102030405060708090a0b0c"),
                    label: bytes(hex: "f0f1f2f3f4f5f6f7f8f9"), count: 42))
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                + "34007208d5b887185865")
        #expect(
            hexadecimalText(digests.hkdfSHA256(secret: secret, label: [], count: 42))
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                + "9d201395faa4b61a96c8")
    }

    @Test("Equality is of all bytes and of the length")
    func equality() {
        #expect(digests.areEqual([], []))
        #expect(digests.areEqual([1, 2], [1, 2]))
        #expect(!digests.areEqual([1, 2], [1, 3]))
        #expect(!digests.areEqual([1, 2], [1, 2, 0]))
        #expect(!digests.areEqual([0], []))
    }

    @Test("Wycheproof: every valid HMAC tag is computed, every forged one is told apart")
    func wycheproof() throws {
        guard let text = Corpora.read("hmac/hmac_sha256_test.json") else { return }
        var cases = 0
        var tagBytes = 32
        var fields: [String: String] = [:]
        for line in text.split(separator: UInt8(ascii: "\n")) {
            let parts = String(decoding: line, as: UTF8.self).split(
                separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            let name = String(parts[0].filter { $0 != "\"" && $0 != " " })
            let value = String(parts[1].filter { !"\", ".contains($0) })
            fields[name] = value
            if name == "tagSize" { tagBytes = (Int(value) ?? 0) / 8 }
            guard name == "result" else { continue }
            let tag = digests.hmacSHA256(
                key: bytes(hex: fields["key"] ?? "-"), message: bytes(hex: fields["msg"] ?? "-"))
            let given = bytes(hex: fields["tag"] ?? "-")
            #expect(
                digests.areEqual(Array(tag.prefix(tagBytes)), given) == (value == "valid"),
                "case \(fields["tcId"] ?? "?")")
            cases += 1
        }
        #expect(cases == 174)
    }
}

@Suite("The key file")
struct ClickKeyTests {
    private static let key = Base64.encode([UInt8](repeating: 7, count: 32))
    private static let other = Base64.encode([UInt8](repeating: 8, count: 32))

    private func parse(_ text: String) -> Result<ClickKeys, ClickKeys.ParseError> {
        Result { () throws(ClickKeys.ParseError) in try ClickKeys(file: Array(text.utf8)) }
    }

    @Test("A made line is a key file of its own, another one each time")
    func made() throws {
        let line = ClickKeys.makeKeyLine()
        #expect(line.hasPrefix("clickd-key-1 ") && line.hasSuffix("\n") && line.utf8.count == 58)
        let keys = try ClickKeys(file: Array(line.utf8))
        #expect(keys.verifyKeys == [keys.mintKey])
        #expect(keys.mintKey != keys.visitorKey)
        #expect(try ClickKeys(file: Array(ClickKeys.makeKeyLine().utf8)).mintKey != keys.mintKey)
        #expect(keys.fingerprint.utf8.count == 32 && !line.contains(keys.fingerprint))
    }

    @Test("The first key mints and all verify, whatever stands between the lines")
    func several() throws {
        let text = "# ours\n\nclickd-key-1 \(Self.key)\r\nclickd-key-1 \(Self.other)"
        let both = try parse(text).get()
        let first = try parse("clickd-key-1 \(Self.key)\n").get()
        let second = try parse("clickd-key-1 \(Self.other)\n").get()
        #expect(both.mintKey == first.mintKey)
        #expect(both.verifyKeys == [first.mintKey, second.mintKey])
        #expect(both.fingerprints == [first.fingerprint, second.fingerprint])
        #expect(both.visitorKey == first.visitorKey)
    }

    @Test(
        "What is no key file is refused with its line and without its bytes",
        arguments: [
            ("", 0), ("\n\n", 0), ("# nothing\n", 0), ("clickd-key-1\n", 1), ("clickd-key-1 \n", 1),
            ("clickd-key-2 \(key)\n", 1), (" clickd-key-1 \(key)\n", 1),
            ("clickd-key-1  \(key)\n", 1),
            ("clickd-key-1 \(key) \n", 1), ("clickd-key-1 \(key.dropLast(5))\n", 1),
            ("clickd-key-1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 1),
            ("clickd-key-1 \(key)\nclickd-key-1 \(key)\n", 2), ("\nclickd-key-1 *secret*\n", 2),
            (String(repeating: "#\n", count: 3000), 0), ("clickd-key-1 \(key)\n\0", 2),
        ])
    func refused(text: String, line: Int) {
        guard case .failure(let error) = parse(text) else {
            Issue.record("taken: \(text.debugDescription)")
            return
        }
        #expect(error.line == line)
        #expect(!error.reason.contains("secret") && !error.reason.contains(Self.key))
    }

    @Test("A fifth key is one too many")
    func tooMany() {
        var text = ""
        for index in 1...5 {
            text += "clickd-key-1 \(Base64.encode([UInt8](repeating: UInt8(index), count: 32)))\n"
            let isTaken = if case .success = parse(text) { true } else { false }
            #expect(isTaken == (index < 5))
        }
    }

    @Test("A new file has one key, is for its owner only and never replaces another")
    func creation() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/secrets/click.key"
        try ClickKeyFile.create(path)
        #expect(try FileSystem.status(path).permissions == 0o600)
        #expect(try FileSystem.status("\(scratch.path)/secrets").permissions == 0o700)
        let keys = try ClickKeyFile.load(path)
        let error = #expect(throws: ClickKeyFileError.self) { try ClickKeyFile.create(path) }
        #expect(error?.exitCode == 73)
        #expect(try ClickKeyFile.load(path).fingerprint == keys.fingerprint)
    }

    @Test(
        "Missing and malformed files are 78, exposed ones 77, each in one line that says what to do"
    )
    func refusals() throws {
        let scratch = try ScratchDirectory()
        let good = ClickKeys.makeKeyLine()
        let cases: [(path: String, code: Int32)] = [
            ("\(scratch.path)/none", 78),
            (scratch.path, 78),
            (try scratch.write("nonsense\n", to: "bad"), 78),
            (try scratch.write("", to: "empty"), 78),
            (try scratch.write(String(repeating: good, count: 500), to: "long"), 78),
            (try scratch.write(good, to: "group", permissions: 0o640), 77),
            (try scratch.write(good, to: "others", permissions: 0o602), 77),
            ("\(try scratch.write(good, to: "file"))/below", 78),
        ]
        for (path, code) in cases {
            let error = #expect(throws: ClickKeyFileError.self) { try ClickKeyFile.load(path) }
            #expect(error?.exitCode == code, "\(path)")
            let message = error?.message ?? ""
            #expect(message.hasPrefix(path) && message.contains("clickctl key new"))
            #expect(!message.contains("\n") && !message.contains(good.suffix(46).prefix(20)))
        }
    }
}
