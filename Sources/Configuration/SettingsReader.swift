// Takes typed settings out of the file's tree, key by key, and gathers every problem. What it is
// asked for is what is known: any other name in the file is a problem.
internal import LinuxIO

struct SettingsReader {
    enum Limits {
        /// Items of any list.
        static let items = 64
        /// Bytes of any text.
        static let textBytes = 4096
        /// Bytes of a Unix socket's path, as sun_path holds with its end.
        static let socketBytes = 107
    }

    /// A value and where it came from.
    struct Found {
        var node: YAMLNode
        /// The environment variable, or nil for the file.
        var variable: String?
    }

    let file: String
    let root: YAMLNode
    let environment: [String: String]
    private(set) var problems: [ConfigurationProblem] = []
    private(set) var keys: [ConfigurationKey] = []

    init(file: String, root: YAMLNode, environment: [String: String]) {
        self.file = file
        self.root = root
        self.environment = environment
    }

    // MARK: Problems

    mutating func report(_ message: String, line: Int) {
        problems.append(ConfigurationProblem(origin: file, line: line, message: message))
    }

    /// Reports a value that is not what is allowed.
    private mutating func report(_ key: ConfigurationKey, _ found: Found, _ what: String) {
        let message = "\(key.path): \(what) (allowed: \(key.allowed))"
        if let variable = found.variable {
            problems.append(ConfigurationProblem(origin: variable, line: 0, message: message))
        } else {
            report(message, line: found.node.line)
        }
    }

    /// Reports a conflict between keys, at the line of the first that the file holds.
    mutating func reportConflict(_ paths: [String], _ message: String) {
        let line = paths.compactMap { member($0, in: root)?.line }.first
        let variable = keys.first {
            paths.contains($0.path) && environment[$0.environmentName] != nil
        }
        if line == nil, let variable {
            problems.append(
                ConfigurationProblem(
                    origin: variable.environmentName, line: 0, message: message))
        } else {
            report(message, line: line ?? 1)
        }
    }

    /// Reports every name in the file that nothing asked for.
    mutating func reportUnknown() {
        if case .mapping(let members, _) = root { reportUnknown(members, prefix: "") }
    }

    private mutating func reportUnknown(_ members: [YAMLMember], prefix: String) {
        for member in members {
            let path = prefix + member.name
            if keys.contains(where: { $0.path == path }) { continue }
            if keys.contains(where: { $0.path.hasPrefix(path + ".") }) {
                if case .mapping(let inner, _) = member.value {
                    reportUnknown(inner, prefix: path + ".")
                } else if !member.value.isNull {
                    report(
                        "\(path): a section is expected, not \(member.value.kind)",
                        line: member.value.line)
                }
                continue
            }
            var known: [String] = []
            for key in keys where key.path.hasPrefix(prefix) {
                let name = key.path.dropFirst(prefix.count).prefix { $0 != "." }
                if !known.contains(String(name)) { known.append(String(name)) }
            }
            report(
                "\(path): unknown key (allowed: \(known.joined(separator: ", ")))",
                line: member.line)
        }
    }

    // MARK: Looking up

    private func member(_ path: String, in root: YAMLNode) -> YAMLMember? {
        var node = root
        var found: YAMLMember?
        for name in path.split(separator: ".") {
            guard case .mapping(let members, _) = node,
                let member = members.first(where: { $0.name == name })
            else { return nil }
            found = member
            node = member.value
        }
        return found
    }

    /// Notes a key as known and finds its value.
    private mutating func find(_ key: ConfigurationKey) -> Found? {
        keys.append(key)
        if let text = environment[key.environmentName] {
            return Found(
                node: .scalar(text, isPlain: true, line: 0), variable: key.environmentName)
        }
        guard let value = member(key.path, in: root)?.value else { return nil }
        return Found(node: value, variable: nil)
    }

    /// The text of a single value, or nil and a problem.
    private mutating func scalar(_ key: ConfigurationKey, _ found: Found) -> String? {
        guard case .scalar(let text, _, _) = found.node, !isEmptyPlain(found) else {
            report(
                key, found,
                found.node.isNull
                    ? "no value is given" : "one value is expected, not \(found.node.kind)")
            return nil
        }
        guard text.utf8.count <= Limits.textBytes, !text.utf8.contains(where: { $0 < 0x20 }) else {
            report(key, found, "the text is too long or holds control characters")
            return nil
        }
        return text
    }

    /// Whether the file leaves the value out; an environment variable may be empty on purpose.
    private func isEmptyPlain(_ found: Found) -> Bool {
        found.variable == nil && found.node.isNull
    }

