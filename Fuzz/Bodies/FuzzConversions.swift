// Fuzz bodies of the conversion messages: queries, forms and JSON, up to the records and the answer.
internal import EdgeCore
internal import Tracking

/// Digests that are fast and prove nothing; the fuzzers look at parsing.
struct FuzzDigests: Digests {
    private func words(_ message: [UInt8], _ count: Int, _ salt: UInt64) -> [UInt8] {
        var result: [UInt8] = []
        for word in 0..<UInt64((count + 7) / 8) {
            let hash = message.withUnsafeBytes {
                SipHash24.hash($0, key: SipHashKey(first: word, second: salt))
            }
            for shift in 0..<8 {
                result.append(UInt8(truncatingIfNeeded: hash >> UInt64(8 * shift)))
            }
        }
        return Array(result.prefix(count))
    }

    func sha1(_ message: [UInt8]) -> [UInt8] { words(message, 20, 1) }
    func sha256(_ message: [UInt8]) -> [UInt8] { words(message, 32, 2) }
    func hmacSHA256(key: [UInt8], message: [UInt8]) -> [UInt8] { words(key + message, 32, 3) }
    func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool { left == right }
}

final class FuzzConversions {
    private let intake = ConversionIntake(
        digests: FuzzDigests(), clickKeys: [SipHashKey(first: 1, second: 2)])
    private let merchants: MerchantDirectory
    private let record = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ConversionRecord.maximumBytes, alignment: 16)

    init() {
        guard let euro = Currency("EUR") else {
            merchants = MerchantDirectory([])
            return
        }
        var merchant = MerchantDefinition(
            id: EntityID(high: 0x1111_2222_3333_4444, low: 0x8888_9999_AAAA_BBBB), currency: euro)
        merchant.postbackToken = Array("a-postback-token-of-32-characters".utf8)
        merchants = MerchantDirectory([merchant])
    }

    deinit { record.deallocate() }

    /// The first byte chooses query, form or pixel; the rest is the message.
    func query(_ input: UnsafeRawBufferPointer) -> String? {
        guard let choice = input.first else { return nil }
        let text = UnsafeRawBufferPointer(rebasing: input.dropFirst())
        if let problem = roundTrip(text) { return problem }
        var request = ConversionRequest(
            endpoint: choice % 3 == 2 ? .pixel : .postback, isPost: choice % 3 == 1,
            receivedAt: Timestamp(microseconds: 1_790_000_000_000_000))
        if choice % 3 == 1 { request.body = text } else { request.query = text }
        let type = Array("application/x-www-form-urlencoded".utf8)
        return type.withUnsafeBytes {
            if request.isPost { request.contentType = $0 }
            return judge(request)
        }
    }

    /// What is parsed, encoded and parsed again is the same.
    private func roundTrip(_ text: UnsafeRawBufferPointer) -> String? {
        var parameters: [ConversionParameter] = []
        do {
            try ParameterParser.parse(text, into: &parameters)
        } catch {
            return nil
        }
        var again: [ConversionParameter] = []
        let canonical = ParameterParser.canonical(parameters)
        do {
            try canonical.withUnsafeBytes { try ParameterParser.parse($0, into: &again) }
        } catch {
            return "its own form is refused: \(error)"
        }
        let kept = parameters.filter { $0.name != Array("sig".utf8) }
        guard again.count == kept.count else {
            return "\(kept.count) parameters, \(again.count) again"
        }
        for parameter in kept where !again.contains(parameter) { return "a parameter changed" }
        return ParameterParser.canonical(again) == canonical ? nil : "no canonical form"
    }

    /// The input is a JSON body.
    func json(_ input: UnsafeRawBufferPointer) -> String? {
        var request = ConversionRequest(
            endpoint: .conversions, isPost: true,
            receivedAt: Timestamp(microseconds: 1_790_000_000_000_000))
        request.body = input
        let type = Array("application/json".utf8)
        return type.withUnsafeBytes {
            request.contentType = $0
            return judge(request)
        }
    }

    private func judge(_ request: ConversionRequest) -> String? {
        let verdict = intake.interpret(
            request, merchants: merchants, merchantDataAgeMicroseconds: 0)
        guard [200, 400, 401, 403, 404, 413, 415, 422, 503].contains(verdict.status) else {
            return "status \(verdict.status)"
        }
        guard verdict.records.count <= 100, verdict.refusals.count <= 100 else { return "too many" }
        if verdict.content == .json {
            for byte in verdict.body where byte < 0x20 || byte >= 0x7F { return "answers \(byte)" }
            guard verdict.body.first == UInt8(ascii: "{"), verdict.body.last == UInt8(ascii: "}")
            else {
                return "no JSON"
            }
        }
        for conversion in verdict.records {
            let count = conversion.write(to: record)
            let written = UnsafeRawBufferPointer(rebasing: record[..<count])
            guard let again = ConversionRecord(payload: written) else {
                return "an unreadable record"
            }
            guard again.orderID == conversion.orderID, again.amountMinor == conversion.amountMinor
            else {
                return "another record"
            }
        }
        for refusal in verdict.refusals where refusal.write(to: record) > RefusalRecord.maximumBytes
        {
            return "a long refusal"
        }
        return nil
    }
}
