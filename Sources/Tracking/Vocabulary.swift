// The closed vocabularies of the contract's tables. Each raw value is what records store; `name` is
// what PostgreSQL stores.

/// Why a click is recorded but not counted; `clicks_logs.invalid_reason`.
public enum InvalidReason: UInt8, CaseIterable, Sendable {
    case prefetch = 1, bot, preview, datacenter, nonNavigational, overCap, velocity, noTrack
    case paused, notStarted, expired, archived

    /// The word of the contract.
    public var name: String {
        switch self {
        case .nonNavigational: "non_navigational"
        case .overCap: "over_cap"
        case .noTrack: "no_track"
        case .notStarted: "not_started"
        case .prefetch, .bot, .preview, .datacenter, .velocity, .paused, .expired, .archived:
            "\(self)"
        }
    }
}

/// What kind of device a click came from; `clicks_logs.device`.
public enum DeviceClass: UInt8, CaseIterable, Sendable {
    case mobile = 1, tablet, desktop, tv, bot, other
    /// The word of the contract.
    public var name: String { "\(self)" }
}

/// The operating system of a click; `clicks_logs.os`.
public enum OperatingSystem: UInt8, CaseIterable, Sendable {
    case ios = 1, android, windows, macos, linux, chromeos, other
    /// The word of the contract.
    public var name: String { "\(self)" }
}

/// Where a visitor came from; `clicks_logs.source`.
public enum TrafficSource: UInt8, CaseIterable, Sendable {
    case instagram = 1, tiktok, youtube, facebook, x, whatsapp, telegram, pinterest, snapchat
    case linkedin, google, email, direct, qr, other
    /// The word of the contract.
    public var name: String { "\(self)" }
}

/// What a merchant reports; `sales.event`.
public enum ConversionEvent: UInt8, CaseIterable, Sendable {
    case sale = 1, lead, subscription, renewal, booking, refund
    /// The word of the contract.
    public var name: String { "\(self)" }
    /// Whether a message of this event may leave `amount` out.
    public var amountIsOptional: Bool { self == .lead || self == .booking || self == .refund }
}

/// What a merchant says of a conversion; `sales.status` takes these and `refunded`.
public enum ConversionStatus: UInt8, CaseIterable, Sendable {
    case pending = 1, completed, rejected
    /// The word of the contract.
    public var name: String { "\(self)" }
}

/// How a conversion came in; `sales.channel`.
public enum ConversionChannel: UInt8, CaseIterable, Sendable {
    case pixel = 1, postback, api, imported
    /// The word of the contract.
    public var name: String { self == .imported ? "import" : "\(self)" }
}

/// A link's status; `trackable_links.status`.
public enum LinkStatus: UInt8, CaseIterable, Sendable {
    case active = 1, paused, archived
    /// The word of the contract.
    public var name: String { "\(self)" }
}

extension CaseIterable where Self: RawRepresentable, RawValue == UInt8 {
    /// The case whose description is `word`; nil for any other word.
    public static func named(_ word: String, by name: KeyPath<Self, String>) -> Self? {
        allCases.first { $0[keyPath: name] == word }
    }
}
