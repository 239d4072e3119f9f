// Answers written into the send slab: those whose text is fixed, the engine's, and the intake's.
internal import EdgeCore
internal import LinuxIO
internal import RingLog
internal import Synchronization
internal import Telemetry
internal import Tracking

extension EventLoop {
    /// The send slab behind what waits in it.
    @inline(__always) func sendRoom(at offset: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: sendSlab[offset...])
    }

    /// An answer of a status alone.
    func writeStatus(
        _ status: UInt16, closing: Bool, at offset: Int, retryAfter: UInt16 = 0
    ) -> Int {
        // RFC 9110, 15.5.6: 405 names what is allowed; only CONNECT comes here.
        var options = ResponseOptions(
            cacheControl: "no-store", allow: status == 405 ? AllowedMethods.any.header : "",
            retryAfterSeconds: status == 503 ? 1 : retryAfter)
        options.isOldRequest = !closing && head.pointee.minorVersion == 0
        return FixedResponse.write(
            status: status, options: options, closing: closing, clock: clock,
            to: sendRoom(at: offset))
    }

    /// The interim answer to `Expect: 100-continue`.
    func writeContinue(at offset: Int) -> Int {
        FixedResponse.writeContinue(to: sendRoom(at: offset))
    }

    /// The answer of a route that is no click and no conversion.
    func writeRoute(_ route: Route) -> Int {
        var status: UInt16 = 404
        var text: StaticString = ""
        var options = ResponseOptions(cacheControl: "no-store")
        switch route {
        case .robots:
            status = 200
            text = "User-agent: *\nDisallow:\n"
            options = ResponseOptions(
                contentType: "text/plain; charset=utf-8", cacheControl: "public, max-age=86400")
        case .health:
            status = 200
            text = "ok\n"
            options.contentType = "text/plain; charset=utf-8"
        case .favicon:
            status = 204
            options.cacheControl = "public, max-age=86400"
        case .snippet: return writeSnippet()
        case .options(let allow):
            status = 204
            options.allow = allow.header
        case .methodNotAllowed(let allow):
            status = 405
            options.allow = allow.header
        case .wellKnown, .notFound, .redirect, .pixel, .postback, .conversions: break
        }
        options.isOldRequest = head.pointee.minorVersion == 0
        return FixedResponse.write(
            status: status, text: text, options: options, closing: !head.pointee.keepAlive,
            omittingBody: head.pointee.method == .head, clock: clock,
            to: sendRoom(at: pendingOutput))
    }

    private func writeSnippet() -> Int {
        var options = ResponseOptions(
            contentType: "text/javascript; charset=utf-8", cacheControl: "public, max-age=3600",
            extraLines: "X-Content-Type-Options: nosniff\r\n")
        options.isOldRequest = head.pointee.minorVersion == 0
        return MerchantSnippet.script.withUnsafeBytes { script in
            FixedResponse.write(
                status: 200, body: script, options: options, closing: !head.pointee.keepAlive,
                omittingBody: head.pointee.method == .head, clock: clock,
                to: sendRoom(at: pendingOutput))
        }
    }

    /// Judges a conversion, appends its records and writes its answer into the (empty) send slab.
    ///
    /// - Returns: The answer, held in the send slab.
    mutating func decide(
        _ route: Route, _ bytes: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer
    ) -> HeldAnswer {
        let isPixel = route == .pixel
        counters.add(isPixel ? .requestsPixel : .requestsConversion, 1)
        // Of the three only the pixel has HEAD (see Router), and to ask about it claims nothing.
        if head.pointee.method == .head { return answerUnrecorded(isPixel) }
        let endpoint: ConversionEndpoint =
            isPixel ? .pixel : route == .postback ? .postback : .conversions
        // The true wall clock, not the carried one: proofs are judged by the world's time.
        let receivedAt = Timestamp(microseconds: SystemClock.wallMicroseconds())
        if !isAdmitted { isAdmitted = shared.isAdmitted }
        guard isAdmitted, let tables = shared.directory.current else {
            return answerUnrecorded(isPixel)
        }
        var request = ConversionRequest(
            endpoint: endpoint, isPost: head.pointee.method == .post, receivedAt: receivedAt)
        request.query = head.pointee.query.slice(of: bytes)
        request.body = body
        request.contentType = header(head.pointee.contentType, bytes)
        request.webhookID = header(head.pointee.webhookID, bytes)
        request.webhookTimestamp = header(head.pointee.webhookTimestamp, bytes)
        request.webhookSignature = header(head.pointee.webhookSignature, bytes)
        let age = tables.merchantsAsOf.map {
            max(0, receivedAt.microseconds &- $0.microseconds)  // Two clock readings.
        }
        var verdict = intake.interpret(
            request, merchants: tables.merchants, merchantDataAgeMicroseconds: age ?? .max)
        if let message = verdict.message {
            let answer = shared.messages.withLock { $0.admit(message, at: receivedAt) }
            if answer == .different { verdict = verdict.conflict(request) }
        }
        return record(verdict, isPixel: isPixel)
    }

    /// Appends what a verdict wants recorded, and writes its answer.
    private mutating func record(_ verdict: ConversionVerdict, isPixel: Bool) -> HeldAnswer {
        var last: UInt64 = 0
        for conversion in verdict.records {
            guard !appender.durabilityLost,
                let room = appender.reserve(
                    bytes: ConversionRecord.maximumBytes, priority: .conversion)
            else {
                return answerUnrecorded(isPixel)
            }
            let count = conversion.write(to: room)
            last = appender.commit(bytes: count, kind: RecordKind.conversion.rawValue).sequence
            wantsSync = true
            counters.add(.conversionsRecorded, 1)
        }
        for refusal in verdict.refusals {
            counters.add(.conversionsRejected, 1)
            guard
                let room = appender.reserve(
                    bytes: RefusalRecord.maximumBytes, priority: .click)
            else { continue }
            let count = refusal.write(to: room)
            _ = appender.commit(bytes: count, kind: RecordKind.refusal.rawValue)
        }
        let retryAfter = UInt16(clamping: verdict.retryAfterSeconds ?? 0)
        let written = write(
            verdict.body, status: verdict.status, isGIF: verdict.content == .gif,
            retryAfter: retryAfter)
        return HeldAnswer(bytes: written, sequence: isPixel ? 0 : last)
    }

    /// The answer when nothing can be recorded: the pixel's image all the same, else 503.
    mutating func answerUnrecorded(_ isPixel: Bool) -> HeldAnswer {
        let written =
            isPixel
            ? write(ConversionResponses.pixel, status: 200, isGIF: true, retryAfter: 0)
            : writeStatus(503, closing: !head.pointee.keepAlive, at: 0)
        return HeldAnswer(bytes: written, sequence: 0)
    }

    private mutating func write(
        _ body: [UInt8], status: UInt16, isGIF: Bool, retryAfter: UInt16
    ) -> Int {
        var options = ResponseOptions(
            contentType: isGIF ? "image/gif" : "application/json", cacheControl: "no-store",
            retryAfterSeconds: retryAfter)
        options.isOldRequest = head.pointee.minorVersion == 0
        let written = body.withUnsafeBytes { content in
            FixedResponse.write(
                status: status, body: content, options: options, closing: !head.pointee.keepAlive,
                omittingBody: head.pointee.method == .head, clock: clock, to: sendRoom(at: 0))
        }
        return written > 0 ? written : writeStatus(503, closing: !head.pointee.keepAlive, at: 0)
    }

    private func header(
        _ range: ByteRange, _ bytes: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        range.isPresent ? range.slice(of: bytes) : nil
    }

    /// The counter of a click's outcome.
    @inline(__always) func counter(of outcome: RedirectOutcome) -> EdgeCounter {
        switch outcome {
        case .redirected: .requestsRedirected
        case .notFound: .requestsNotFound
        case .gone: .requestsGone
        case .fallback, .domainDefault: .requestsFallback
        case .notLoaded: .requestsNotLoaded
        case .head: .requestsHead
        case .prefetch: .requestsPrefetch
        }
    }
}
