// The Host of a request: its grammar, its name without port, whether two are the same.
internal import Tracking

/// Host fields and authorities: `name [":" port]`.
public enum HostName {
    /// Whether the bytes are a host with an optional port (RFC 9110, 7.2): letters, digits, `-._~`,
    /// sub-delims and percent-encoded bytes, or an address in brackets.
    @inline(__always) static func isValid(_ bytes: Bytes, _ count: Int) -> Bool {
        guard count > 0, count <= WireLimits.hostBytes else { return false }
        var index = 0
        if bytes[0] == 0x5B {
            index = 1
            while index < count, isLiteral(bytes[index]) { index &+= 1 }
            guard index > 1, index < count, bytes[index] == 0x5D else { return false }
            index &+= 1
        } else {
            while index < count, isName(bytes[index]) { index &+= 1 }
            guard index > 0 else { return false }
        }
        guard index < count else { return true }
        guard bytes[index] == 0x3A, count &- index <= 6 else { return false }
        index &+= 1
        while index < count {
            guard bytes[index] &- 0x30 < 10 else { return false }
            index &+= 1
        }
        return true
    }

    @inline(__always) private static func isLiteral(_ byte: UInt8) -> Bool {
        ByteScan.hexadecimal(byte) != 0xFF || byte == 0x3A || byte == 0x2E
    }

    /// Unreserved, sub-delims and %; brackets, colon, slash, @ and the rest end the name.
    @inline(__always) private static func isName(_ byte: UInt8) -> Bool {
        names.utf8Start[Int(byte)] == UInt8(ascii: "+")
    }

    /// A plus for each byte that may stand in a name: 64 bytes to a line.
    private static let names: StaticString = """
        .................................+..+++++++++++.++++++++++.+.+..\
        .++++++++++++++++++++++++++....+.++++++++++++++++++++++++++...+.\
        ................................................................\
        ................................................................
        """

    /// The length of a host without its port and without one trailing dot.
    @inline(__always) public static func nameLength(_ host: UnsafeRawBufferPointer) -> Int {
        var length = host.count
        var digits = 0
        while digits < length, digits < 6, host[length &- 1 &- digits] &- 0x30 < 10 {
            digits &+= 1
        }
        if digits < length, host[length &- 1 &- digits] == 0x3A { length &-= digits &+ 1 }
        if length > 1, host[length &- 1] == 0x2E { length &-= 1 }
        return length
    }

    /// Whether two authorities name the same host and port, a scheme's default port being none.
    static func isSame(_ bytes: Bytes, _ one: ByteRange, _ other: ByteRange, isHTTPS: Bool) -> Bool
    {
        let left = withoutDefaultPort(bytes, one, isHTTPS)
        let right = withoutDefaultPort(bytes, other, isHTTPS)
        guard left == right else { return false }
        for index in 0..<left
        where ByteScan.lowercase(bytes[Int(one.offset) &+ index])
            != ByteScan.lowercase(bytes[Int(other.offset) &+ index])
        {
            return false
        }
        return true
    }

    private static func withoutDefaultPort(_ bytes: Bytes, _ host: ByteRange, _ isHTTPS: Bool)
        -> Int
    {
        let text = UnsafeRawBufferPointer(start: bytes + Int(host.offset), count: Int(host.count))
        let port: StaticString = isHTTPS ? ":443" : ":80"
        let length = port.utf8CodeUnitCount
        guard text.count > length else { return text.count }
        let tail = UnsafeRawBufferPointer(rebasing: text[(text.count &- length)...])
        return ByteScan.isExactly(tail, port) ? text.count &- length : text.count
    }
}
