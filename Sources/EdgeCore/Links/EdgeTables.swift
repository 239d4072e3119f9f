// All that the loops look things up in, as one immutable unit, and the flat view of it that they
// see.
public import Tracking

/// The keys of the visitor identity, by day.
public struct VisitorKeys: BitwiseCopyable, Sendable {
    /// A day's key.
    public struct Entry: BitwiseCopyable, Sendable {
        /// The day, by number.
        public var day: Day
        /// Its key.
        public var key: SipHashKey
        /// An entry.
        public init(day: Day, key: SipHashKey) {
            self.day = day
            self.key = key
        }
    }
    /// Today's.
    public var first: Entry?
    /// Tomorrow's, made a day ahead.
    public var second: Entry?

    /// The keys that are known; none means that visitors get no identity.
    public init(_ first: Entry? = nil, _ second: Entry? = nil) {
        self.first = first
        self.second = second
    }

    /// The key of a day, if it is known.
    @inline(__always) public func key(of day: Day) -> SipHashKey? {
        if let first, first.day == day { return first.key }
        if let second, second.day == day { return second.key }
        return nil
    }
}

/// What a loop needs to know of a merchant to answer a click.
struct MerchantState: BitwiseCopyable {
    var isSuspended = false
    var isOverQuota = false
    var parameterBytes: UInt8 = 0
    /// ``LinkLimits/clickParameterBytes`` bytes.
    var parameter: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
}

/// The tables as a loop sees them: plain pointers, valid between ``TableReader/enter()`` and
/// ``TableReader/leave()``.
public struct EdgeTableView {
    let base: LinkTableView
    /// Nil when nothing has changed; by its place, so that a look-up copies no view.
    let overlay: UnsafePointer<LinkTableView>?
    let baseMerchants: UnsafePointer<MerchantState>
    let overlayMerchants: UnsafePointer<MerchantState>
    let visitorKeys: VisitorKeys
    /// Whether any domain but the empty one is known; without, no host needs to be read.
    let hasNamedDomains: Bool
}

/// One generation of everything that the loops look up.
///
/// Immutable after it is made.
///
/// `@unchecked Sendable`: the raw memory is written in `init` only and freed in `deinit` only.
public final class EdgeTables: @unchecked Sendable {
    /// The links as of the last full load.
    public let links: LinkTable
    /// What has changed since.
    public let overlay: LinkTable?
    /// The merchants, with their secrets.
    public let merchants: MerchantDirectory
    /// The keys of the visitor identity.
    public let visitorKeys: VisitorKeys
    /// When the merchants were last known to be true; what their age is counted from.
    ///
    /// Nil: they are not known at all (a start from the snapshot).
    public let merchantsAsOf: Timestamp?

    private let states: UnsafeMutablePointer<MerchantState>
    private let stateCount: Int
    private let overlayView: UnsafeMutablePointer<LinkTableView>?
    let view: UnsafeMutablePointer<EdgeTableView>

    /// Joins the parts.
    ///
    /// A merchant's `click_param` and flags are taken from `merchants`; from the link table's own
    /// copy when the directory does not have it.
    /// - Complexity: O(merchants of the tables).
    public init(
        links: LinkTable, overlay: LinkTable?, merchants: MerchantDirectory,
        visitorKeys: VisitorKeys, merchantsAsOf: Timestamp?
    ) {
        self.links = links
        self.overlay = overlay
        self.merchants = merchants
        self.visitorKeys = visitorKeys
        self.merchantsAsOf = merchantsAsOf
        let baseCount = links.view.merchantCount
        stateCount = baseCount + (overlay?.view.merchantCount ?? 0)
        states = .allocate(capacity: max(stateCount, 1))
        for index in 0..<stateCount {
            let table = index < baseCount ? links.view : (overlay ?? links).view
            let stored = table.merchantState(index < baseCount ? index : index - baseCount)
            var state = stored.state
            if let known = merchants[stored.id] { state = MerchantState(known) }
            (states + index).initialize(to: state)
        }
        if let overlay {
            let place = UnsafeMutablePointer<LinkTableView>.allocate(capacity: 1)
            place.initialize(to: overlay.view)
            overlayView = place
        } else {
            overlayView = nil
        }
        view = .allocate(capacity: 1)
        view.initialize(
            to: EdgeTableView(
                base: links.view, overlay: overlayView.map { UnsafePointer($0) },
                baseMerchants: states,
                overlayMerchants: states + baseCount, visitorKeys: visitorKeys,
                hasNamedDomains: links.view.domainCount > 1
                    || (overlay?.view.domainCount ?? 0) > 1))
    }

    deinit {
        view.deallocate()
        overlayView?.deallocate()
        states.deallocate()
    }

    /// Calls `body` with the flat view, for callers on control threads.
    public func withView<Result>(_ body: (UnsafePointer<EdgeTableView>) -> Result) -> Result {
        withExtendedLifetime(self) { body(UnsafePointer(view)) }
    }
}

extension MerchantState {
    /// The state of a merchant, with the default parameter in place of one that is no safe name.
    init(_ merchant: MerchantDefinition) {
        self.init(named: merchant.clickParameter)
        isSuspended = merchant.isSuspended
        isOverQuota = merchant.isOverQuota
    }

    /// A state of a parameter; the default one in place of a name that is not safe.
    init(named parameter: some Collection<UInt8>) {
        var name = Array(parameter)
        let isSafe =
            !name.isEmpty && name.count <= LinkLimits.clickParameterBytes
            && name.allSatisfy(ByteScan.isUnreserved)
        if !isSafe { name = Array("click_id".utf8) }
        parameterBytes = UInt8(name.count)
        withUnsafeMutableBytes(of: &self.parameter) { $0.copyBytes(from: name) }
    }
}
