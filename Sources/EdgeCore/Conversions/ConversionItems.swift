// Amounts as text, and the `items` of a conversion.
internal import Tracking

/// Reading an amount from the text of a decimal.
enum DecimalAmount {
    /// Minor units of a plain decimal.
    ///
    /// A number that is written in another way (a sign, an exponent), has more decimals than the
    /// currency or is too large is 422; what is no number at all is 400.
    static func minorUnits(
        _ text: [UInt8], in currency: Currency, field: String
    ) throws(ConversionFault) -> Int64 {
        guard isNumber(text) else { throw ConversionFault(400, field, "malformed") }
        if text.contains(where: { $0 == UInt8(ascii: "e") || $0 == UInt8(ascii: "E") }) {
            throw ConversionFault(422, field, "exponent")
        }
        if text.first == UInt8(ascii: "-") || text.first == UInt8(ascii: "+") {
            throw ConversionFault(422, field, "sign")
        }
        guard text.count <= ConversionLimits.maxNumberBytes else {
            throw ConversionFault(422, field, "too_large")
        }
        do throws(Money.ParseError) {
            return try text.withUnsafeBufferPointer { (bytes) throws(Money.ParseError) -> Int64 in
                try Money(decimal: UnsafeRawBufferPointer(bytes), currency: currency).minorUnits
            }
        } catch {
            switch error {
            case .malformed: throw ConversionFault(400, field, "malformed")
            case .tooManyDecimals: throw ConversionFault(422, field, "too_many_decimals")
            case .tooLarge: throw ConversionFault(422, field, "too_large")
            }
        }
    }

    /// Whether a text is a decimal number in any notation: sign, digits, decimals, exponent.
    private static func isNumber(_ text: [UInt8]) -> Bool {
        var rest = text[...]
        func skipDigits() -> Bool {
            let digits = rest.prefix(while: TextChecks.isDigit)
            rest = rest.dropFirst(digits.count)
            return !digits.isEmpty
        }
        if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") {
            rest = rest.dropFirst()
        }
        guard skipDigits() else { return false }
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            guard skipDigits() else { return false }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") {
                rest = rest.dropFirst()
            }
            guard skipDigits() else { return false }
        }
        return rest.isEmpty
    }
}

/// Checks `[{sku, category, quantity, price}]`.
enum ConversionItems {
    /// The text of a parameter, checked.
    static func check(text: [UInt8], in currency: Currency) throws(ConversionFault) -> [UInt8] {
        try text.withUnsafeBufferPointer { (buffer) throws(ConversionFault) -> [UInt8] in
            let bytes = UnsafeRawBufferPointer(buffer)
            let value: JSONValue
            do throws(JSONReader.Problem) {
                value = try JSONReader.parse(bytes)
            } catch {
                throw ConversionFault(400, "items", error.rawValue)
            }
            return try check(value, source: bytes, in: currency)
        }
    }

    /// A value within a JSON body, checked; gives its text as sent.
    static func check(
        _ value: JSONValue, source: UnsafeRawBufferPointer, in currency: Currency
    ) throws(ConversionFault) -> [UInt8] {
        guard case .array(let items) = value.content else {
            throw ConversionFault(400, "items", "wrong_type")
        }
        guard items.count <= ConversionLimits.maxItems,
            value.range.count <= ConversionLimits.maxItemsBytes
        else { throw ConversionFault(400, "items", "too_many") }
        for item in items {
            guard case .object(let members) = item.content else {
                throw ConversionFault(400, "items", "wrong_type")
            }
            for (name, member) in members {
                try check(name: name, member, source: source, in: currency)
            }
        }
        return Array(source[value.range])
    }

    private static func check(
        name: [UInt8], _ value: JSONValue, source: UnsafeRawBufferPointer, in currency: Currency
    ) throws(ConversionFault) {
        guard !TextChecks.hasControl(name) else {
            throw ConversionFault(400, "items", "control_character")
        }
        try checkStorable(value, source)
        let number: [UInt8]?
        switch value.content {
        case .string(let text): number = text
        case .number: number = Array(source[value.range])
        case .null, .boolean, .array, .object: number = nil
        }
        switch String(decoding: name, as: UTF8.self) {
        case "sku", "category":
            switch value.content {
            case .string(let text):
                guard text.count <= ConversionLimits.maxTextBytes else {
                    throw ConversionFault(400, "items.text", "too_long")
                }
            case .null: break
            case .number, .boolean, .array, .object:
                throw ConversionFault(400, "items.text", "wrong_type")
            }
        case "quantity":
            if case .null = value.content { return }
            guard let number, TextChecks.isDigits(number), number.count <= 9,
                (1...ConversionLimits.maxQuantity).contains(
                    number.reduce(0) { $0 * 10 + Int($1 - 48) })
            else { throw ConversionFault(422, "items.quantity", "out_of_range") }
        case "price":
            if case .null = value.content { return }
            guard let number else { throw ConversionFault(400, "items.price", "wrong_type") }
            _ = try DecimalAmount.minorUnits(number, in: currency, field: "items.price")
        default: break
        }
    }

    /// Refuses what `jsonb` would refuse or print differently, at any depth.
    private static func checkStorable(
        _ value: JSONValue, _ source: UnsafeRawBufferPointer
    ) throws(ConversionFault) {
        switch value.content {
        case .null, .boolean: return
        case .number:
            guard value.range.count <= ConversionLimits.maxNumberBytes else {
                throw ConversionFault(400, "items", "too_long")
            }
            // jsonb keeps every digit: a larger exponent overflows it, or swells to pages of zeros.
            let exponent = source[value.range].drop { $0 | 0x20 != UInt8(ascii: "e") }
            guard
                exponent.count(where: TextChecks.isDigit) <= ConversionLimits.maxExponentDigits
            else { throw ConversionFault(422, "items", "out_of_range") }
        case .string(let text):
            guard !TextChecks.hasControl(text) else {
                throw ConversionFault(400, "items", "control_character")
            }
        case .array(let elements):
            for element in elements { try checkStorable(element, source) }
        case .object(let members):
            for (_, member) in members { try checkStorable(member, source) }
        }
    }
}