    /// The single value, parsed; a problem and the default when it is not what is allowed.
    private mutating func parsed<Value>(
        _ key: ConfigurationKey, _ fallback: Value, _ parse: (String) -> Value?
    ) -> Value {
        guard let found = find(key), let text = scalar(key, found) else { return fallback }
        guard let value = parse(text) else {
            report(key, found, "'\(text)' is not allowed")
            return fallback
        }
        return value
    }

    // MARK: Values

    mutating func integer(_ path: String, _ fallback: Int, _ range: ClosedRange<Int>) -> Int {
        let key = ConfigurationKey(
            path: path, defaultText: "\(fallback)",
            allowed: "\(range.lowerBound)...\(range.upperBound)")
        return parsed(key, fallback) { SettingsReader.decimal($0, range) }
    }

    /// A number that must be given.
    mutating func required(_ path: String, _ range: ClosedRange<Int>) -> Int {
        let key = ConfigurationKey(
            path: path, defaultText: "required",
            allowed: "\(range.lowerBound)...\(range.upperBound)")
        if environment[key.environmentName] == nil, member(path, in: root) == nil {
            keys.append(key)
            let section = path.split(separator: ".").first.map { String($0) } ?? ""
            report(
                "\(path): missing, and it has no default (allowed: \(key.allowed))",
                line: member(section, in: root)?.line ?? 1)
            return range.lowerBound
        }
        return parsed(key, range.lowerBound) { SettingsReader.decimal($0, range) }
    }

    private static func decimal(_ text: String, _ range: ClosedRange<Int>) -> Int? {
        guard !text.isEmpty, text.utf8.count <= 18,
            text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let value = Int(text)
        else { return nil }
        return range.contains(value) ? value : nil
    }

    /// A byte size; `multiple` is what it must be a multiple of.
    mutating func bytes(
        _ path: String, _ fallback: Int, _ range: ClosedRange<Int>, multiple: Int = 1
    ) -> Int {
        var allowed = "\(ByteSize.text(range.lowerBound))...\(ByteSize.text(range.upperBound))"
        allowed += " in B, KiB, MiB, GiB or TiB"
        if multiple > 1 { allowed += ", a multiple of \(ByteSize.text(multiple))" }
        let key = ConfigurationKey(
            path: path, defaultText: ByteSize.text(fallback), allowed: allowed)
        return parsed(key, fallback) { text in
            guard let value = ByteSize.parse(text), range.contains(value), value % multiple == 0
            else { return nil }
            return value
        }
    }

