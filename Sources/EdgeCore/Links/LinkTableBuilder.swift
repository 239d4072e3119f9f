// Builds link tables.
public import Tracking

/// Builds a link table, one definition at a time.
public struct LinkTableBuilder {
    /// A builder of an empty table.
    public init(seed: SipHashKey, isOverlay: Bool = false) {}
    /// Takes in what a merchant's clicks need.
    public mutating func add(_ merchant: MerchantDefinition) {}
    /// Takes in a domain.
    public mutating func add(_ domain: DomainDefinition) {}
    /// Hides a key of the table below.
    public mutating func remove(_ key: LinkKey) {}
    /// Takes in a link.
    public mutating func add(_ link: LinkDefinition) {}
    /// The table, and the links that were rejected with their reasons.
    public consuming func finish() -> (table: LinkTable, rejected: [(EntityID, String)]) {
        fatalError("not yet built")
    }
}

enum LinkTemplate {
    static func source(of program: UnsafeRawBufferPointer) -> [UInt8] { [] }
}
extension LinkTableView {
    func passesFullCheck() -> Bool { false }
}
