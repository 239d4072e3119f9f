// How `clickctl ring list` and `verify` show a store.
internal import RingLog
internal import Telemetry
internal import Tracking

enum StoreReport {
    // MARK: - For people

    /// Spool, logs, segments, losses, problems.
    static func text(_ view: StoreView) -> String {
        spool(view) + logs(view).text + segments(view).text + losses(view) + problems(view)
    }

    /// What `verify` found: the logs, and every gap and problem.
    static func verdict(_ view: StoreView, unreadable: [String: Int]) -> String {
        var text = logs(view).text + losses(view)
        for log in view.logs {
            for gap in log.gaps { text += "ring \(log.ringID) \(log.ringUUID): \(line(gap))\n" }
            if log.badSlots > 0 {
                text += "ring \(log.ringID) \(log.ringUUID): \(log.badSlots) bad slots\n"
            }
        }
        text += problems(view)
        for (kind, count) in unreadable.sorted(by: { $0.key < $1.key }) {
            text += "\(count) records of \(kind) are valid but cannot be decoded\n"
        }
        let count = view.logs.reduce(0) { $0 + $1.recordCount }
        if view.isSound, unreadable.isEmpty { text += "all is sound: \(count) records\n" }
        return text
    }

    private static func spool(_ view: StoreView) -> String {
        guard let spool = view.spool else { return "spool: no readable identity\n" }
        return "spool \(spool.spoolUUID)  node \(spool.node)  epoch \(spool.epoch)"
            + "  \(spool.isCleanStop ? "stopped cleanly" : "in use or killed")"
            + "  \(spool.isClaimed ? "claimed" : "not claimed")"
            + "  machine \(Report.plain(spool.machine))\n"
    }

    private static func logs(_ view: StoreView) -> Report {
        var report = Report([
            ("ring", .number), ("node", .number), ("worker", .number), ("uuid", .text),
            ("state", .text), ("epoch", .number), ("head", .number), ("spooled", .number),
            ("durable", .number), ("first", .number), ("records", .number), ("segments", .number),
            ("ring_used", .number), ("gaps", .number), ("bad_slots", .number),
        ])
        for log in view.logs {
            let epoch = log.ring?.epoch ?? log.segments.map(\.epoch).max() ?? 0
            report.rows.append([
                "\(log.ringID)", "\(log.ringID / 32)", "\(log.ringID % 32)",
                log.ringUUID.description, state(log), "\(epoch)", "\(head(log))",
                "\(log.spooledSequence)", "\(durable(log))", "\(log.firstSequence)",
                "\(log.recordCount)", "\(log.segments.count)", log.ring.map { "\($0.usedBytes)" },
                "\(log.gaps.count)", "\(log.badSlots)",
            ])
        }
        return report
    }

    private static func segments(_ view: StoreView) -> Report {
        var report = Report([
            ("segment", .text), ("state", .text), ("number", .number), ("ring", .number),
            ("uuid", .text), ("epoch", .number), ("first", .number), ("bytes", .number),
            ("taken", .text),
        ])
        for segment in view.segments {
            let hasHead = segment.state != .blank && segment.state != .damaged
            let name = segment.path.split(separator: "/").last.map(String.init) ?? segment.path
            report.rows.append([
                name, segment.state.rawValue, hasHead ? "\(segment.number)" : nil,
                hasHead ? "\(segment.ringID)" : nil, hasHead ? segment.ringUUID.description : nil,
                hasHead ? "\(segment.epoch)" : nil, hasHead ? "\(segment.firstSequence)" : nil,
                "\(segment.bytes)",
                hasHead
                    ? Timestamp(microseconds: segment.createdMicroseconds).description : nil,
            ])
        }
        return report
    }

    private static func losses(_ view: StoreView) -> String {
        (view.spool?.losses ?? []).map {
            "loss not yet recorded in the database: ring \($0.ringID) \($0.ringUUID): "
                + "\(line($0.gap))\n"
        }.joined()
    }

    private static func problems(_ view: StoreView) -> String {
        view.problems.map { "\(Report.plain($0.path)): \($0.reason)\n" }.joined()
    }

    private static func line(_ gap: RingGap) -> String {
        let last = gap.lastSequence.map { "\($0)" } ?? "?"
        return "sequences \(gap.firstSequence) to \(last) are missing (\(gap.cause.rawValue))"
    }

    // MARK: - For machines

