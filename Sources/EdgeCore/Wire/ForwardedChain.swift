// The chain of addresses in X-Forwarded-For (a list of addresses) or Forwarded (RFC 7239), from the
// last to the first. Several header lines are one list, in their order (RFC 9110, 5.3).
//
// Read from the right, because each proxy appends what it saw: what stands to the left of a trusted
// proxy's element was written by its client and changes nothing to the right of it.
internal import Tracking

/// One chain, hop by hop from the last.
public struct ForwardedChain {
    /// Which header.
    public enum Header: Sendable {
        /// `X-Forwarded-For`.
        case xForwardedFor
        /// `Forwarded`.
        case forwarded
    }

    /// One element of the chain.
    public enum Hop: Equatable, Sendable {
        /// An address; a port beside it is overlooked.
        case address(ClientAddress)
        /// `unknown`, an obfuscated identifier, or what makes no sense.
        case unknown
    }

    private let bytes: UnsafeRawBufferPointer
    private let header: Header
    private let isRepeated: Bool
    /// The line that is being read, up to the element that comes next.
    private var line: ByteRange

    /// The chain of a parsed request; empty when the header is not there.
    /// - Parameters:
    ///   - header: Which header to read.
    ///   - head: The parsed head.
    ///   - bytes: The request's bytes, beginning with its first; they must outlive the chain.
    public init(_ header: Header, of head: RequestHead, in bytes: UnsafeRawBufferPointer) {
        self.header = header
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(max(head.headBytes, 0)))
        line = header == .forwarded ? head.forwarded : head.xForwardedFor
        isRepeated = head.forwardingIsRepeated
    }

    /// The next hop to the left; nil when there is none.
    ///
    /// Empty elements are overlooked.
    /// - Complexity: O(bytes of the element), O(bytes of the head) where a header line ends; no
    ///   allocation.
    public mutating func next() -> Hop? {
        while true {
            if let element = lastElement() {
                let text = AddressText.trim(element)
                if text.isEmpty { continue }
                return hop(text)
            }
            guard isRepeated, let earlier = line(before: Int(line.offset)) else { return nil }
            line = earlier
        }
    }

    private func hop(_ element: UnsafeRawBufferPointer) -> Hop {
        var text = element
        if header == .forwarded {
            guard let node = ForwardedChain.node(of: element) else { return .unknown }
            text = node
        }
        return AddressText.parse(text).map { .address($0) } ?? .unknown
    }

    /// Takes the last element off the line; nil when the line is used up.
    private mutating func lastElement() -> UnsafeRawBufferPointer? {
        let text = line.slice(of: bytes)
        guard !text.isEmpty else { return nil }
        var start = text.count
        var isQuoted = false
        while start > 0 {
            let byte = text[start - 1]
            if byte == UInt8(ascii: "\""), header == .forwarded,
                !(isQuoted && ForwardedChain.isEscaped(text, start - 1))
            {
                isQuoted.toggle()
            } else if byte == UInt8(ascii: ","), !isQuoted {
                break
            }
            start -= 1
        }
        // What is left of the comma stays; the first element leaves nothing.
        line.count = UInt32(truncatingIfNeeded: max(start - 1, 0))
        return UnsafeRawBufferPointer(rebasing: text[start...])
    }

    /// Whether an odd number of backslashes stands before a byte.
    private static func isEscaped(_ text: UnsafeRawBufferPointer, _ position: Int) -> Bool {
        var at = position
        while at > 0, text[at - 1] == UInt8(ascii: "\\") { at -= 1 }
        return (position - at) % 2 == 1
    }

    /// The header's last line that begins before an offset.
    private func line(before offset: Int) -> ByteRange? {
        let name: StaticString = header == .forwarded ? "forwarded:" : "x-forwarded-for:"
        var found: ByteRange?
        var start = 0
        while start < offset {
            var end = start
            while end < offset, bytes[end] != 0x0A { end += 1 }
            let text = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
            if ByteScan.hasCaselessPrefix(text, name), end > start, bytes[end - 1] == 0x0D {
                found = ByteRange(start + name.utf8CodeUnitCount, end - 1)
            }
            start = end + 1
        }
        return found
    }

    /// The value of `for=` in an element of Forwarded (RFC 7239, 4); nil when there is none, when
    /// there are two, or when the element is malformed.
    private static func node(of element: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var found: UnsafeRawBufferPointer?
        var at = 0
        while at < element.count {
            let nameStart = at
            while at < element.count, ByteScan.isToken(element[at]) { at += 1 }
            let name = UnsafeRawBufferPointer(rebasing: element[nameStart..<at])
            guard at < element.count, element[at] == UInt8(ascii: "="), !name.isEmpty else {
                return nil
            }
            at += 1
            guard let value = value(element, &at) else { return nil }
            if name.count == 3, ByteScan.hasCaselessPrefix(name, "for") {
                guard found == nil else { return nil }
                found = value
            }
            while at < element.count, element[at] == 0x20 || element[at] == 0x09 { at += 1 }
            guard at < element.count else { break }
            guard element[at] == UInt8(ascii: ";") else { return nil }
            at += 1
            while at < element.count, element[at] == 0x20 || element[at] == 0x09 { at += 1 }
        }
        return found
    }

    /// A quoted string without its quotes, or the bytes up to a blank, a quote or a semicolon.
    private static func value(
        _ element: UnsafeRawBufferPointer, _ at: inout Int
    ) -> UnsafeRawBufferPointer? {
        guard at < element.count else { return nil }
        var start = at
        guard element[at] == UInt8(ascii: "\"") else {
            while at < element.count, element[at] > 0x20, element[at] != UInt8(ascii: ";"),
                element[at] != UInt8(ascii: "\"")
            {
                at += 1
            }
            return at > start ? UnsafeRawBufferPointer(rebasing: element[start..<at]) : nil
        }
        start += 1
        at = start
        while at < element.count, element[at] != UInt8(ascii: "\"") {
            at += element[at] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard at < element.count else { return nil }
        defer { at += 1 }
        return UnsafeRawBufferPointer(rebasing: element[start..<at])
    }
}
