// One connection of the paced load: what it has sent, and the answers that it reads.

/// An answer's facts.
struct PacedAnswer {
    var status: Int
    /// The server ends the connection after it.
    var closes: Bool
    /// When its request was due.
    var due: Int64 = 0
}

/// A request that a connection has taken.
struct PacedRequest {
    /// When it was due.
    var due: Int64
    /// When the connection took it.
    var taken: Int64
}

/// A connection and its unanswered requests.
struct PacedConnection {
    private(set) var descriptor: Int32 = -1
    /// Raised at each opening.
    private(set) var generation: UInt32 = 0
    var isConnecting = false
    var watchesWrites = false
    /// It waits in the ring of those that may take a request.
    var isReady = false
    /// The server sent what is no answer.
    private(set) var isBroken = false
    /// Its unanswered requests, oldest first.
    var pending: [PacedRequest] = []
    /// Of the pending ones, those whose bytes were handed to the socket or lie in `remainder`.
    var sentRequests = 0
    /// The position in the list of requests.
    var nextRequest = 0
    /// The rest of a request that the socket did not take.
    var remainder: ArraySlice<UInt8> = []
    /// Bytes of an answer that is not whole yet.
    private var partial: [UInt8] = []

    /// Requests that were taken and whose first byte has not been sent.
    var unsentRequests: Int { pending.count - sentRequests }

    mutating func begin(_ descriptor: Int32) {
        self.descriptor = descriptor
        generation &+= 1
        isConnecting = true
        watchesWrites = true
        isBroken = false
        sentRequests = 0
        remainder = []
        partial = []
    }

    mutating func end() {
        descriptor = -1
        isConnecting = false
        watchesWrites = false
    }

    /// Adds each whole answer to `answers`.
    mutating func read(_ bytes: UnsafeRawBufferPointer, into answers: inout [PacedAnswer]) {
        guard partial.isEmpty else {
            partial += bytes
            let whole = partial
            let used = whole.withUnsafeBytes { take($0, &answers) }
            partial = Array(whole.dropFirst(used))
            return
        }
        let used = take(bytes, &answers)
        if used < bytes.count { partial = Array(bytes[used...]) }
    }

    private mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ answers: inout [PacedAnswer]
    ) -> Int {
        var position = 0
        while position < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
            guard let (found, count) = PacedConnection.answer(rest) else { break }
            var answer = found
            guard answer.status > 0, !pending.isEmpty else {
                isBroken = true
                return bytes.count
            }
            position += count
            if answer.status < 200 { continue }
            answer.due = pending.removeFirst().due
            answers.append(answer)
            sentRequests -= 1
        }
        return position
    }

    /// The answer at the start of `bytes` and its length; nil while it is not whole, status 0 for
    /// bytes that are none.
    static func answer(_ bytes: UnsafeRawBufferPointer) -> (PacedAnswer, Int)? {
        guard bytes.count >= 12 else { return nil }
        var status = 0
        for index in 9..<12 {
            let digit = Int(bytes[index]) - 48
            guard (0...9).contains(digit) else { return (PacedAnswer(status: 0, closes: true), 0) }
            status = status * 10 + digit
        }
        var length = 0
        var closes = false
        var line = 12
        while let end = lineEnd(bytes, from: line) {
            if end - line == 0, line > 12 {
                let total = end + 2 + (status == 204 || status < 200 ? 0 : length)
                guard total <= bytes.count else { return nil }
                return (PacedAnswer(status: status, closes: closes), total)
            }
            if let value = value(bytes, line..<end, of: "content-length:") {
                length = 0
                for index in value where bytes[index] >= 48 && bytes[index] <= 57 {
                    length = min(length * 10 + Int(bytes[index]) - 48, 1 << 30)
                }
            } else if let value = value(bytes, line..<end, of: "connection:") {
                closes = closes || value.contains { bytes[$0] | 0x20 == UInt8(ascii: "c") }
            }
            line = end + 2
        }
        return nil
    }

    private static func lineEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var index = start
        while index + 1 < bytes.count {
            if bytes[index] == 13, bytes[index + 1] == 10 { return index }
            index += 1
        }
        return nil
    }

    private static func value(
        _ bytes: UnsafeRawBufferPointer, _ line: Range<Int>, of name: StaticString
    ) -> Range<Int>? {
        guard line.count > name.utf8CodeUnitCount else { return nil }
        for index in 0..<name.utf8CodeUnitCount
        where bytes[line.lowerBound + index] | 0x20 != name.utf8Start[index] | 0x20 {
            return nil
        }
        return line.lowerBound + name.utf8CodeUnitCount..<line.upperBound
    }
}
