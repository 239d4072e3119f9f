// The fleet's click keys: what the key file says (contract, 3) and the subkeys that come of it.
internal import LinuxIO
public import Tracking

/// The keys of a key file, as the subkeys that the edge works with.
///
/// The first key mints; every key verifies, so that a key is changed by adding the new one last on
/// every node, then moving it first, then removing the old one. The master keys are not kept.
public struct ClickKeys: Sendable {
    /// Limits of a key file.
    public enum Limits {
        /// Keys in a file.
        public static let maxKeys = 4
        /// Bytes of a key.
        public static let keyBytes = 32
        /// Bytes of a file, comments included.
        public static let maxFileBytes = 4096
    }

    /// The key of new click tokens.
    public let mintKey: SipHashKey
    /// The keys that a click token may have, the minting one first; 1...4.
    public let verifyKeys: [SipHashKey]
    /// The node's part of the visitor hash.
    public let visitorKey: SipHashKey
    /// Tells the minting key apart from others without giving it away: 32 hexadecimal digits.
    public let fingerprint: String
    /// The fingerprints of all keys, in the order of ``verifyKeys``.
    public let fingerprints: [String]

    /// What is wrong with a key file's text.
    public struct ParseError: Error, Equatable, Sendable {
        /// The line, from 1; 0 for the file as a whole.
        public let line: Int
        /// What is wrong, without a byte of the file.
        public let reason: String
    }

    /// Derives the subkeys of master keys.
    /// - Precondition: 1...4 keys of 32 bytes.
    public init(masterKeys: [[UInt8]]) {
        precondition(!masterKeys.isEmpty && masterKeys.count <= Limits.maxKeys)
        precondition(masterKeys.allSatisfy { $0.count == Limits.keyBytes })
        let tokenKeys = masterKeys.map { ClickKeys.subkey(of: $0, label: "clickd click token") }
        mintKey = tokenKeys[0]
        verifyKeys = tokenKeys
        visitorKey = ClickKeys.subkey(of: masterKeys[0], label: "clickd visitor")
        fingerprints = masterKeys.map {
            hexadecimalText(ClickKeys.derive($0, label: "clickd fingerprint", count: 16))
        }
        fingerprint = fingerprints[0]
    }

    /// Parses a key file: a line a key, `clickd-key-1 <base64 of 32 bytes>`; empty lines and lines
    /// that begin with `#` are passed over.
    public init(file bytes: [UInt8]) throws(ParseError) {
        guard bytes.count <= Limits.maxFileBytes else {
            throw ParseError(line: 0, reason: "longer than \(Limits.maxFileBytes) bytes")
        }
        var keys: [[UInt8]] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let text = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            if text.isEmpty || text.first == UInt8(ascii: "#") { continue }
            let key = try ClickKeys.key(of: text, line: index + 1)
            guard !keys.contains(key) else {
                throw ParseError(line: index + 1, reason: "the same key a second time")
            }
            guard keys.count < Limits.maxKeys else {
                throw ParseError(line: index + 1, reason: "more than \(Limits.maxKeys) keys")
            }
            keys.append(key)
        }
        guard !keys.isEmpty else { throw ParseError(line: 0, reason: "it holds no key") }
        self.init(masterKeys: keys)
    }

    /// A line with a new random key, for a key file; ends with a line feed.
    public static func makeKeyLine() -> String {
        "\(keyWord) \(Base64.encode(Randomness.bytes(Limits.keyBytes)))\n"
    }

    private static let keyWord = "clickd-key-1"

    private static func key(of line: ArraySlice<UInt8>, line number: Int) throws(ParseError)
        -> [UInt8]
    {
        let prefix = Array("\(keyWord) ".utf8)
        guard line.starts(with: prefix) else {
            throw ParseError(line: number, reason: "it does not begin with \(keyWord) and a space")
        }
        guard let key = Base64.decode(line.dropFirst(prefix.count)), key.count == Limits.keyBytes
        else {
            throw ParseError(line: number, reason: "its key is not the base64 of 32 bytes")
        }
        guard key.contains(where: { $0 != 0 }) else {
            throw ParseError(line: number, reason: "its key is all zero")
        }
        return key
    }

    private static func derive(_ key: [UInt8], label: String, count: Int) -> [UInt8] {
        OpenSSLDigests().hkdfSHA256(secret: key, label: Array(label.utf8), count: count)
    }

    private static func subkey(of key: [UInt8], label: String) -> SipHashKey {
        derive(key, label: label, count: 16).withUnsafeBytes { SipHashKey(bytes: $0) }
    }
}
