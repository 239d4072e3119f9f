// The fields of a conversion message, their names and aliases (contract, 4), and gathering them
// from parameters or JSON without deciding yet what they mean.
internal import Tracking

/// A field of a conversion message.
enum ConversionField: Int, CaseIterable {
    case merchantID, orderID, refundID, clickID, clickPath, couponCode, customerID, event, amount
    case currency, status, eventTime, adv1, adv2, adv3, adv4, adv5, items, token

    /// The name of the contract.
    var name: String {
        switch self {
        case .merchantID: "merchant_id"
        case .orderID: "order_id"
        case .refundID: "refund_id"
        case .clickID: "click_id"
        case .clickPath: "click_path"
        case .couponCode: "coupon_code"
        case .customerID: "customer_id"
        case .eventTime: "event_time"
        case .event, .amount, .currency, .status, .adv1, .adv2, .adv3, .adv4, .adv5, .items, .token:
            "\(self)"
        }
    }

    private var aliases: [String] {
        switch self {
        case .clickID: ["clickid", "cid", "subid", "transaction_id", "cnv_id"]
        case .orderID: ["txid", "tid", "transactionid", "external_id"]
        case .amount: ["sum", "revenue"]
        case .currency: ["cur"]
        case .merchantID, .refundID, .clickPath, .couponCode, .customerID, .event, .status,
            .eventTime, .adv1, .adv2, .adv3, .adv4, .adv5, .items, .token:
            []
        }
    }

    private static let names: [[UInt8]: ConversionField] = {
        var table: [[UInt8]: ConversionField] = [:]
        for field in allCases {
            for name in [field.name] + field.aliases { table[Array(name.utf8)] = field }
        }
        return table
    }()

    /// The field that a name or alias stands for.
    static func named(_ name: [UInt8]) -> ConversionField? { names[name] }
}

/// A field's value before it has been looked at.
enum RawValue {
    /// A parameter's value or a JSON string, decoded.
    case text([UInt8])
    /// A JSON number as written.
    case number([UInt8])
    /// Any other JSON value but null.
    case json(JSONValue)
}

/// The fields of one message as sent.
///
/// Empty texts and JSON nulls count as absent.
struct RawFields {
    private var values = [RawValue?](repeating: nil, count: ConversionField.allCases.count)
    /// The fields that were named at all, empty ones included.
    private var named: Set<ConversionField> = []
    /// The bytes that ``RawValue/json(_:)`` ranges lie in.
    var source: UnsafeRawBufferPointer

    subscript(field: ConversionField) -> RawValue? { values[field.rawValue] }

    private init(source: UnsafeRawBufferPointer) { self.source = source }

    /// The fields among parameters; names that are no field are passed over.
    init(parameters: [ConversionParameter]) throws(ConversionFault) {
        self.init(source: UnsafeRawBufferPointer(start: nil, count: 0))
        for parameter in parameters {
            guard let field = ConversionField.named(parameter.name) else { continue }
            try set(field, parameter.value.isEmpty ? nil : .text(parameter.value))
        }
    }

    /// The fields of a JSON object; nil when it is none.
    init?(json value: JSONValue, source: UnsafeRawBufferPointer) throws(ConversionFault) {
        guard case .object(let members) = value.content else { return nil }
        self.init(source: source)
        for (name, value) in members {
            guard let field = ConversionField.named(name) else { continue }
            switch value.content {
            case .null: try set(field, nil)
            case .string(let text): try set(field, text.isEmpty ? nil : .text(text))
            case .number: try set(field, .number(Array(source[value.range])))
            case .boolean, .array, .object: try set(field, .json(value))
            }
        }
    }

    private mutating func set(_ field: ConversionField, _ value: RawValue?) throws(ConversionFault)
    {
        guard named.insert(field).inserted else {
            throw ConversionFault(400, field.name, "duplicate")
        }
        values[field.rawValue] = value
    }
}
