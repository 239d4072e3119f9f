// Conversions into a real PostgreSQL: one sale a key, whatever comes again or contradicts.
import Postgres
import Testing
import Tracking
import Workbench

@testable import EdgeServices

@Suite("Flusher with PostgreSQL: conversions")
struct FlusherConversionTests {
    private let dsn: String
    private let connection: Connection
    private let ring = FakeRing()
    private let flush: RealFlush

    init() throws {
        (dsn, connection) = try flusherDatabase()
        flush = RealFlush([ring], dsn: dsn)
    }

    private func send(_ records: ConversionRecord...) {
        for record in records { ring.append(.conversion, ConversionMaker.bytes(record)) }
    }

    @Test("A verified message becomes one pending sale with all its fields, exactly")
    func fields() throws {
        var record = ConversionMaker.record(
            order: "A-1", amount: 1_234_567, currency: "KWD", id: 1, message: "m1")
        record.clickID = ClickID(rawValue: 1 << 40)
        record.clickPath = [try #require(ClickID(rawValue: 5)), try #require(ClickID(rawValue: 6))]
        record.couponCode = Array("SAVE".utf8)
        record.customerID = Array("c-9".utf8)
        record.advertiserFields[1] = Array("two".utf8)
        record.items = Array(#"[{"sku":"x","price":"1.5"}]"#.utf8)
        send(record)
        #expect(flush.settle())
        let row = try connection.query(
            """
            SELECT id, created_at, order_id, refund_id, event, amount::text, currency::text, status,
                verified, channel, click_id, click_path, coupon_code, customer_id, adv::text,
                items->0->>'sku', message_id, due_at IS NOT NULL, reported_status,
                tableoid::regclass::text, encode(message_digest, 'hex')
            FROM sales
            """)
        try #require(row.count == 1)
        #expect(row.uuid(0, 0) == record.conversionID)
        #expect(row.timestamp(0, 1) == record.receivedAt)
        #expect(row.text(0, 2) == "A-1")
        #expect(row.text(0, 3) == "")
        #expect(row.text(0, 4) == "sale")
        #expect(row.text(0, 5) == "1234.567")
        #expect(row.text(0, 6) == "KWD")
        #expect(row.text(0, 7) == "pending")
        #expect(row.bool(0, 8) == true)
        #expect(row.text(0, 9) == "api")
        #expect(row.int64(0, 10) == 1 << 40)
        #expect(row.int64Array(0, 11) == [5, 6])
        #expect(row.text(0, 12) == "SAVE")
        #expect(row.text(0, 13) == "c-9")
        #expect(row.text(0, 14) == "{NULL,two,NULL,NULL,NULL}")
        #expect(row.text(0, 15) == "x")
        #expect(row.text(0, 16) == "m1")
        #expect(row.bool(0, 17) == true)
        #expect(row.text(0, 18) == "completed")
        #expect(row.text(0, 19) == "sales_\(record.receivedAt.day.compactMonth)")
        #expect(row.text(0, 20) == String(repeating: "01", count: 32))
        #expect(flush.loop.status.conversionsFlushed == 1)
    }

    @Test("The same message a hundred times is one sale and no remark", arguments: [true, false])
    func repeated(inOneBatch: Bool) throws {
        for _ in 0..<100 {
            send(ConversionMaker.record(order: "A-1", id: 1, message: "m1"))
            if !inOneBatch, ring.headSequence % 10 == 0 { #expect(flush.settle()) }
        }
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM sales") == 1)
        #expect(try connection.number("SELECT count(*) FROM sale_keys") == 1)
        #expect(try connection.number("SELECT count(*) FROM intake_log") == 0)
        #expect(try connection.word("SELECT status FROM sales") == "pending")
    }

    @Test("The same order in other words is compared and noted, never sold twice")
    func conflicting() throws {
        send(
            ConversionMaker.record(order: "A-1", amount: 1000, id: 1, message: "m1"),
            ConversionMaker.record(order: "A-1", amount: 1000, id: 1, message: "m2"))
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM intake_log") == 0)
        send(ConversionMaker.record(order: "A-1", amount: 9999, id: 1, message: "m3"))
        #expect(flush.settle())
        send(ConversionMaker.record(order: "A-1", amount: 1000, currency: "USD", id: 1))
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM sales") == 1)
        #expect(try connection.word("SELECT amount::text FROM sales") == "10.00")
        #expect(
            try connection.words("SELECT field || ' ' || reason FROM intake_log ORDER BY field")
                == ["amount conflicting_message", "currency conflicting_message"])
    }

    @Test("Another event, order or refund of the same merchant is a sale of its own")
    func keys() throws {
        var refund = ConversionMaker.record(order: "A-1", id: 4, event: .refund)
        refund.refundID = Array("r1".utf8)
        send(
            ConversionMaker.record(order: "A-1", id: 1),
            ConversionMaker.record(order: "A-2", id: 2),
            ConversionMaker.record(order: "A-1", amount: nil, id: 3, event: .refund), refund,
            ConversionMaker.record(order: "A-1", amount: nil, id: 5, event: .lead))
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM sales") == 5)
        #expect(
            try connection.number(
                "SELECT count(*) FROM sales WHERE NOT has_amount AND amount IS NULL")
                == 2)
    }

    @Test("A message id that stands for another body ends rejected")
    func messageIDReuse() throws {
        send(ConversionMaker.record(order: "A-1", id: 1, message: "m1", digest: 1))
        #expect(flush.settle())
        send(ConversionMaker.record(order: "A-2", id: 2, message: "m1", digest: 2))
        send(ConversionMaker.record(order: "A-1", id: 1, message: "m1", digest: 3))
        #expect(flush.settle())
        #expect(
            try connection.words(
                "SELECT order_id || ' ' || status || ' ' || coalesce(reason, '') FROM sales ORDER BY 1"
            )
                == ["A-1 pending ", "A-2 rejected message_id_reuse"])
        #expect(try connection.words("SELECT reason FROM intake_log") == ["message_id_reuse"])
    }

