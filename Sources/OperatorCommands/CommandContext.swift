// What most commands share: the configuration, a connection, checked arguments, output.
internal import ArgumentParser
internal import Configuration
internal import LinuxIO
internal import Postgres
internal import Tracking

/// `--config FILE`, or `CLICKD_CONFIG`.
struct ConfigurationOptions: ParsableArguments {
    @Option(
        name: .customLong("config"),
        help: ArgumentHelp(
            "The configuration file; CLICKD_CONFIG when not given.", valueName: "file"))
    var config: String?

    /// The file's path.
    func path() throws(CommandError) -> String {
        if let path = config ?? CurrentProcess.environment("CLICKD_CONFIG"), !path.isEmpty {
            return path
        }
        throw .usage("--config: missing (allowed: --config FILE, or CLICKD_CONFIG=FILE)")
    }

    /// The checked configuration.
    func load() throws(CommandError) -> ClickdConfiguration {
        let path = try path()
        do throws(ConfigurationError) {
            return try ConfigurationLoader.load(
                path: path, connectionStrings: Connection.canRead)
        } catch {
            throw CommandError(exitCode: error.exitCode, message: error.description)
        }
    }

    /// A session with the database of the configuration.
    func connect() throws(CommandError) -> Connection {
        let dsn = try load().postgres.dsn
        do throws(PostgresError) {
            return try Connection(
                dsn: dsn, applicationName: "clickctl",
                statementTimeoutMilliseconds: Limits.statementMilliseconds,
                lockTimeoutMilliseconds: Limits.lockMilliseconds, writes: true)
        } catch {
            throw .database(error)
        }
    }

    private enum Limits {
        static let statementMilliseconds = 60_000
        static let lockMilliseconds = 30_000
    }
}

/// `--json`.
struct OutputOptions: ParsableArguments {
    @Flag(help: "Print JSON, for machines.")
    var json = false
}

/// Checked readings of arguments; each refusal names the argument and what is allowed.
enum Checked {
    static func id(_ name: String, _ text: String) throws(CommandError) -> EntityID {
        guard let id = EntityID(text) else {
            throw .argument(name, text, allowed: "a UUID of 36 characters")
        }
        return id
    }

    static func id(_ name: String, _ text: String?) throws(CommandError) -> EntityID? {
        guard let text else { return nil }
        let id: EntityID = try id(name, text)
        return id
    }

    /// The given identity, or a new random one (UUIDv4).
    static func idOrNew(_ name: String, _ text: String?) throws(CommandError) -> EntityID {
        if let text { return try id(name, text) }
        return Randomness.bytes(16).withUnsafeBytes { EntityID(bigEndianBytes: $0) }
            .stamped(version: 4)
    }

    static func word(
        _ name: String, _ text: String, _ allowed: [String]
    ) throws(CommandError) -> String {
        guard allowed.contains(text) else {
            throw .argument(name, text, allowed: allowed.joined(separator: ", "))
        }
        return text
    }

    static func integer(
        _ name: String, _ value: Int, _ range: ClosedRange<Int>
    ) throws(CommandError) -> Int64 {
        guard range.contains(value) else {
            throw .argument(
                name, "\(value)", allowed: "\(range.lowerBound)...\(range.upperBound)")
        }
        return Int64(value)
    }

    static func currency(_ name: String, _ text: String) throws(CommandError) -> Currency {
        guard let currency = Currency(text) else {
            throw .argument(name, text, allowed: "an ISO 4217 code such as EUR, USD or JPY")
        }
        return currency
    }

    static func day(_ name: String, _ text: String) throws(CommandError) -> Day {
        guard let day = Day(text) else { throw .argument(name, text, allowed: "YYYY-MM-DD") }
        return day
    }

    static func time(_ name: String, _ text: String?) throws(CommandError) -> Timestamp? {
        guard let text else { return nil }
        var copy = text
        let time = copy.withUTF8 { Timestamp(rfc3339: UnsafeRawBufferPointer($0)) }
        guard let time else {
            throw .argument(name, text, allowed: "RFC 3339, such as 2026-01-31T12:00:00Z")
        }
        return time
    }

    static func money(
        _ name: String, _ text: String, _ currency: Currency
    ) throws(CommandError) -> Money {
        var copy = text
        let result: Result<Money, Money.ParseError> = copy.withUTF8 { bytes in
            do throws(Money.ParseError) {
                return .success(
                    try Money(decimal: UnsafeRawBufferPointer(bytes), currency: currency))
            } catch {
                return .failure(error)
            }
        }
        guard case .success(let money) = result else {
            throw .argument(
                name, text,
                allowed: "a decimal with at most \(currency.exponent) decimals, such as "
                    + Money.decimalText(1999, exponent: currency.exponent))
        }
        return money
    }

    /// Text of bounded length without control characters.
    static func text(
        _ name: String, _ text: String, bytes: ClosedRange<Int>
    ) throws(CommandError) -> String {
        guard bytes.contains(text.utf8.count),
            !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F })
        else {
            throw .argument(
                name, text,
                allowed: "\(bytes.lowerBound)...\(bytes.upperBound) bytes, no control characters")
        }
        return text
    }
}

/// Statements with this tool's errors.
extension Connection {
    /// Runs a query; failures become ``CommandError``.
    func rows(_ sql: String, _ parameters: [Parameter] = []) throws(CommandError) -> QueryResult {
        do { return try query(sql, parameters) } catch { throw .database(error) }
    }

    /// Refuses an identity that its table does not hold.
    func requireRow(_ table: String, _ name: String, _ id: EntityID?) throws(CommandError) {
        guard let id else { return }
        let found = try rows("SELECT FROM \(table) WHERE id = $1", [.uuid(id)])
        guard found.count == 1 else {
            throw .data("\(name): \(id) is not in \(table) (allowed: the id of a row of it)")
        }
    }

    /// Inserts one row; a key that is taken is bad data, named.
    func insert(
        _ sql: String, _ parameters: [Parameter], taken: String
    ) throws(CommandError) {
        do throws(PostgresError) {
            _ = try execute(sql, parameters)
        } catch {
            if error.state == .uniqueViolation { throw .data("\(taken) is taken already") }
            throw .database(error)
        }
    }
}
