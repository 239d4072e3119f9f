// Counters, JSON, metrics text, log lines, repeated errors.
import Testing
import Tracking

@testable import Telemetry

@Suite("Telemetry: counters and texts")
struct TelemetryTextTests {
    @Test("Counters of several loops add up, each block apart")
    func counters() {
        let counters = EdgeCounters(loops: 3)
        counters.block(0).add(.clicksRecorded)
        counters.block(2).add(.clicksRecorded, 41)
        counters.block(1).add(.clicksDropped, 7)
        #expect(counters.total(.clicksRecorded) == 42)
        #expect(counters.total(.clicksDropped) == 7)
        #expect(counters.block(1).value(.clicksRecorded) == 0)
        #expect(counters.block(2).value(.clicksDropped) == 0)
    }

    @Test("Every counter has a word of its own in the block")
    func everyCounter() {
        let block = CounterBlock()
        for counter in EdgeCounter.allCases { block.add(counter, counter.rawValue + 1) }
        for counter in EdgeCounter.allCases {
            #expect(block.value(counter) == counter.rawValue + 1)
        }
    }

    @Test("Open connections never read as negative")
    func openConnections() {
        let counters = EdgeCounters(loops: 1)
        counters.block(0).add(.connectionsAccepted, 2)
        #expect(counters.openConnections == 2)
        counters.block(0).add(.connectionsClosed, 3)
        #expect(counters.openConnections == 0)
    }

    @Test("JSON has its commas, nesting and escapes")
    func json() {
        let json = JSONText.object { json in
            json.member("a", 1)
            json.array("b") { json in
                json.value(true)
                json.null()
                json.beginObject()
                json.member("x", nil as String?)
                json.endObject()
                json.beginArray()
                json.endArray()
            }
            json.member("c", "q\" b\\ n\n t\t \u{1} \u{7F} é")
            json.object("d") { _ in }
            json.key("e")
            json.seconds(microseconds: 1_250_000)
        }
        #expect(
            json.text == #"{"a":1,"b":[true,null,{"x":null},[]],"c":"q\" b\\ n\n t\t "#
                + #"\u0001 \u007f é","d":{},"e":1.25}"#)
    }

    @Test(
        "Seconds are written without exponent or needless zero",
        arguments: [
            (0, "0"), (1, "0.000001"), (1_000_000, "1"), (1_500_000, "1.5"), (-250_000, "-0.25"),
            (Int64.min, "-9223372036854.775808"), (Int64.max, "9223372036854.775807"),
        ] as [(Int64, String)])
    func seconds(microseconds: Int64, text: String) {
        #expect(decimalSeconds(microseconds: microseconds) == text)
    }

    @Test("Metrics are families with help, type and samples")
    func metrics() {
        var metrics = PrometheusText(prefix: "clickd")
        metrics.counter("requests_total", "Requests answered.")
        metrics.sample(3, ["outcome": "redirected"])
        metrics.sample(0, ["outcome": "a\"b\\c\nd"])
        metrics.gauge("connections", "Open now.", 2)
        #expect(
            metrics.text == """
                # HELP clickd_requests_total Requests answered.
                # TYPE clickd_requests_total counter
                clickd_requests_total{outcome="redirected"} 3
                clickd_requests_total{outcome="a\\"b\\\\c\\nd"} 0
                # HELP clickd_connections Open now.
                # TYPE clickd_connections gauge
                clickd_connections 2

                """)
    }

    @Test("A log record is one line whatever a value holds")
    func logLine() {
        let line = LogLine(
            time: Timestamp(microseconds: 0), level: "error", logger: "flusher",
            message: "lost\nlevel=info", fields: [("cause", "a\r\nb"), ("n", "1")])
        #expect(
            line.text(.text)
                == "1970-01-01T00:00:00.000000Z error flusher: lost level=info cause=a  b n=1")
        #expect(
            line.text(.json) == #"{"time":"1970-01-01T00:00:00.000000Z","level":"error","#
                + #""logger":"flusher","message":"lost\nlevel=info","cause":"a\r\nb","n":"1"}"#)
    }

    @Test("A long message is cut")
    func longLogLine() {
        let line = LogLine(
            time: Timestamp(microseconds: 0), level: "info", logger: "x",
            message: String(repeating: "é", count: 5000), fields: [])
        #expect(line.text(.json).utf8.count < 1200)
        #expect(line.text(.text).utf8.count < 1200)
    }

    @Test("A repeated error is logged first, then once an interval with the count held back")
    func repeatedErrors() {
        let errors = RepeatedErrors(intervalSeconds: 10)
        #expect(errors.note("database", nowNanoseconds: 0) == 0)
        #expect(errors.note("database", nowNanoseconds: 1) == nil)
        #expect(errors.note("database", nowNanoseconds: 9_999_999_999) == nil)
        #expect(errors.note("disk", nowNanoseconds: 2) == 0)
        #expect(errors.note("database", nowNanoseconds: 10_000_000_000) == 2)
        #expect(errors.note("database", nowNanoseconds: 10_000_000_001) == nil)
        #expect(errors.clear("database"))
        #expect(!errors.clear("database"))
        #expect(errors.note("database", nowNanoseconds: 10_000_000_002) == 0)
    }

    @Test("Kinds of error beyond the limit share one place")
    func manyKinds() {
        let errors = RepeatedErrors()
        for kind in 0..<RepeatedErrors.maximumKinds {
            #expect(errors.note("kind \(kind)", nowNanoseconds: 0) == 0)
        }
        #expect(errors.note("one more", nowNanoseconds: 0) == 0)
        #expect(errors.note("yet another", nowNanoseconds: 0) == nil)
    }
}
