// What the record says of a click: parameters, texts, address, identity, privacy.
import EdgeCore
import Testing
import Tracking

@Suite("Click records")
struct RecordTests {
    private func text(_ bytes: UnsafeRawBufferPointer) -> String {
        String(decoding: bytes, as: UTF8.self)
    }

    private func edge(_ privacy: AddressPrivacy = .truncate, honourGPC: Bool = true) -> EdgeFixture
    {
        var edge = EdgeFixture(privacy: privacy, honourGPC: honourGPC)
        edge.load([EdgeFixture.link("https://s.example/")])
        return edge
    }

    @Test("Sub-ids and their aliases fill the record; the plain name wins over an alias")
    func subIDs() throws {
        var edge = edge()
        let reply = edge.send(
            "/a?s1=alias&sub1=one&subid=late&aff_sub2=two&sub4=&sub10=ten%20x&s3=%C3%A9&sub5=a&sub5=b"
        )
        try reply.withRecord { record in
            #expect(record.subIDCount == 10)
            #expect(text(record.subIDs[0]) == "one")
            #expect(text(record.subIDs[1]) == "two")
            #expect(text(record.subIDs[2]) == "é")
            #expect(record.subIDs[3].baseAddress == nil)
            #expect(text(record.subIDs[4]) == "a")
            #expect(text(record.subIDs[9]) == "ten x")
        }
        try edge.send("/a?x=1&sub11=x&s6=x&sub0=x&subx=1&aff_sub1=x&aff_sub6=y").withRecord {
            #expect($0.subIDCount == 0)
        }
    }

    @Test("The partner's click id, the source and utm_source are recorded")
    func partner() throws {
        var edge = edge()
        let reply = edge.send(
            "/a?aff_click_id=p%2F1&source_id=s&utm_source=Insta+x",
            headers: ["Referer: https://l.Instagram.com/x", "Accept-Language: de;q=1"])
        try reply.withRecord { record in
            #expect(text(record.affiliateClickID) == "p/1")
            #expect(text(record.sourceID) == "s")
            #expect(text(record.utmSource) == "Insta x")
            #expect(text(record.referrerHost) == "l.instagram.com")
            #expect(text(record.language) == "de")
        }
    }

    /// Query value of sub1 and what is recorded.
    static let texts: [(String, String)] = [
        ("%00a", "?a"), ("%ff%fe", "??"), ("%C3%A9", "é"), ("%C3", "?"), ("%ED%A0%80", "???"),
        ("%F0%9F%98%80", "😀"), ("%F4%90%80%80", "????"), ("%C0%AF", "??"), ("a%zz%4", "a%zz%4"),
        ("%E2%82", "??"),
    ]

