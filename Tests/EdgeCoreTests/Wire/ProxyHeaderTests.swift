// PROXY headers: what is taken, what is refused, and that no split changes either.
import EdgeCore
import Testing
import Tracking
import Workbench

@Suite("PROXY headers")
struct ProxyHeaderTests {
    private static func parse(_ bytes: [UInt8], _ version: ProxyVersion) -> ProxyParse {
        bytes.withUnsafeBytes { ProxyHeader.parse($0, version) }
    }

    private static let visitor = ClientAddress(high: 0xCB00_7109 << 32, low: 0, isIPv6: false)
    private static let sixth = ClientAddress(high: 0x2001_0db8 << 32, low: 0xFF, isIPv6: true)

    static let goodText: [(String, ClientAddress?)] = [
        ("PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", visitor),
        ("PROXY TCP4 203.0.113.9 192.0.2.1 0 65535\r\n", visitor),
        ("PROXY TCP6 2001:db8::ff ::1 1 2\r\n", sixth),
        ("PROXY TCP6 ::ffff:203.0.113.9 ::ffff:1.2.3.4 1 2\r\n", visitor),
        ("PROXY UNKNOWN\r\n", nil),
        ("PROXY UNKNOWN ffff::1 anything at all\r\n", nil),
        ("PROXY UNKNOWN " + String(repeating: "x", count: 91) + "\r\n", nil),
    ]

