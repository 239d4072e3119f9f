// Parameters as the four parallel arrays that libpq takes.

/// Parameters laid out as libpq wants them.
struct BoundParameters {
    private var bytes = BinaryBytes()
    private var ranges: [(offset: Int, count: Int)?] = []
    private var formats: [Int32] = []

    init(_ parameters: [Parameter]) throws(PostgresError) {
        for parameter in parameters {
            formats.append(parameter.isText ? 0 : 1)
            guard !parameter.isNull else {
                ranges.append(nil)
                continue
            }
            let start = bytes.storage.count
            parameter.encode(into: &bytes)
            let count = bytes.storage.count - start
            if parameter.isText {
                // Text ends at its first NUL: what stands behind one would be lost in silence.
                guard !bytes.storage[start...].contains(0) else {
                    throw PostgresError("a text holds a NUL", state: .characterNotInRepertoire)
                }
                bytes.append(UInt8(0))
            }
            ranges.append((start, count))
        }
    }

    func withPointers(
        _ body: (
            Int32, [UnsafePointer<CChar>?], [Int32], [Int32]
        ) -> Int32
    ) -> Int32 {
        var storage = bytes.storage
        storage.append(0)  // So that an empty last value has an address.
        return storage.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { chars in
                let pointers = ranges.map { range -> UnsafePointer<CChar>? in
                    guard let range else { return nil }
                    return chars.baseAddress.map { $0 + range.offset }
                }
                let lengths = ranges.map { Int32(clamping: $0?.count ?? 0) }
                return body(Int32(ranges.count), pointers, lengths, formats)
            }
        }
    }
}
