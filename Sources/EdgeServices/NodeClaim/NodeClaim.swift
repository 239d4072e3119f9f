// A spool claims its node before its first ID: two machines with one node id would mint the same
// IDs.
internal import Tracking

/// A row of `nodes` as far as a claim looks at it.
struct NodeRow: Equatable {
    /// `node_id`.
    var node: UInt8
    /// The spool that holds it.
    var spoolUUID: EntityID
    /// The machine that claimed it.
    var machine: String
    /// The fingerprint of its click key.
    var keyFingerprint: String
}

/// The rules of a claim, pure.
enum NodeClaim {
    /// What follows from the node's row and from the rest of the fleet.
    ///
    /// - Parameters:
    ///   - identity: Who claims.
    ///   - row: The row of the node, after the insert that may have made it.
    ///   - fleet: Rows of other nodes that were alive lately.
    static func judge(_ identity: NodeIdentity, row: NodeRow, fleet: [NodeRow]) -> NodeClaimOutcome
    {
        guard row.spoolUUID == identity.spoolUUID else {
            return .refused(
                """
                node id \(identity.node) belongs to another spool (\(row.spoolUUID) on machine \
                \(row.machine)); give this node an id of its own, or bring that spool directory back
                """)
        }
        for other in fleet
        where other.node != identity.node && other.keyFingerprint != identity.keyFingerprint {
            return .refused(
                """
                the click key differs from that of node \(other.node) (machine \(other.machine)); \
                every node needs the same key file
                """)
        }
        return .claimed
    }
}
