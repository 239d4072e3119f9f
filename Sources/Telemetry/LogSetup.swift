// Where log records go: standard error, one line a record, JSON or text.
internal import LinuxIO
public import Logging
internal import Synchronization
internal import Tracking

/// How a record is written.
public enum LogFormat: String, CaseIterable, Sendable {
    /// One JSON object a line.
    case json
    /// Time, level, message, then `key=value`.
    case text
}

/// The process's logging.
public enum LogSetup {
    private static let level = Atomic<Int>(index(of: .info))

    /// Sends every logger of the process to standard error.
    ///
    /// Once a process, before the first logger.
    public static func bootstrap(format: LogFormat, level: Logger.Level) {
        setLevel(level)
        LoggingSystem.bootstrap { LineLogHandler(label: $0, format: format) }
    }

    /// Changes the level of all loggers that have none of their own.
    public static func setLevel(_ level: Logger.Level) {
        self.level.store(index(of: level), ordering: .relaxed)
    }

    /// The level of all loggers that have none of their own.
    public static var currentLevel: Logger.Level {
        Logger.Level.allCases[level.load(ordering: .relaxed)]
    }

    private static func index(of level: Logger.Level) -> Int {
        Logger.Level.allCases.firstIndex(of: level) ?? 0
    }
}

/// Writes each record as one line with one write(2).
struct LineLogHandler: LogHandler {
    let label: String
    let format: LogFormat
    var metadata: Logger.Metadata = [:]
    private var ownLevel: Logger.Level?

    init(label: String, format: LogFormat) {
        self.label = label
        self.format = format
    }

    var logLevel: Logger.Level {
        get { ownLevel ?? LogSetup.currentLevel }
        set { ownLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var fields = metadata
        if let more = event.metadata { fields.merge(more) { $1 } }
        var pairs = fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value.description) }
        if let error = event.error { pairs.append(("error", "\(error)")) }
        let line = LogLine(
            time: Timestamp(microseconds: SystemClock.wallMicroseconds()),
            level: event.level.rawValue, logger: label, message: event.message.description,
            fields: pairs)
        CurrentProcess.writeError(line.text(format) + "\n")
    }
}

/// One record, ready to be written.
struct LogLine {
    private enum Limits {
        /// Longest message or value in bytes.
        static let textBytes = 1024
        /// Fields that are written.
        static let fields = 32
    }

    var time: Timestamp
    var level: String
    var logger: String
    var message: String
    var fields: [(name: String, value: String)]

    /// The line without its end.
    func text(_ format: LogFormat) -> String {
        switch format {
        case .json:
            let json = JSONText.object { json in
                json.member("time", time.description)
                json.member("level", level)
                json.member("logger", logger)
                json.member("message", cut(message))
                for (name, value) in fields.prefix(Limits.fields) { json.member(name, cut(value)) }
            }
            return json.text
        case .text:
            var line = "\(time) \(level) \(logger): \(plain(message))"
            for (name, value) in fields.prefix(Limits.fields) { line += " \(name)=\(plain(value))" }
            return line
        }
    }

    /// Text of bounded length.
    private func cut(_ text: String) -> String {
        guard text.utf8.count > Limits.textBytes else { return text }
        return String(decoding: text.utf8.prefix(Limits.textBytes), as: UTF8.self) + "…"
    }

    /// Text of bounded length without control characters, so that no value can begin a line.
    private func plain(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in cut(text).unicodeScalars {
            result.append(scalar.value < 0x20 || scalar.value == 0x7F ? " " : scalar)
        }
        return String(result)
    }
}
