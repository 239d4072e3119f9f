// The header fields that clickd reads: found by length and first byte, checked where they frame the
// message.
internal import Tracking

extension HeadScan {
    /// Takes in one field; its name is a token.
    @inline(__always)
    mutating func field(
        _ name: Bytes, _ length: Int, _ value: ByteRange, into head: inout RequestHead
    ) -> RequestParse {
        switch length {
        case 4 where ByteScan.isName(name, 4, "host"): return host(value, into: &head)
        case 5 where ByteScan.isName(name, 5, "x-moz"): head.xMoz = value
        case 6: return sixBytes(name, value, into: &head)
        case 7:
            if ByteScan.isName(name, 7, "referer") {
                keepFirst(value, &head.referer)
            } else if ByteScan.isName(name, 7, "sec-gpc") {
                head.secGPC = value
            } else if ByteScan.isName(name, 7, "purpose") {
                head.purpose = value
            }
        case 9 where ByteScan.isName(name, 9, "forwarded"):
            head.forwardingIsRepeated = head.forwardingIsRepeated || head.forwarded.isPresent
            head.forwarded = value
        case 10: return tenBytes(name, value, into: &head)
        case 11 where ByteScan.isName(name, 11, "sec-purpose"): head.secPurpose = value
        case 12 where ByteScan.isName(name, 12, "content-type"):
            return keepOnly(value, &head.contentType)
        case 14:
            if ByteScan.isName(name, 14, "content-length") {
                return contentLength(value, into: &head)
            } else if ByteScan.isName(name, 14, "sec-fetch-mode") {
                head.secFetchMode = value
            } else if ByteScan.isName(name, 14, "sec-fetch-dest") {
                head.secFetchDest = value
            }
        case 15:
            if ByteScan.isName(name, 15, "accept-language") {
                keepFirst(value, &head.acceptLanguage)
            } else if ByteScan.isName(name, 15, "x-forwarded-for") {
                head.forwardingIsRepeated =
                    head.forwardingIsRepeated || head.xForwardedFor.isPresent
                head.xForwardedFor = value
            }
        case 17: return seventeenBytes(name, value, into: &head)
        default: break
        }
        return .complete
    }

    @inline(__always)
    private mutating func sixBytes(
        _ name: Bytes, _ value: ByteRange, into head: inout RequestHead
    ) -> RequestParse {
        if ByteScan.isName(name, 6, "cookie") {
            keepFirst(value, &head.cookie)
        } else if ByteScan.isName(name, 6, "expect") {
            guard ByteScan.isCaseless(bytes + Int(value.offset), Int(value.count), "100-continue")
            else { return .refused(status: 417) }
            head.expectsContinue = true
        }
        return .complete
    }

    @inline(__always)
    private mutating func tenBytes(
        _ name: Bytes, _ value: ByteRange, into head: inout RequestHead
    ) -> RequestParse {
        if ByteScan.isName(name, 10, "user-agent") {
            keepFirst(value, &head.userAgent)
        } else if ByteScan.isName(name, 10, "connection") {
            connection(value)
        } else if ByteScan.isName(name, 10, "webhook-id") {
            return keepOnly(value, &head.webhookID)
        }
        return .complete
    }

    @inline(__always)
    private mutating func seventeenBytes(
        _ name: Bytes, _ value: ByteRange, into head: inout RequestHead
    ) -> RequestParse {
        if ByteScan.isName(name, 17, "transfer-encoding") {
            state.transferEncodings &+= 1
            guard state.transferEncodings == 1,
                ByteScan.isCaseless(bytes + Int(value.offset), Int(value.count), "chunked")
            else { return .refused(status: 400) }
            head.isChunked = true
        } else if ByteScan.isName(name, 17, "webhook-timestamp") {
            return keepOnly(value, &head.webhookTimestamp)
        } else if ByteScan.isName(name, 17, "webhook-signature") {
            return keepOnly(value, &head.webhookSignature)
        }
        return .complete
    }

    /// Of a field that says something of the visitor the first line counts.
    @inline(__always) private func keepFirst(_ value: ByteRange, _ field: inout ByteRange) {
        if !field.isPresent { field = value }
    }

    /// A field that proves something may come only once.
    @inline(__always)
    private func keepOnly(_ value: ByteRange, _ field: inout ByteRange) -> RequestParse {
        guard !field.isPresent else { return .refused(status: 400) }
        field = value
        return .complete
    }

    @inline(__always)
    private mutating func host(_ value: ByteRange, into head: inout RequestHead) -> RequestParse {
        state.hosts &+= 1
        guard state.hosts == 1,
            value.isEmpty || HostName.isValid(bytes + Int(value.offset), Int(value.count))
        else { return .refused(status: 400) }
        head.host = value
        return .complete
    }

    /// Digits only, once: no sign, no list, no space, no hexadecimal (RFC 9112, 6.3).
    private mutating func contentLength(
        _ value: ByteRange, into head: inout RequestHead
    ) -> RequestParse {
        state.contentLengths &+= 1
        guard state.contentLengths == 1, !value.isEmpty else { return .refused(status: 400) }
        var number = 0
        var digits = 0
        for offset in 0..<Int(value.count) {
            let digit = bytes[Int(value.offset) &+ offset] &- 0x30
            guard digit < 10 else { return .refused(status: 400) }
            guard digits < WireLimits.contentLengthDigits else { continue }
            number = number &* 10 &+ Int(digit)  // Fifteen digits at most: below 2^50.
            if number > 0 { digits &+= 1 }
        }
        guard digits < WireLimits.contentLengthDigits else { return .refused(status: 413) }
        head.contentLength = number
        return .complete
    }

    /// The options of Connection; those but `close` and `keep-alive` are hop names that we ignore.
    private mutating func connection(_ value: ByteRange) {
        let end = Int(value.offset) &+ Int(value.count)
        var at = Int(value.offset)
        while at < end {
            while at < end, bytes[at] == 0x20 || bytes[at] == 0x09 || bytes[at] == 0x2C { at &+= 1 }
            let start = at
            while at < end, bytes[at] != 0x2C { at &+= 1 }
            var stop = at
            while stop > start, bytes[stop &- 1] == 0x20 || bytes[stop &- 1] == 0x09 { stop &-= 1 }
            if ByteScan.isCaseless(bytes + start, stop &- start, "close") {
                state.saysClose = true
            } else if ByteScan.isCaseless(bytes + start, stop &- start, "keep-alive") {
                state.saysKeepAlive = true
            }
        }
    }
}
