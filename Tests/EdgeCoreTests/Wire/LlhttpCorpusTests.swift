// Requests that another strict parser is tested with (llhttp): none crashes ours, and what that one
// refuses in strict mode ours refuses or has a written reason to take.
import EdgeCore
import Testing
import Tracking

@Suite("The llhttp corpus", .enabled(if: WireText.corpora != nil, "CLICKD_CORPORA is not there"))
struct LlhttpCorpusTests {
    struct Sample: CustomTestStringConvertible {
        var title: String
        var bytes: [UInt8]
        var log: String
        var meta: String
        var testDescription: String { title }
    }

    /// Requests of the corpus files, with the log that llhttp gives.
    static let samples: [Sample] = [
        "connection", "finish", "method", "pipelining", "sample", "uri",
    ]
    .flatMap { name in
        read(name, String(decoding: WireText.corpus("http/llhttp-\(name).md"), as: UTF8.self))
    }

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
                        Sample(title: "\(name): \(title)", bytes: request, log: text, meta: meta))
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

    @Test("The corpus is read")
    func isThere() {
        #expect(LlhttpCorpusTests.samples.count > 50)
    }

    @Test("No request of it depends on how it is split", arguments: samples)
    func splits(_ sample: Sample) {
        var decided: RequestParse?
        for count in 0...sample.bytes.count {
            let verdict = WireText.parse(Array(sample.bytes[..<count])).0
            if let decided {
                #expect(verdict == decided)
            } else if verdict != .needMore {
                decided = verdict
            }
        }
    }

    @Test("What llhttp refuses in the first request's head is refused", arguments: samples)
    func refusals(_ sample: Sample) {
        guard
            let error = sample.log.split(separator: "\n").first(where: {
                $0.contains("error code=")
            })
        else { return }
        let before = sample.log.split(separator: "\n").prefix { !$0.contains("error code=") }
        // An error behind the first head is about a body or the next request; a pause is no
        // refusal.
        guard !before.contains(where: { $0.contains("headers complete") }),
            !error.contains("Pause"), !sample.meta.contains("\"lenient")
        else { return }
        let verdict = WireText.parse(sample.bytes).0
        #expect(verdict != .complete, "\(error)")
    }
}
