// The fill of the spool and the time that is left.
import Testing

@testable import EdgeServices

@Suite("Back-pressure")
struct BackPressureTests {
    @Test("The time left is the room over the rate of the last half minute")
    func timeLeft() {
        var pressure = BackPressure()
        _ = pressure.observe(now: 0, used: 0, quota: 1_000_000)
        #expect(pressure.secondsUntilFull == nil)
        for second in 1...40 {
            _ = pressure.observe(
                now: Int64(second) * 1_000_000, used: second * 10_000, quota: 1_000_000)
        }
        #expect(pressure.usedPercent == 40)
        #expect(pressure.bytesPerSecond == 10_000)
        #expect(pressure.secondsUntilFull == 60)
        // What empties has no end.
        for second in 41...80 {
            _ = pressure.observe(now: Int64(second) * 1_000_000, used: 1000, quota: 1_000_000)
        }
        #expect(pressure.bytesPerSecond <= 0)
        #expect(pressure.secondsUntilFull == nil)
    }

    @Test("Each threshold warns once on the way up, and again after a way down")
    func warnings() {
        var pressure = BackPressure()
        var warned: [Int?] = []
        for (second, used) in [10, 50, 60, 76, 95, 96, 40, 55].enumerated() {
            warned.append(
                pressure.observe(now: Int64(second) * 1_000_000, used: used, quota: 100))
        }
        #expect(warned == [nil, 50, nil, 75, 90, nil, nil, 50])
    }

    @Test("A quota of nothing is full, and absurd numbers do no harm")
    func extremes() {
        var pressure = BackPressure()
        _ = pressure.observe(now: 0, used: 5, quota: 0)
        #expect(pressure.usedPercent == 100)
        _ = pressure.observe(now: .max / 2, used: .max / 4, quota: .max)
        #expect(pressure.usedPercent == 25)
        _ = pressure.observe(now: .max / 2, used: -7, quota: -7)
        #expect(pressure.usedPercent == 100)
    }
}