    @Test("Version 1 is read, however it is split, and not a byte beyond it", arguments: goodText)
    func text(_ line: String, _ client: ClientAddress?) {
        let bytes = Array(line.utf8)
        for count in 0..<bytes.count {
            #expect(ProxyHeaderTests.parse(Array(bytes[..<count]), .v1) == .needMore)
        }
        for tail in ["", "GET / HTTP/1.1\r\n", "\r\n"] {
            #expect(
                ProxyHeaderTests.parse(bytes + Array(tail.utf8), .v1)
                    == .complete(bytes: bytes.count, client: client))
        }
    }

    static let badText = [
        "GET / HTTP/1.1\r\n", "PROXY \r\n", "PROXY\r\n", "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
        "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\0\r\n", "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN " + String(repeating: "x", count: 92) + "\r\n",
        "\r\n\r\n\0\r\nQUIT\n",
    ]

    @Test("What is not version 1 is refused, however it is split", arguments: badText)
    func refusedText(_ line: String) {
        refuses(Array(line.utf8), .v1)
    }

    private func refuses(_ bytes: [UInt8], _ version: ProxyVersion) {
        var isRefused = false
        for count in 0...bytes.count {
            let verdict = ProxyHeaderTests.parse(Array(bytes[..<count]), version)
            #expect(verdict == .refused || verdict == .needMore && !isRefused, "\(count)")
            isRefused = verdict == .refused
        }
        #expect(isRefused, "\(bytes)")
    }

    /// A header of version 2.
    static func binary(
        command: UInt8 = 0x21, family: UInt8, _ rest: [UInt8], length: Int? = nil
    ) -> [UInt8] {
        let count = length ?? rest.count
        return Array("\r\n\r\n\0\r\nQUIT\n".utf8)
            + [command, family, UInt8(count >> 8), UInt8(count & 255)] + rest
    }

    static let four: [UInt8] = [203, 0, 113, 9, 192, 0, 2, 1, 0xDC, 0x04, 1, 0xBB]
    static let six: [UInt8] =
        [0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [0xFF]
        + [UInt8](repeating: 1, count: 20)

    /// The same header with a checksum field at its end, right or off by `error`.
    static func checked(family: UInt8, _ rest: [UInt8], error: UInt32 = 0) -> [UInt8] {
        var bytes = binary(family: family, rest + [3, 0, 4, 0, 0, 0, 0])
        // CRC32C by its definition, bit by bit.
        var sum = UInt32.max
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0x82F6_3B78 : sum >> 1 }
        }
        let value = ~sum ^ error
        for place in 0..<4 {
            bytes[bytes.count - 4 + place] = UInt8(
                truncatingIfNeeded: value >> UInt32(24 - 8 * place))
        }
        return bytes
    }

    static let goodBinary: [([UInt8], ClientAddress?)] = [
        (binary(family: 0x11, four), visitor),
        (binary(family: 0x21, six), sixth),
        (binary(family: 0x11, four + [4, 0, 2, 0, 0, 0xE0, 0, 1, 7]), visitor),
        (checked(family: 0x11, four), visitor),
        (checked(family: 0x21, six + [0x05, 0, 3, 1, 2, 3]), sixth),
        (binary(command: 0x20, family: 0x00, []), nil),
        (binary(command: 0x20, family: 0xFF, [1, 2, 3]), nil),
        (binary(family: 0x00, []), nil),
        (binary(family: 0x31, [UInt8](repeating: 0x61, count: 216)), nil),
        // All of WireLimits.proxyHeaderBytes.
        (
            binary(family: 0x11, four + [4, 0x07, 0xE1] + [UInt8](repeating: 0, count: 0x7E1)),
            visitor
        ),
    ]

    @Test("Version 2 is read, however it is split, and not a byte beyond it", arguments: goodBinary)
    func binaries(_ bytes: [UInt8], _ client: ClientAddress?) {
        for count in 0..<bytes.count {
            #expect(ProxyHeaderTests.parse(Array(bytes[..<count]), .v2) == .needMore)
        }
        #expect(
            ProxyHeaderTests.parse(bytes + [0x16, 3, 1], .v2)
                == .complete(bytes: bytes.count, client: client))
    }

    static let badBinary: [[UInt8]] = [
        Array("GET / HTTP/1.1\r\n".utf8), Array("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".utf8),
        Array("\r\n\r\nGET".utf8),
        binary(command: 0x11, family: 0x11, four), binary(command: 0x22, family: 0x11, four),
        binary(family: 0x12, four), binary(family: 0x10, four), binary(family: 0x41, four),
        binary(family: 0x11, Array(four.dropLast())), binary(family: 0x21, four),
        binary(family: 0x31, four),
        binary(family: 0x11, four + [4]), binary(family: 0x11, four + [4, 0]),
        binary(family: 0x11, four + [4, 0, 1]), binary(family: 0x11, four + [4, 0xFF, 0xFF, 1]),
        checked(family: 0x11, four, error: 1), checked(family: 0x21, six, error: 0x8000_0000),
        binary(family: 0x11, four + [3, 0, 3, 0, 0, 0]),
        binary(family: 0x11, four + [3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]),
        binary(family: 0x11, four, length: WireLimits.proxyHeaderBytes - 16 + 1),
    ]

    @Test(
        "What is not version 2, or not sound, is refused, however it is split", arguments: badBinary
    )
    func refusedBinary(_ bytes: [UInt8]) {
        refuses(bytes, .v2)
    }

    @Test("Each bit flipped in a header with a checksum is refused, or moves its end")
    func bitFlips() {
        let good = ProxyHeaderTests.checked(family: 0x11, ProxyHeaderTests.four)
        for bit in 0..<good.count * 8 {
            var bytes = good
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            let verdict = ProxyHeaderTests.parse(bytes, .v2)
            // What says LOCAL, the length, or that there is a checksum, is not covered by it.
            let isExcused =
                switch bit / 8 {
                case 12: verdict == .complete(bytes: good.count, client: nil)
                case 14, 15: verdict == .needMore
                case good.count - 7:
                    verdict == .complete(bytes: good.count, client: ProxyHeaderTests.visitor)
                default: false
                }
            #expect(verdict == .refused || isExcused, "\(bit)")
        }
    }

    @Test("Random input never traps, and no split changes the verdict")
    func fuzz() {
        var random = SeededGenerator(seed: 11)
        let seeds =
            (ProxyHeaderTests.goodText.map { Array($0.0.utf8) }).map { ($0, ProxyVersion.v1) }
            + ProxyHeaderTests.goodBinary.map { ($0.0, ProxyVersion.v2) }
        for _ in 0..<3000 {
            guard let (seed, version) = seeds.randomElement(using: &random) else { return }
            var bytes = seed
            for _ in 0..<3 {
                let index = Int.random(in: 0..<min(bytes.count, 64), using: &random)
                bytes[index] = UInt8.random(in: 0...255, using: &random)
            }
            let whole = ProxyHeaderTests.parse(bytes, version)
            let cut = Int.random(in: 0...bytes.count, using: &random)
            let part = ProxyHeaderTests.parse(Array(bytes[..<cut]), version)
            #expect(part == .needMore || part == whole)
        }
    }
}
