// What a lane does next after each answer of the database: pure, so that every order of faults can
// be tested.

/// How many rows PostgreSQL may refuse before it is the schema that is wrong and not the rows.
struct PoisonBudget: Equatable {
    private(set) var left = FlusherLimits.poisonAllowance
    private var goodRows = 0

    /// A fresh allowance.
    init() {}

    /// Rows have gone through: each hundred earns one poisoned row.
    mutating func earn(rows: Int) {
        goodRows = goodRows.addingReportingOverflow(rows).partialValue
        left = min(
            FlusherLimits.maximumPoisonAllowance, left + goodRows / FlusherLimits.rowsPerPoison)
        goodRows %= FlusherLimits.rowsPerPoison
    }

    /// Allows one more, after a pause.
    mutating func forgive() { left = max(left, 1) }

    /// Takes one poisoned row; false when that is too many.
    mutating func spend() -> Bool {
        guard left > 0 else { return false }
        left -= 1
        return true
    }
}

/// The progress of one lane's batch: attempts, bisection, quarantine, and the doubt after a lost
/// COMMIT.
///
/// The machine counts records; the lane knows which they are.
struct FlushMachine: Equatable {
    /// What the database made of the last action.
    enum Event: Equatable {
        /// Rows and cursor are committed.
        case committed
        /// SQLSTATE class 22 or 23: one of the rows cannot be stored.
        case poisoned
        /// Class 40: the same again may succeed.
        case serialization
        /// The statement took too long.
        case tooSlow
        /// The cursor was not where it was left.
        case cursorMoved
        /// Anything else.
        case away
        /// The connection was lost on COMMIT.
        case outcomeUnknown
    }

    /// What to do next.
    enum Action: Equatable {
        /// Write the first `count` records that are left.
        case attempt(count: Int)
        /// Set the first record that is left aside, with the reason of the last refusal.
        case quarantine
        /// Read the cursor, then call ``FlushMachine/resolve(next:old:new:)``.
        case readCursor
        /// Wait and connect anew; nothing is given up.
        case backOff
        /// Too many rows refused: alarm, and probe again after a while.
        case drift
        /// The batch is written.
        case done
    }

    /// What the cursor says of the last attempt.
    enum Resolution: Equatable {
        /// It was committed after all.
        case committed
        /// It was not: go on from the same records.
        case again
        /// Someone else moved it: read on from there.
        case moved(to: UInt64)
    }

    /// Records of the batch that are not written yet.
    private(set) var remaining = 0
    /// Records of the action under way.
    private(set) var underWay = 0
    /// Records at the front of which at least one is known to be refused; 0 for none.
    private(set) var suspects = 0
    private var limit = Int.max
    private var retries = 0
    private var isQuarantining = false
    private(set) var budget = PoisonBudget()

    /// Nothing to do.
    init() {}

    /// A batch has been gathered.
    mutating func begin(records: Int) -> Action {
        remaining = records
        suspects = 0
        retries = 0
        return next()
    }

    /// The lane forgets its batch and reads on elsewhere.
    mutating func abandon() {
        remaining = 0
        underWay = 0
        suspects = 0
        isQuarantining = false
    }

    /// One more row may be refused: a lane that strangers can write to must not stand still for
    /// ever.
    mutating func forgive() { budget.forgive() }

    /// The action that fits the present state, after a pause or a new connection.
    mutating func next() -> Action {
        isQuarantining = false
        underWay = 0
        guard remaining > 0 else { return .done }
        // Half of a range that is known to hold a refused row; all of it when it is one row.
        let wanted = suspects > 0 ? max(1, suspects / 2) : remaining
        underWay = min(wanted, remaining, max(1, limit))
        return .attempt(count: underWay)
    }

    /// Takes in what became of the last action.
    mutating func event(_ event: Event) -> Action {
        switch event {
        case .committed:
            settle()
            return next()
        case .poisoned:
            retries = 0
            guard underWay <= 1 else {
                suspects = underWay
                return next()
            }
            guard !isQuarantining, budget.spend() else {
                return .drift
            }
            isQuarantining = true
            return .quarantine
        case .serialization:
            retries += 1
            if retries > FlusherLimits.maximumRetries {
                retries = 0
                return .backOff
            }
            return isQuarantining ? .quarantine : .attempt(count: underWay)
        case .tooSlow:
            guard underWay > 1 else { return .backOff }
            limit = underWay / 2
            return next()
        case .cursorMoved:
            return .readCursor
        case .away, .outcomeUnknown:
            return .backOff
        }
    }

    /// Judges the last attempt by the cursor: `old` is where it stood before, `new` where the
    /// attempt would have put it.
    mutating func resolve(next: UInt64, old: UInt64, new: UInt64) -> Resolution {
        if underWay > 0, next == new, new != old {
            settle()
            underWay = 0
            return .committed
        }
        underWay = 0
        if next == old { return .again }
        abandon()
        return .moved(to: next)
    }

    private mutating func settle() {
        remaining -= underWay
        suspects = max(0, suspects - underWay)
        if isQuarantining {
            suspects = 0
        } else {
            budget.earn(rows: underWay)
        }
        isQuarantining = false
        retries = 0
        limit = limit > Int.max / 2 ? Int.max : limit * 2
    }
}
