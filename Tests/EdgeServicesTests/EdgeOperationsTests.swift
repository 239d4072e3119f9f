// The names and status codes that operators and monitors hold on to.
import LinuxIO
import Telemetry
import Testing

@testable import EdgeServices

@Suite("Edge operations")
struct EdgeOperationsTests {
    private func handler(
        _ change: (inout EdgeOperationsSources) -> Void = { _ in }
    ) -> EdgeOperations {
        let counters = EdgeCounters(loops: 2)
        counters.block(0).add(.requestsRedirected, 5)
        counters.block(1).add(.clicksRecorded, 6)
        counters.block(1).add(.clicksDropped, 1)
        counters.block(0).add(.connectionsAccepted, 3)
        counters.block(0).add(.connectionsClosed, 1)
        var sources = EdgeOperationsSources()
        sources.links = {
            var links = LinkFacts()
            links.count = 1000
            links.isLoaded = true
            links.lastSyncAgeMicroseconds = 1_500_000
            return links
        }
        sources.database = {
            var database = DatabaseFacts()
            database.isConnected = true
            database.clicksFlushed = 4
            database.clicksPending = 2
            database.botsFlushed = 1
            database.partitionsAhead = 7
            return database
        }
        sources.rings = {
            [
                RingFacts(
                    ring: 33, headSequence: 9, spooledSequence: 8, durableSequence: 7,
                    flushedSequence: 6, ringUsedBytes: 128, ringBytes: 4096, spoolUsedBytes: 64,
                    oldestUnflushedMicroseconds: 250_000)
            ]
        }
        change(&sources)
        return EdgeOperations(version: "1.2.3", counters: counters, sources: sources)
    }

    private func get(_ handler: EdgeOperations, _ path: String) -> (Int, String) {
        let response = handler.respond(to: OperationsRequest(method: .get, path: path))
        return (response.status, String(decoding: response.body, as: UTF8.self))
    }

    private func post(
        _ handler: EdgeOperations, _ path: String, timeout: String? = nil
    ) -> (Int, String) {
        let query = timeout.map { [OperationsRequest.Parameter(name: "timeout", value: $0)] } ?? []
        let response = handler.respond(
            to: OperationsRequest(method: .post, path: path, query: query, overUnixSocket: true))
        return (response.status, String(decoding: response.body, as: UTF8.self))
    }

    @Test("Stats have the names of the contract")
    func stats() {
        let (status, text) = get(handler(), "/stats")
        #expect(status == 200)
        #expect(text.hasPrefix("{\"version\":\"1.2.3\",\"uptime_seconds\":"))
        for part in [
            "\"requests\":{\"redirected\":5,\"not_found\":0,",
            "\"clicks\":{\"recorded\":6,\"flushed\":4,\"pending\":2,\"dropped\":1,\"bots\":1}",
            "\"conversions\":{\"recorded\":0,\"flushed\":0,\"pending\":0,\"rejected\":0}",
            "\"rings\":[{\"ring\":33,\"head_seq\":9,\"spooled_seq\":8,\"durable_seq\":7,"
                + "\"flushed_seq\":6,\"ring_used_bytes\":128,\"spool_used_bytes\":64,"
                + "\"oldest_unflushed_seconds\":0.25}]",
            "\"links\":{\"count\":1000,\"invalid\":0,\"last_sync_age_seconds\":1.5}",
            "\"connections\":2", "\"database\":{\"connected\":true,\"last_error\":null}",
            "\"partitions_ahead\":7}\n",
        ] { #expect(text.contains(part), "\(part) in \(text)") }
    }

    @Test("Every metric is documented, and every documented metric of clickd is there")
    func metrics() throws {
        let filling = handler { sources in
            sources.spool = {
                var spool = SpoolFacts()
                spool.secondsUntilFull = 4000
                return spool
            }
            sources.certificatesEnd = { SystemClock.wallMicroseconds() / 1_000_000 - 90 }
        }
        let (status, text) = get(filling, "/metrics")
        #expect(status == 200)
        #expect(text.contains("clickd_certificate_expiry_seconds -9"), "\(text)")
        #expect(!get(handler(), "/metrics").1.contains("certificate"))
        #expect(text.contains("clickd_spool_until_full_seconds 4000\n"))
        let names = Set(
            text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
                .compactMap { $0.split(separator: " ").dropFirst(2).first.map { String($0) } })
        #expect(names.count > 30)
        let suffix = "Tests/EdgeServicesTests/EdgeOperationsTests.swift"
        let root = String(#filePath.dropLast(suffix.count))
        let page = String(decoding: try FileSystem.read(root + "docs/metrics.md"), as: UTF8.self)
        let documented = Set(
            page.split(separator: "`").filter { $0.hasPrefix("clickd_") }
                .map { String($0.prefix { $0 != "{" }) })
        #expect(names.subtracting(documented) == [])
        #expect(documented.subtracting(names) == [])
        #expect(text.contains("clickd_requests_total{outcome=\"redirected\"} 5\n"))
        #expect(text.contains("clickd_oldest_unflushed_seconds{ring=\"33\"} 0.25\n"))
    }

    @Test("Ready means loaded, durable, not draining and not hindered")
    func ready() {
        #expect(get(handler(), "/healthz") == (200, "{\"status\":\"alive\"}\n"))
        #expect(get(handler(), "/readyz") == (200, "{\"ready\":true,\"reasons\":[]}\n"))
        #expect(get(handler { $0.isDraining = { true } }, "/readyz").0 == 503)
        #expect(get(handler { $0.links = { LinkFacts() } }, "/readyz").0 == 503)
        #expect(get(handler { $0.hindrances = { ["node 3 is not ours"] } }, "/readyz").0 == 503)
        let lost = handler { sources in
            sources.spool = {
                var spool = SpoolFacts()
                spool.durabilityLost = true
                return spool
            }
        }
        #expect(
            get(lost, "/readyz") == (
                503, "{\"ready\":false,\"reasons\":[\"the spool cannot be synced\"]}\n"
            ))
        #expect(
            get(handler { $0.warnings = { ["it is full"] } }, "/readyz") == (
                200, "{\"ready\":true,\"reasons\":[],\"warnings\":[\"it is full\"]}\n"
            ))
        // A lost database does not unready the edge.
        #expect(get(handler { $0.database = { DatabaseFacts() } }, "/readyz").0 == 200)
    }

