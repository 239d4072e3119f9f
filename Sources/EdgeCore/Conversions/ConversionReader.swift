// From a message's raw fields to a record: every field with its limits, and every fault named.
internal import Tracking

/// Reads one conversion of a proven (or claimed) message.
struct ConversionReader<D: Digests> {
    let digests: D
    let clickKeys: [SipHashKey]
    let request: ConversionRequest
    let merchant: MerchantDefinition
    let proof: ConversionProof
    let fields: RawFields

    private var faults: [ConversionFault] = []
    private var flags: ConversionRecord.Flags = []

    init(
        digests: D, clickKeys: [SipHashKey], request: ConversionRequest,
        merchant: MerchantDefinition, proof: ConversionProof, fields: RawFields
    ) {
        self.digests = digests
        self.clickKeys = clickKeys
        self.request = request
        self.merchant = merchant
        self.proof = proof
        self.fields = fields
    }

    /// The record, or all that is wrong with the message; never an empty list.
    mutating func read() -> Result<ConversionRecord, ConversionFaults> {
        let event = word(.event, ConversionEvent.allCases, \.name) ?? .sale
        let status = word(.status, ConversionStatus.allCases, \.name) ?? .completed
        let orderID = text(.orderID, limit: ConversionLimits.maxOrderBytes)
        if orderID == nil { require(.orderID) }
        let refundID = text(.refundID, limit: ConversionLimits.maxOrderBytes) ?? []
        if !refundID.isEmpty, event != .refund { fault(422, .refundID, "only_for_refunds") }
        if event == .refund, !proof.isVerified { fault(422, .event, "needs_proof") }
        let currency = currency()
        let amount = amount(of: event, in: currency)
        let eventTime = eventTime()
        let click = clickToken()
        let path = clickPath()
        let coupon = text(.couponCode)
        let customer = text(.customerID)
        let advertiser: [ConversionField] = [.adv1, .adv2, .adv3, .adv4, .adv5]
        let advertiserFields = advertiser.map { text($0) }
        let items = items(in: currency)
        guard faults.isEmpty, let orderID, let currency else {
            return .failure(ConversionFaults(faults))
        }
        markProof()
        var record = ConversionRecord(
            conversionID: ConversionName(
                event: event, orderID: orderID, refundID: refundID,
                claimedToken: proof.isVerified ? nil : click?.token ?? []
            ).id(of: merchant.id, digests: digests),
            merchantID: merchant.id, event: event, status: status,
            channel: request.endpoint.channel, flags: flags, receivedAt: request.receivedAt,
            eventTime: eventTime ?? request.receivedAt, amountMinor: amount ?? 0,
            currency: currency, orderID: orderID)
        record.refundID = refundID
        record.clickID = click?.id
        record.clickPath = path
        record.couponCode = coupon
        record.customerID = customer
        record.advertiserFields = advertiserFields
        record.items = items
        if case .signed(let messageID, let digest) = proof {
            record.messageID = messageID
            record.messageDigest = digest
        }
        return .success(record)
    }

    private mutating func markProof() {
        if proof.isVerified { flags.insert(.verified) }
        if case .legacyToken = proof { flags.insert(.legacyToken) }
    }

    private mutating func fault(_ status: UInt16, _ field: ConversionField, _ reason: String) {
        faults.append(ConversionFault(status, field.name, reason))
    }

    /// Faults an absent field, unless it was there and is at fault already.
    private mutating func require(_ field: ConversionField) {
        if fields[field] == nil { fault(400, field, "required") }
    }

    /// A plain text within its limit; nil when absent or at fault.
    private mutating func text(
        _ field: ConversionField, limit: Int = ConversionLimits.maxTextBytes
    ) -> [UInt8]? {
        let text: [UInt8]
        switch fields[field] {
        case nil: return nil
        case .text(let value): text = value
        // An order number that a shop's JSON writes without quotes.
        case .number(let value) where TextChecks.isDigits(value): text = value
        case .number, .json:
            fault(400, field, "wrong_type")
            return nil
        }
        guard text.count <= limit else {
            fault(400, field, "too_long")
            return nil
        }
        guard TextChecks.isUTF8(text), !TextChecks.hasControl(text) else {
            fault(400, field, "control_character")
            return nil
        }
        return text
    }

    /// A word of a closed vocabulary; nil when absent or at fault.
    private mutating func word<Word>(
        _ field: ConversionField, _ words: [Word], _ name: KeyPath<Word, String>
    ) -> Word? {
        guard let text = text(field) else { return nil }
        guard let word = words.first(where: { Array($0[keyPath: name].utf8) == text }) else {
            fault(400, field, "unknown_word")
            return nil
        }
        return word
    }

