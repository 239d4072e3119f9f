// The checksum of link tables and of their blocks.
internal import Tracking

/// A checksum that finds any damage that is not malice: four lanes of multiply and rotate.
enum TableChecksum {
    private static let prime: UInt64 = 0x9E37_79B1_85EB_CA87

    /// The checksum of bytes.
    static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var lanes: (UInt64, UInt64, UInt64, UInt64) = (1, 2, 3, 4)
        // Wrapping throughout: the checksum is defined modulo 2^64.
        func step(_ lane: UInt64, _ word: UInt64) -> UInt64 {
            let mixed = (lane ^ word) &* prime
            return mixed << 29 | mixed >> 35
        }
        func word(_ index: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        }
        var index = 0
        while index &+ 32 <= bytes.count {
            lanes.0 = step(lanes.0, word(index))
            lanes.1 = step(lanes.1, word(index &+ 8))
            lanes.2 = step(lanes.2, word(index &+ 16))
            lanes.3 = step(lanes.3, word(index &+ 24))
            index &+= 32
        }
        while index < bytes.count {
            var last: UInt64 = 0
            for offset in 0..<min(8, bytes.count &- index) {
                last |= UInt64(bytes[index &+ offset]) << UInt64(offset &* 8)
            }
            lanes.0 = step(lanes.0, last)
            index &+= 8
        }
        var sum = step(lanes.0, UInt64(bytes.count))
        sum = step(sum ^ lanes.1, lanes.2)
        sum = step(sum, lanes.3)
        return sum ^ sum >> 32
    }
}
