// A destination as a small program: bytes to copy and macros to fill in, made once so that
// answering a click only copies. The layout is docs/formats/link-table.md, "Programs".
internal import Tracking

/// What a macro stands for.
enum MacroCode {
    // 1...10 are the sub-ids.
    static let clickID: UInt8 = 11
    static let linkID: UInt8 = 12
    static let slug: UInt8 = 13
    static let influencerID: UInt8 = 14
    static let merchantID: UInt8 = 15
    static let country: UInt8 = 16
    static let device: UInt8 = 17
    static let operatingSystem: UInt8 = 18
    static let language: UInt8 = 19
    static let referrerHost: UInt8 = 20
    static let timestamp: UInt8 = 21

    private static let names: [String] =
        [""] + (1...10).map { "sub\($0)" } + [
            "click_id", "link_id", "slug", "influencer_id", "merchant_id", "country", "device",
            "os",
            "language", "referrer_host", "timestamp",
        ]

    static func code(of name: [UInt8]) -> UInt8? {
        guard !name.isEmpty,
            let index = names.firstIndex(of: String(decoding: name, as: UTF8.self))
        else { return nil }
        return UInt8(index)
    }

    static func name(of code: UInt8) -> String? {
        code > 0 && Int(code) < names.count ? names[Int(code)] : nil
    }

    /// The most bytes that a macro which owes nothing to the visitor can write; 0 for the others.
    static func trustedBytes(of code: UInt8) -> Int {
        switch code {
        case clickID: ClickToken.length
        case linkID, influencerID, merchantID: 36
        case slug: LinkLimits.slugBytes
        case country: 2
        case device, operatingSystem: 8
        case timestamp: 20
        default: 0
        }
    }
}

/// Instructions of a program.
enum TemplateOperation {
    /// A 16-bit length and so many bytes to copy.
    static let literal: UInt8 = 1
    /// A macro's code, its top bit set for the raw form.
    static let macro: UInt8 = 2
    /// A visitor's parameter: the length of its name, top bit set for the raw form, and the name.
    static let parameter: UInt8 = 3
    /// Where parameters are added: the end of the query.
    static let insertion: UInt8 = 4
    static let rawBit: UInt8 = 0x80
}

/// The first byte of a program.
enum TemplateHeader {
    static let hasClickID: UInt8 = 1
    /// What stands before the first added parameter: nothing, `?` or `&`.
    static let separatorNone: UInt8 = 0
    static let separatorQuestion: UInt8 = 2
    static let separatorAmpersand: UInt8 = 4
    static let separatorMask: UInt8 = 6
}

/// Compiling URLs to programs.
enum LinkTemplate {
    /// Macros in one URL.
    static let maximumMacros = 64

    /// Compiles a URL.
    static func compile(_ url: [UInt8]) throws(DestinationProblem) -> [UInt8] {
        guard url.count <= LinkLimits.locationBytes else { throw .tooLong }
        let authority = try DestinationAuthority.parse(url)
        if let last = url.last, last == 0x20 { throw .controlByte }
        var assembler = Assembler()
        for byte in url[..<authority.length] { assembler.literal.append(byte) }
        var index = authority.length
        while index < url.count {
            if url[index] == 0x7B, let macro = macro(url, at: index) {
                try assembler.add(macro.name)
                index = macro.end
            } else {
                try assembler.add(url[index])
                index += 1
            }
        }
        return try assembler.finish()
    }

    /// The macro that begins at a brace: `{name}` of letters, digits and underscores.
    private static func macro(_ url: [UInt8], at start: Int) -> (name: [UInt8], end: Int)? {
        var index = start + 1
        while index < url.count, isMacroByte(url[index]) { index += 1 }
        guard index < url.count, url[index] == 0x7D, index > start + 1,
            index - start - 1 <= LinkLimits.macroNameBytes
        else { return nil }
        return (Array(url[(start + 1)..<index]), index + 1)
    }

    static func isMacroByte(_ byte: UInt8) -> Bool {
        ByteScan.isUnreserved(byte) && byte != 0x2D && byte != 0x2E && byte != 0x7E
    }

    /// The URL that a program was made from, with unknown macros gone.
    static func source(of program: UnsafeRawBufferPointer) -> [UInt8] {
        var text: [UInt8] = []
        var reader = RecordCursor(bytes: program, offset: 1)
        while let operation = reader.byte() {
            switch operation {
            case TemplateOperation.literal:
                guard let bytes = reader.program() else { return text }
                text += bytes
            case TemplateOperation.macro:
                guard let code = reader.byte(), let name = MacroCode.name(of: code & 0x7F) else {
                    return text
                }
                text += Array((code & 0x80 != 0 ? "{_" : "{").utf8) + Array(name.utf8) + [0x7D]
            case TemplateOperation.parameter:
                guard let length = reader.byte(), let name = reader.take(Int(length & 0x7F)) else {
                    return text
                }
                text += Array((length & 0x80 != 0 ? "{_" : "{").utf8) + name + [0x7D]
            case TemplateOperation.insertion: break
            default: return text
            }
        }
        return text
    }

