// What is wrong with a configuration, for the one who has to put it right.

/// One thing that is wrong, and where.
public struct ConfigurationProblem: Sendable, Hashable, CustomStringConvertible {
    /// Where the value came from: the file, or the environment variable.
    public var origin: String
    /// The line in the file, from 1; 0 for an environment variable.
    public var line: Int
    /// What is wrong and what is allowed.
    public var message: String

    /// `file:line: message`, or `VARIABLE: message`.
    public var description: String {
        line == 0 ? "\(origin): \(message)" : "\(origin):\(line): \(message)"
    }
}

/// Why a configuration cannot be used: every problem, not only the first.
public struct ConfigurationError: Error, Sendable, CustomStringConvertible {
    /// What is wrong, in the order of the file.
    public var problems: [ConfigurationProblem]
    /// The process's exit code: 78, or 77 when the file may not be read.
    public var exitCode: Int32 = 78

    /// One problem a line.
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// A key that the file may hold: what the manual must say of it.
public struct ConfigurationKey: Sendable, Hashable {
    /// Section and name, such as `http.listen`.
    public var path: String
    /// The default, as the file would write it; `required` when there is none.
    public var defaultText: String
    /// Unit and range, or the words that are allowed.
    public var allowed: String

    /// The environment variable that overrides it.
    public var environmentName: String {
        "CLICKD_" + path.uppercased().split(separator: ".").joined(separator: "_")
    }
}
