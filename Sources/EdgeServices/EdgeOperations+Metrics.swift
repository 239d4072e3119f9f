// The metrics of clickd; docs/metrics.md says what each means and when to worry.
internal import LinuxIO
internal import Telemetry

extension EdgeOperations {
    /// The text of `/metrics`.
    func metrics() -> PrometheusText {
        var text = PrometheusText(prefix: "clickd")
        let database = sources.database()
        text.gauge("build_info", "The running release, as a label; always 1.")
        text.sample(1, ["version": version])
        text.gauge("uptime_seconds", "Time since the start.")
        text.sample(microseconds: uptimeMicroseconds)
        text.gauge("ready", "1 when the node may get traffic.", unreadyReasons().isEmpty ? 1 : 0)
        text.gauge("draining", "1 when a drain has begun.", sources.isDraining() ? 1 : 0)
        text.gauge(
            "resident_memory_bytes", "Memory of the process.", CurrentProcess.residentBytes())
        writeTraffic(to: &text)
        writeRecords(database, to: &text)
        writeRings(to: &text)
        writeLinks(to: &text)
        writeDatabase(database, to: &text)
        return text
    }

    private func writeTraffic(to text: inout PrometheusText) {
        text.counter("requests_total", "Requests answered, by outcome.")
        for (name, counter) in EdgeOperations.outcomes {
            text.sample(counters.total(counter), ["outcome": name])
        }
        text.gauge(
            "silent_loops", "Event loops that stand still.", sources.silentLoops())
        text.gauge("connections", "Connections open now.", counters.openConnections)
        text.counter(
            "connections_accepted_total", "Connections accepted.",
            counters.total(.connectionsAccepted))
        text.counter(
            "connections_refused_total", "Connections closed at once because of a limit.",
            counters.total(.connectionsRefused))
        text.counter(
            "connections_given_way_total", "Connections closed to make room for others.",
            counters.total(.connectionsGivenWay))
        text.counter(
            "connections_timed_out_total", "Connections closed because a deadline passed.",
            counters.total(.connectionsTimedOut))
        text.gauge(
            "tls_connections", "TLS connections open now.", counters.openTLSConnections)
        if let end = sources.certificatesEnd() {
            text.gauge(
                "certificate_expiry_seconds",
                "Time until the served certificate that ends first ends; negative afterwards.",
                Int(end - SystemClock.wallMicroseconds() / 1_000_000))
        }
        text.counter("tls_handshakes_total", "TLS handshakes, by what came of them.")
        text.sample(counters.total(.tlsHandshakesFull), ["result": "full"])
        text.sample(counters.total(.tlsHandshakesResumed), ["result": "resumed"])
        text.sample(counters.total(.tlsHandshakesFailed), ["result": "failed"])
        text.counter(
            "tls_handshakes_deferred_total", "TLS handshakes that waited for a later turn.",
            counters.total(.tlsHandshakesDeferred))
        text.counter(
            "connections_passed_total", "Open connections left to a successor.",
            counters.total(.connectionsPassed))
        text.counter(
            "connections_adopted_total", "Open connections of a predecessor taken over.",
            counters.total(.connectionsAdopted))
        text.counter(
            "received_bytes_total", "Bytes received from clients.", counters.total(.bytesReceived))
        text.counter(
            "clock_steps_total", "Steps of the wall clock by a second or more.",
            counters.total(.clockSteps))
        text.counter("sent_bytes_total", "Bytes sent to clients.", counters.total(.bytesSent))
        text.counter("loop_calls_total", "System calls of the event loops, by kind.")
        text.sample(counters.total(.callsWait), ["call": "wait"])
        text.sample(counters.total(.callsReceive), ["call": "receive"])
        text.sample(counters.total(.callsSend), ["call": "send"])
        text.sample(counters.total(.callsOther), ["call": "other"])
    }

    private func writeRecords(_ database: DatabaseFacts, to text: inout PrometheusText) {
        let pending = pending(database)
        text.counter(
            "clicks_recorded_total", "Clicks written to a ring.", counters.total(.clicksRecorded))
        text.counter(
            "clicks_flushed_total", "Clicks committed in the database.", database.clicksFlushed)
        text.gauge("clicks_pending", "Clicks in ring and spool.", pending.clicks)
        text.counter(
            "clicks_dropped_total", "Clicks lost because ring and spool were full.",
            counters.total(.clicksDropped))
        text.counter(
            "clicks_velocity_total", "Clicks of addresses that click too fast, marked velocity.",
            UInt64(clamping: counters.total(.clicksRapid)))
        text.counter("clicks_bots_total", "Clicks by known bots.", bots(database))
        text.counter(
            "conversions_recorded_total", "Conversions written to a ring.",
            counters.total(.conversionsRecorded))
        text.counter(
            "conversions_flushed_total", "Conversions committed in the database.",
            database.conversionsFlushed)
        text.gauge(
            "conversions_pending", "Conversions in ring and spool.", pending.conversions)
        text.counter(
            "conversions_rejected_total", "Conversion messages refused.",
            counters.total(.conversionsRejected))
        text.counter(
            "rows_quarantined_total", "Rows that the database refused, set aside.",
            database.quarantined)
    }