    /// Whether the bytes are a whole program whose literals are safe in a Location.
    static func isValid(_ program: UnsafeRawBufferPointer) -> Bool {
        guard program.count > 0, program[0] <= 7 else { return false }
        var reader = RecordCursor(bytes: program, offset: 1)
        var insertions = 0
        while let operation = reader.byte() {
            switch operation {
            case TemplateOperation.literal:
                guard let bytes = reader.program(), bytes.allSatisfy(ByteScan.isURLSafe) else {
                    return false
                }
            case TemplateOperation.macro:
                guard let code = reader.byte(), MacroCode.name(of: code & 0x7F) != nil else {
                    return false
                }
            case TemplateOperation.parameter:
                guard let length = reader.byte(), let name = reader.take(Int(length & 0x7F)),
                    name.allSatisfy(isMacroByte)
                else { return false }
            case TemplateOperation.insertion: insertions += 1
            default: return false
            }
        }
        return insertions == 1
    }
}

extension LinkTemplate {
    /// Puts a program together.
    private struct Assembler {
        enum Part { case path, query, fragment }
        var program: [UInt8] = [0]
        var literal: [UInt8] = []
        var part = Part.path
        var hasClickID = false
        var separator = TemplateHeader.separatorQuestion
        var lastIsOpen = false
        var inserted = false
        var macros = 0
        var trustedBytes = 1 + LinkLimits.clickParameterBytes + 1 + ClickToken.length

        mutating func flush() {
            guard !literal.isEmpty else { return }
            trustedBytes += literal.count
            program.append(TemplateOperation.literal)
            program.append(UInt8(truncatingIfNeeded: literal.count))
            program.append(UInt8(truncatingIfNeeded: literal.count >> 8))
            program += literal
            literal = []
        }

        mutating func insertionPoint() {
            guard !inserted else { return }
            inserted = true
            if part == .query {
                separator =
                    lastIsOpen ? TemplateHeader.separatorNone : TemplateHeader.separatorAmpersand
            }
            flush()
            program.append(TemplateOperation.insertion)
        }

        mutating func add(_ byte: UInt8) throws(DestinationProblem) {
            guard byte >= 0x20, byte != 0x7F else { throw .controlByte }
            var opensQuery = false
            switch byte {
            case 0x23 where part != .fragment:
                insertionPoint()
                part = .fragment
            case 0x3F where part == .path:
                part = .query
                opensQuery = true
            default: break
            }
            lastIsOpen = part == .query && (byte == 0x26 || opensQuery)
            if byte == 0x5C, part == .path {
                literal.append(0x2F)  // What a browser makes of it.
            } else if ByteScan.isURLSafe(byte) {
                literal.append(byte)
            } else {
                literal += [
                    0x25, uppercaseHexadecimalDigit(byte >> 4),
                    uppercaseHexadecimalDigit(byte & 15),
                ]
            }
            // The length of a literal must fit 16 bits.
            guard literal.count <= LinkLimits.locationBytes else { throw .tooLong }
        }

        mutating func add(_ name: [UInt8]) throws(DestinationProblem) {
            macros += 1
            guard macros <= LinkTemplate.maximumMacros else { throw .tooManyMacros }
            let isRaw = name.first == 0x5F
            let plain = isRaw ? Array(name.dropFirst()) : name
            let mark = isRaw ? TemplateOperation.rawBit : 0
            lastIsOpen = false
            if let code = MacroCode.code(of: plain) {
                flush()
                program += [TemplateOperation.macro, code | mark]
                trustedBytes += MacroCode.trustedBytes(of: code)
                if code == MacroCode.clickID { hasClickID = true }
            } else if plain.starts(with: Array("utm_".utf8)), plain.count > 4 {
                flush()
                program += [TemplateOperation.parameter, UInt8(plain.count) | mark]
                program += plain
            }
        }

        mutating func finish() throws(DestinationProblem) -> [UInt8] {
            insertionPoint()
            flush()
            guard trustedBytes <= LinkLimits.locationBytes else { throw .tooLong }
            program[0] = separator | (hasClickID ? TemplateHeader.hasClickID : 0)
            return program
        }
    }
}
