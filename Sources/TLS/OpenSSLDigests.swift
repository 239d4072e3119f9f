// The digests of libcrypto behind the core's seam.
internal import COpenSSL
public import Tracking

/// SHA-1, SHA-256 and HMAC-SHA256 by OpenSSL.
public struct OpenSSLDigests: Digests {
    /// Bytes of a SHA-1 digest.
    public static let sha1Bytes = 20
    /// Bytes of a SHA-256 digest.
    public static let sha256Bytes = 32

    /// Digests; there is nothing to configure.
    public init() {}

    /// SHA-1, 20 bytes.
    public func sha1(_ message: [UInt8]) -> [UInt8] {
        OpenSSLDigests.digest(bytes: OpenSSLDigests.sha1Bytes) { output in
            message.withUnsafeBufferPointer { SHA1($0.baseAddress, $0.count, output) != nil }
        }
    }

    /// SHA-256, 32 bytes.
    public func sha256(_ message: [UInt8]) -> [UInt8] {
        OpenSSLDigests.digest(bytes: OpenSSLDigests.sha256Bytes) { output in
            message.withUnsafeBufferPointer { SHA256($0.baseAddress, $0.count, output) != nil }
        }
    }

    /// HMAC-SHA256 (RFC 2104), 32 bytes; any key length, none included.
    public func hmacSHA256(key: [UInt8], message: [UInt8]) -> [UInt8] {
        // libcrypto takes a null key for "the key of the last call": an empty key must not be null.
        let storedKey = key.isEmpty ? [0] : key
        return OpenSSLDigests.digest(bytes: OpenSSLDigests.sha256Bytes) { output in
            storedKey.withUnsafeBytes { keyBytes in
                message.withUnsafeBufferPointer { bytes in
                    HMAC(
                        EVP_sha256(), keyBytes.baseAddress, Int32(clamping: key.count),
                        bytes.baseAddress, bytes.count, output, nil) != nil
                }
            }
        }
    }

    /// HKDF-SHA256 (RFC 5869) without salt.
    ///
    /// - Parameters:
    ///   - secret: The input keying material.
    ///   - label: What the derived key is for; distinct labels give independent keys.
    ///   - count: Bytes to derive, at most 255 digests' worth.
    /// - Precondition: `count` is within RFC 5869's limit.
    public func hkdfSHA256(secret: [UInt8], salt: [UInt8] = [], label: [UInt8], count: Int)
        -> [UInt8]
    {
        precondition(count >= 0 && count <= 255 * OpenSSLDigests.sha256Bytes)
        let noSalt = [UInt8](repeating: 0, count: OpenSSLDigests.sha256Bytes)
        let pseudorandomKey = hmacSHA256(key: salt.isEmpty ? noSalt : salt, message: secret)
        var output: [UInt8] = []
        var block: [UInt8] = []
        var counter: UInt8 = 1
        while output.count < count {
            block = hmacSHA256(key: pseudorandomKey, message: block + label + [counter])
            output += block
            if output.count < count { counter += 1 }
        }
        return Array(output.prefix(count))
    }

    /// Whether two byte strings are the same, in a time that depends on their lengths only.
    public func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return left.withUnsafeBytes { leftBytes in
            right.withUnsafeBytes { rightBytes in
                guard let first = leftBytes.baseAddress, let second = rightBytes.baseAddress else {
                    return true
                }
                return CRYPTO_memcmp(first, second, left.count) == 0
            }
        }
    }

    private static func digest(
        bytes: Int, _ compute: (UnsafeMutablePointer<UInt8>?) -> Bool
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: bytes) { buffer, count in
            // Only a libcrypto without these digests, or without memory, refuses. Going on without a
            // digest would take every forged message for a genuine one.
            precondition(compute(buffer.baseAddress), "libcrypto computes no digest")
            count = bytes
        }
    }
}
