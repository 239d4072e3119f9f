// Files of every format version that was ever written are read for ever.
import LinuxIO
import Testing
import Tracking

@testable import RingLog

@Suite("Golden files")
struct GoldenTests {
    @Test("What version 1 wrote is read, record by record and field by field")
    func read() throws {
        let directories = TestDirectories()
        directories.bootID = GoldenStore.bootID
        directories.machine = GoldenStore.machine
        try FileSystem.makeDirectories(directories.root)
        try FileSystem.makeDirectories(directories.ring)
        try FileSystem.makeDirectories(directories.spool)
        for (golden, path) in GoldenStore.files {
            let text = try FileSystem.read(GoldenStore.path(golden, version: 1))
            let bytes = try #require(HexDump.bytes(String(decoding: text, as: UTF8.self)))
            try bytes.withUnsafeBytes {
                try FileSystem.replace("\(directories.root)/\(path)", with: $0)
            }
        }
        let view = try StoreInspector(
            ringDirectory: directories.ring, spoolDirectory: directories.spool
        ).look(.everything)
        #expect(view.isSound && view.logs.first?.recordCount == 8, "\(view.problems)")
        let store = try directories.open()
        defer { store.abandon() }
        #expect(store.notices.isEmpty || store.notices.allSatisfy { $0.contains("memory-backed") })
        #expect(store.spoolUUID == GoldenStore.spoolUUID)
        try #require(store.rings.count == 1)
        let ring = store.rings[0]
        #expect(ring.ringUUID == GoldenStore.ringUUID && ring.ringID == 96 && ring.epoch == 2)
        let (records, gaps) = readAll(ring)
        #expect(gaps.isEmpty && records.map(\.sequence) == Array(1...8))
        #expect(records.map(\.kind) == [1, 2, 3, 1, 2, 4, 1, 2])
        try checkClick(records[0].payload)
        try checkConversion(records[1].payload, items: 2)
        try checkRefusal(records[2].payload)
        #expect(records[3].payload == GoldenStore.emptyClick)
        try checkConversion(records[4].payload, items: 300)
        let drop = try records[5].payload.withUnsafeBytes { try #require(DropRecord(payload: $0)) }
        #expect(drop.count == 9 && drop.firstAt.microseconds == 1_800_000_000_000_004)
        #expect(drop.lastAt.microseconds == 1_800_000_000_000_005)
        try checkClick(records[6].payload)
        try checkConversion(records[7].payload, items: 2)
    }

    private func checkClick(_ payload: [UInt8]) throws {
        try payload.withUnsafeBytes { bytes in
            let click = try #require(ClickRecord(payload: bytes))
            #expect(click.clickID.rawValue == 0x0595_8297_0001_8007)
            #expect(click.linkID.description == "31323334-3536-4738-b93a-3b3c3d3e3f40")
            #expect(click.merchantID.description == "41424344-4546-4748-894a-4b4c4d4e4f50")
            #expect(click.influencerID.description == "51525354-5556-4758-995a-5b5c5d5e5f60")
            #expect(click.visitorID == 0x7172_7374_7576_7778)
            #expect(click.flags == [.hasAddress, .qr] && click.invalidReason == 1)
            #expect(Array(bytes[72..<76]) == [192, 0, 2, 0])
            #expect(Array(bytes[88..<90]) == Array("FR".utf8) && click.cityID == 2_988_507)
            #expect(click.userAgent.elementsEqual("Mozilla/5.0".utf8))
            #expect(click.language.elementsEqual("fr".utf8) && click.variant.isEmpty)
            #expect(click.subIDCount == 2 && click.subIDs[0].isEmpty)
            #expect(click.subIDs[1].elementsEqual("sub".utf8))
        }
    }

    private func checkConversion(_ payload: [UInt8], items: Int) throws {
        let record = try payload.withUnsafeBytes { try #require(ConversionRecord(payload: $0)) }
        #expect(record == GoldenStore.makeConversion(items: items))
        #expect(record.conversionID.description == "61626364-6566-5768-a96a-6b6c6d6e6f70")
        #expect(record.amountMinor == 12_345 && record.currency.letters == "EUR")
        #expect(record.event == .subscription && record.channel == .api)
        #expect(record.orderID.elementsEqual("order-1".utf8))
    }

    private func checkRefusal(_ payload: [UInt8]) throws {
        let record = try payload.withUnsafeBytes { try #require(RefusalRecord(payload: $0)) }
        #expect(record.httpStatus == 401 && record.channel == .postback && record.orderID == nil)
        #expect(record.reason.elementsEqual("forged_token".utf8))
    }

    @Test("Today's writer gives the bytes of version 1", arguments: GoldenStore.files)
    func write(_ golden: String, _ path: String) throws {
        let directories = TestDirectories()
        try GoldenStore.make(in: directories)
        let text = HexDump.text(try FileSystem.read("\(directories.root)/\(path)"))
        let file = GoldenStore.path(golden, version: 1)
        if CurrentProcess.environment("CLICKD_WRITE_GOLDEN") != nil {
            try Array(text.utf8).withUnsafeBytes {
                try FileSystem.replace(file, with: $0, permissions: 0o644)
            }
        }
        let expected = String(decoding: try FileSystem.read(file), as: UTF8.self)
        #expect(text == expected, "\(golden)")
    }

    @Test("A dump that is cut short or has a wrong digit is no file")
    func hexDump() {
        let bytes: [UInt8] = [1, 2] + [UInt8](repeating: 0, count: 70) + [3]
        #expect(HexDump.bytes(HexDump.text(bytes)) == bytes)
        #expect(HexDump.bytes("bytes 4\n0 00gg0000\n") == nil)
        #expect(HexDump.bytes("bytes 2\n0 000000\n") == nil)
        #expect(HexDump.bytes("0 00\n") == nil)
    }
}
