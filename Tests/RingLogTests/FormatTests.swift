// The bytes of the formats, held to the check values of docs/formats.
import CLinux
import LinuxIO
import Testing
import Tracking
import Workbench

@testable import RingLog

@Suite("On-disk formats")
struct FormatTests {
    @Test("A record's checksum is plain CRC32C, by instruction and by table")
    func checksum() {
        var generator = SeededGenerator(seed: 5)
        // Records of 2 to 32 slots are three chains, those of other sizes one.
        for slots in Array(1...40) + [2047] {
            var bytes = [UInt8](repeating: 0, count: slots * 64)
            for index in bytes.indices {
                bytes[index] = UInt8.random(in: 0...255, using: &generator)
            }
            let count = bytes.count
            bytes.withUnsafeBytes { bytes in
                let base = bytes.baseAddress
                #expect(
                    clinux_record_crc(77, base, count)
                        == ~clinux_crc32c_table(77, base.map { $0 + 4 }, count - 4))
            }
        }
    }

    @Test("A record has the bytes that the format page shows")
    func recordBytes() {
        let nonce = EntityID(high: 0x0001_0203_0405_0607, low: 0x0809_0A0B_0C0D_0E0F)
        var record = [UInt8](repeating: 0, count: 64)
        record.replaceSubrange(16..<21, with: "click".utf8)
        record[8] = 1
        let shape = RecordFormat.shape(slots: 1, payloadBytes: 5, kind: 1)
        #expect(shape == 0xB463_5801)
        withUnsafeBytes(of: shape.littleEndian) { record.replaceSubrange(4..<8, with: $0) }
        let seed = RecordFormat.seed(nonce: nonce)
        let crc = record.withUnsafeBytes { clinux_record_crc(seed, $0.baseAddress, 64) }
        #expect(seed == FormatTests.seed)
        #expect(crc == FormatTests.crc)
    }

    static let seed: UInt32 = 0x2636F714
    static let crc: UInt32 = 0x781D917C

    @Test("Identity, ring and segment heads come back as they were written")
    func headers() throws {
        var identity = SpoolIdentity(
            spoolUUID: EntityID(high: 1, low: 2), bootID: EntityID(high: 3, low: 4),
            createdMicroseconds: 5, node: 6, machine: Array("host".utf8))
        identity.isClaimed = true
        identity.isCleanStop = false
        identity.rings[31].leaseMilliseconds = 99
        for cause in RingGap.Cause.allCases {
            identity.losses.append(
                SpoolIdentity.Loss(
                    ringUUID: EntityID(high: 7, low: 8), ringID: 9,
                    gap: RingGap(firstSequence: 10, lastSequence: nil, cause: cause),
                    noticedMicroseconds: 11))
        }
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
        defer { block.deallocate() }
        identity.encode(to: block)
        #expect(try SpoolIdentity.decode(UnsafeRawBufferPointer(block)) == identity)
        let segment = SegmentHeader(
            spoolUUID: EntityID(high: 1, low: 2), ringUUID: EntityID(high: 3, low: 4),
            nonce: EntityID(high: 5, low: 6), firstSequence: 7, epoch: 8, number: 9,
            segmentBytes: 10, createdMicroseconds: 11, ringID: 12, node: 13, isInUse: true)
        segment.encode(to: block)
        #expect(try SegmentHeader.decode(UnsafeRawBufferPointer(block)) == segment)
        for index in [0, 9, 20, 127, 2047] {
            block[index] ^= 4
            block[2048 + index] ^= 4
            let decoded = try? SegmentHeader.decode(UnsafeRawBufferPointer(block))
            #expect(decoded == .some(nil), "byte \(index)")
            block[index] ^= 4
            block[2048 + index] ^= 4
        }
    }
}
