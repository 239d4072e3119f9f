// What a link does now: the rows of contract 3 that depend on its status and dates.
internal import Tracking

/// Where a link leads at a moment, and what is recorded of it.
struct LinkDecision {
    /// The URL; nil for 404 and 410.
    var program: UnsafeRawBufferPointer?
    /// The redirect status.
    var status: UInt16
    /// Why the click does not count; 0 when it does.
    var invalidReason: UInt8
    /// What to say of it: redirected, fallback, notFound or gone.
    var outcome: RedirectOutcome
    /// Whether ``program`` is the destination, which gets the merchant's parameter and the
    /// visitor's own.
    var isDestination: Bool

    /// Decides; nil when the record is broken, which only a damaged snapshot can bring about.
    @inline(__always) init?(_ link: LinkView, now: Timestamp) {
        guard let fields = link.fields() else { return nil }
        let flags = link.flags
        if flags.contains(.archived) {
            self.init(ended: fields, .archived)
        } else if let expiry = fields.expiresAt, now >= expiry {
            self.init(ended: fields, .expired)
        } else if flags.contains(.paused) {
            self.init(waiting: fields, .paused)
        } else if let start = fields.startsAt, now < start {
            self.init(waiting: fields, .notStarted)
        } else {
            self.init(active: fields, flags)
        }
    }

    private init(active fields: LinkView.Fields, _ flags: LinkFlags) {
        program = fields.destination
        status = flags.redirectStatus
        invalidReason = 0
        outcome = .redirected
        isDestination = true
    }

    /// Expired, archived: `expired_url`, else `fallback_url`, else 410.
    private init(ended fields: LinkView.Fields, _ reason: InvalidReason) {
        program = fields.expiredURL ?? fields.fallbackURL
        status = 302
        invalidReason = reason.rawValue
        outcome = program == nil ? .gone : .fallback
        isDestination = false
    }

    /// Paused, not started: `fallback_url`, else 404.
    private init(waiting fields: LinkView.Fields, _ reason: InvalidReason) {
        program = fields.fallbackURL
        status = 302
        invalidReason = reason.rawValue
        outcome = program == nil ? .notFound : .fallback
        isDestination = false
    }
}
