// Hexadecimal digits, byte by byte.

/// The value of one hexadecimal digit, either case; nil for any other byte.
@inlinable public func hexadecimalValue(of byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// The lower-case digit of the low four bits.
@inlinable public func lowercaseHexadecimalDigit(_ value: UInt8) -> UInt8 {
    let nibble = value & 0xF
    return nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
}

/// The upper-case digit of the low four bits, as percent-encoding wants it (RFC 3986, 2.1).
@inlinable public func uppercaseHexadecimalDigit(_ value: UInt8) -> UInt8 {
    let nibble = value & 0xF
    return nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "A") + nibble - 10
}

/// Bytes as lower-case hexadecimal text.
public func hexadecimalText(_ bytes: some Sequence<UInt8>) -> String {
    var text: [UInt8] = []
    for byte in bytes {
        text.append(lowercaseHexadecimalDigit(byte >> 4))
        text.append(lowercaseHexadecimalDigit(byte))
    }
    return String(decoding: text, as: UTF8.self)
}

/// Hexadecimal text, either case, as bytes; nil for an odd length or any other character.
public func hexadecimalBytes(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard text.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 2)
    var index = 0
    while index < text.count {
        guard let high = hexadecimalValue(of: text[index]),
            let low = hexadecimalValue(of: text[index + 1])
        else { return nil }
        bytes.append(high << 4 | low)
        index += 2
    }
    return bytes
}
