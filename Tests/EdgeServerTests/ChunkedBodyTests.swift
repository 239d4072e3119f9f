// The chunked decoder: every split gives the same result, and what is not RFC 9112 is refused.
import Testing

@testable import EdgeServer

/// Feeds `raw` in pieces of `step` bytes; the progress, the data, and what was left unread.
private func decode(
    _ raw: String, step: Int, limit: Int = 1000
) -> (progress: ChunkedBody.Progress, data: String, surplus: Int) {
    let bytes = Array(raw.utf8)
    let area = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
    defer { area.deallocate() }
    var body = ChunkedBody()
    var fed = 0
    var progress = ChunkedBody.Progress.needMore
    while progress == .needMore, fed < bytes.count {
        let count = min(step, bytes.count - fed)
        let start = Int(body.decodedCount)
        for offset in 0..<count { area[start + offset] = bytes[fed + offset] }
        var consumed = 0
        progress = body.decode(
            area, rawStart: start, rawCount: count, limit: limit, consumed: &consumed)
        fed += progress == .needMore ? count : consumed
    }
    let data = String(decoding: area[..<Int(body.decodedCount)], as: UTF8.self)
    return (progress, data, bytes.count - fed)
}

@Suite struct ChunkedBodyTests {
    static let whole = "5\r\nhello\r\nA;name=value\r\n, chunked \r\n0\r\nTrailer: x\r\n\r\n"

    @Test("A chunked body comes out the same however it was split", arguments: 1...60)
    func splits(step: Int) {
        let result = decode(ChunkedBodyTests.whole, step: step)
        #expect(result.progress == .complete)
        #expect(result.data == "hello, chunked ")
        #expect(result.surplus == 0)
    }

    @Test("What follows the body is left for the next request")
    func surplus() {
        let result = decode(ChunkedBodyTests.whole + "GET / HTTP/1.1\r\n", step: 4000)
        #expect(result.progress == .complete)
        #expect(result.surplus == 16)
    }

    @Test(
        "What is not a chunked body is malformed",
        arguments: [
            "\r\n", "g\r\n", "5hello", "5\r\nhelloX\r\n", "5\r\nhello\rX", "5\nhello\r\n0\r\n\r\n",
            ";x\r\n", "-1\r\n", "0\r\n\n", "0\r\nA: b\rX", "2\r\nabc\r\n", "0;a\u{1}\r\n\r\n",
        ])
    func malformed(raw: String) {
        #expect(decode(raw, step: 1).progress == .malformed)
        #expect(decode(raw, step: 4000).progress == .malformed)
    }

    @Test("A body may have its limit and not a byte more")
    func limit() {
        #expect(decode("5\r\nhello\r\n0\r\n\r\n", step: 3, limit: 5).progress == .complete)
        #expect(decode("6\r\nhello!\r\n0\r\n\r\n", step: 3, limit: 5).progress == .tooLarge)
        #expect(decode("3\r\nabc\r\n3\r\n", step: 3, limit: 5).progress == .tooLarge)
        #expect(decode("FFFFFFFFFFFFFFFF\r\n", step: 3, limit: 5).progress == .tooLarge)
        #expect(decode("00000000\r\n", step: 3, limit: 5).progress == .tooLarge)
    }

    @Test("Extensions and trailers are bounded")
    func bounds() {
        let long = String(repeating: "x", count: 5000)
        #expect(decode("1;" + long, step: 100).progress == .malformed)
        #expect(decode("0\r\nA: " + long, step: 100).progress == .malformed)
        #expect(decode("1;x\r\na\r\n", step: 100).progress == .needMore)
    }
}
