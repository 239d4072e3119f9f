// The redirect's head and its Location: the link's program run over the visit.
internal import Tracking

/// How much of the visitor a Location takes in: less, when more does not fit.
enum LocationScope: UInt8, BitwiseCopyable {
    case everything, withoutParameters, withoutVisitor
}

extension Visit {
    /// The visitor's parameters that are merged into one destination.
    private static let maximumForwarded = 64

    /// Writes a whole redirect.
    ///
    /// - Returns: Bytes written; 0 when the program is broken, as a damaged snapshot's may be.
    @inline(__always)
    mutating func writeRedirect(
        _ program: UnsafeRawBufferPointer, status: UInt16, isDestination: Bool, closes: Bool,
        clock: borrowing LoopClock, to output: UnsafeMutableRawPointer
    ) -> Int {
        var writer = ByteWriter(output, capacity: ClickEngine.maximumResponseBytes)
        switch status {
        case 301: writer.append(Visit.permanent301)
        case 307: writer.append(Visit.temporary307)
        case 308: writer.append(Visit.permanent308)
        default: writer.append(Visit.found302)
        }
        writer.append(date: clock)
        if closes {
            writer.append("Connection: close\r\n")
        } else if head.pointee.minorVersion == 0 {
            writer.append("Connection: keep-alive\r\n")
        }
        writer.append("Location: ")
        let start = writer.count
        var scope = LocationScope.everything
        while true {
            var location = ByteWriter(output + start, capacity: LinkLimits.locationBytes)
            let isWhole = run(program, isDestination: isDestination, scope, &location)
            if isWhole, !location.isFull {
                writer.count = start &+ location.count
                break
            }
            guard isWhole else { return 0 }
            switch scope {
            case .everything: scope = .withoutParameters
            case .withoutParameters: scope = .withoutVisitor
            case .withoutVisitor: return 0
            }
        }
        writer.append("\r\n\r\n")
        return writer.isFull ? 0 : writer.count
    }

    private static let found302: StaticString = """
        HTTP/1.1 302 Found\r\nCache-Control: private, no-store\r\n\
        X-Robots-Tag: noindex\r\nContent-Length: 0\r\n
        """
    private static let temporary307: StaticString = """
        HTTP/1.1 307 Temporary Redirect\r\nCache-Control: private, no-store\r\n\
        X-Robots-Tag: noindex\r\nContent-Length: 0\r\n
        """
    private static let permanent301: StaticString = """
        HTTP/1.1 301 Moved Permanently\r\nCache-Control: private, max-age=90\r\n\
        X-Robots-Tag: noindex\r\nContent-Length: 0\r\n
        """
    private static let permanent308: StaticString = """
        HTTP/1.1 308 Permanent Redirect\r\nCache-Control: private, max-age=90\r\n\
        X-Robots-Tag: noindex\r\nContent-Length: 0\r\n
        """

    /// Runs a program; false when it is broken.
    @inline(__always)
    private mutating func run(
        _ program: UnsafeRawBufferPointer, isDestination: Bool, _ scope: LocationScope,
        _ writer: inout ByteWriter
    ) -> Bool {
        guard program.count > 0 else { return false }
        let header = program[0]
        var reader = RecordCursor(bytes: program, offset: 1)
        while let operation = reader.byte() {
            switch operation {
            case TemplateOperation.literal:
                guard let bytes = reader.program(), Visit.isSafe(bytes) else { return false }
                writer.append(bytes)
            case TemplateOperation.macro:
                guard let code = reader.byte() else { return false }
                macro(code, scope, &writer)
            case TemplateOperation.parameter:
                guard let length = reader.byte(), let name = reader.take(Int(length & 0x7F)) else {
                    return false
                }
                guard scope != .withoutVisitor else { break }
                parameter(name, isRaw: length & TemplateOperation.rawBit != 0, &writer)
            case TemplateOperation.insertion:
                if isDestination { addParameters(header, scope, &writer) }
            default: return false
            }
        }
        return true
    }

