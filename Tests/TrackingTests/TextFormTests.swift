// Text forms of identifiers, instants, days and base64: what they read, what they refuse.
import Testing
import Tracking

private func instant(_ text: String) -> Timestamp? {
    Array(text.utf8).withUnsafeBytes { Timestamp(rfc3339: $0) }
}

@Suite("Text forms")
struct TextFormTests {
    @Test("A UUID reads either case and nothing else")
    func uuid() {
        let id = EntityID("00112233-4455-6677-8899-AABBCCDDEEFF")
        #expect(id?.description == "00112233-4455-6677-8899-aabbccddeeff")
        #expect(
            id?.bytes == [0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255])
        for wrong in [
            "", "00112233445566778899aabbccddeeff", "{00112233-4455-6677-8899-aabbccddeeff}",
            "00112233-4455-6677-8899-aabbccddeefg", "0011223-34455-6677-8899-aabbccddeeff",
        ] {
            #expect(EntityID(wrong) == nil)
        }
        #expect(
            EntityID(high: 0xFFFF, low: 0).stamped(version: 5).description
                == "00000000-0000-5fff-8000-000000000000")
    }

    @Test(
        "RFC 3339 reads offsets and decimals",
        arguments: [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02t03:04:05.5z", "2026-01-02T03:04:05.500000Z"),
            ("2026-01-02 03:04:05.1234567+01:30", "2026-01-02T01:34:05.123456Z"),
            ("2024-02-29T23:59:59-00:30", "2024-03-01T00:29:59.000000Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ])
    func rfc3339(_ text: String, _ canonical: String) {
        #expect(instant(text)?.description == canonical)
    }

    @Test(
        "What RFC 3339 does not allow is refused",
        arguments: [
            "2026-01-02", "2026-01-02T03:04:05", "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:60:00Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05+0100", "2026-01-02T03:04:05Z ",
            "+026-01-02T03:04:05Z",
            "2026-01-02T03:04:05+1:000", "0000-01-01T00:00:00Z",
        ])
    func notRFC3339(_ text: String) {
        #expect(instant(text) == nil)
    }

    @Test("Days count as the calendar does")
    func days() throws {
        var day = try #require(Day(year: 1999, month: 12, day: 31))
        for _ in 0..<20_000 {
            let (year, month, number) = day.civil
            #expect(Day(year: year, month: month, day: number) == day)
            day = day.advanced(by: 1)
        }
        #expect(Day("2026-11-22")?.compact == "20261122")
        #expect(Day("2026-12-31")?.firstOfNextMonth.compactMonth == "202701")
        #expect(Day("2026-11-22")?.weekday == 0)
        #expect(Day("2026-2-3") == nil)
        #expect(Timestamp(microseconds: -1).day.dashed == "1969-12-31")
    }

    @Test("Base64 gives each value one text")
    func base64() {
        #expect(Base64.encode(Array("light work.".utf8)) == "bGlnaHQgd29yay4=")
        #expect(Base64.decode("bGlnaHQgd29yay4=".utf8) == Array("light work.".utf8))
        #expect(Base64.decode("bGlnaHQgd29yay4".utf8) == Array("light work.".utf8))
        for wrong in ["A", "AB=C", "AA==AA==", "AB", "A-==", "====", "bGln\n"] {
            #expect(Base64.decode(wrong.utf8) == nil, "\(wrong)")
        }
        #expect(Base64.decode("".utf8) == [])
    }
}
