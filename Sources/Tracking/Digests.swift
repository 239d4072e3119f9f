// The seam to the digests: the core asks for them, the TLS adapter computes them with OpenSSL.

/// Digests over whole messages, and comparing them without telling how far they agree.
///
/// Taken as a generic parameter, never as an existential.
public protocol Digests: Sendable {
    /// SHA-1, 20 bytes. For UUIDv5 names only, never as a proof.
    func sha1(_ message: [UInt8]) -> [UInt8]
    /// SHA-256, 32 bytes.
    func sha256(_ message: [UInt8]) -> [UInt8]
    /// HMAC-SHA256, 32 bytes.
    func hmacSHA256(key: [UInt8], message: [UInt8]) -> [UInt8]
    /// Whether two byte strings are the same, in a time that depends on their lengths only.
    func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool
}
