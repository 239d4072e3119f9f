// A YAML file as a small tree that remembers its lines, by libyaml's events. The tree is bounded;
// anchors, aliases, tags and second documents are refused: a configuration needs none.
internal import CYAML

/// A value of the file.
enum YAMLNode: Equatable {
    /// A text; `isPlain` when it is not quoted.
    case scalar(String, isPlain: Bool, line: Int)
    /// A list.
    case sequence([YAMLNode], line: Int)
    /// Names and values, in order.
    case mapping([YAMLMember], line: Int)

    /// The line that it begins on, from 1.
    var line: Int {
        switch self {
        case .scalar(_, _, let line), .sequence(_, let line), .mapping(_, let line): line
        }
    }

    /// Whether it is the empty value: nothing, `~` or `null`.
    var isNull: Bool {
        guard case .scalar(let text, true, _) = self else { return false }
        return text.isEmpty || text == "~" || text == "null"
    }

    /// What it is, for messages.
    var kind: String {
        switch self {
        case .scalar: "a single value"
        case .sequence: "a list"
        case .mapping: "a section"
        }
    }
}

/// A name and its value.
struct YAMLMember: Equatable {
    var name: String
    var line: Int
    var value: YAMLNode
}

/// What keeps a file from being read as YAML.
struct YAMLProblem: Error, Equatable {
    var line: Int
    var message: String
}

/// Reads a document's events into a tree.
struct YAMLDocument {
    enum Limits {
        static let fileBytes = 1 << 20
        static let depth = 8
        static let nodes = 10_000
    }

    /// An event, copied out of libyaml's memory.
    private enum Event {
        case scalar(String, isPlain: Bool)
        case sequenceStart, sequenceEnd, mappingStart, mappingEnd
        case documentStart, documentEnd, streamStart, streamEnd
        case refused(String)
    }

    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private var nodes = 0

    /// The root of a document: a mapping; an empty file is an empty one.
    static func parse(_ bytes: [UInt8]) throws(YAMLProblem) -> YAMLNode {
        guard bytes.count <= Limits.fileBytes else {
            throw YAMLProblem(line: 1, message: "the file is larger than 1MiB")
        }
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else {
            throw YAMLProblem(line: 1, message: "out of memory")
        }
        defer { yaml_parser_delete(parser) }
        // libyaml reads from the buffer until the last event, so it must not move meanwhile.
        let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
        defer { buffer.deallocate() }
        buffer.initialize(from: bytes, count: bytes.count)
        yaml_parser_set_input_string(parser, buffer, bytes.count)
        var document = YAMLDocument(parser: parser)
        return try document.root()
    }

    private init(parser: UnsafeMutablePointer<yaml_parser_t>) { self.parser = parser }

    private mutating func root() throws(YAMLProblem) -> YAMLNode {
        _ = try next()  // The stream's start.
        guard case .documentStart = try next().event else { return .mapping([], line: 1) }
        let (event, line) = try next()
        let root = try node(event, line, depth: 0)
        _ = try next()  // The document's end.
        let (last, lastLine) = try next()
        guard case .streamEnd = last else {
            throw YAMLProblem(line: lastLine, message: "a second document")
        }
        if root.isNull { return .mapping([], line: 1) }
        guard case .mapping = root else {
            throw YAMLProblem(line: root.line, message: "sections are expected, not \(root.kind)")
        }
        return root
    }

    private mutating func node(
        _ event: Event, _ line: Int, depth: Int
    ) throws(YAMLProblem) -> YAMLNode {
        nodes += 1
        guard depth <= Limits.depth, nodes <= Limits.nodes else {
            throw YAMLProblem(line: line, message: "nested too deep or too long")
        }
        switch event {
        case .scalar(let text, let isPlain):
            return .scalar(text, isPlain: isPlain, line: line)
        case .sequenceStart:
            var items: [YAMLNode] = []
            while true {
                let (event, itemLine) = try next()
                if case .sequenceEnd = event { return .sequence(items, line: line) }
                items.append(try node(event, itemLine, depth: depth + 1))
            }
        case .mappingStart:
            var members: [YAMLMember] = []
            while true {
                let (event, nameLine) = try next()
                if case .mappingEnd = event { return .mapping(members, line: line) }
                guard case .scalar(let name, _) = event else {
                    throw YAMLProblem(line: nameLine, message: "a name is expected")
                }
                if members.contains(where: { $0.name == name }) {
                    throw YAMLProblem(line: nameLine, message: "\(name) is given twice")
                }
                let (valueEvent, valueLine) = try next()
                let value = try node(valueEvent, valueLine, depth: depth + 1)
                members.append(YAMLMember(name: name, line: nameLine, value: value))
            }
        case .refused(let what):
            throw YAMLProblem(line: line, message: "\(what) are not supported")
        case .sequenceEnd, .mappingEnd, .documentStart, .documentEnd, .streamStart, .streamEnd:
            throw YAMLProblem(line: line, message: "a value is expected")
        }
    }

    private func next() throws(YAMLProblem) -> (event: Event, line: Int) {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else {
            let line = Int(clamping: parser.pointee.problem_mark.line)
            let text = parser.pointee.problem.map { String(cString: $0) } ?? "cannot be read"
            throw YAMLProblem(line: line + 1, message: "not YAML: \(text)")
        }
        defer { yaml_event_delete(&event) }
        return (YAMLDocument.copy(event), Int(clamping: event.start_mark.line) + 1)
    }

    private static func copy(_ event: yaml_event_t) -> Event {
        switch event.type {
        case YAML_STREAM_START_EVENT: return .streamStart
        case YAML_STREAM_END_EVENT: return .streamEnd
        case YAML_DOCUMENT_START_EVENT: return .documentStart
        case YAML_DOCUMENT_END_EVENT: return .documentEnd
        case YAML_SEQUENCE_END_EVENT: return .sequenceEnd
        case YAML_MAPPING_END_EVENT: return .mappingEnd
        case YAML_ALIAS_EVENT: return .refused("aliases")
        case YAML_SEQUENCE_START_EVENT:
            let start = event.data.sequence_start
            return refusal(start.anchor, start.tag) ?? .sequenceStart
        case YAML_MAPPING_START_EVENT:
            let start = event.data.mapping_start
            return refusal(start.anchor, start.tag) ?? .mappingStart
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            if let refused = refusal(scalar.anchor, scalar.tag) { return refused }
            let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            return .scalar(
                String(decoding: bytes, as: UTF8.self),
                isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE)
        default: return .refused("such events")
        }
    }

    private static func refusal(
        _ anchor: UnsafeMutablePointer<yaml_char_t>?, _ tag: UnsafeMutablePointer<yaml_char_t>?
    ) -> Event? {
        if anchor != nil { return .refused("anchors") }
        return tag != nil ? .refused("tags") : nil
    }
}
