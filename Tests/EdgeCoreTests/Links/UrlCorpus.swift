// Reads the WHATWG URL test data: a small JSON reader that keeps the bytes of escapes apart from
// text.

/// One case of the corpus.
struct UrlCase {
    var input: [UInt8]
    var base: [UInt8]?
    /// nil when a browser fails to parse it.
    var host: String?
}

/// The corpus as cases with an `input`.
enum UrlCorpus {
    static func entries(_ json: [UInt8]) -> [UrlCase] {
        var reader = Reader(bytes: json)
        guard case .array(let items) = reader.value() else { return [] }
        return items.compactMap { item in
            guard case .object(let fields) = item, case .text(let input)? = fields["input"] else {
                return nil
            }
            var result = UrlCase(input: input)
            if case .text(let base)? = fields["base"] { result.base = base }
            if case .text(let host)? = fields["host"] {
                result.host = String(decoding: host, as: UTF8.self)
            }
            return result
        }
    }

    enum Value {
        case text([UInt8])
        case object([String: Value])
        case array([Value])
        case other
    }

    struct Reader {
        let bytes: [UInt8]
        var index = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        mutating func skip() {
            while index < bytes.count, [0x20, 0x0A, 0x0D, 0x09, 0x2C, 0x3A].contains(bytes[index]) {
                index += 1
            }
        }

        mutating func value() -> Value {
            skip()
            guard index < bytes.count else { return .other }
            switch bytes[index] {
            case 0x22: return .text(text())
            case 0x5B:
                index += 1
                var items: [Value] = []
                while true {
                    skip()
                    guard index < bytes.count, bytes[index] != 0x5D else { break }
                    items.append(value())
                }
                index += 1
                return .array(items)
            case 0x7B:
                index += 1
                var fields: [String: Value] = [:]
                while true {
                    skip()
                    guard index < bytes.count, bytes[index] == 0x22 else { break }
                    let name = String(decoding: text(), as: UTF8.self)
                    fields[name] = value()
                }
                index += 1
                return .object(fields)
            default:
                while index < bytes.count, ![0x2C, 0x5D, 0x7D].contains(bytes[index]) { index += 1 }
                return .other
            }
        }

        /// A string; a lone surrogate becomes U+FFFD, as a browser's would.
        mutating func text() -> [UInt8] {
            index += 1
            var result: [UInt16] = []
            var pending: [UInt8] = []
            func flush(_ pending: inout [UInt8], _ result: inout [UInt16]) {
                result += Array(String(decoding: pending, as: UTF8.self).utf16)
                pending = []
            }
            while index < bytes.count, bytes[index] != 0x22 {
                guard bytes[index] == 0x5C, index + 1 < bytes.count else {
                    pending.append(bytes[index])
                    index += 1
                    continue
                }
                flush(&pending, &result)
                let escape = bytes[index + 1]
                index += 2
                switch escape {
                case 0x75:
                    let end = min(index + 4, bytes.count)
                    let digits = String(decoding: bytes[index..<end], as: UTF8.self)
                    result.append(UInt16(digits, radix: 16) ?? 0)
                    index = end
                case 0x6E: result.append(10)
                case 0x74: result.append(9)
                case 0x72: result.append(13)
                case 0x62: result.append(8)
                case 0x66: result.append(12)
                default: result.append(UInt16(escape))
                }
            }
            flush(&pending, &result)
            index += 1
            return Array(String(decoding: result, as: UTF16.self).utf8)
        }
    }
}
