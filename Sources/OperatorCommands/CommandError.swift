// How a command of clickctl fails: one line for the operator and the exit code of contract 1.
internal import LinuxIO
internal import Postgres

/// A failure with its exit code.
struct CommandError: Error {
    /// 64 usage, 65 data, 69 database, 70 internal, 73 cannot create, 74 I/O, 77 rights, 78 config.
    let exitCode: Int32
    /// One line, or several for a file with several problems.
    ///
    /// Never a secret.
    let message: String

    static func usage(_ message: String) -> CommandError {
        CommandError(exitCode: 64, message: message)
    }

    /// An argument that is not what is allowed.
    static func argument(_ name: String, _ value: String, allowed: String) -> CommandError {
        usage("\(name): '\(value)' is not allowed (allowed: \(allowed))")
    }

    static func data(_ message: String) -> CommandError {
        CommandError(exitCode: 65, message: message)
    }

    static func inputOutput(_ path: String, _ error: Errno) -> CommandError {
        let isForbidden = error == .accessDenied || error == .notPermitted
        return CommandError(exitCode: isForbidden ? 77 : 74, message: "\(path): \(error)")
    }

    /// What the database said: bad data, a missing right, or that it is away or not ready.
    static func database(_ error: PostgresError) -> CommandError {
        guard let state = error.state, !error.connectionLost else {
            return CommandError(exitCode: 69, message: "database: \(error)")
        }
        if state == .insufficientPrivilege {
            return CommandError(exitCode: 77, message: "database: \(error)")
        }
        if state == .undefinedTable || state == .undefinedColumn {
            return CommandError(
                exitCode: 69, message: "database: \(error); run `clickctl migrate` first")
        }
        return CommandError(
            exitCode: state.isClass("22") || state.isClass("23") ? 65 : 69,
            message: "database: \(error)")
    }
}
