// What befell ring and spool, in an operator's words: for the log and for /readyz.
internal import RingLog

extension StoreCondition {
    /// What a full disk means.
    static let fullDisk =
        "the spool's disk is full: what comes waits in the ring, and is not recorded beyond it"

    /// What the absence of a ring's file means, and what to do.
    static func removedRing(_ path: String) -> String {
        "\(path) was removed while in use: a crash would lose what is in it; restart clickd"
    }

    /// What the absence of a spool's file means, and what to do.
    static func removedSpoolFile(_ path: String) -> String {
        "\(path) was removed while in use: what is in it lasts as long as this process; "
            + "have it flushed (clickctl flush), then restart clickd"
    }

    /// What an operator should know, one line each.
    var warnings: [String] {
        (isDiskFull ? [StoreCondition.fullDisk] : [])
            + removedRings.map(StoreCondition.removedRing)
            + removedSpoolFiles.map(StoreCondition.removedSpoolFile)
    }
}
