// The habits of the house (docs/style.md) that a machine can see.
import LinuxIO
import Testing

@Suite("House habits")
struct HouseHabits {
    static let fileLineLimit = 800
    static let functionLineLimit = 70
    static let columnLimit = 100
    static let commentColumnLimit = 112

    @Test("A Swift file says its job in its first line")
    func purpose() {
        for file in SourceTree.swiftFiles {
            let first = SourceTree.lines(file).first ?? ""
            #expect(first.hasPrefix("// "), "\(file) begins with: \(first)")
        }
    }

    @Test("Files, functions and lines keep their caps")
    func caps() {
        for file in SourceTree.swiftFiles {
            let lines = SourceTree.lines(file)
            #expect(lines.count <= HouseHabits.fileLineLimit, "\(file) has \(lines.count) lines")
            for (name, length) in functions(lines) {
                #expect(
                    length <= HouseHabits.functionLineLimit, "\(file): \(name) has \(length) lines")
            }
            for (index, line) in lines.enumerated() where line.count > HouseHabits.columnLimit {
                // A literal that may not be broken (SQL, a recorded header) may run over.
                let isLiteral = line.contains("\"") || line.contains("|")
                let isComment = line.drop { $0 == " " }.hasPrefix("//")
                let isAllowed =
                    isLiteral || file.contains("Schema/") || file.contains("SampleData")
                    || isComment && line.count <= HouseHabits.commentColumnLimit
                #expect(isAllowed, "\(file):\(index + 1) has \(line.count) columns")
            }
        }
    }

    @Test("Nothing is left for later, and nothing traps by habit")
    func leftovers() {
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", "not imple" + "mented"]
        let traps = ["try" + "!", " as" + "! "]
        for file in SourceTree.swiftFiles {
            for (index, line) in SourceTree.lines(file).enumerated() {
                for mark in marks { #expect(!line.contains(mark), "\(file):\(index + 1): \(mark)") }
                guard file.hasPrefix("Sources/") else { continue }
                for trap in traps { #expect(!line.contains(trap), "\(file):\(index + 1): \(trap)") }
            }
        }
    }

    @Test("Unchecked sharing says why")
    func uncheckedSendable() {
        for file in SourceTree.swiftSources {
            let lines = SourceTree.lines(file)
            for (index, line) in lines.enumerated() where line.contains("@unchecked Sendable") {
                let nearby = lines[max(0, index - 12)...min(lines.count - 1, index + 4)]
                #expect(nearby.contains { $0.contains("//") }, "\(file):\(index + 1)")
            }
        }
    }

    @Test("The pure core holds no money in floating point and no wall clock of its own")
    func pureCore() {
        for folder in ["Tracking", "EdgeCore", "Attribution"] {
            for file in SourceTree.files("Sources/\(folder)", endingIn: [".swift"]) {
                for (index, line) in SourceTree.lines(file).enumerated() {
                    let code =
                        line.split(separator: "//", omittingEmptySubsequences: false).first ?? ""
                    for word in [
                        "Double", "Float", "Decimal(", " async ", "print(", "ContinuousClock",
                    ] {
                        #expect(!code.contains(word), "\(file):\(index + 1): \(word)")
                    }
                }
            }
        }
    }

    @Test("A page has one title")
    func markdownTitles() {
        let pages = ["README.md", "CHANGELOG.md"] + SourceTree.files("docs", endingIn: [".md"])
        for page in pages {
            var inCode = false
            var titles = 0
            for line in SourceTree.lines(page) {
                if line.hasPrefix("```") { inCode.toggle() }
                if !inCode, line.hasPrefix("# ") { titles += 1 }
            }
            #expect(titles == 1, "\(page) has \(titles)")
        }
    }

    @Test("Every metric that the code names is in the manual")
    func metrics() throws {
        let manual = SourceTree.text("docs/metrics.md")
        try #require(!manual.isEmpty)
        for file in SourceTree.swiftSources {
            for word in SourceTree.text(file).split(separator: "\"")
            where word.hasPrefix("clickd_") || word.hasPrefix("attributiond_") {
                let isName = word.utf8.allSatisfy {
                    $0 == 95 || (97...122).contains($0) || (48...57).contains($0)
                }
                if isName, word.count > 13 { #expect(manual.contains(word), "\(file): \(word)") }
            }
        }
    }

    /// Functions and initialisers with the lines they span, by the indentation of their braces.
    private func functions(_ lines: [Substring]) -> [(name: String, length: Int)] {
        var found: [(String, Int)] = []
        for (index, line) in lines.enumerated() {
            let indent = line.prefix { $0 == " " }.count
            let code = line.dropFirst(indent)
            guard code.contains("func ") || code.hasPrefix("init(") || code.contains(" init("),
                !code.hasPrefix("//"), !code.hasPrefix("case "), !code.hasSuffix("}")
            else { continue }
            let closing = String(repeating: " ", count: indent) + "}"
            guard
                let end = lines[(index + 1)...].firstIndex(where: {
                    $0 == closing || $0.hasPrefix(closing + ")")
                })
            else { continue }
            let next = lines[(index + 1)...].firstIndex { later in
                later.prefix { $0 == " " }.count == indent && later.contains("func ")
            }
            // A requirement or one-liner has no body of its own.
            if let next, next < end { continue }
            found.append((String(code.prefix(60)), end - index + 1))
        }
        return found
    }
}
