// Runs against a real PostgreSQL: from rows to decisions, commissions and ledger.
import Attribution
import AttributionService
import Postgres
import Testing
import Tracking

@Suite("Attribution runs")
struct AttributionRunTests {
    @Test("A sale with a landed click becomes a commission, a fee and a balanced ledger")
    func happyPath() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        try shop.land(click)
        let sale = try shop.sell(10_000, order: "o-1", click: click)
        let summary = try shop.settle()
        #expect(summary.completed == 1 && summary.commissions == 1)
        #expect(try shop.status(sale) == "completed click")
        #expect(try shop.balances() == ["merchant": -1_200, "held": 1_000, "platform:fees": 200])
        #expect(
            try shop.value("SELECT concat_ws(' ', status, payable, reason) FROM commissions")
                == "pending f hold_period")
        #expect(
            try shop.value(
                "SELECT concat_ws(' ', influencer_commission, platform_commission) FROM sales")
                == "10.00 2.00")
        #expect(try shop.value("SELECT decision->>'outcome' FROM sales") == "complete")
        #expect(
            try shop.value(
                "SELECT concat_ws(' ', position, click_id, weight_ppm) FROM sale_touchpoints")
                == "1 \(click.rawValue) 1000000")
        try shop.expectSoundLedger()
        let report = try #require(
            try SaleReport.load(shop.connection, merchant: shop.merchant, key: "o-1").first)
        #expect(report.id == sale && report.click?.isRecorded == true)
        #expect(report.click?.slug == "anna")
        #expect(report.commissions.map(\.amount.minorUnits) == [1_000])
        #expect(report.ledger.count == 2)
        #expect(try CommissionList.load(shop.connection, .init()).map(\.saleID) == [sale])
    }

    @Test("A sale before its click waits for the ring, then completes")
    func saleBeforeClick() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        let sale = try shop.sell(5_000, order: "o-1", click: click)
        try shop.settle()
        #expect(try shop.status(sale) == "pending click_not_landed")
        try shop.watermark(click.clickedAt)
        try shop.settle()
        #expect(try shop.status(sale) == "pending click_not_landed")
        try shop.land(click)
        try shop.settle()
        #expect(try shop.status(sale) == "completed click")
        try shop.expectSoundLedger()
    }

    @Test("A click that its ring has passed is held as lost, and reopened when its row appears")
    func lostClick() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        let sale = try shop.sell(5_000, order: "o-1", click: click)
        try shop.watermark(click.clickedAt.advanced(byMicroseconds: 1_000))
        #expect(try shop.settle().held == 1)
        #expect(try shop.status(sale) == "pending click_lost")
        var upkeep = Upkeep(shop.connection)
        #expect(try upkeep.countPending() == (1, 1))
        #expect(try upkeep.refreshStatistics())
        try shop.land(click)
        #expect(try shop.settle().completed == 1)
        #expect(try shop.status(sale) == "completed click")
    }

    @Test("Two rows for one click are a hold")
    func ambiguousClick() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        try shop.land(click)
        try shop.land(click)
        let sale = try shop.sell(5_000, order: "o-1", click: click)
        try shop.settle()
        #expect(try shop.status(sale) == "pending click_ambiguous")
    }

    @Test("A sale that waits is not looked at again before its time")
    func backoff() throws {
        let shop = try Shop()
        try shop.sell(5_000, order: "o-1", click: try shop.clickID())
        #expect(try shop.run.decide(limit: 10).waiting == 1)
        #expect(try shop.run.decide(limit: 10).taken == 0)
    }

    @Test(
        "Clicks that do not count are not paid, and say why",
        arguments: [
            (true, nil, "completed none click_bot"),
            (false, "over_cap", "completed none click_over_cap"),
            (false, "something_new", "completed none click_bot"),
            (false, "prefetch", "completed click"), (false, "datacenter", "completed click"),
        ] as [(Bool, String?, String)])
    func invalidClicks(isBot: Bool, reason: String?, expected: String) throws {
        let shop = try Shop(holdDays: 0)
        let click = try shop.clickID()
        try shop.land(click, isBot: isBot, reason: reason)
        let sale = try shop.sell(5_000, order: "o-1", click: click)
        try shop.settle()
        #expect(try shop.status(sale) == expected)
        if reason == "datacenter" {
            #expect(
                try shop.value("SELECT concat_ws(' ', payable, reason) FROM commissions")
                    == "f click_datacenter")
            #expect(try shop.run.release() == 0)
        }
        try shop.expectSoundLedger()
    }

    @Test("Coupons, as typed or in upper case, and renewals of a partner's customer are attributed")
    func otherRungs() throws {
        let shop = try Shop()
        try shop.connection.execute(
            """
            INSERT INTO coupons (merchant_id, code, influencer_id, link_id)
            VALUES ($1, 'ANNA10', $2, $3)
            """,
            [.uuid(shop.merchant), .uuid(shop.influencer), .uuid(shop.link)])
        let first = try shop.sell(
            1_000, order: "o-1", event: "subscription", coupon: "anna10", customer: "c-1",
            secondsAgo: 100)
        let renewal = try shop.sell(
            1_000, order: "o-2", event: "renewal", customer: "c-1", secondsAgo: 50)
        let stranger = try shop.sell(
            1_000, order: "o-3", event: "renewal", customer: "c-2", secondsAgo: 50)
        try shop.settle()
        #expect(try shop.status(first) == "completed coupon")
        #expect(try shop.status(renewal) == "pending customer_not_decided")
        try shop.settle()
        #expect(try shop.status(renewal) == "completed customer")
        #expect(try shop.status(stranger) == "completed none customer_unknown")
        try shop.expectSoundLedger()
    }

    @Test("Baskets are paid by article and category")
    func baskets() throws {
        let shop = try Shop()
        try shop.connection.execute(
            """
            INSERT INTO commission_rules (merchant_id, category, kind, rate_ppm)
            VALUES ($1, 'shoes', 'percent', 200000)
            """, [.uuid(shop.merchant)])
        let click = try shop.clickID()
        try shop.land(click)
        try shop.sell(
            10_000, order: "o-1", click: click,
            items: #"[{"category":"shoes","quantity":2,"price":"20.00"},{"sku":"x","price":60}]"#)
        try shop.sell(10_000, order: "o-2", click: click, items: #"[{"price":"x"}, 5]"#)
        try shop.settle()
        #expect(
            try shop.value(
                "SELECT string_agg(influencer_commission::text, ' ' ORDER BY order_id) FROM sales")
                == "14.00 10.00")
        try shop.expectSoundLedger()
    }

    @Test("Claims stay unpaid, and a verified message for the order takes their place")
    func claims() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        try shop.land(click)
        let early = try shop.sell(9_900, order: "o-1", click: click, verified: false)
        try shop.settle()
        #expect(try shop.status(early) == "pending unverified")
        let sale = try shop.sell(10_000, order: "o-1", click: click)
        try shop.settle()
        let late = try shop.sell(1, order: "o-1", click: click, verified: false)
        try shop.settle()
        #expect(try shop.status(early) == "rejected superseded")
        #expect(try shop.status(sale) == "completed click")
        #expect(try shop.status(late) == "rejected superseded")
        #expect(try shop.value("SELECT count(*) FROM commissions") == "1")
        let parked = try shop.sell(1, order: "o-2", reported: "pending")
        let refused = try shop.sell(1, order: "o-3", reported: "rejected")
        try shop.settle()
        #expect(try shop.status(parked) == "pending merchant_pending")
        #expect(try shop.status(refused) == "rejected merchant_rejected")
    }

    @Test("Running again, even over sales that were set back by hand, changes no money")
    func idempotence() throws {
        let shop = try Shop(holdDays: 0)
        for order in 1...20 {
            let click = try shop.clickID()
            try shop.land(click)
            try shop.sell(Int64(order) * 777, order: "o-\(order)", click: click)
        }
        try shop.settle()
        let money = """
            SELECT concat((SELECT string_agg(c::text, '/' ORDER BY c.id) FROM commissions AS c),
                          (SELECT string_agg(e::text, '/' ORDER BY e.entry_id)
                           FROM ledger_entries AS e))
            """
        let before = try shop.value(money)
        #expect(try shop.settle().taken == 0)
        try shop.connection.execute("UPDATE sales SET status = 'pending', due_at = now()")
        #expect(try shop.run.decide(limit: 100).completed == 20)
        #expect(try shop.value(money) == before)
        #expect(try shop.balances()["held"] == 0)
        try shop.expectSoundLedger()
    }

    @Test("A sale that has earned for one partner never earns for another")
    func earnedOnce() throws {
        let shop = try Shop()
        let click = try shop.clickID()
        try shop.land(click)
        let sale = try shop.sell(1_000, order: "o-1", click: click)
        try shop.settle()
        try shop.connection.execute(
            "UPDATE sales SET status = 'pending', due_at = now(), click_id = NULL")
        #expect(try shop.run.decide(limit: 10).held == 1)
        #expect(try shop.status(sale) == "pending click commission_exists")
        #expect(try shop.value("SELECT count(*) FROM commissions") == "1")
    }

    @Test("What cannot be decided is refused with a reason")
    func unusable() throws {
        let shop = try Shop()
        let sale = try shop.sell(1_000, order: "o-1")
        try shop.connection.execute("UPDATE sales SET amount = 1.005")
        let other = try shop.sell(1_000, order: "o-2")
        try shop.connection.execute(
            "UPDATE sales SET currency = 'XXX' WHERE id = $1", [.uuid(other)])
        try shop.settle()
        #expect(try shop.status(sale) == "rejected amount_unusable")
        #expect(try shop.status(other) == "rejected currency_unknown")
        let third = try shop.sell(1_000, order: "o-3")
        #expect(try shop.run.setAsideFirst(reason: "refused_22003") == third)
        #expect(try shop.settle().taken == 1)
    }

    @Test("Holds are released when they are due, not for the unproved, and only once")
    func release() throws {
        let shop = try Shop(holdDays: 14, kyc: "pending")
        let click = try shop.clickID()
        try shop.land(click)
        try shop.sell(10_000, order: "o-1", click: click)
        try shop.settle()
        let later = shop.now.advanced(byMicroseconds: 15 * Day.microseconds)
        #expect(try shop.run.release(now: later) == 0)
        try shop.connection.execute("UPDATE influencers SET kyc_status = 'verified'")
        #expect(try shop.run.release() == 0)
        #expect(try shop.run.release(now: later) == 1)
        #expect(try shop.run.release(now: later) == 0)
        #expect(
            try shop.balances()
                == ["merchant": -1_200, "held": 0, "payable": 1_000, "platform:fees": 200])
        #expect(
            try shop.value("SELECT concat_ws(' ', status, payable, reason) FROM commissions")
                == "approved t")
        try shop.expectSoundLedger()
    }
}
