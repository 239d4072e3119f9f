// Appending to a fixed buffer: what does not fit sets a flag instead of being written.
internal import Tracking

/// Appends bytes to memory of a fixed size.
struct ByteWriter: BitwiseCopyable {
    let base: UnsafeMutableRawPointer
    let capacity: Int
    var count = 0
    /// Whether something did not fit; ``count`` then stands before the first such thing.
    var isFull = false

    @inline(__always) init(_ base: UnsafeMutableRawPointer, capacity: Int) {
        self.base = base
        self.capacity = capacity
    }

    /// Appends one byte.
    @inline(__always) mutating func append(_ byte: UInt8) {
        guard count < capacity else {
            isFull = true
            return
        }
        base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count &+= 1
    }

    /// Appends bytes.
    @inline(__always) mutating func append(_ source: UnsafeRawPointer, _ length: Int) {
        guard length <= capacity &- count else {
            isFull = true
            return
        }
        (base + count).copyMemory(from: source, byteCount: length)
        count &+= length
    }

    /// Appends bytes.
    @inline(__always) mutating func append(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress else { return }
        append(start, source.count)
    }

    /// Appends a constant.
    @inline(__always) mutating func append(_ text: StaticString) {
        append(UnsafeRawPointer(text.utf8Start), text.utf8CodeUnitCount)
    }

    /// Appends a number in decimal.
    @inline(__always) mutating func append(decimal number: UInt64) {
        var divisor: UInt64 = 1
        while number / divisor >= 10 { divisor &*= 10 }  // At most 10^19, which fits.
        while divisor > 0 {
            append(UInt8(truncatingIfNeeded: 0x30 &+ number / divisor % 10))
            divisor /= 10
        }
    }

    /// Appends a byte as it is when it is unreserved, else as `%XX`.
    @inline(__always) mutating func append(encoding byte: UInt8) {
        if ByteScan.isUnreserved(byte) {
            append(byte)
        } else {
            append(escaped: byte)
        }
    }

    /// Appends `%XX`.
    @inline(__always) mutating func append(escaped byte: UInt8) {
        guard capacity &- count >= 3 else {
            isFull = true
            return
        }
        append(0x25)
        append(uppercaseHexadecimalDigit(byte >> 4))
        append(uppercaseHexadecimalDigit(byte & 0xF))
    }

    /// Appends the Date line.
    @inline(__always) mutating func append(date clock: borrowing LoopClock) {
        guard capacity &- count >= 40 else {
            isFull = true
            return
        }
        clock.writeDate(to: base + count)
        count &+= LoopClock.dateBytes
    }
}
