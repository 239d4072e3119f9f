// Exact money: Int64 minor units at a currency's ISO 4217 exponent. Nothing here is floating point.

/// An ISO 4217 currency.
public struct Currency: Hashable, Sendable, BitwiseCopyable {
    /// The three upper-case letters, first letter in the highest byte.
    public let code: UInt32
    /// Decimals of the minor unit, 0...4.
    public let exponent: UInt8

    /// The currency of three upper-case letters; nil for a code that ISO 4217 does not list as money.
    /// - Complexity: O(log n) over the table below; no allocation.
    public init?(code letters: UnsafeRawBufferPointer) {
        guard letters.count == 3 else { return nil }
        var value: UInt32 = 0
        for letter in letters {
            guard letter >= UInt8(ascii: "A"), letter <= UInt8(ascii: "Z") else { return nil }
            value = value << 8 | UInt32(letter)
        }
        self.init(packed: value)
    }

    /// The currency of three upper-case letters.
    public init?(_ text: String) {
        var copy = text
        guard let value = copy.withUTF8({ Currency(code: UnsafeRawBufferPointer($0)) }) else {
            return nil
        }
        self = value
    }

    /// The currency of a packed code, as records store it.
    public init?(packed: UInt32) {
        guard let exponent = Currency.exponents[packed] else { return nil }
        code = packed
        self.exponent = exponent
    }

    /// The three letters.
    public var letters: String {
        String(
            decoding: [UInt8(code >> 16 & 0xFF), UInt8(code >> 8 & 0xFF), UInt8(code & 0xFF)],
            as: UTF8.self)
    }

    /// ISO 4217 list one, active codes that are money (funds, metals and test codes left out).
    private static let exponents: [UInt32: UInt8] = {
        let two = """
            AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN \
            BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP \
            GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD \
            KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN \
            NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG \
            SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH \
            USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
            """
        let zero = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
        let three = "BHD IQD JOD KWD LYD OMR TND"
        var table: [UInt32: UInt8] = [:]
        for (codes, exponent) in [(two, UInt8(2)), (zero, 0), (three, 3)] {
            for code in codes.split(separator: " ") {
                table[code.utf8.reduce(0) { $0 << 8 | UInt32($1) }] = exponent
            }
        }
        return table
    }()
}

/// An amount of one currency in its minor unit.
public struct Money: Hashable, Sendable, BitwiseCopyable {
    /// Minor units: cents for EUR, yen for JPY, fils for KWD.
    public var minorUnits: Int64
    /// The currency.
    public var currency: Currency

    /// An amount in minor units.
    public init(minorUnits: Int64, currency: Currency) {
        self.minorUnits = minorUnits
        self.currency = currency
    }

    /// The largest amount that is accepted from outside: 10^15 minor units, so that sums over
    /// thousands of sales and products with ppm rates stay within Int64 and Int128.
    public static let maximumMinorUnits: Int64 = 1_000_000_000_000_000

    /// Why a decimal text is not an amount.
    public enum ParseError: Error, Equatable, Sendable {
        /// Not digits with at most one point between digits: a sign, exponent, space, comma, nothing.
        case malformed
        /// More decimals than the currency has.
        case tooManyDecimals
        /// Above ``maximumMinorUnits``.
        case tooLarge
    }

    /// Parses a plain decimal (`12`, `12.5`, `0.05`), exactly.
    /// - Complexity: O(n); no allocation.
    public init(decimal text: UnsafeRawBufferPointer, currency: Currency) throws(ParseError) {
        guard !text.isEmpty, text.count <= 40 else { throw .malformed }
        var units: Int64 = 0
        var decimals: Int?
        var digits = 0
        for byte in text {
            if byte == UInt8(ascii: ".") {
                guard decimals == nil, digits > 0 else { throw .malformed }
                decimals = 0
                continue
            }
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { throw .malformed }
            digits += 1
            if let count = decimals { decimals = count + 1 }
            guard units <= Money.maximumMinorUnits else { continue }  // Told apart at the end.
            units = units * 10 + Int64(byte - UInt8(ascii: "0"))
        }
        guard decimals != 0 else { throw .malformed }
        guard decimals ?? 0 <= Int(currency.exponent) else { throw .tooManyDecimals }
        for _ in (decimals ?? 0)..<Int(currency.exponent) {
            guard units <= Money.maximumMinorUnits else { throw .tooLarge }
            units *= 10
        }
        guard units <= Money.maximumMinorUnits else { throw .tooLarge }
        self.init(minorUnits: units, currency: currency)
    }

    /// The amount in major units with all the currency's decimals, such as `12.50`.
    public var decimalText: String { Money.decimalText(minorUnits, exponent: currency.exponent) }

    /// Minor units at an exponent as decimal text.
    public static func decimalText(_ minorUnits: Int64, exponent: UInt8) -> String {
        let sign = minorUnits < 0 ? "-" : ""
        var digits = String(minorUnits.magnitude)
        guard exponent > 0 else { return sign + digits }
        if digits.count <= Int(exponent) {
            digits = String(repeating: "0", count: Int(exponent) + 1 - digits.count) + digits
        }
        return sign + digits.dropLast(Int(exponent)) + "." + digits.suffix(Int(exponent))
    }
}
