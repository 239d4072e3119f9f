// Fuzz bodies of the wire: heads, chunks, PROXY headers, chains of forwarded addresses.
internal import EdgeCore
internal import Tracking

enum FuzzWire {
    private static let headLimit = 512

    // MARK: Heads

    static func requestHead(_ input: UnsafeRawBufferPointer) -> String? {
        var pieces = Pieces(input)
        let bytes = pieces.payload
        var head = RequestHead()
        let whole = RequestParser.parse(bytes, limit: headLimit, into: &head)
        var resumed = RequestHead()
        var progress = HeadProgress()
        var verdict = RequestParse.needMore
        var end = 0
        while end < bytes.count, verdict == .needMore {
            end = min(end + pieces.next(), bytes.count)
            let prefix = UnsafeRawBufferPointer(rebasing: bytes[..<end])
            verdict = RequestParser.parse(
                prefix, limit: headLimit, into: &resumed, resuming: &progress)
        }
        guard verdict == whole else { return "in pieces \(verdict), in one \(whole)" }
        switch whole {
        case .needMore: return bytes.count < headLimit ? nil : "needs more than its limit"
        case .refused(let status):
            return [400, 405, 413, 414, 417, 431, 505].contains(status) ? nil : "\(status)"
        case .complete: break
        }
        guard resumed == head else { return "another head in pieces" }
        return framing(head, bytes) ?? routing(head, bytes)
    }

