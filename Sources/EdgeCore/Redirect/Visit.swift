// One request for a link, taken apart as far as the answer and the record need it.
internal import Tracking

/// A request on its way to an answer.
///
/// Everything in it points into the request, the table or the engine's scratch memory. It is large: what
/// is called for each request is mutating, for then it is passed by its place; borrowed, it would be
/// loaded and stored again for each call.
struct Visit {
    @inline(__always) static var nothing: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: nil, count: 0)
    }

    let head: UnsafePointer<RequestHead>
    let bytes: UnsafeRawBufferPointer
    let place: ClickPlace
    let now: Timestamp
    let scratch: UnsafeMutableRawPointer

    var link: LinkView?
    var merchant = MerchantState()
    var slug = Visit.nothing
    var token = Visit.nothing
    var referrerHost = Visit.nothing
    var language = Visit.nothing
    var affiliateClickID = Visit.nothing
    var sourceID = Visit.nothing
    var utmSource = Visit.nothing
    var subIDs = InlineArray<10, UnsafeRawBufferPointer>(repeating: Visit.nothing)
    var subIDCount = 0
    var noTrack = false
    var isQR = false
    /// Nobody can tell whether there is such a link: the snapshot is damaged where it would be.
    var meetsDamage = false

    @inline(__always)
    init(
        head: UnsafePointer<RequestHead>, bytes: UnsafeRawBufferPointer, place: ClickPlace,
        now: Timestamp, scratch: UnsafeMutableRawPointer
    ) {
        self.head = head
        self.bytes = bytes
        self.place = place
        self.now = now
        self.scratch = scratch
    }

    // MARK: Looking up

    /// A link that was found, with what is known of its merchant.
    struct Found {
        var link: LinkView
        var merchant: MerchantState
    }

    /// The link of the host's domain and the slug, else of the empty domain and the slug.
    @inline(__always)
    mutating func find(in tables: UnsafePointer<EdgeTableView>) -> Found? {
        guard readSlug() else { return nil }
        if tables.pointee.hasNamedDomains {
            let host = hostName()
            if host.count > 0 {
                if let found = lookUp(host, tables) { return found }
                if meetsDamage { return nil }
            }
        }
        return lookUp(Visit.nothing, tables)
    }

    @inline(__always)
    private mutating func lookUp(
        _ name: UnsafeRawBufferPointer, _ tables: UnsafePointer<EdgeTableView>
    ) -> Found? {
        if let overlay = tables.pointee.overlay, let domain = overlay.pointee.domain(named: name) {
            switch overlay.pointee.find(
                domain: domain, slug: slug, hash: overlay.pointee.hash(slug))
            {
            case .removed: return nil
            case .link(let link):
                let merchant = tables.pointee.overlayMerchants[link.merchantIndex]
                return Found(link: link, merchant: merchant)
            case .absent, .damaged: break  // An overlay is never a file's bytes.
            }
        }
        guard let domain = tables.pointee.base.domain(named: name) else { return nil }
        switch tables.pointee.base.find(
            domain: domain, slug: slug, hash: tables.pointee.base.hash(slug))
        {
        case .link(let link):
            return Found(link: link, merchant: tables.pointee.baseMerchants[link.merchantIndex])
        case .damaged:
            meetsDamage = true
            return nil
        case .absent, .removed: return nil
        }
    }

    /// The compiled default of the host's domain, else of the empty domain.
    func domainDefault(in tables: UnsafePointer<EdgeTableView>) -> UnsafeRawBufferPointer? {
        let host = hostName()
        if host.count > 0, let program = domainDefault(of: host, in: tables) { return program }
        return domainDefault(of: Visit.nothing, in: tables)
    }

    private func domainDefault(
        of name: UnsafeRawBufferPointer, in tables: UnsafePointer<EdgeTableView>
    ) -> UnsafeRawBufferPointer? {
        if let overlay = tables.pointee.overlay, let index = overlay.pointee.domain(named: name),
            let program = overlay.pointee.domainDefault(index)
        {
            return program
        }
        guard let index = tables.pointee.base.domain(named: name) else { return nil }
        return tables.pointee.base.domainDefault(index)
    }

    /// Decodes the slug; false when the path is none.
    @inline(__always) private mutating func readSlug() -> Bool {
        let path = head.pointee.path.slice(of: bytes)
        guard path.count > 1, let base = path.baseAddress else { return false }
        let raw = UnsafeRawBufferPointer(start: base + 1, count: path.count &- 1)
        var count = 0
        while count < raw.count, ByteScan.isUnreserved(raw[count]) { count &+= 1 }
        if count == raw.count {
            slug = raw
            return count <= LinkLimits.slugBytes
        }
        var index = 0
        count = 0
        while index < raw.count {
            // In a path a plus is a plus, which no slug holds.
            guard count < LinkLimits.slugBytes, raw[index] != 0x2B else { return false }
            let byte = TextDecoding.next(raw, &index)
            guard ByteScan.isUnreserved(byte) else { return false }
            scratch.storeBytes(of: byte, toByteOffset: Scratch.slug &+ count, as: UInt8.self)
            count &+= 1
        }
        slug = UnsafeRawBufferPointer(start: scratch + Scratch.slug, count: count)
        return true
    }

    /// The host's name in lower case, without port.
    @inline(__always) private func hostName() -> UnsafeRawBufferPointer {
        let host = head.pointee.host.slice(of: bytes)
        let length = HostName.nameLength(host)
        guard length <= Scratch.hostBytes else { return Visit.nothing }
        for index in 0..<length {
            scratch.storeBytes(
                of: ByteScan.lowercase(host[index]), toByteOffset: Scratch.host &+ index,
                as: UInt8.self)
        }
        return UnsafeRawBufferPointer(start: scratch + Scratch.host, count: length)
    }

    // MARK: Reading

    var query: UnsafeRawBufferPointer { head.pointee.query.slice(of: bytes) }

    /// Whether the browser says that nobody has clicked yet.
    @inline(__always) mutating func findPrefetch() -> Bool {
        (head.pointee.secPurpose.count > 0
            && ByteScan.hasCaselessPrefix(head.pointee.secPurpose.slice(of: bytes), "prefetch"))
            || (head.pointee.purpose.count > 0
                && ByteScan.hasCaselessPrefix(head.pointee.purpose.slice(of: bytes), "prefetch"))
            || (head.pointee.xMoz.count > 0
                && ByteScan.hasCaselessPrefix(head.pointee.xMoz.slice(of: bytes), "prefetch"))
    }

    /// Whether Global Privacy Control is on.
    @inline(__always) var hasGPC: Bool {
        ByteScan.isExactly(head.pointee.secGPC.slice(of: bytes), "1")
    }

    /// Whether the fetch metadata tells that this is no navigation.
    @inline(__always) var isNonNavigational: Bool {
        head.pointee.secFetchMode.count > 0
            && !ByteScan.isExactly(head.pointee.secFetchMode.slice(of: bytes), "navigate")
    }

    /// Finds the reserved parameters; of two of one name the first counts, before any alias of it.
    @inline(__always) mutating func readQuery() {
        guard head.pointee.query.count > 0 else { return }
        var walk = QueryWalk(query)
        var aliased: UInt16 = 0
        while let parameter = walk.next() {
            guard
                let name = ParameterName.decoded(parameter.name, scratch: scratch + Scratch.name)
            else { continue }
            let (meaning, number) = ReservedName.of(name)
            switch meaning {
            case .none, .clickID: break
            case .sub, .subAlias:
                guard number >= 1, number <= 10, parameter.value.count > 0 else { break }
                let bit: UInt16 = 1 << UInt16(number)
                let isAlias = meaning == .subAlias
                let isKnown = subIDs[number &- 1].count > 0
                guard !isKnown || (!isAlias && aliased & bit != 0) else { break }
                aliased = isAlias ? aliased | bit : aliased & ~bit
                subIDs[number &- 1] = text(parameter.value, number &- 1)
                subIDCount = max(subIDCount, number)
            case .affiliateClickID:
                if affiliateClickID.count == 0 { affiliateClickID = text(parameter.value, 10) }
            case .sourceID: if sourceID.count == 0 { sourceID = text(parameter.value, 11) }
            case .utmSource: if utmSource.count == 0 { utmSource = text(parameter.value, 12) }
            case .noTrack: noTrack = noTrack || Visit.isOn(parameter.value)
            case .qr: isQR = isQR || Visit.isOn(parameter.value)
            }
        }
    }

    @inline(__always)
    private func text(_ raw: UnsafeRawBufferPointer, _ place: Int) -> UnsafeRawBufferPointer {
        TextDecoding.text(
            raw, limit: ClickRecord.maximumTextBytes,
            scratch: scratch + (Scratch.texts &+ place &* Scratch.textBytes))
    }

    /// A switch is on unless it says `0` or `false`.
    private static func isOn(_ value: UnsafeRawBufferPointer) -> Bool {
        !ByteScan.isExactly(value, "0") && !ByteScan.isExactly(value, "false")
    }

    /// The host of the Referer, lower-cased; empty unless it is a plain name or address.
    @inline(__always) mutating func readReferrer() {
        let referer = head.pointee.referer.slice(of: bytes)
        guard referer.count > 3 else { return }
        var index = 0
        while index < referer.count, referer[index] != 0x3A { index &+= 1 }
        guard index &+ 3 < referer.count, referer[index &+ 1] == 0x2F, referer[index &+ 2] == 0x2F
        else { return }
        index &+= 3
        var start = index
        while index < referer.count {
            let byte = referer[index]
            if byte == 0x2F || byte == 0x3F || byte == 0x23 { break }
            if byte == 0x40 { start = index &+ 1 }
            index &+= 1
        }
        let authority = UnsafeRawBufferPointer(rebasing: referer[start..<index])
        let length = HostName.nameLength(authority)
        guard length > 0, length < Scratch.referrerBytes else { return }
        let target = scratch + Scratch.referrer
        for offset in 0..<length {
            let byte = authority[offset]
            let isName =
                ByteScan.isUnreserved(byte) || byte == 0x5B || byte == 0x5D || byte == 0x3A
            guard isName else { return }
            target.storeBytes(of: ByteScan.lowercase(byte), toByteOffset: offset, as: UInt8.self)
        }
        referrerHost = UnsafeRawBufferPointer(start: target, count: length)
    }

    /// The first tag of Accept-Language, as it was written; empty for `*` and what is no tag.
    @inline(__always) mutating func readLanguage() {
        let value = head.pointee.acceptLanguage.slice(of: bytes)
        var count = 0
        while count < value.count, count <= 35 {
            let byte = value[count]
            guard ByteScan.isUnreserved(byte), byte != 0x2E, byte != 0x5F, byte != 0x7E else {
                guard byte == 0x2C || byte == 0x3B || byte == 0x20 else { return }
                break
            }
            count &+= 1
        }
        guard count <= 35 else { return }  // RFC 5646, 4.4.1: longer tags need not be taken.
        language = UnsafeRawBufferPointer(start: value.baseAddress, count: count)
    }
}
