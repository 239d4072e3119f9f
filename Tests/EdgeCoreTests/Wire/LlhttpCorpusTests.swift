// Requests that another strict parser is tested with (llhttp): ours gives the same, or has a written
// reason (LlhttpExpectations, docs/http.md); and the same for every split.
import EdgeCore
import Testing
import Tracking

@Suite("The llhttp corpus", .enabled(if: WireText.corpora != nil, "CLICKD_CORPORA is not there"))
struct LlhttpCorpusTests {
    struct Sample: CustomTestStringConvertible {
        /// The file, the title, and its number where a title comes again.
        var key: String
        var bytes: [UInt8]
        var log: String
        var meta: String
        var testDescription: String { key }
    }

    /// Requests of the corpus files, with the log that llhttp gives.
    static let samples: [Sample] = [
        "connection", "finish", "method", "pipelining", "sample", "uri",
    ]
    .flatMap { name in
        read(name, String(decoding: WireText.corpus("http/llhttp-\(name).md"), as: UTF8.self))
    }
    .reduce(into: (samples: [Sample](), counts: [String: Int]())) { result, sample in
        var sample = sample
        let count = result.counts[sample.key, default: 0] + 1
        result.counts[sample.key] = count
        if count > 1 { sample.key += " (\(count))" }
        result.samples.append(sample)
    }
    .samples

    private static func read(_ name: String, _ page: String) -> [Sample] {
        var samples: [Sample] = []
        var title = ""
        var meta = ""
        var block: [Substring]?
        var kind = ""
        var request: [UInt8] = []
        for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
            if block != nil, line.hasPrefix("```") {
                let text = (block ?? []).joined(separator: "\n")
                if kind == "http" {
                    request = bytes(of: text)
                } else if kind == "log", meta.contains("request") {
                    samples.append(
                        Sample(key: "\(name): \(title)", bytes: request, log: text, meta: meta))
                }
                block = nil
            } else if block != nil {
                block?.append(line)
            } else if line.hasPrefix("```") {
                kind = String(line.dropFirst(3))
                block = []
            } else if line.hasPrefix("#") {
                title = String(line.drop { $0 == "#" || $0 == " " })
            } else if line.hasPrefix("<!-- meta=") {
                meta = String(line)
            }
        }
        return samples
    }

    /// The corpus writes line ends as line breaks, and `\r`, `\n`, `\t`, `\f`, `\xNN` as escapes; a
    /// backslash at the end of a line joins it with the next.
    private static func bytes(of text: String) -> [UInt8] {
        var result: [UInt8] = []
        let source = Array(text.utf8)
        var index = 0
        while index < source.count {
            let byte = source[index]
            index += 1
            if byte == 0x0A {
                result += [0x0D, 0x0A]
            } else if byte == 0x5C, index < source.count {
                let escape = source[index]
                index += 1
                switch escape {
                case 0x72: result.append(0x0D)
                case 0x6E: result.append(0x0A)
                case 0x74: result.append(0x09)
                case 0x66: result.append(0x0C)
                case 0x0A: break
                case 0x78 where index + 2 <= source.count:
                    let digits = String(decoding: source[index..<index + 2], as: UTF8.self)
                    result.append(UInt8(digits, radix: 16) ?? 0)
                    index += 2
                default: result += [byte, escape]
                }
            } else {
                result.append(byte)
            }
        }
        return result
    }

    /// What llhttp makes of a sample: an error, a message that waits for more, or whole messages.
    private static func verdict(ofLog log: String) -> String {
        let lines = log.split(separator: "\n")
        if lines.contains(where: { $0.contains("error code=") && !$0.contains("Pause") }) {
            return "refuse"
        }
        let last = lines.last { line in
            ["message begin", "message complete"].contains { line.contains($0) }
                || line.contains("headers complete") || line.contains("span[")
        }
        return last.map { $0.contains("message complete") } ?? true ? "accept" : "wait"
    }

    /// The request with a Host in every HTTP/1.1 head that has none: its target's authority, or `a`.
    private static func withHost(_ bytes: [UInt8]) -> [UInt8] {
        var lines: [[UInt8]] = [[]]
        for byte in bytes {
            lines[lines.count - 1].append(byte)
            if byte == 0x0A { lines.append([]) }
        }
        var result: [UInt8] = []
        for (index, line) in lines.enumerated() {
            result += line
            guard String(decoding: line, as: UTF8.self).hasSuffix(" HTTP/1.1\r\n") else { continue }
            let block = lines[(index + 1)...].prefix { $0 != [0x0D, 0x0A] }
            let hasHost = block.contains {
                String(decoding: $0, as: UTF8.self).lowercased().hasPrefix("host:")
            }
            guard !hasHost else { continue }
            let words = String(decoding: line, as: UTF8.self).split(separator: " ")
            let target = words.count > 1 ? words[1] : ""
            var host: Substring = "a"
            if target.hasPrefix("http://") {
                host = target.dropFirst(7).prefix { $0 != "/" && $0 != "?" }
            }
            result += Array("Host: \(host)\r\n".utf8)
        }
        return result
    }

    private static func verdict(_ bytes: [UInt8]) -> String {
        var driver = WireDriver()
        driver.feed(bytes)
        return driver.verdict
    }

    @Test("Every request of the corpus has a row, and every row a request")
    func rows() {
        let keys = LlhttpCorpusTests.samples.map(\.key)
        #expect(keys.count == 70)
        #expect(Set(keys).count == keys.count)
        #expect(Set(keys) == Set(LlhttpExpectations.rows.keys))
    }

    @Test("Each gives what its row says: llhttp's verdict, or a reason", arguments: samples)
    func verdicts(_ sample: Sample) throws {
        let row = try #require(LlhttpExpectations.rows[sample.key])
        let hosted = LlhttpCorpusTests.withHost(sample.bytes)
        #expect(LlhttpCorpusTests.verdict(sample.bytes) == row.verdict)
        #expect(LlhttpCorpusTests.verdict(hosted) == row.withHost)
        // The one reason that needs no words in each row: no Host, or none yet.
        if row.verdict != row.withHost {
            #expect(row.verdict == "refuse 400" && hosted != sample.bytes)
        }
        let theirs = LlhttpCorpusTests.verdict(ofLog: sample.log)
        let ours = row.withHost.hasPrefix("refuse") ? "refuse" : row.withHost
        #expect((ours == theirs) == row.reason.isEmpty, "llhttp: \(theirs)")
    }

    @Test("Each gives the same at every split, and byte by byte", arguments: samples)
    func splits(_ sample: Sample) {
        for bytes in [sample.bytes, LlhttpCorpusTests.withHost(sample.bytes)] {
            var whole = WireDriver()
            whole.feed(bytes)
            for cut in 0...bytes.count {
                var driver = WireDriver()
                driver.feed(Array(bytes[..<cut]))
                driver.feed(Array(bytes[cut...]))
                #expect(driver.events == whole.events, "at \(cut)")
            }
            var driver = WireDriver()
            for byte in bytes { driver.feed([byte]) }
            #expect(driver.events == whole.events)
        }
    }
}
