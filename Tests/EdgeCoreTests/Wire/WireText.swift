// Requests as text for the wire tests, and what the parser makes of them.
import EdgeCore
import LinuxIO
import Tracking

/// Texts as bytes and back.
enum WireText {
    /// The verdict on a whole input, and the head when there is one.
    static func parse(_ bytes: [UInt8], limit: Int = 16_384) -> (RequestParse, RequestHead) {
        var head = RequestHead()
        let verdict = bytes.withUnsafeBytes { RequestParser.parse($0, limit: limit, into: &head) }
        return (verdict, head)
    }

    /// The verdict on a text.
    static func parse(_ text: String, limit: Int = 16_384) -> (RequestParse, RequestHead) {
        parse(Array(text.utf8), limit: limit)
    }

    /// The verdict on each prefix of an input, from one byte on, the head's parsing resumed from one
    /// to the next; until the first that decides.
    static func resumed(_ bytes: [UInt8], limit: Int = 16_384) -> [RequestParse] {
        var verdicts: [RequestParse] = []
        var head = RequestHead()
        var progress = HeadProgress()
        bytes.withUnsafeBytes { all in
            for count in 0..<bytes.count {
                let prefix = UnsafeRawBufferPointer(rebasing: all[...count])
                verdicts.append(
                    RequestParser.parse(prefix, limit: limit, into: &head, resuming: &progress))
                if verdicts.last != .needMore { break }
            }
        }
        return verdicts
    }

    /// A field of a parsed text.
    static func field(_ range: ByteRange, of text: String) -> String {
        Array(text.utf8).withUnsafeBytes { String(decoding: range.slice(of: $0), as: UTF8.self) }
    }

    /// The corpora's folder, when there is one.
    static let corpora: String? = {
        let folder = CurrentProcess.environment("CLICKD_CORPORA") ?? "../shared/corpora"
        return FileSystem.exists(folder) ? folder : nil
    }()

    /// The bytes of a corpus file; empty when it cannot be read.
    static func corpus(_ path: String) -> [UInt8] {
        guard let corpora, let file = try? FileDescriptor.open("\(corpora)/\(path)", [.read]) else {
            return []
        }
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 65_536)
        while let count = try? block.withUnsafeMutableBytes({ try file.read(into: $0) }), count > 0
        {
            bytes += block[..<count]
        }
        return bytes
    }
}
