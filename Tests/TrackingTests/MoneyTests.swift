// Amounts and currencies: what is exact, what is refused.
import Testing
import Tracking

private func money(_ text: String, _ code: String) throws -> Money {
    let currency = try #require(Currency(code))
    return try Array(text.utf8).withUnsafeBytes { try Money(decimal: $0, currency: currency) }
}

@Suite("Money")
struct MoneyTests {
    @Test(
        "Decimal text becomes minor units exactly",
        arguments: [
            ("0", "EUR", Int64(0)), ("1", "EUR", 100), ("49.90", "EUR", 4990), ("0.05", "EUR", 5),
            ("12.5", "EUR", 1250), ("007", "JPY", 7), ("1.234", "KWD", 1234),
            ("10000000000000", "EUR", 1_000_000_000_000_000),
            ("1000000000000000", "JPY", 1_000_000_000_000_000),
        ])
    func exact(_ text: String, _ code: String, _ units: Int64) throws {
        #expect(try money(text, code).minorUnits == units)
    }

    @Test(
        "What is no plain decimal is refused",
        arguments: [
            "", ".", ".5", "5.", "+5", "-5", "1e3", "1,5", " 1", "1 ", "0x10", "1.2.3", "٣", "NaN",
            "1_000",
            "1234567890123456789012345678901234567890123",
        ])
    func malformed(_ text: String) throws {
        #expect(throws: Money.ParseError.malformed) { try money(text, "EUR") }
    }

    @Test("Decimals beyond the currency's and amounts beyond the limit are told apart")
    func limits() {
        #expect(throws: Money.ParseError.tooManyDecimals) { try money("1.001", "EUR") }
        #expect(throws: Money.ParseError.tooManyDecimals) { try money("1.0", "JPY") }
        #expect(throws: Money.ParseError.tooLarge) { try money("10000000000000.01", "EUR") }
        #expect(throws: Money.ParseError.tooLarge) { try money("1000000000000001", "JPY") }
        #expect(throws: Money.ParseError.tooLarge) {
            try money("99999999999999999999999999", "EUR")
        }
    }

    @Test("Text comes back with all decimals")
    func text() throws {
        #expect(try money("49.9", "EUR").decimalText == "49.90")
        #expect(Money.decimalText(-5, exponent: 2) == "-0.05")
        #expect(Money.decimalText(.min, exponent: 3) == "-9223372036854775.808")
        #expect(Money.decimalText(7, exponent: 0) == "7")
    }

    @Test("Currencies are those of ISO 4217, in upper case")
    func currencies() {
        #expect(Currency("EUR")?.exponent == 2)
        #expect(Currency("JPY")?.exponent == 0)
        #expect(Currency("TND")?.exponent == 3)
        for wrong in ["eur", "EU", "EURO", "XXX", "XTS", "ABC", ""] {
            #expect(Currency(wrong) == nil)
        }
        #expect(Currency("CHF")?.letters == "CHF")
    }
}
