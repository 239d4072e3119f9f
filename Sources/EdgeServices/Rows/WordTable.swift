// The contract's words as bytes, ready to be copied into rows.
internal import Tracking

/// The texts of one closed vocabulary, by raw value.
final class WordTable {
    private let texts: [UnsafeRawBufferPointer]

    /// The words of a vocabulary.
    init<Word: CaseIterable & RawRepresentable>(
        _ type: Word.Type, _ name: (Word) -> String
    ) where Word.RawValue == UInt8 {
        var table: [UnsafeRawBufferPointer] = []
        for word in Word.allCases {
            while table.count <= Int(word.rawValue) {
                table.append(UnsafeRawBufferPointer(start: nil, count: 0))
            }
            let bytes = Array(name(word).utf8)
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
            copy.copyBytes(from: bytes)
            table[Int(word.rawValue)] = UnsafeRawBufferPointer(copy)
        }
        texts = table
    }

    deinit { for text in texts { text.deallocate() } }

    /// The word of a raw value; empty for a value that the vocabulary does not know.
    func text(_ rawValue: UInt8) -> UnsafeRawBufferPointer {
        Int(rawValue) < texts.count
            ? texts[Int(rawValue)] : UnsafeRawBufferPointer(start: nil, count: 0)
    }
}