    /// Reads the head again, naively: no accepted request may have two framings.
    private static func framing(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> String? {
        let count = head.headBytes
        guard count >= 16, count <= bytes.count, count <= headLimit else {
            return "length \(count)"
        }
        for index in 0..<count {
            let byte = bytes[index]
            if byte == 0 || byte == 0x7F { return "a control character" }
            if byte == 0x0A, index == 0 || bytes[index - 1] != 0x0D { return "a bare LF" }
            if byte == 0x0D, index + 1 >= count || bytes[index + 1] != 0x0A { return "a bare CR" }
        }
        guard bytes[count - 4] == 0x0D, bytes[count - 2] == 0x0D else { return "no blank line" }
        var lengths = 0
        var codings = 0
        var hosts = 0
        var lines = 0
        var start = 0
        for index in 0..<count where bytes[index] == 0x0A {
            let line = UnsafeRawBufferPointer(rebasing: bytes[start..<(index - 1)])
            start = index + 1
            if begins(line, "content-length:") { lengths += 1 }
            if begins(line, "transfer-encoding:") { codings += 1 }
            if begins(line, "host:") { hosts += 1 }
            if line.isEmpty, lines > 0, start != count { return "a blank line within" }
            if !line.isEmpty {
                lines += 1
                if line[0] == 0x20 || line[0] == 0x09 { return "a folded line" }
            }
        }
        guard lengths + codings <= 1 else { return "two framings" }
        guard head.isChunked == (codings == 1), (head.contentLength >= 0) == (lengths == 1) else {
            return "framing not seen"
        }
        guard hosts <= 1, hosts == 1 || head.minorVersion == 0 else { return "\(hosts) hosts" }
        guard codings == 0 || head.minorVersion == 1 else { return "chunks in HTTP/1.0" }
        return nil
    }

    private static func routing(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> String? {
        for range in [
            head.path, head.query, head.host, head.userAgent, head.referer, head.acceptLanguage,
            head.contentType, head.cookie, head.xForwardedFor, head.forwarded, head.webhookID,
        ] where Int(range.offset) + Int(range.count) > head.headBytes {
            return "a range beyond the head"
        }
        let path = head.path.slice(of: bytes)
        guard head.isAsterisk || path.isEmpty || path[0] == 0x2F else { return "no path" }
        for byte in path where byte <= 0x20 || byte >= 0x7F || byte == 0x23 || byte == 0x3F {
            return "a path with \(byte)"
        }
        var head = head
        if case .redirect(let slug) = Router.route(&head, bytes), slug.isPresent {
            guard Int(slug.offset) + Int(slug.count) <= head.headBytes else { return "a far slug" }
        }
        let host = head.host.slice(of: bytes)
        return HostName.nameLength(host) <= host.count ? nil : "a long host"
    }

    private static func begins(_ line: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
        guard line.count >= name.utf8CodeUnitCount else { return false }
        for index in 0..<name.utf8CodeUnitCount {
            let byte = line[index]
            let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
            if lower != name.utf8Start[index] { return false }
        }
        return true
    }

    // MARK: Chunks

    static func chunkedBody(_ input: UnsafeRawBufferPointer) -> String? {
        var pieces = Pieces(input)
        let bytes = pieces.payload
        return withUnsafeTemporaryAllocation(byteCount: 2 * 1024, alignment: 8) { room in
            let one = UnsafeMutableRawBufferPointer(rebasing: room[..<1024])
            let other = UnsafeMutableRawBufferPointer(rebasing: room[1024...])
            var decoder = ChunkedDecoder()
            let whole = decoder.decode(bytes, into: one)
            let taken = decoder.consumed
            var second = ChunkedDecoder()
            var verdict = ChunkedProgress.needMore
            var start = 0
            while start < bytes.count, verdict == .needMore {
                let end = min(start + pieces.next(), bytes.count)
                verdict = second.decode(
                    UnsafeRawBufferPointer(rebasing: bytes[start..<end]), into: other)
                start += second.consumed
                if verdict == .needMore, start != end { return "bytes left untaken" }
            }
            guard verdict == whole, start == taken else {
                return "in pieces \(verdict) at \(start), in one \(whole) at \(taken)"
            }
            guard decoder.produced == second.produced, decoder.produced <= one.count else {
                return "\(decoder.produced) bytes and \(second.produced)"
            }
            guard one[..<decoder.produced].elementsEqual(other[..<second.produced]) else {
                return "another body in pieces"
            }
            if case .refused(let status) = whole, status != 400, status != 413 {
                return "\(status)"
            }
            guard whole == .complete else { return nil }
            // Five bytes are the least that end a body; a chunk has five of its own.
            guard taken >= decoder.produced + 5 else { return "more body than bytes" }
            return bytes[taken - 1] == 0x0A ? nil : "no end"
        }
    }

    // MARK: PROXY

    static func proxy(_ input: UnsafeRawBufferPointer) -> String? {
        var pieces = Pieces(input)
        let version = (input.first ?? 0) & 1 == 0 ? ProxyVersion.v1 : .v2
        let bytes = pieces.payload
        let whole = ProxyHeader.parse(bytes, version)
        var end = 0
        while end < bytes.count {
            end = min(end + pieces.next(), bytes.count)
            let part = ProxyHeader.parse(UnsafeRawBufferPointer(rebasing: bytes[..<end]), version)
            guard part == .needMore || part == whole else { return "\(part), then \(whole)" }
        }
        switch whole {
        case .refused: return nil
        case .needMore:
            return bytes.count < ProxyHeader.maximumBytes(version)
                ? nil : "needs more than its limit"
        case .complete(let count, let client):
            guard count <= bytes.count, count <= ProxyHeader.maximumBytes(version), count >= 15
            else {
                return "length \(count)"
            }
            let short = UnsafeRawBufferPointer(rebasing: bytes[..<(count - 1)])
            guard ProxyHeader.parse(short, version) == .needMore else {
                return "complete too early"
            }
            if let client, !client.isIPv6, client.low != 0 || client.high & 0xFFFF_FFFF != 0 {
                return "an IPv4 address of more than four bytes"
            }
            return nil
        }
    }

    // MARK: Forwarded

    /// The payload is what a client wrote; a trusted proxy appends the client's address to it, on the
    /// same line or on one of its own, and that must be the first hop.
    static func forwarded(_ input: UnsafeRawBufferPointer) -> String? {
        let choice = input.first ?? 0
        let text = UnsafeRawBufferPointer(rebasing: input.dropFirst())
        let isStandard = choice & 1 == 1
        let name = isStandard ? "Forwarded: " : "X-Forwarded-For: "
        let appended = isStandard ? "for=203.0.113.9" : "203.0.113.9"
        let isOwnLine = choice & 2 == 2
        var request = Array("GET / HTTP/1.1\r\nHost: a\r\n\(name)".utf8)
        // A bar begins another line of the same header; a line of any other is not looked for.
        for byte in text {
            if byte == 0x0A { return nil }
            if byte == 0x7C { request += Array("\r\n\(name)".utf8) } else { request.append(byte) }
        }
        let between = isOwnLine ? "\r\n\(name)" : text.isEmpty ? "" : ", "
        request += Array("\(between)\(appended)\r\n\r\n".utf8)
        return request.withUnsafeBytes { bytes in
            var head = RequestHead()
            guard RequestParser.parse(bytes, limit: 65_536, into: &head) == .complete,
                head.headBytes == bytes.count
            else { return nil }
            let last = isStandard ? head.forwarded : head.xForwardedFor
            var chain = ForwardedChain(
                isStandard ? .forwarded : .xForwardedFor, of: head, in: bytes)
            var hops = 0
            while let hop = chain.next() {
                hops += 1
                if hops == 1 {
                    let visitor = ClientAddress(high: 0xCB00_7109 << 32, low: 0, isIPv6: false)
                    if hop != .address(visitor) { return "the proxy's own element reads as \(hop)" }
                }
                if hops > bytes.count { return "a chain without end" }
            }
            if hops == 0, last.isPresent { return "the proxy's own element is not seen" }
            return AddressText.parse(text).map { address in
                address.isIPv6 || address.low == 0 ? nil : "a long IPv4 address"
            } ?? nil
        }
    }
}