    /// One object.
    static func json(_ view: StoreView, unreadable: [String: Int]? = nil) -> String {
        var json = JSONText()
        json.beginObject()
        if let unreadable {
            json.member("sound", view.isSound && unreadable.isEmpty)
            json.member("undecodable", unreadable.values.reduce(0, +))
        }
        json.key("spool")
        if let spool = view.spool { write(spool, to: &json) } else { json.null() }
        json.array("rings") { json in for log in view.logs { write(log, to: &json) } }
        json.array("segments") { json in
            for segment in view.segments { write(segment, to: &json) }
        }
        json.array("problems") { json in
            for problem in view.problems {
                json.beginObject()
                json.member("path", problem.path)
                json.member("reason", problem.reason)
                json.endObject()
            }
        }
        json.endObject()
        return json.text + "\n"
    }

    private static func write(_ spool: SpoolView, to json: inout JSONText) {
        json.beginObject()
        json.member("uuid", spool.spoolUUID.description)
        json.member("node", spool.node)
        json.member("machine", spool.machine)
        json.member("boot", spool.bootID.description)
        json.member("epoch", spool.epoch)
        json.member("clean_stop", spool.isCleanStop)
        json.member("claimed", spool.isClaimed)
        json.array("leases") { json in
            for ring in spool.rings {
                json.beginObject()
                json.member("worker", ring.worker)
                json.member("uuid", ring.ringUUID.description)
                json.member(
                    "until",
                    Timestamp(milliseconds: ring.leaseMilliseconds).description)
                json.endObject()
            }
        }
        json.array("losses") { json in
            for loss in spool.losses {
                json.beginObject()
                json.member("ring", loss.ringID)
                json.member("uuid", loss.ringUUID.description)
                members(of: loss.gap, to: &json)
                json.endObject()
            }
        }
        json.endObject()
    }

    private static func members(of gap: RingGap, to json: inout JSONText) {
        json.member("first", gap.firstSequence)
        json.member("last", gap.lastSequence)
        json.member("cause", gap.cause.rawValue)
    }

    private static func write(_ log: LogView, to json: inout JSONText) {
        json.beginObject()
        json.member("ring", log.ringID)
        json.member("node", log.ringID / 32)
        json.member("worker", log.ringID % 32)
        json.member("uuid", log.ringUUID.description)
        json.member("state", state(log))
        json.member("epoch", log.ring?.epoch ?? log.segments.map(\.epoch).max() ?? 0)
        json.member("head_seq", head(log))
        json.member("spooled_seq", log.spooledSequence)
        json.member("durable_seq", durable(log))
        json.member("first_seq", log.firstSequence)
        json.member("last_seq", log.lastSequence)
        json.member("records", log.recordCount)
        json.member("path", log.ring?.path)
        json.member("ring_bytes", log.ring?.bodyBytes)
        json.member("ring_used_bytes", log.ring?.usedBytes)
        json.member("boot", log.ring?.bootID.description)
        json.member("segments", log.segments.count)
        json.member("bad_slots", log.badSlots)
        json.array("gaps") { json in
            for gap in log.gaps {
                json.beginObject()
                members(of: gap, to: &json)
                json.endObject()
            }
        }
        json.endObject()
    }

    private static func write(_ segment: SegmentView, to json: inout JSONText) {
        let hasHead = segment.state != .blank && segment.state != .damaged
        json.beginObject()
        json.member("path", segment.path)
        json.member("state", segment.state.rawValue)
        json.member("bytes", segment.bytes)
        json.member("number", hasHead ? segment.number : nil)
        json.member("ring", hasHead ? segment.ringID : nil)
        json.member("uuid", hasHead ? segment.ringUUID.description : nil)
        json.member("epoch", hasHead ? segment.epoch : nil)
        json.member("first_seq", hasHead ? segment.firstSequence : nil)
        json.member(
            "taken",
            hasHead ? Timestamp(microseconds: segment.createdMicroseconds).description : nil)
        json.endObject()
    }

    // MARK: - Both

    private static func state(_ log: LogView) -> String {
        log.isLive ? log.ring == nil ? "ring_missing" : "live" : "former"
    }

    private static func head(_ log: LogView) -> UInt64 {
        max(log.ring?.headSequence ?? 0, log.lastSequence)
    }

    /// Of a former ring all that lies in the spool is durable since it was opened last.
    private static func durable(_ log: LogView) -> UInt64 {
        log.ring?.durableSequence ?? log.spooledSequence
    }
}