    /// A duration in microseconds.
    mutating func duration(
        _ path: String, _ fallback: Int64, _ range: ClosedRange<Int64>
    ) -> Int64 {
        let lowest = DurationText.text(range.lowerBound)
        let key = ConfigurationKey(
            path: path, defaultText: DurationText.text(fallback),
            allowed: "\(lowest)...\(DurationText.text(range.upperBound)) in ms, s, min, h or d")
        return parsed(key, fallback) { text in
            DurationText.parse(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    mutating func boolean(_ path: String, _ fallback: Bool) -> Bool {
        let key = ConfigurationKey(
            path: path, defaultText: "\(fallback)", allowed: "true or false")
        return parsed(key, fallback) { $0 == "true" ? true : $0 == "false" ? false : nil }
    }

    /// One word of an enumeration.
    mutating func word<Word: CaseIterable & RawRepresentable<String>>(
        _ path: String, _ fallback: Word
    ) -> Word {
        let words = Word.allCases.map(\.rawValue)
        let key = ConfigurationKey(
            path: path, defaultText: fallback.rawValue,
            allowed: words.joined(separator: ", "))
        return parsed(key, fallback) { Word(rawValue: $0) }
    }

    /// A path of a file or directory; empty only where `mayBeEmpty` says so.
    mutating func path(
        _ path: String, _ fallback: String, _ what: String, mayBeEmpty: Bool = false,
        maximumBytes: Int = 1024
    ) -> String {
        let key = ConfigurationKey(
            path: path, defaultText: fallback.isEmpty ? "\"\"" : fallback,
            allowed: "\(what) of at most \(maximumBytes) bytes" + (mayBeEmpty ? ", or \"\"" : ""))
        return parsed(key, fallback) { text in
            (mayBeEmpty || !text.isEmpty) && text.utf8.count <= maximumBytes ? text : nil
        }
    }

    /// The connection string.
    ///
    /// From the environment it may not hold a password.
    mutating func connectionString(_ path: String, _ fallback: String) -> String {
        let key = ConfigurationKey(
            path: path, defaultText: fallback,
            allowed: "a libpq connection string or postgresql:// URI")
        guard let found = find(key), let text = scalar(key, found) else { return fallback }
        if let variable = found.variable, SettingsReader.holdsPassword(text) {
            problems.append(
                ConfigurationProblem(
                    origin: variable, line: 0,
                    message: "\(path): a secret is never taken from the environment "
                        + "(allowed: a password in the file, a passfile or a service file)"))
            return fallback
        }
        return text
    }

    /// Whether a connection string names a password, in either form.
    static func holdsPassword(_ dsn: String) -> Bool {
        let text = dsn.lowercased()
        if text.contains("password") && !text.contains("passwordless") { return true }
        guard let scheme = text.firstRange(of: "://") else { return false }
        let authority = text[scheme.upperBound...].prefix { $0 != "/" && $0 != "?" }
        guard let at = authority.lastIndex(of: "@") else { return false }
        return authority[..<at].contains(":")
    }

    /// Addresses to listen on.
    mutating func addresses(_ path: String, _ fallback: [SocketAddress]) -> [SocketAddress] {
        let key = ConfigurationKey(
            path: path,
            defaultText: "[" + fallback.map { "\"\($0)\"" }.joined(separator: ", ") + "]",
            allowed: "a list of \"address:port\"")
        return list(key, fallback) { SocketAddress($0) }
    }

    /// One address to listen on, or nil for none.
    mutating func address(_ path: String, _ fallback: SocketAddress?) -> SocketAddress? {
        let key = ConfigurationKey(
            path: path, defaultText: "\"\(fallback.map(\.description) ?? "")\"",
            allowed: "\"address:port\", or \"\"")
        return parsed(key, fallback) { text -> SocketAddress?? in
            text.isEmpty ? .some(nil) : SocketAddress(text).map { .some($0) }
        }
    }

    /// Ranges of addresses.
    mutating func ranges(_ path: String) -> [AddressRange] {
        let key = ConfigurationKey(
            path: path, defaultText: "[]",
            allowed: "a list of CIDR ranges such as 10.0.0.0/8 or fd00::/8")
        return list(key, []) { AddressRange($0) }
    }

    private mutating func list<Value: Equatable>(
        _ key: ConfigurationKey, _ fallback: [Value], _ parse: (String) -> Value?
    ) -> [Value] {
        guard let found = find(key) else { return fallback }
        var items: [YAMLNode]
        switch found.node {
        case .sequence(let nodes, _): items = nodes
        case .scalar(let text, _, _) where found.variable != nil:
            items = text.split(separator: ",").map {
                let trimmed = $0.drop { $0 == " " }
                return .scalar(String(trimmed), isPlain: true, line: 0)
            }
        case .scalar, .mapping:
            report(key, found, "a list is expected, not \(found.node.kind)")
            return fallback
        }
        guard items.count <= Limits.items else {
            report(key, found, "more than \(Limits.items) items")
            return fallback
        }
        var values: [Value] = []
        for item in items {
            let place = Found(node: item, variable: found.variable)
            guard let text = scalar(key, place) else { continue }
            guard let value = parse(text) else {
                report(key, place, "'\(text)' is not allowed")
                continue
            }
            if values.contains(value) {
                report(key, place, "'\(text)' is given twice")
            } else {
                values.append(value)
            }
        }
        return values
    }

    /// Pairs of certificate and key; only the file can hold them.
    mutating func certificates(_ path: String) -> [CertificateFiles] {
        let key = ConfigurationKey(
            path: path, defaultText: "[]",
            allowed: "a list of { certificate: PEM file, key: PEM file }")
        keys.append(key)
        guard let node = member(path, in: root)?.value else { return [] }
        guard case .sequence(let items, _) = node, items.count <= Limits.items else {
            report(key, Found(node: node, variable: nil), "a list is expected")
            return []
        }
        return items.compactMap { item in
            guard case .mapping(let members, _) = item,
                members.map(\.name).sorted() == ["certificate", "key"]
            else {
                report(key, Found(node: item, variable: nil), "certificate and key are expected")
                return nil
            }
            var files = CertificateFiles(certificate: "", key: "")
            for member in members {
                let place = Found(node: member.value, variable: nil)
                guard let text = scalar(key, place) else { return nil }
                if member.name == "key" {
                    (files.key, files.keyLine) = (text, member.line)
                } else {
                    (files.certificate, files.certificateLine) = (text, member.line)
                }
            }
            return files
        }
    }
}
