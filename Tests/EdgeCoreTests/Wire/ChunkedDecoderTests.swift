// Chunked bodies: every split gives the same body, every fault is refused, nothing outgrows its
// memory.
import EdgeCore
import Testing
import Tracking
import Workbench

@Suite("Chunked bodies")
struct ChunkedDecoderTests {
    /// Decodes in pieces of one size; the verdict, the body and the bytes taken.
    private func decode(
        _ text: String, pieces: Int, room: Int = 64
    ) -> (verdict: ChunkedProgress, body: String, taken: Int) {
        let bytes = Array(text.utf8)
        var output = [UInt8](repeating: 0, count: room)
        var decoder = ChunkedDecoder()
        var verdict = ChunkedProgress.needMore
        var taken = 0
        while taken < bytes.count, verdict == .needMore {
            let piece = Array(bytes[taken..<min(taken + pieces, bytes.count)])
            verdict = piece.withUnsafeBytes { input in
                output.withUnsafeMutableBytes { decoder.decode(input, into: $0) }
            }
            taken += decoder.consumed
        }
        return (verdict, String(decoding: output[..<decoder.produced], as: UTF8.self), taken)
    }

    static let good: [(String, String)] = [
        ("0\r\n\r\n", ""), ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a=b\r\nhello\r\n06\r\n world\r\n000\r\n\r\n", "hello world"),
        ("a\r\n0123456789\r\nA;x\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", "01234567890123456789"),
    ]

    @Test("Whole bodies come out, however they are split", arguments: good)
    func bodies(_ text: String, _ body: String) {
        for pieces in 1...text.utf8.count {
            let result = decode(text + "GET", pieces: pieces)
            #expect(result.verdict == .complete)
            #expect(result.body == body)
            #expect(result.taken == text.utf8.count)
        }
    }

    @Test(
        "A decoder is led to where another is by what that one spells, at every byte",
        arguments: good)
    func spelling(_ text: String, _ body: String) {
        let bytes = Array((text + "GET").utf8)
        for split in 0..<text.utf8.count {
            var output = [UInt8](repeating: 0, count: 64)
            var first = ChunkedDecoder()
            let begun = bytes[..<split].withUnsafeBytes { input in
                output.withUnsafeMutableBytes { first.decode(input, into: $0) }
            }
            #expect(begun == .needMore)
            var room = [UInt8](repeating: 0, count: 64 + ChunkedDecoder.spellingBytes)
            let produced = Array(output[..<first.produced])
            let count = produced.withUnsafeBytes { body in
                room.withUnsafeMutableBytes { first.spell(body, into: $0) }
            }
            guard let count else {
                Issue.record("no spelling at \(split) of \(text)")
                continue
            }
            let rest = String(decoding: Array(room[..<count]) + bytes[split...], as: UTF8.self)
            for pieces in [1, 3, rest.utf8.count] {
                let result = decode(rest, pieces: pieces)
                #expect(result.verdict == .complete && result.body == body, "\(split): \(rest)")
                #expect(result.taken == rest.utf8.count - 3)
            }
        }
    }

    @Test("Without room, with another body or after the end nothing is spelled")
    func unspelled() {
        var output = [UInt8](repeating: 0, count: 64)
        var decoder = ChunkedDecoder()
        _ = Array("5\r\nhel".utf8).withUnsafeBytes { input in
            output.withUnsafeMutableBytes { decoder.decode(input, into: $0) }
        }
        func spelled(_ body: Int, _ room: Int) -> Int? {
            var target = [UInt8](repeating: 0, count: room)
            return Array(output[..<body]).withUnsafeBytes { body in
                target.withUnsafeMutableBytes { decoder.spell(body, into: $0) }
            }
        }
        #expect(spelled(3, 3 + ChunkedDecoder.spellingBytes) == 6)
        #expect(spelled(3, 2 + ChunkedDecoder.spellingBytes) == nil)
        #expect(spelled(2, 64) == nil)
        _ = Array("lo\r\n0\r\n\r\n".utf8).withUnsafeBytes { input in
            output.withUnsafeMutableBytes { decoder.decode(input, into: $0) }
        }
        #expect(spelled(5, 64) == nil)
    }

    static let bad = [
        "\r\n", "x\r\n", "-1\r\n", "0x5\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n", "5\nhello",
        "5\r\nhello0\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n", "5\rhello", "000000005\r\n",
        "5;\0\r\n", "0\r\n x\r\n\r\n", "0\r\n\n", "0\r\nA: \u{1}\r\n\r\n",
        "0\r\nA : x\r\n\r\n", "0\r\nA\r\n\r\n", "0\r\n: x\r\n\r\n", "0\r\nA: x\r\n y\r\n\r\n",
        "0\r\nA: x\n\r\n", "+5\r\nhello", "5;a\rb\r\nhello", "5;a\nhello", "5 ;a\r\nhello",
        "5;" + String(repeating: "x", count: 300) + "\r\n",
        "0\r\nA: " + String(repeating: "x", count: 5000) + "\r\n\r\n",
    ]

    @Test("A fault in the framing is 400, however it is split", arguments: bad)
    func faults(_ text: String) {
        for pieces in [1, 2, 3, 7, text.utf8.count] {
            #expect(decode(text, pieces: pieces).verdict == .refused(status: 400))
        }
    }

    @Test("A body larger than its memory is 413, as soon as it is announced")
    func tooLarge() {
        #expect(
            decode("5\r\nhello\r\n0\r\n\r\n", pieces: 1, room: 4).verdict == .refused(status: 413))
        #expect(decode("FFFFFFFF\r\n", pieces: 99, room: 64).verdict == .refused(status: 413))
        #expect(decode("5\r\nhello\r\n0\r\n\r\n", pieces: 1, room: 5).verdict == .complete)
    }

    @Test("What is no data is bounded too: tiny chunks and long extensions end in 400")
    func framing() {
        let tiny = String(repeating: "1\r\nx\r\n", count: WireLimits.chunkFramingBytes / 5)
        #expect(decode(tiny, pieces: 4096, room: 65_536).verdict == .needMore)
        #expect(decode(tiny + tiny, pieces: 4096, room: 65_536).verdict == .refused(status: 400))
        let line = "1;" + String(repeating: "e", count: 200) + "\r\nx\r\n"
        let padded = String(repeating: line, count: WireLimits.chunkFramingBytes / 206 + 1)
        #expect(decode(padded, pieces: 4096, room: 65_536).verdict == .refused(status: 400))
        // The smallest chunks in which a whole body may come.
        let six = String(repeating: "6\r\nsixsix\r\n", count: 10_922) + "0\r\n\r\n"
        #expect(decode(six, pieces: 4096, room: 65_536).verdict == .complete)
    }

    @Test("Random input never traps")
    func fuzz() {
        var random = SeededGenerator(seed: 7)
        let alphabet = Array("0123af;\r\n\r\n :x".utf8)
        for _ in 0..<5000 {
            let bytes = (0..<40).map { _ in alphabet.randomElement(using: &random) ?? 0 }
            let text = String(decoding: bytes, as: UTF8.self)
            #expect(decode(text, pieces: 1).verdict == decode(text, pieces: 40).verdict)
        }
    }
}
