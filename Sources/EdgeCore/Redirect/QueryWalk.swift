// The visitor's parameters: walking the query, knowing the reserved names (contract, 3).
internal import Tracking

/// One parameter as it stands in the query.
struct QueryParameter {
    var name: UnsafeRawBufferPointer
    var value: UnsafeRawBufferPointer
    /// The parameter with its name, `=` and value.
    var whole: UnsafeRawBufferPointer
}

/// Steps through the parameters of a query.
struct QueryWalk {
    let query: UnsafeRawBufferPointer
    private var index = 0

    @inline(__always) init(_ query: UnsafeRawBufferPointer) { self.query = query }

    @inline(__always) private func slice(_ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: query.baseAddress.map { $0 + start }, count: end &- start)
    }

    /// The next parameter that has a name; nil at the end.
    @inline(__always) mutating func next() -> QueryParameter? {
        while index < query.count {
            let start = index
            var equals = -1
            while index < query.count, query[index] != 0x26 {
                if query[index] == 0x3D, equals < 0 { equals = index }
                index &+= 1
            }
            let end = index
            index &+= 1
            let nameEnd = equals < 0 ? end : equals
            guard nameEnd > start else { continue }
            return QueryParameter(
                name: slice(start, nameEnd),
                value: equals < 0 ? slice(end, end) : slice(equals &+ 1, end),
                whole: slice(start, end))
        }
        return nil
    }
}

/// What a parameter's name means to us.
enum ReservedName: UInt8, BitwiseCopyable {
    case none, sub, subAlias, affiliateClickID, sourceID, noTrack, qr, clickID
    /// Not reserved, but recorded.
    case utmSource

    /// Finds the meaning of a decoded name, and a sub-id's number 1...10.
    @inline(__always)
    static func of(_ name: UnsafeRawBufferPointer) -> (meaning: ReservedName, number: Int) {
        guard name.count >= 2, name.count <= 12 else { return (.none, 0) }
        switch name[0] {
        case 0x73: return sub(name)
        case 0x61: return affiliate(name)
        case 0x71: return (ByteScan.isExactly(name, "qr") ? .qr : .none, 0)
        case 0x6E: return (ByteScan.isExactly(name, "no_track") ? .noTrack : .none, 0)
        case 0x63: return (ByteScan.isExactly(name, "click_id") ? .clickID : .none, 0)
        case 0x75: return (ByteScan.isExactly(name, "utm_source") ? .utmSource : .none, 0)
        default: return (.none, 0)
        }
    }

    /// `sub1`…`sub10`, `subid`, `s1`…`s5`, `source_id`.
    @inline(__always)
    private static func sub(_ name: UnsafeRawBufferPointer) -> (ReservedName, Int) {
        let last = Int(name[name.count &- 1]) &- 0x30
        switch name.count {
        case 2: return (1...5).contains(last) ? (.subAlias, last) : (.none, 0)
        case 4:
            guard name[1] == 0x75, name[2] == 0x62 else { return (.none, 0) }
            return (1...9).contains(last) ? (.sub, last) : (.none, 0)
        case 5:
            if ByteScan.isExactly(name, "subid") { return (.subAlias, 1) }
            return ByteScan.isExactly(name, "sub10") ? (.sub, 10) : (.none, 0)
        default: return (ByteScan.isExactly(name, "source_id") ? .sourceID : .none, 0)
        }
    }

    /// `aff_sub`, `aff_sub2`…`aff_sub5`, `aff_click_id`.
    @inline(__always)
    private static func affiliate(_ name: UnsafeRawBufferPointer) -> (ReservedName, Int) {
        if ByteScan.isExactly(name, "aff_sub") { return (.subAlias, 1) }
        if ByteScan.isExactly(name, "aff_click_id") { return (.affiliateClickID, 0) }
        guard name.count == 8, ByteScan.hasCaselessPrefix(name, "aff_sub"), name[0] == 0x61,
            name[3] == 0x5F
        else { return (.none, 0) }
        let last = Int(name[7]) &- 0x30
        return (2...5).contains(last) ? (.subAlias, last) : (.none, 0)
    }
}

/// Names of parameters, as sent and as meant.
enum ParameterName {
    /// A name decoded, in place when it is plain; nil when it is too long to be one that we know.
    @inline(__always)
    static func decoded(
        _ raw: UnsafeRawBufferPointer, scratch: UnsafeMutableRawPointer
    ) -> UnsafeRawBufferPointer? {
        if TextDecoding.isPlain(raw) { return raw }
        var index = 0
        var count = 0
        while index < raw.count {
            guard count < Scratch.nameBytes else { return nil }
            let byte = TextDecoding.next(raw, &index)
            scratch.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
            count &+= 1
        }
        return UnsafeRawBufferPointer(start: scratch, count: count)
    }

    /// Whether two names mean the same once decoded.
    @inline(__always)
    static func areSame(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        var one = 0
        var other = 0
        while one < left.count, other < right.count {
            if TextDecoding.next(left, &one) != TextDecoding.next(right, &other) { return false }
        }
        return one == left.count && other == right.count
    }
}
