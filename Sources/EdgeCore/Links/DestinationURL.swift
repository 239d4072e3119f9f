// Which URLs a link may lead to: absolute http(s), an ASCII host, nothing that a browser could read
// as another host than the one written.
internal import Tracking

/// Why a URL is refused as a destination.
public enum DestinationProblem: Error, Equatable, Sendable {
    case notAbsolute, userInformation, noHost, macroInHost, badHost, badPort, controlByte, tooLong
    case tooManyMacros

    /// The reason, for people.
    public var reason: String {
        switch self {
        case .notAbsolute: "is not an absolute http or https URL"
        case .userInformation: "has user information before its host"
        case .noHost: "has no host"
        case .macroInHost: "has a macro in its host"
        case .badHost: "has a host that is neither an ASCII name nor an address"
        case .badPort: "has a port that is no number up to 65535"
        case .controlByte: "has a control byte or a space at its end"
        case .tooLong: "is longer than a Location may be"
        case .tooManyMacros: "has too many macros"
        }
    }
}

/// The parts of a URL that decide where it leads.
struct DestinationAuthority {
    /// Bytes of `scheme://authority`.
    var length: Int

    /// Finds and checks scheme and authority.
    static func parse(_ url: [UInt8]) throws(DestinationProblem) -> DestinationAuthority {
        var schemeBytes = 0
        for scheme in ["https://", "http://"] where schemeBytes == 0 {
            let wanted = Array(scheme.utf8)
            if url.count >= wanted.count,
                zip(url, wanted).allSatisfy({ ByteScan.lowercase($0) == $1 })
            {
                schemeBytes = wanted.count
            }
        }
        guard schemeBytes > 0 else { throw .notAbsolute }
        let rest = url[schemeBytes...]
        let end = rest.firstIndex { [0x2F, 0x3F, 0x23].contains($0) } ?? url.endIndex
        let authority = Array(rest[..<end])
        guard !authority.isEmpty else { throw .noHost }
        guard !authority.contains(0x7B) else { throw .macroInHost }
        guard !authority.contains(0x40) else { throw .userInformation }
        try check(authority)
        return DestinationAuthority(length: end)
    }

    private static func check(_ authority: [UInt8]) throws(DestinationProblem) {
        var host = authority
        var port: [UInt8] = []
        if authority.first == 0x5B {
            guard let close = authority.firstIndex(of: 0x5D) else { throw .badHost }
            host = Array(authority[...close])
            let tail = authority[(close + 1)...]
            guard tail.isEmpty || tail.first == 0x3A else { throw .badHost }
            port = Array(tail.dropFirst())
            guard isIPv6(Array(host.dropFirst().dropLast())) else { throw .badHost }
        } else {
            if let colon = authority.firstIndex(of: 0x3A) {
                host = Array(authority[..<colon])
                port = Array(authority[(colon + 1)...])
            }
            guard !host.isEmpty else { throw .noHost }
            guard isName(host) else { throw .badHost }
        }
        guard port.count <= 5, port.allSatisfy({ $0 &- 0x30 < 10 }),
            port.reduce(0, { $0 * 10 + Int($1 - 0x30) }) <= 65_535
        else { throw .badPort }
    }

    /// Letters, digits, `-`, `_`, dots; a name that ends in a number must be a plain IPv4 address,
    /// because a browser takes it for one (WHATWG URL, "ends in a number checker").
    private static func isName(_ host: [UInt8]) -> Bool {
        guard host.count <= LinkLimits.domainBytes,
            host.allSatisfy({
                ByteScan.isUnreserved($0) && $0 != 0x7E
            })
        else { return false }
        var labels = host.split(separator: 0x2E, omittingEmptySubsequences: false)
        if labels.count > 1, labels.last?.isEmpty == true { labels.removeLast() }
        guard let last = labels.last, labels.allSatisfy({ !$0.isEmpty && $0.count <= 63 }) else {
            return false
        }
        let isHexadecimal =
            last.count >= 2 && last.first == 0x30
            && ByteScan.lowercase(last[last.startIndex + 1]) == 0x78
            && last.dropFirst(2).allSatisfy({ ByteScan.hexadecimal($0) != 0xFF })
        guard isHexadecimal || last.allSatisfy({ $0 &- 0x30 < 10 }) else { return true }
        return isIPv4(labels)
    }

    private static func isIPv4(_ labels: [ArraySlice<UInt8>]) -> Bool {
        labels.count == 4
            && labels.allSatisfy { label in
                (1...3).contains(label.count) && label.allSatisfy({ $0 &- 0x30 < 10 })
                    && (label.count == 1 || label.first != 0x30)
                    && label.reduce(0, { $0 * 10 + Int($1 - 0x30) }) <= 255
            }
    }

    /// RFC 4291, 2.2: eight groups, or fewer around one `::`; the last two may be an IPv4 address.
    private static func isIPv6(_ text: [UInt8]) -> Bool {
        var groups = 0
        var compressed = false
        var index = 0
        if text.starts(with: [0x3A, 0x3A]) {
            compressed = true
            index = 2
        }
        while index < text.count {
            let end = text[index...].firstIndex(of: 0x3A) ?? text.count
            let group = text[index..<end]
            if group.contains(0x2E) {
                guard end == text.count,
                    isIPv4(group.split(separator: 0x2E, omittingEmptySubsequences: false))
                else { return false }
                groups += 2
                index = end
                break
            }
            guard (1...4).contains(group.count),
                group.allSatisfy({ ByteScan.hexadecimal($0) != 0xFF })
            else { return false }
            groups += 1
            guard end < text.count else { break }
            index = end + 1
            if index < text.count, text[index] == 0x3A {
                guard !compressed else { return false }
                compressed = true
                index += 1
            } else if index == text.count {
                return false
            }
        }
        return compressed ? groups <= 7 : groups == 8
    }
}
