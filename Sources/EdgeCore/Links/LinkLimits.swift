// Bounds of links and of the table that holds them.

/// Bounds of links and of the table that holds them.
public enum LinkLimits {
    /// Bytes of a slug (contract, 3).
    public static let slugBytes = 128
    /// Bytes of a domain name (RFC 1035, 2.3.4).
    public static let domainBytes = 253
    /// Domain names in one table, the empty one included.
    public static let domains = 65_535
    /// Bytes of a Location (contract, 3).
    public static let locationBytes = 8192
    /// Bytes of a `click_param`.
    public static let clickParameterBytes = 40
    /// Bytes of a macro's name.
    public static let macroNameBytes = 32
    /// Slots that a look-up passes at most.
    public static let probes = 8192
    /// Links in one table.
    public static let links = 1 << 31
}
