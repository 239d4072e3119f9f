// Writing metrics in Prometheus' text format, version 0.0.4.

/// Metrics text in the making: a family at a time, its samples behind it.
///
/// Names and labels come from the code, never from a client: no link, address or merchant may be a
/// label.
public struct PrometheusText: Sendable {
    /// The media type of the format.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// What has been written.
    public private(set) var bytes: [UInt8] = []
    private let prefix: String
    private var family = ""

    /// Empty text whose metrics are all named `prefix_…`.
    public init(prefix: String) {
        self.prefix = prefix
        bytes.reserveCapacity(8192)
    }

    /// The text as a string.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Begins a family whose value only rises; its name must end in `_total`.
    public mutating func counter(_ name: String, _ help: String) {
        assert(name.hasSuffix("_total"))
        begin(name, "counter", help)
    }

    /// Begins a family whose value goes up and down.
    public mutating func gauge(_ name: String, _ help: String) { begin(name, "gauge", help) }

    /// Writes one sample of the present family.
    public mutating func sample(
        _ value: some FixedWidthInteger, _ labels: KeyValuePairs<String, String> = [:]
    ) {
        write(String(value), labels)
    }

    /// Writes one sample in seconds, given in microseconds.
    public mutating func sample(
        microseconds: Int64, _ labels: KeyValuePairs<String, String> = [:]
    ) {
        write(decimalSeconds(microseconds: microseconds), labels)
    }

    /// A gauge with one sample.
    public mutating func gauge(_ name: String, _ help: String, _ value: some FixedWidthInteger) {
        gauge(name, help)
        sample(value)
    }

    /// A counter with one sample.
    public mutating func counter(_ name: String, _ help: String, _ value: some FixedWidthInteger) {
        counter(name, help)
        sample(value)
    }

    private mutating func begin(_ name: String, _ type: String, _ help: String) {
        family = "\(prefix)_\(name)"
        bytes.append(contentsOf: "# HELP \(family) \(help)\n# TYPE \(family) \(type)\n".utf8)
    }

    private mutating func write(_ value: String, _ labels: KeyValuePairs<String, String>) {
        bytes.append(contentsOf: family.utf8)
        if !labels.isEmpty {
            let pairs = labels.map { "\($0.key)=\"\(PrometheusText.escaped($0.value))\"" }
            bytes.append(contentsOf: "{\(pairs.joined(separator: ","))}".utf8)
        }
        bytes.append(contentsOf: " \(value)\n".utf8)
    }

    private static func escaped(_ value: String) -> String {
        var result = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