    @Test("Texts are UTF-8 without NUL, whatever was sent", arguments: texts)
    func clean(_ raw: String, _ expected: String) throws {
        var edge = edge()
        try edge.send("/a?sub1=\(raw)").withRecord { #expect(text($0.subIDs[0]) == expected) }
    }

    @Test("Long texts are cut at a character")
    func cut() throws {
        var edge = edge()
        let reply = edge.send(
            "/a?sub1=" + String(repeating: "%C3%A9", count: 200) + "&sub2="
                + String(repeating: "x", count: 400))
        try reply.withRecord { record in
            #expect(text(record.subIDs[0]) == String(repeating: "é", count: 127))
            #expect(record.subIDs[1].count == 255)
        }
        let agent =
            Array("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: ".utf8)
            + (0..<400).flatMap { _ in Array("é".utf8) } + [0xFF] + Array("\r\n\r\n".utf8)
        try edge.send(bytes: agent).withRecord { #expect(text($0.userAgent).count == 256) }
        let broken =
            Array("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: a".utf8) + [0xFF, 0xC3]
            + Array("b\r\n\r\n".utf8)
        try edge.send(bytes: broken).withRecord { #expect(text($0.userAgent) == "a??b") }
    }

    @Test("The largest record fits its memory")
    func largest() throws {
        var edge = edge()
        let value = String(repeating: "x", count: 300)
        let query =
            ((1...10).map { "sub\($0)=\(value)" } + [
                "aff_click_id=\(value)", "source_id=\(value)", "utm_source=\(value)",
            ]).joined(separator: "&")
        let reply = edge.send(
            "/a?\(query)",
            headers: [
                "User-Agent: \(value)\(value)", "Accept-Language: \(value)",
                "Referer: https://\(String(repeating: "h", count: 250))/",
            ])
        #expect(reply.answer.recordBytes <= ClickRecord.maximumBytes)
        try reply.withRecord {
            #expect($0.userAgent.count == 512 && $0.language.count == 0)
            #expect($0.referrerHost.count == 250)
        }
    }

    @Test("An address is cut to /24 or /48, kept, or left out, as the setting says")
    func addresses() throws {
        var cutting = edge()
        try cutting.send().withRecord {
            #expect($0.address.0.byteSwapped == 0x0102_0300_0000_0000 && $0.address.1 == 0)
            #expect($0.flags.contains(.hasAddress) && !$0.flags.contains(.ipv6))
        }
        cutting.client = ClientAddress(
            high: 0x2001_0DB8_0001_0002, low: 0x0003_0004_0005_0006, isIPv6: true)
        try cutting.send().withRecord {
            #expect($0.address.0.byteSwapped == 0x2001_0DB8_0001_0000 && $0.address.1 == 0)
            #expect($0.flags.contains(.ipv6))
        }
        var full = edge(.full)
        try full.send().withRecord { #expect($0.address.0.byteSwapped == 0x0102_0304_0000_0000) }
        var nothing = edge(.none)
        try nothing.send().withRecord {
            #expect($0.address.0 == 0 && !$0.flags.contains(.hasAddress))
        }
    }

    @Test("A visitor is the full address and the agent of one day, and nothing else")
    func visitors() throws {
        var edge = edge()
        func visitor(_ headers: [String] = ["User-Agent: a"]) throws -> UInt64 {
            try edge.send(headers: headers).withRecord { $0.visitorID }
        }
        let first = try visitor()
        #expect(first != 0 && first >> 63 == 0)
        #expect(try visitor() == first)
        #expect(try visitor(["User-Agent: b"]) != first)
        edge.client.high += 1 << 32
        #expect(try visitor() != first)
        edge.clock.update(wallMicroseconds: EdgeFixture.now + 86_400_000_000)
        #expect(try visitor() == 0)
    }

    @Test("Global Privacy Control and no_track leave no identity")
    func anonymous() throws {
        var edge = edge()
        try edge.send(headers: ["Sec-GPC: 1"]).withRecord {
            #expect($0.visitorID == 0 && $0.flags.contains(.anonymous) && $0.invalidReason == 0)
        }
        try edge.send(headers: ["Sec-GPC: 0"]).withRecord { #expect($0.visitorID != 0) }
        try edge.send("/a?no_track=1").withRecord {
            #expect($0.visitorID == 0 && $0.flags.contains(.anonymous))
            #expect($0.invalidReason == InvalidReason.noTrack.rawValue)
        }
        try edge.send("/a?no_track=0").withRecord { #expect($0.invalidReason == 0) }
        var ignoring = self.edge(honourGPC: false)
        try ignoring.send(headers: ["Sec-GPC: 1"]).withRecord { #expect($0.visitorID != 0) }
    }

    @Test("QR codes and requests that are no navigation are marked")
    func marks() throws {
        var edge = edge()
        try edge.send("/a?qr=1").withRecord { #expect($0.flags.contains(.qr)) }
        try edge.send("/a?qr=0").withRecord { #expect(!$0.flags.contains(.qr)) }
        try edge.send(headers: ["Sec-Fetch-Mode: no-cors"]).withRecord {
            #expect($0.flags.contains(.nonNavigational))
            #expect($0.invalidReason == InvalidReason.nonNavigational.rawValue)
        }
        try edge.send(headers: ["Sec-Fetch-Mode: navigate"]).withRecord {
            #expect($0.invalidReason == 0)
        }
    }
}