    /// Whether a literal may stand in a header: a mapped snapshot is not trusted before its full
    /// check.
    @inline(__always) private static func isSafe(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return bytes.count == 0 }
        let text = base.assumingMemoryBound(to: UInt8.self)
        var index = 0
        while index &+ 8 <= bytes.count {
            let word = ByteScan.word(text, index)
            let hits =
                ByteScan.below(word, 0x21) | ByteScan.zeros(word ^ (ByteScan.ones &* 0x7F))
                | (word & ByteScan.tops)
            if hits != 0 { return false }
            index &+= 8
        }
        while index < bytes.count {
            let byte = text[index]
            if byte < 0x21 || byte >= 0x7F { return false }
            index &+= 1
        }
        return true
    }

    // MARK: Macros

    @inline(__always)
    private mutating func macro(_ code: UInt8, _ scope: LocationScope, _ writer: inout ByteWriter) {
        let isRaw = code & TemplateOperation.rawBit != 0
        switch code & ~TemplateOperation.rawBit {
        case let number where number >= 1 && number <= 10:
            guard scope != .withoutVisitor else { return }
            append(subIDs[Int(number) &- 1], isRaw, &writer)
        case MacroCode.clickID: writer.append(token)
        case MacroCode.linkID: append(link?.id, &writer)
        case MacroCode.slug: append(slug, isRaw, &writer)
        case MacroCode.influencerID: append(link?.influencerID, &writer)
        case MacroCode.merchantID: append(link?.merchantID, &writer)
        case MacroCode.country:
            guard place.country != 0 else { return }
            writer.append(encoding: UInt8(truncatingIfNeeded: place.country))
            writer.append(encoding: UInt8(truncatingIfNeeded: place.country >> 8))
        case MacroCode.language:
            if scope != .withoutVisitor { append(language, isRaw, &writer) }
        case MacroCode.referrerHost:
            if scope != .withoutVisitor { append(referrerHost, isRaw, &writer) }
        case MacroCode.timestamp: writer.append(decimal: UInt64(clamping: now.seconds))
        case MacroCode.device: writer.append(Visit.word(visitor.device))
        case MacroCode.operatingSystem: writer.append(Visit.word(visitor.operatingSystem))
        default: break  // Only a damaged snapshot holds another.
        }
    }

    /// What the user agent tells; looked at only for links that ask for it.
    private var visitor: VisitorDevice {
        VisitorClassifier.device(userAgent: head.pointee.userAgent.slice(of: bytes))
    }

    private static func word(_ device: DeviceClass) -> StaticString {
        switch device {
        case .mobile: "mobile"
        case .tablet: "tablet"
        case .desktop: "desktop"
        case .tv: "tv"
        case .bot: "bot"
        case .other: "other"
        }
    }

    private static func word(_ system: OperatingSystem) -> StaticString {
        switch system {
        case .ios: "ios"
        case .android: "android"
        case .windows: "windows"
        case .macos: "macos"
        case .linux: "linux"
        case .chromeos: "chromeos"
        case .other: "other"
        }
    }

    @inline(__always) private func append(_ id: EntityID?, _ writer: inout ByteWriter) {
        guard let id else { return }
        guard writer.capacity &- writer.count >= 36 else {
            writer.isFull = true
            return
        }
        id.writeText(
            to: UnsafeMutableRawBufferPointer(start: writer.base + writer.count, count: 36))
        writer.count &+= 36
    }

    /// Appends a text percent-encoded; raw, what cannot change the meaning of a URL stays bare.
    @inline(__always)
    private func append(
        _ text: UnsafeRawBufferPointer, _ isRaw: Bool, _ writer: inout ByteWriter
    ) {
        for byte in text {
            if isRaw, Visit.isRawSafe(byte) {
                writer.append(byte)
            } else {
                writer.append(encoding: byte)
            }
        }
    }

    /// Unreserved and `/ : , ; @ ! $ * ( )`: nothing that ends a value, a query or a header.
    @inline(__always) private static func isRawSafe(_ byte: UInt8) -> Bool {
        let low: UInt64 = 0x0FFF_F712_0000_0000
        let high: UInt64 = 0x47FF_FFFE_87FF_FFFF
        let word = byte < 64 ? low : high
        return byte < 128 && word >> UInt64(byte & 63) & 1 == 1
    }

    /// The visitor's own parameter of a name, such as `utm_campaign`.
    private mutating func parameter(
        _ name: UnsafeRawBufferPointer, isRaw: Bool, _ writer: inout ByteWriter
    ) {
        guard head.pointee.query.count > 0 else { return }
        var walk = QueryWalk(query)
        while let parameter = walk.next() {
            guard ParameterName.areSame(parameter.name, name) else { continue }
            var index = 0
            while index < parameter.value.count {
                let byte = TextDecoding.next(parameter.value, &index)
                if isRaw, Visit.isRawSafe(byte) {
                    writer.append(byte)
                } else {
                    writer.append(encoding: byte)
                }
            }
            return
        }
    }

    // MARK: Added parameters

    /// Adds the visitor's own parameters where the link forwards them, then the merchant's.
    @inline(__always)
    private mutating func addParameters(
        _ header: UInt8, _ scope: LocationScope, _ writer: inout ByteWriter
    ) {
        var separator: UInt8 = 0x26
        switch header & TemplateHeader.separatorMask {
        case TemplateHeader.separatorNone: separator = 0
        case TemplateHeader.separatorQuestion: separator = 0x3F
        default: break
        }
        if scope == .everything, head.pointee.query.count > 0, link?.forwardsQuery == true {
            forward(&separator, &writer)
        }
        guard header & TemplateHeader.hasClickID == 0, token.count > 0 else { return }
        if separator != 0 { writer.append(separator) }
        withUnsafeBytes(of: merchant.parameter) { name in
            if let base = name.baseAddress { writer.append(base, Int(merchant.parameterBytes)) }
        }
        writer.append(0x3D)
        writer.append(token)
    }

    /// Merges the visitor's parameters: never a reserved one, never one that the destination has.
    private mutating func forward(_ separator: inout UInt8, _ writer: inout ByteWriter) {
        let own = destinationQuery(writer)
        var walk = QueryWalk(query)
        var count = 0
        while count < Visit.maximumForwarded, let parameter = walk.next() {
            // A name too long to be looked at goes no further.
            guard
                let name = ParameterName.decoded(parameter.name, scratch: scratch + Scratch.name),
                !isReserved(name)
            else { continue }
            var ownWalk = QueryWalk(own)
            var isTaken = false
            while !isTaken, let known = ownWalk.next() {
                isTaken = ParameterName.areSame(known.name, parameter.name)
            }
            guard !isTaken else { continue }
            count &+= 1
            if separator != 0 { writer.append(separator) }
            separator = 0x26
            copy(parameter.whole, &writer)
        }
    }

    @inline(__always) private func isReserved(_ name: UnsafeRawBufferPointer) -> Bool {
        let meaning = ReservedName.of(name).meaning
        if meaning != .none, meaning != .utmSource { return true }
        return withUnsafeBytes(of: merchant.parameter) { own in
            ByteScan.areEqual(
                UnsafeRawBufferPointer(
                    start: own.baseAddress, count: Int(merchant.parameterBytes)), name)
        }
    }

    /// The query that the destination has of its own, as it has been written.
    private func destinationQuery(_ writer: ByteWriter) -> UnsafeRawBufferPointer {
        let written = UnsafeRawBufferPointer(start: writer.base, count: writer.count)
        var start = 0
        while start < written.count, written[start] != 0x3F { start &+= 1 }
        guard start < written.count else { return Visit.nothing }
        return UnsafeRawBufferPointer(
            start: writer.base + (start &+ 1), count: written.count &- start &- 1)
    }

    /// Copies a parameter as it was sent, with everything encoded that a URL may not hold.
    private func copy(_ raw: UnsafeRawBufferPointer, _ writer: inout ByteWriter) {
        var index = 0
        while index < raw.count {
            let byte = raw[index]
            index &+= 1
            if byte == 0x25 {
                let isEscape =
                    index &+ 2 <= raw.count && ByteScan.hexadecimal(raw[index]) != 0xFF
                    && ByteScan.hexadecimal(raw[index &+ 1]) != 0xFF
                if isEscape { writer.append(byte) } else { writer.append(escaped: byte) }
            } else if ByteScan.isURLSafe(byte), byte != 0x23 {
                writer.append(byte)
            } else {
                writer.append(escaped: byte)
            }
        }
    }
}
