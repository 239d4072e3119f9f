// The intake: from an HTTP request to records, refusals and an answer. It decides; it does no I/O.
public import Tracking

/// Interprets conversion requests; one value for all loops, without state.
public struct ConversionIntake<D: Digests>: Sendable {
    private let digests: D
    private let clickKeys: [SipHashKey]

    /// An intake that takes the click tokens of these keys.
    public init(digests: D, clickKeys: [SipHashKey]) {
        self.digests = digests
        self.clickKeys = clickKeys
    }

    /// Decides about a request.
    ///
    /// - Parameters:
    ///   - request: The request; nothing of it is kept.
    ///   - merchants: The merchants as last loaded.
    ///   - merchantDataAgeMicroseconds: How long ago they were known to be current; `.max` for never.
    /// - Returns: What to record and to answer. A pixel is answered with the image whatever happens.
    public func interpret(
        _ request: ConversionRequest, merchants: MerchantDirectory,
        merchantDataAgeMicroseconds: Int64
    ) -> ConversionVerdict {
        var context = IntakeContext()
        var verdict: ConversionVerdict
        do throws(ConversionFault) {
            let messages = try gather(request, &context)
            verdict = try decide(request, messages, merchants, &context)
        } catch {
            let isStale =
                merchantDataAgeMicroseconds >= ConversionLimits.maxMerchantDataAgeMicroseconds
            if isStale, [401, 403, 404].contains(error.status) {
                verdict = unavailable(request, context)
            } else {
                verdict = refusal(request, context, error)
            }
        }
        if request.endpoint == .pixel {
            verdict.status = 200
            verdict.body = ConversionResponses.pixel
            verdict.content = .gif
            verdict.retryAfterSeconds = nil
        }
        return verdict
    }

    // MARK: Gathering

    private func gather(
        _ request: ConversionRequest, _ context: inout IntakeContext
    ) throws(ConversionFault) -> [RawFields] {
        guard request.body.count <= ConversionLimits.maxBodyBytes else {
            throw ConversionFault(413, "body", "too_large")
        }
        try parse(request.query, of: "query", into: &context.parameters)
        let isJSON = try bodyIsJSON(request)
        // A signature covers the body only, and a JSON message is its body.
        if request.isPost, request.webhookSignature != nil || isJSON {
            for parameter in context.parameters {
                guard let field = ConversionField.named(parameter.name) else { continue }
                throw ConversionFault(400, field.name, "not_in_query")
            }
        }
        guard isJSON else {
            if request.isPost {
                try parse(request.body, of: "body", into: &context.parameters)
            }
            let fields = try RawFields(parameters: context.parameters)
            context.note(fields)
            return [fields]
        }
        let value: JSONValue
        do throws(JSONReader.Problem) {
            value = try JSONReader.parse(request.body)
        } catch {
            throw ConversionFault(400, "body", error.rawValue)
        }
        return try messages(of: value, request, &context)
    }

    private func parse(
        _ bytes: UnsafeRawBufferPointer, of place: String,
        into parameters: inout [ConversionParameter]
    ) throws(ConversionFault) {
        do throws(ParameterParser.Problem) {
            try ParameterParser.parse(bytes, into: &parameters)
        } catch {
            throw ConversionFault(400, place, error.rawValue)
        }
    }

    private func bodyIsJSON(_ request: ConversionRequest) throws(ConversionFault) -> Bool {
        guard request.isPost else { return false }
        let isAPI = request.endpoint == .conversions
        guard let header = request.contentType, !header.isEmpty else { return isAPI }
        let type = header.prefix { $0 != UInt8(ascii: ";") }
            .filter { $0 != 0x20 && $0 != 0x09 }
            .map { $0 >= UInt8(ascii: "A") && $0 <= UInt8(ascii: "Z") ? $0 | 0x20 : $0 }
        if type == Array("application/json".utf8) { return true }
        guard !isAPI,
            type == Array("application/x-www-form-urlencoded".utf8) || request.body.isEmpty
        else { throw ConversionFault(400, "content-type", "unsupported") }
        return false
    }

    private func messages(
        of value: JSONValue, _ request: ConversionRequest, _ context: inout IntakeContext
    ) throws(ConversionFault) -> [RawFields] {
        var elements = [value]
        if case .array(let array) = value.content, request.endpoint == .conversions {
            elements = array
            context.isArray = true
            guard !array.isEmpty else { throw ConversionFault(400, "body", "empty") }
            guard array.count <= ConversionLimits.maxConversionsPerMessage else {
                throw ConversionFault(400, "body", "too_many")
            }
        }
        var messages: [RawFields] = []
        for element in elements {
            guard let fields = try RawFields(json: element, source: request.body) else {
                throw ConversionFault(400, "body", "not_an_object")
            }
            if messages.isEmpty { context.note(fields) }
            messages.append(fields)
        }
        return messages
    }

