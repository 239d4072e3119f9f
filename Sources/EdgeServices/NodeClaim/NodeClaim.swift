// A spool claims its node before its first ID: two machines with one node id would mint the same
// IDs.
internal import LinuxIO
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
    /// How long ago it said that it is alive, by the database's clock.
    var unseenSeconds: Int64
}

/// The rules of a claim, pure.
enum NodeClaim {
    /// A node that was seen within so many seconds is alive: it says so every ten.
    static let aliveSeconds: Int64 = 30
    /// Stands behind the machine's name once its process has ended in order.
    static let leftMark = " (left)"

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
        // The same spool in two places is a copy: while one of them is alive, the other waits.
        if !MachineIdentity.isSame(row.machine, identity.machine), !row.machine.hasSuffix(leftMark),
            row.unseenSeconds < aliveSeconds
        {
            return .refused(
                """
                node id \(identity.node) is alive on machine \(row.machine), with a copy of this \
                spool (seen \(row.unseenSeconds) s ago, this is machine \(identity.machine)); give \
                this node an id and directories of its own, or stop the other
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
