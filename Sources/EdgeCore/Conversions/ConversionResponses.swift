// The bodies of answers, byte for byte.
public import Tracking

/// The bodies that the intake answers with.
public enum ConversionResponses {
    /// `{"status":"accepted","conversion_id":"…"}`.
    public static func accepted(_ id: EntityID) -> [UInt8] {
        Array("{\"status\":\"accepted\",\"conversion_id\":\"\(id)\"}".utf8)
    }

    /// `{"status":"rejected","errors":[{"field":…,"reason":…}]}`.
    ///
    /// Fields and reasons are words of
    /// this program, so that nothing needs escaping.
    public static func rejected(_ faults: [ConversionFault]) -> [UInt8] {
        var text = "{\"status\":\"rejected\",\"errors\":["
        for (index, fault) in faults.enumerated() {
            text += index == 0 ? "" : ","
            text += "{\"field\":\"\(fault.field)\",\"reason\":\"\(fault.reason)\"}"
        }
        return Array((text + "]}").utf8)
    }

    /// `{"results":[…]}` around the answers to the elements of an array.
    public static func results(_ answers: [[UInt8]]) -> [UInt8] {
        var body = Array("{\"results\":[".utf8)
        for (index, answer) in answers.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            body += answer
        }
        return body + Array("]}".utf8)
    }

    /// The pixel: a transparent GIF of one by one.
    public static let pixel: [UInt8] = [
        0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xFF, 0xFF, 0xFF, 0x21, 0xF9, 0x04, 0x01, 0x00, 0x00, 0x00, 0x00, 0x2C, 0x00, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x02, 0x02, 0x44, 0x01, 0x00, 0x3B,
    ]
}