    @Test("An array of one signed message brings all its sales, once")
    func array() throws {
        for _ in 0..<2 {
            for order in 1...5 {
                send(ConversionMaker.record(order: "A-\(order)", id: UInt64(order), message: "m1"))
            }
            #expect(flush.settle())
        }
        #expect(try connection.number("SELECT count(*) FROM sales WHERE status = 'pending'") == 5)
        #expect(try connection.number("SELECT count(*) FROM intake_log") == 0)
    }

    @Test(
        "Claims stand beside the order and end with its verified message", arguments: [true, false])
    func claims(inOneBatch: Bool) throws {
        send(
            ConversionMaker.record(order: "A-1", id: 11, channel: .pixel),
            ConversionMaker.record(order: "A-1", id: 12, channel: .pixel),
            ConversionMaker.record(order: "A-1", id: 11, channel: .pixel),
            ConversionMaker.record(order: "B-1", id: 13, channel: .pixel))
        if !inOneBatch {
            #expect(flush.settle())
            #expect(
                try connection.number(
                    """
                    SELECT count(*) FROM sales
                    WHERE NOT verified AND status = 'pending' AND due_at IS NULL
                    """) == 3)
        }
        send(ConversionMaker.record(order: "A-1", amount: 7700, id: 1, message: "m1"))
        #expect(flush.settle())
        send(ConversionMaker.record(order: "A-1", id: 14, channel: .pixel))
        #expect(flush.settle())
        #expect(
            try connection.words(
                """
                SELECT order_id || ' ' || verified || ' ' || status || ' ' || coalesce(reason, '')
                FROM sales ORDER BY id
                """)
                == [
                    "A-1 true pending ", "A-1 false rejected superseded",
                    "A-1 false rejected superseded", "B-1 false pending ",
                    "A-1 false rejected superseded",
                ])
        #expect(try connection.word("SELECT amount::text FROM sales WHERE verified") == "77.00")
    }

    @Test("A sale reported as pending is not due until its merchant's later word")
    func laterWord() throws {
        send(
            ConversionMaker.record(order: "A-1", id: 1, status: .pending),
            ConversionMaker.record(order: "A-2", id: 2, status: .pending))
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM sales WHERE due_at IS NULL") == 2)
        send(
            ConversionMaker.record(order: "A-1", id: 1),
            ConversionMaker.record(order: "A-2", id: 2, status: .rejected),
            ConversionMaker.record(order: "A-3", id: 3, status: .rejected))
        #expect(flush.settle())
        #expect(
            try connection.words(
                """
                SELECT order_id || ' ' || status || ' ' || (due_at IS NOT NULL) || ' '
                    || coalesce(reason, '') FROM sales ORDER BY order_id
                """)
                == [
                    "A-1 pending true ", "A-2 rejected false merchant",
                    "A-3 rejected false merchant",
                ])
    }

    @Test("Refused messages go to the intake log and never to sales")
    func refusals() throws {
        ring.append(
            .refusal,
            ConversionMaker.bytes(
                RefusalRecord(
                    receivedAt: Timestamp(microseconds: flush.time.wall),
                    merchantID: ConversionMaker.merchant, channel: .postback, httpStatus: 422,
                    field: Array("click_id".utf8), reason: Array("forged_token".utf8),
                    orderID: Array("A-1".utf8))))
        #expect(flush.settle())
        #expect(try connection.number("SELECT count(*) FROM sales") == 0)
        #expect(
            try connection.words(
                """
                SELECT channel || ' ' || http_status || ' ' || field || ' ' || reason || ' '
                    || order_id || ' ' || ring_id || ' ' || seq FROM intake_log
                """) == ["postback 422 click_id forged_token A-1 0 1"])
    }

    @Test("Items that PostgreSQL cannot store are set aside; the messages around them are not")
    func poison() throws {
        var bad = ConversionMaker.record(order: "A-2", id: 2)
        bad.items = Array(#"[{"sku":"\u0000"}]"#.utf8)
        send(
            ConversionMaker.record(order: "A-1", id: 1), bad,
            ConversionMaker.record(order: "A-3", id: 3))
        #expect(flush.settle())
        #expect(
            try connection.words("SELECT order_id FROM sales ORDER BY 1") == ["A-1", "A-3"])
        #expect(
            try connection.words("SELECT sqlstate || ' ' || seq || ' ' || stream FROM quarantine")
                == ["22P05 2 2"])
        #expect(try connection.number("SELECT count(*) FROM sale_keys") == 2)
    }

    @Test("Two nodes with the same messages make one sale of each")
    func twoNodes() throws {
        let other = FakeRing(ringID: 32, ringUUID: EntityID(high: 9, low: 9))
        let second = RealFlush([other], dsn: dsn, node: 1)
        for order in 1...20 {
            let record = ConversionMaker.record(
                order: "A-\(order)", id: UInt64(order), message: "m")
            send(record)
            other.append(.conversion, ConversionMaker.bytes(record))
        }
        #expect(flush.settle())
        #expect(second.settle())
        #expect(try connection.number("SELECT count(*) FROM sales") == 20)
        #expect(try connection.number("SELECT count(*) FROM intake_log") == 0)
    }
}
