// What read verbs print: rows under headings for people, an array of objects for machines.
internal import LinuxIO
internal import Postgres
internal import Telemetry

/// A table of text, each column with its kind.
struct Report {
    /// How a value is written in JSON.
    enum Kind {
        case text, number, boolean, json
    }

    var columns: [(name: String, kind: Kind)]
    var rows: [[String?]] = []

    init(_ columns: [(name: String, kind: Kind)]) { self.columns = columns }

    /// The rows of a query whose columns are all text, in the order of `columns`.
    init(_ columns: [(name: String, kind: Kind)], _ result: QueryResult) {
        self.columns = columns
        rows = (0..<result.count).map { row in
            columns.indices.map { result.text(row, $0) }
        }
    }

    /// Prints in the form that was asked for.
    func write(_ output: OutputOptions) {
        CurrentProcess.writeOutput(output.json ? json : text)
    }

    /// An array of objects and a line feed.
    var json: String {
        var json = JSONText()
        json.beginArray()
        for row in rows { write(row, to: &json) }
        json.endArray()
        return json.text + "\n"
    }

    /// The only row as an object and a line feed.
    var jsonObject: String {
        var json = JSONText()
        write(rows.first ?? [], to: &json)
        return json.text + "\n"
    }

    private func write(_ row: [String?], to json: inout JSONText) {
        json.beginObject()
        for (column, value) in zip(columns, row) {
            guard let value else {
                json.member(column.name, nil as String?)
                continue
            }
            switch column.kind {
            case .text: json.member(column.name, value)
            case .boolean: json.member(column.name, value == "true" || value == "t")
            case .number, .json:
                json.key(column.name)
                json.raw(value)
            }
        }
        json.endObject()
    }

    /// Aligned columns under their headings; numbers to the right.
    var text: String {
        let cells = [columns.map(\.name)] + rows.map { $0.map { Report.plain($0 ?? "-") } }
        var widths = columns.map { _ in 0 }
        for row in cells {
            for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) }
        }
        var result = ""
        for row in cells {
            var line = ""
            for (index, cell) in row.enumerated() {
                let fill = String(repeating: " ", count: widths[index] - cell.count)
                line += index == 0 ? "" : "  "
                line += columns[index].kind == .number ? fill + cell : cell + fill
            }
            result += String(line.reversed().drop { $0 == " " }.reversed()) + "\n"
        }
        return result
    }

    /// One row, a line a column.
    var lines: String {
        let width = columns.map(\.name.count).max() ?? 0
        var result = ""
        for (column, value) in zip(columns, rows.first ?? []) {
            let fill = String(repeating: " ", count: width - column.name.count)
            result += "\(column.name)\(fill)  \(Report.plain(value ?? "-"))\n"
        }
        return result
    }

    /// Text that no terminal takes for a command.
    static func plain(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
            result.append(isControl ? "\u{FFFD}" : scalar)
        }
        return String(result)
    }
}

/// JSON for people: a member a line, indented.
func indented(json: some Sequence<UInt8>) -> String {
    var result: [UInt8] = []
    var depth = 0
    var isString = false
    var isEscaped = false
    func newLine(_ depth: Int) -> [UInt8] {
        [0x0A] + [UInt8](repeating: 0x20, count: max(0, depth) * 2)
    }
    for byte in json {
        if isString {
            result.append(byte)
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isString = false
            }
            continue
        }
        switch byte {
        case UInt8(ascii: "\""):
            isString = true
            result.append(byte)
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
            result.append(byte)
            result += newLine(depth)
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
            while result.last == 0x20 || result.last == 0x0A { result.removeLast() }
            if result.last != UInt8(ascii: "{") && result.last != UInt8(ascii: "[") {
                result += newLine(depth)
            }
            result.append(byte)
        case UInt8(ascii: ","):
            result.append(byte)
            result += newLine(depth)
        case UInt8(ascii: ":"): result += [byte, 0x20]
        case 0x20, 0x0A, 0x0D, 0x09: break
        default: result.append(byte)
        }
    }
    return String(decoding: result, as: UTF8.self) + "\n"
}