    private mutating func currency() -> Currency? {
        guard let text = text(.currency) else {
            return fields[.currency] == nil ? merchant.currency : nil
        }
        guard let currency = text.withUnsafeBytes({ Currency(code: $0) }) else {
            fault(422, .currency, "unknown_currency")
            return nil
        }
        flags.insert(.hasCurrency)
        return currency
    }

    private mutating func amount(of event: ConversionEvent, in currency: Currency?) -> Int64? {
        let text: [UInt8]
        switch fields[.amount] {
        case nil:
            if !event.amountIsOptional { require(.amount) }
            return nil
        case .text(let value), .number(let value): text = value
        case .json:
            fault(400, .amount, "wrong_type")
            return nil
        }
        guard let currency else { return nil }
        do throws(ConversionFault) {
            let units = try DecimalAmount.minorUnits(text, in: currency, field: "amount")
            guard event != .refund || units > 0 else {
                throw ConversionFault(422, "amount", "not_positive")
            }
            flags.insert(.hasAmount)
            return units
        } catch {
            faults.append(error)
            return nil
        }
    }

    private mutating func eventTime() -> Timestamp? {
        let text: [UInt8]
        switch fields[.eventTime] {
        case nil: return nil
        case .text(let value), .number(let value): text = value
        case .json:
            fault(400, .eventTime, "wrong_type")
            return nil
        }
        guard proof.isSigned else {
            fault(422, .eventTime, "signed_messages_only")
            return nil
        }
        let time: Timestamp?
        if TextChecks.isDigits(text) {
            // More digits than a time has are a time out of range.
            time =
                TextChecks.unixSeconds(text).flatMap(Timestamp.init(unixSeconds:))
                ?? Timestamp(microseconds: .max)
        } else {
            time = text.withUnsafeBytes { Timestamp(rfc3339: $0) }
        }
        guard let time else {
            fault(400, .eventTime, "malformed")
            return nil
        }
        let earliest = request.receivedAt.advanced(
            byMicroseconds: -ConversionLimits.maxEventAgeMicroseconds)
        let latest = request.receivedAt.advanced(
            byMicroseconds: ConversionLimits.maxEventLeadMicroseconds)
        guard time >= earliest, time <= latest else {
            fault(422, .eventTime, "out_of_range")
            return nil
        }
        flags.insert(.hasEventTime)
        return time
    }

    private func verified(_ token: [UInt8]) -> ClickID? {
        token.withUnsafeBytes { ClickToken.verify($0, merchant: merchant.id, keys: clickKeys) }
    }

    private mutating func clickToken() -> (id: ClickID, token: [UInt8])? {
        guard let token = text(.clickID) else { return nil }
        guard let id = verified(token) else {
            fault(422, .clickID, "forged_token")
            return nil
        }
        return (id, token)
    }

    private mutating func clickPath() -> [ClickID] {
        var tokens: [[UInt8]] = []
        switch fields[.clickPath] {
        case nil: return []
        case .text(let value):
            tokens = value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
                .map(Array.init)
        case .json(let value):
            guard case .array(let elements) = value.content else { fallthrough }
            for element in elements {
                guard case .string(let token) = element.content else {
                    fault(400, .clickPath, "wrong_type")
                    return []
                }
                tokens.append(token)
            }
        case .number:
            fault(400, .clickPath, "wrong_type")
            return []
        }
        guard tokens.count <= ConversionLimits.maxPathTokens else {
            fault(400, .clickPath, "too_many")
            return []
        }
        let path = tokens.compactMap { verified($0) }
        if path.count < tokens.count { fault(422, .clickPath, "forged_token") }
        return path
    }

    /// The `items` as sent, once they are known to be what the contract says.
    private mutating func items(in currency: Currency?) -> [UInt8] {
        guard let currency else { return [] }
        do throws(ConversionFault) {
            switch fields[.items] {
            case nil: return []
            case .number: throw ConversionFault(400, "items", "wrong_type")
            case .text(let text): return try ConversionItems.check(text: text, in: currency)
            case .json(let value):
                return try ConversionItems.check(value, source: fields.source, in: currency)
            }
        } catch {
            faults.append(error)
            return []
        }
    }
}

/// All that is wrong with one conversion.
struct ConversionFaults: Error {
    /// At least one.
    let all: [ConversionFault]

    init(_ faults: [ConversionFault]) {
        all = faults.isEmpty ? [ConversionFault(400, "body", "malformed")] : faults
    }

    /// 400 when anything is malformed, else the first fault's status.
    var status: UInt16 { all.contains { $0.status == 400 } ? 400 : all[0].status }
}