    @Test("What was recorded since the flusher last counted is pending too")
    func pendingNow() {
        func pending(_ counted: UInt64, quarantined: UInt64, head: UInt64) -> UInt64 {
            let changed = handler { sources in
                let database = sources.database
                sources.database = {
                    var facts = database()
                    facts.clicksPending = counted
                    facts.quarantined = quarantined
                    return facts
                }
                let rings = sources.rings
                sources.rings = {
                    rings().map { ring in
                        var ring = ring
                        ring.headSequence = head
                        return ring
                    }
                }
            }
            return changed.pending(changed.sources.database()).clicks
        }
        // Six recorded, four flushed; the ring is flushed through its sixth record.
        #expect(pending(0, quarantined: 0, head: 9) == 2)
        #expect(pending(3, quarantined: 0, head: 9) == 3)
        #expect(pending(0, quarantined: 1, head: 9) == 1)
        #expect(pending(0, quarantined: 0, head: 7) == 1)
        #expect(pending(2, quarantined: 0, head: 6) == 0)
    }

    @Test("A flush answers what is pending, within the time asked for")
    func flush() {
        let done = handler { $0.flush = { $0 == 8_000 ? .committed : .pending(UInt64($0)) } }
        #expect(post(done, "/flush") == (200, "{\"pending\":0}\n"))
        #expect(post(done, "/flush", timeout: "8s").0 == 200)
        #expect(post(done, "/flush", timeout: "250ms") == (503, "{\"pending\":250}\n"))
        #expect(post(done, "/flush", timeout: "61s").0 == 400)
        #expect(post(done, "/flush", timeout: "soon").0 == 400)
    }

    @Test("Commands are posted, reads are not, and nothing else is there")
    func methods() {
        let handler = handler { $0.reload = { [] } }
        #expect(post(handler, "/reload") == (200, "{\"reloaded\":true,\"problems\":[]}\n"))
        #expect(post(handler, "/drain").0 == 202)
        for path in ["/reload", "/drain", "/flush"] { #expect(get(handler, path).0 == 405) }
        for path in ["/stats", "/metrics", "/healthz", "/readyz"] {
            #expect(post(handler, path).0 == 405)
        }
        #expect(get(handler, "/").0 == 404)
        let wrong = self.handler { $0.reload = { ["c.yaml:1: no"] } }
        #expect(
            post(wrong, "/reload") == (
                400, "{\"reloaded\":false,\"problems\":[\"c.yaml:1: no\"]}\n"
            ))
    }

    @Test("A retired ring and its successor are one sample in each family")
    func oneSamplePerRing() {
        let handler = handler { sources in
            let before = sources.rings
            sources.rings = {
                let retired = RingFacts(
                    ring: 33, headSequence: 90, spooledSequence: 90, durableSequence: 90,
                    flushedSequence: 90, ringUsedBytes: 1, ringBytes: 4096, spoolUsedBytes: 36,
                    oldestUnflushedMicroseconds: 750_000)
                return before() + [retired]
            }
        }
        let lines = get(handler, "/metrics").1.split(separator: "\n")
        let names = lines.filter { !$0.hasPrefix("#") }.map { $0.prefix { $0 != " " } }
        #expect(Set(names).count == names.count)
        #expect(lines.contains("clickd_ring_head_sequence{ring=\"33\"} 9"))
        #expect(lines.contains("clickd_ring_spool_used_bytes{ring=\"33\"} 100"))
        #expect(lines.contains("clickd_oldest_unflushed_seconds{ring=\"33\"} 0.75"))
    }
}

@Suite("A doubtful clock")
struct ClockDoubtTests {
    private let day: Int64 = 86_400_000_000

    @Test("The database decides; without it a clock that went back or far ahead is not believed")
    func judged() {
        func verdict(_ wall: Int64, _ database: Int64?) -> ClockDoubt.Verdict {
            ClockDoubt.judge(wall: wall, lease: 1000 * day, database: database)
        }
        #expect(verdict(1300 * day, 1300 * day + 5) == .wall)
        #expect(verdict(1300 * day, 1002 * day) == .database(1002 * day))
        #expect(verdict(10 * day, 1002 * day) == .database(1002 * day))
        #expect(verdict(1400 * day, nil) == .wall)
        #expect(verdict(1400 * day + 1, nil) == .lease)
        #expect(verdict(998 * day, nil) == .lease)
    }
}