    private func writeRings(to text: inout PrometheusText) {
        let rings = RingFacts.byNumber(sources.rings())
        func family(
            _ name: String, _ help: String, _ value: (RingFacts) -> UInt64
        ) {
            text.gauge(name, help)
            for ring in rings { text.sample(value(ring), ["ring": "\(ring.ring)"]) }
        }
        family("ring_head_sequence", "Last record appended.") { $0.headSequence }
        family("ring_spooled_sequence", "Last record copied to the spool.") { $0.spooledSequence }
        family("ring_durable_sequence", "Last record synced to disk.") { $0.durableSequence }
        family("ring_flushed_sequence", "Last record committed.") { $0.flushedSequence }
        family("ring_used_bytes", "Memory of the ring in use.") {
            UInt64(clamping: $0.ringUsedBytes)
        }
        family("ring_bytes", "Memory of the ring.") { UInt64(clamping: $0.ringBytes) }
        family("ring_spool_used_bytes", "Unflushed records of the ring on disk.") {
            UInt64(clamping: $0.spoolUsedBytes)
        }
        text.gauge("oldest_unflushed_seconds", "Age of the oldest record not in the database.")
        for ring in rings {
            text.sample(
                microseconds: ring.oldestUnflushedMicroseconds, ["ring": "\(ring.ring)"])
        }
        let spool = sources.spool()
        text.gauge("spool_used_bytes", "Bytes of the spool directory in use.", spool.usedBytes)
        text.gauge("spool_quota_bytes", "Bytes that the spool may use.", spool.quotaBytes)
        text.gauge(
            "spool_room_bytes", "The quota, or less where the disk has less room.", spool.roomBytes)
        text.gauge(
            "spool_disk_full", "1 when the disk has no room for a segment that is wanted.",
            spool.isDiskFull ? 1 : 0)
        text.gauge(
            "spool_used_percent", "Unflushed records, in per cent of the room.", spool.usedPercent)
        text.gauge(
            "spool_growth_bytes_per_second", "By how much the unflushed records grow.",
            spool.bytesPerSecond)
        if let left = spool.secondsUntilFull {
            text.gauge("spool_until_full_seconds", "Time until there is no room at that rate.")
            text.sample(left)
        }
        text.gauge(
            "durability_lost", "1 when a sync of the spool has failed.",
            spool.durabilityLost ? 1 : 0)
    }

    private func writeLinks(to text: inout PrometheusText) {
        let links = sources.links()
        text.gauge("links", "Links served.", links.count)
        text.gauge("links_invalid", "Links that the table refused.", links.invalid)
        text.gauge("links_loaded", "1 when links are loaded.", links.isLoaded ? 1 : 0)
        if let age = links.lastSyncAgeMicroseconds {
            text.gauge("links_last_sync_age_seconds", "Time since links were last in step.")
            text.sample(microseconds: age)
        }
    }

    private func writeDatabase(_ database: DatabaseFacts, to text: inout PrometheusText) {
        text.gauge(
            "database_connected", "1 when the database answers.", database.isConnected ? 1 : 0)
        text.counter("flush_batches_total", "Transactions that wrote records.", database.batches)
        text.counter("flush_duration_seconds_total", "Time spent in those transactions.")
        text.sample(microseconds: database.flushMicroseconds)
        text.gauge(
            "partitions_ahead_days", "Days from today that have a leaf of clicks_logs.",
            database.partitionsAhead)
    }
}

extension RingFacts {
    /// One entry a ring number, as a label may stand only once in a family.
    ///
    /// A retired ring lends its number to its successor, which comes first: the sequences are the
    /// successor's, the bytes are summed, and the oldest record counts.
    static func byNumber(_ rings: [RingFacts]) -> [RingFacts] {
        var result: [RingFacts] = []
        for ring in rings {
            guard let index = result.firstIndex(where: { $0.ring == ring.ring }) else {
                result.append(ring)
                continue
            }
            result[index].ringUsedBytes += ring.ringUsedBytes
            result[index].ringBytes += ring.ringBytes
            result[index].spoolUsedBytes += ring.spoolUsedBytes
            result[index].oldestUnflushedMicroseconds = max(
                result[index].oldestUnflushedMicroseconds, ring.oldestUnflushedMicroseconds)
        }
        return result
    }
}
