// What the module is for, and every limit in it.
//
// Attribution decides: which partner a conversion belongs to, what is owed for it, and which
// ledger rows say so. It is pure: the same inputs give the same decision, bit for bit, on every
// machine and in every order. Amounts are Int64 minor units; products pass through Int128; each
// final line is rounded once, half to even. Nothing here reads a clock or touches storage.

/// The limits of attribution.
public enum Limits {
    /// Parts in a whole.
    public static let partsPerMillion: Int32 = 1_000_000
    /// The longest lookback, hold or recurrence that a setting can ask for, in days; longer is cut.
    public static let maximumDays: Int32 = 3_650
    /// How far a click may lie after the event that it led to: merchants' clocks, whole seconds.
    public static let clockToleranceMicroseconds: Int64 = 300_000_000
    /// Items of one sale that are looked at; a sale with more is judged as a whole.
    public static let maximumItems = 500
    /// The largest quantity of one item.
    public static let maximumQuantity: Int64 = 1_000_000
    /// The shortest time until a waiting sale is looked at again.
    public static let shortestRetryMicroseconds: Int64 = 500_000
    /// The longest time until a waiting or held sale is looked at again.
    public static let longestRetryMicroseconds: Int64 = 600_000_000
    /// A sale that has waited for a while is looked at again after this part of its age.
    public static let retryPartOfAge: Int64 = 8
}
