// How many connections the descriptors of a process suffice for.

/// What a process's descriptors go to.
enum DescriptorBudget {
    /// Files, sockets of the database and of operators, and what libraries open.
    static let others = 256
    /// Of each event loop: listeners, epoll, event descriptors, ring and spool.
    static let perWorker = 64
    /// Connections below which it is not worth starting.
    static let leastConnections = 64

    /// Connections that so many descriptors leave room for; negative when they suffice for nothing.
    static func connections(descriptors: Int, workers: Int) -> Int {
        descriptors - others - workers * perWorker
    }

    /// Descriptors that so many connections need.
    static func descriptors(connections: Int, workers: Int) -> Int {
        connections + others + workers * perWorker
    }
}
