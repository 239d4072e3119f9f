// Refunds against a real PostgreSQL.
import AttributionService
import Postgres
import Testing
import Tracking

@Suite("Refund runs")
struct RefundRunTests {
    private func sold(_ minor: Int64 = 10_000, holdDays: Int32 = 14) throws -> (Shop, EntityID) {
        let shop = try Shop(holdDays: holdDays)
        let click = try shop.clickID()
        try shop.land(click)
        let sale = try shop.sell(minor, order: "o-1", click: click)
        try shop.settle()
        return (shop, sale)
    }

    @Test("Parts take back their parts; the last one leaves nothing, and the sale is refunded")
    func parts() throws {
        let (shop, sale) = try sold(9_999)
        let first = try shop.sell(3_333, order: "o-1", event: "refund", refund: "r-1")
        try shop.settle()
        #expect(try shop.status(first) == "completed click")
        #expect(try shop.status(sale) == "completed click")
        #expect(try shop.balances() == ["merchant": -800, "held": 667, "platform:fees": 133])
        try shop.expectSoundLedger()
        let rest = try shop.sell(nil, order: "o-1", event: "refund", refund: "r-2")
        try shop.settle()
        #expect(try shop.status(rest) == "completed click")
        #expect(try shop.status(sale) == "refunded click")
        #expect(try shop.value("SELECT amount FROM sales WHERE id = $1", [.uuid(rest)]) == "66.66")
        #expect(try shop.balances() == ["merchant": 0, "held": 0, "platform:fees": 0])
        #expect(
            try shop.value(
                """
                SELECT string_agg(concat_ws(' ', amount_minor, status), ','
                                  ORDER BY amount_minor DESC)
                FROM commissions
                """) == "1000 reversed,-333 reversed,-667 reversed")
        try shop.expectSoundLedger()
        let again = try shop.sell(1, order: "o-1", event: "refund", refund: "r-3")
        try shop.settle()
        #expect(try shop.status(again) == "rejected nothing_left")
    }

    @Test("More than is left is refused; two refunds in one run see each other")
    func tooMuch() throws {
        let (shop, _) = try sold()
        let first = try shop.sell(
            6_000, order: "o-1", event: "refund", refund: "r-1", secondsAgo: 20)
        let second = try shop.sell(
            6_000, order: "o-1", event: "refund", refund: "r-2", secondsAgo: 10)
        try shop.settle()
        #expect(try shop.status(first) == "completed click")
        #expect(try shop.status(second) == "rejected exceeds_what_is_left")
        try shop.expectSoundLedger()
    }

    @Test("A refund before its sale waits for it")
    func early() throws {
        let shop = try Shop()
        let refund = try shop.sell(nil, order: "o-1", event: "refund")
        try shop.settle()
        #expect(try shop.status(refund) == "pending sale_missing")
        let click = try shop.clickID()
        try shop.land(click)
        let sale = try shop.sell(10_000, order: "o-1", click: click)
        try shop.settle()
        try shop.settle()
        #expect(try shop.status(refund) == "completed click")
        #expect(try shop.status(sale) == "refunded click")
        #expect(try shop.balances() == ["merchant": 0, "held": 0, "platform:fees": 0])
        try shop.expectSoundLedger()
    }

    @Test(
        "After the release a refund takes from what is payable; a part before it lowers the release"
    )
    func aroundRelease() throws {
        let (shop, _) = try sold()
        try shop.sell(5_000, order: "o-1", event: "refund", refund: "r-1")
        try shop.settle()
        let later = shop.now.advanced(byMicroseconds: 15 * Day.microseconds)
        #expect(try shop.run.release(now: later) == 1)
        #expect(
            try shop.balances()
                == ["merchant": -600, "held": 0, "payable": 500, "platform:fees": 100])
        try shop.expectSoundLedger()
        try shop.sell(nil, order: "o-1", event: "refund", refund: "r-2")
        try shop.settle()
        #expect(
            try shop.balances()
                == ["merchant": 0, "held": 0, "payable": 0, "platform:fees": 0])
        try shop.expectSoundLedger()
    }

    @Test("A claimed refund takes nothing")
    func claim() throws {
        let (shop, sale) = try sold()
        let claim = try shop.sell(nil, order: "o-1", event: "refund", verified: false)
        try shop.settle()
        #expect(try shop.status(claim) == "pending unverified")
        #expect(try shop.status(sale) == "completed click")
    }

    @Test("The check of the ledger finds what does not add up")
    func check() throws {
        let (shop, _) = try sold()
        try shop.expectSoundLedger()
        try shop.connection.execute("UPDATE commissions SET amount_minor = amount_minor + 1")
        let found = Set(try LedgerCheck.run(shop.connection).map(\.check))
        #expect(found.isSuperset(of: ["commission-unposted", "sale-commission", "held", "terms"]))
        try shop.connection.execute("DELETE FROM commissions")
        #expect(try LedgerCheck.run(shop.connection).map(\.check).contains("entry-orphan"))
    }

    @Test("Statistics show completed sales and net earnings, clicks unmultiplied")
    func statistics() throws {
        let (shop, _) = try sold()
        let click = try shop.clickID()
        try shop.land(click)
        try shop.sell(5_000, order: "o-2", click: click)
        try shop.settle()
        try shop.sell(nil, order: "o-1", event: "refund")
        try shop.settle()
        var upkeep = Upkeep(shop.connection)
        #expect(try upkeep.refreshStatistics())
        #expect(try !upkeep.refreshStatistics())
        #expect(
            try shop.value(
                "SELECT concat_ws(' ', total_sales, total_earnings) FROM influencer_stats")
                == "1 5.00")
        #expect(
            try shop.value(
                "SELECT concat_ws(' ', sum(daily_sales), sum(daily_revenue)) FROM dashboard_stats")
                == "1 50.00")
        #expect(try upkeep.makePartitions() >= 0)
        #expect(try upkeep.makePartitions() == 0)
    }
}