    // MARK: Deciding

    private func merchantID(of fields: RawFields) throws(ConversionFault) -> EntityID {
        guard let value = fields[.merchantID] else {
            throw ConversionFault(400, "merchant_id", "required")
        }
        guard case .text(let text) = value,
            let id = text.withUnsafeBytes({ EntityID(text: $0) })
        else { throw ConversionFault(400, "merchant_id", "malformed") }
        return id
    }

    private func decide(
        _ request: ConversionRequest, _ messages: [RawFields], _ merchants: MerchantDirectory,
        _ context: inout IntakeContext
    ) throws(ConversionFault) -> ConversionVerdict {
        var merchantID: EntityID?
        for fields in messages {
            let id = try self.merchantID(of: fields)
            guard merchantID == nil || merchantID == id else {
                throw ConversionFault(400, "merchant_id", "several_merchants")
            }
            merchantID = id
        }
        guard let merchantID else { throw ConversionFault(400, "body", "empty") }
        context.merchantID = merchantID
        guard let merchant = merchants[merchantID] else {
            throw ConversionFault(404, "merchant_id", "unknown")
        }
        let proof = try ProofChecker(digests: digests, request: request, merchant: merchant)
            .check(messages, context.parameters)
        guard !merchant.isSuspended else {
            throw ConversionFault(403, "merchant_id", "suspended")
        }
        return read(request, messages, merchant, proof, context)
    }

    private func read(
        _ request: ConversionRequest, _ messages: [RawFields], _ merchant: MerchantDefinition,
        _ proof: ConversionProof, _ context: IntakeContext
    ) -> ConversionVerdict {
        var verdict = ConversionVerdict(status: 200, body: [], content: .json)
        verdict.isProven = proof.isVerified
        var answers: [[UInt8]] = []
        for fields in messages {
            var reader = ConversionReader(
                digests: digests, clickKeys: clickKeys, request: request, merchant: merchant,
                proof: proof, fields: fields)
            switch reader.read() {
            case .success(let record):
                verdict.records.append(record)
                answers.append(ConversionResponses.accepted(record.conversionID))
            case .failure(let faults):
                var element = context
                element.note(fields)
                verdict.refusals.append(
                    refusalRecord(request, element, faults.all[0], status: faults.status))
                let told =
                    context.isArray
                    ? Array(faults.all.prefix(ConversionLimits.maxErrorsPerResult)) : faults.all
                answers.append(ConversionResponses.rejected(told))
                if !context.isArray { verdict.status = faults.status }
            }
        }
        verdict.body = context.isArray ? ConversionResponses.results(answers) : answers.first ?? []
        if case .signed(let messageID?, let digest) = proof, !verdict.records.isEmpty {
            verdict.message = SignedMessage(
                merchantID: merchant.id, messageID: messageID, digest: digest, digests: digests)
        }
        return verdict
    }

    // MARK: Refusing

    private func refusal(
        _ request: ConversionRequest, _ context: IntakeContext, _ fault: ConversionFault
    ) -> ConversionVerdict {
        var verdict = ConversionVerdict(
            status: fault.status, body: ConversionResponses.rejected([fault]), content: .json)
        verdict.refusals = [refusalRecord(request, context, fault, status: fault.status)]
        return verdict
    }

    /// The answer while merchant data is too old to refuse by: come again.
    ///
    /// A pixel does not come again, so that its loss is written down.
    private func unavailable(_ request: ConversionRequest, _ context: IntakeContext)
        -> ConversionVerdict
    {
        let fault = ConversionFault(503, "merchant_id", "merchant_data_stale")
        var verdict = refusal(request, context, fault)
        verdict.retryAfterSeconds = 5
        if request.endpoint != .pixel { verdict.refusals = [] }
        return verdict
    }

    private func refusalRecord(
        _ request: ConversionRequest, _ context: IntakeContext, _ fault: ConversionFault,
        status: UInt16
    ) -> RefusalRecord {
        RefusalRecord(
            receivedAt: request.receivedAt, merchantID: context.merchantID,
            channel: request.endpoint.channel, httpStatus: status,
            field: Array(fault.field.utf8), reason: Array(fault.reason.utf8),
            orderID: context.orderID)
    }
}

/// What is known of a request when it is refused.
private struct IntakeContext {
    var merchantID = EntityID.zero
    var orderID: [UInt8]?
    var parameters: [ConversionParameter] = []
    var isArray = false

    /// Remembers what a message names, for the intake log: only what the log's table can hold.
    mutating func note(_ fields: RawFields) {
        if case .text(let text) = fields[.merchantID],
            let id = text.withUnsafeBytes({ EntityID(text: $0) })
        {
            merchantID = id
        }
        orderID = nil
        if case .text(let text) = fields[.orderID], text.count <= ConversionLimits.maxOrderBytes,
            !TextChecks.hasControl(text)
        {
            orderID = text
        }
    }
}
