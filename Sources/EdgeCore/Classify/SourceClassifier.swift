// Where a click came from: a QR code, the app that shows the page, the referring site, or what the
// link says of itself.
public import Tracking

extension VisitorClassifier {
    /// The source of a click.
    ///
    /// What was observed goes before what a link declares: a QR code, the app of the user agent, the
    /// referring host, then `utm_source`. Nothing at all is ``TrafficSource/direct``.
    /// - Complexity: O(n); no allocation.
    public static func source(
        referrerHost: UnsafeRawBufferPointer, userAgent: UnsafeRawBufferPointer,
        utmSource: UnsafeRawBufferPointer, isQR: Bool
    ) -> TrafficSource {
        if isQR { return .qr }
        if let app = app(AgentTokenTable.shared.tokens(in: userAgent)) { return app }
        let host = HostText(referrerHost)
        if let site = site(host) { return site }
        if let declared = declared(HostText(utmSource)) { return declared }
        return referrerHost.isEmpty && utmSource.isEmpty ? .direct : .other
    }

    private static func app(_ tokens: AgentTokens) -> TrafficSource? {
        if tokens.has(.instagram) { return .instagram }
        if tokens.has(.tiktok) { return .tiktok }
        if tokens.has(.snapchat) { return .snapchat }
        if tokens.has(.pinterest) { return .pinterest }
        if tokens.has(.twitter) { return .x }
        if tokens.has(.linkedin) { return .linkedin }
        if tokens.has(.facebook) { return .facebook }
        if tokens.has(.whatsapp) { return .whatsapp }
        if tokens.has(.telegram) { return .telegram }
        return tokens.has(.youtube) ? .youtube : nil
    }

    private static func site(_ host: HostText) -> TrafficSource? {
        guard !host.isEmpty else { return nil }
        if isMail(host) { return .email }
        if host.isWithin("instagram.com") || host.equals("com.instagram.android") {
            return .instagram
        }
        if host.isWithin("tiktok.com") || host.equals("com.zhiliaoapp.musically")
            || host.equals("com.ss.android.ugc.trill")
        {
            return .tiktok
        }
        if host.isWithin("youtube.com") || host.isWithin("youtu.be")
            || host.equals("com.google.android.youtube")
        {
            return .youtube
        }
        if host.isWithin("facebook.com") || host.isWithin("fb.com") || host.isWithin("fb.me")
            || host.isWithin("messenger.com") || host.equals("m.me")
            || host.equals("com.facebook.katana") || host.equals("com.facebook.orca")
        {
            return .facebook
        }
        if host.equals("t.co") || host.isWithin("twitter.com") || host.isWithin("x.com")
            || host.equals("com.twitter.android")
        {
            return .x
        }
        if host.isWithin("whatsapp.com") || host.equals("wa.me") || host.equals("com.whatsapp") {
            return .whatsapp
        }
        if host.equals("t.me") || host.isWithin("telegram.org") || host.isWithin("telegram.me")
            || host.equals("org.telegram.messenger")
        {
            return .telegram
        }
        return siteOrSearch(host)
    }

    private static func siteOrSearch(_ host: HostText) -> TrafficSource? {
        if host.isNational("pinterest") || host.equals("pin.it") || host.equals("com.pinterest") {
            return .pinterest
        }
        if host.isWithin("snapchat.com") || host.equals("com.snapchat.android") { return .snapchat }
        if host.isWithin("linkedin.com") || host.isWithin("lnkd.in")
            || host.equals("com.linkedin.android")
        {
            return .linkedin
        }
        if host.isNational("google") || host.equals("com.google.android.googlequicksearchbox") {
            return .google
        }
        return nil
    }

    private static func isMail(_ host: HostText) -> Bool {
        host.begins("mail.") || host.begins("webmail.") || host.equals("outlook.live.com")
            || host.equals("outlook.office.com") || host.equals("outlook.office365.com")
            || host.equals("com.google.android.gm") || host.isWithin("mail.yahoo.com")
            || host.isWithin("mail.ru") || host.isWithin("navigator.gmx.net")
    }

    private static func declared(_ text: HostText) -> TrafficSource? {
        let words: InlineArray<27, (StaticString, TrafficSource)> = [
            ("instagram", .instagram), ("ig", .instagram), ("insta", .instagram),
            ("tiktok", .tiktok), ("youtube", .youtube), ("yt", .youtube), ("facebook", .facebook),
            ("fb", .facebook), ("meta", .facebook), ("messenger", .facebook), ("x", .x),
            ("twitter", .x), ("whatsapp", .whatsapp), ("wa", .whatsapp), ("telegram", .telegram),
            ("pinterest", .pinterest), ("snapchat", .snapchat), ("snap", .snapchat),
            ("linkedin", .linkedin), ("google", .google), ("adwords", .google), ("email", .email),
            ("e-mail", .email), ("mail", .email), ("newsletter", .email), ("qr", .qr),
            ("qrcode", .qr),
        ]
        for index in words.indices where text.equals(words[index].0) { return words[index].1 }
        // `instagram.com`, as tools write it that copy the referrer.
        return site(text)
    }
}

/// A host's bytes, compared without case.
private struct HostText {
    private let bytes: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isEmpty: Bool { bytes.isEmpty }

    private func matches(_ text: StaticString, at offset: Int) -> Bool {
        let count = text.utf8CodeUnitCount
        guard offset >= 0, bytes.count - offset >= count else { return false }
        for index in 0..<count {
            guard AgentTokenTable.lowercase(bytes[offset + index]) == text.utf8Start[index] else {
                return false
            }
        }
        return true
    }

    func equals(_ text: StaticString) -> Bool {
        bytes.count == text.utf8CodeUnitCount && matches(text, at: 0)
    }

    func begins(_ text: StaticString) -> Bool { matches(text, at: 0) }

    /// Whether it is this domain or below it.
    func isWithin(_ domain: StaticString) -> Bool {
        let offset = bytes.count - domain.utf8CodeUnitCount
        guard matches(domain, at: offset) else { return false }
        return offset == 0 || bytes[offset - 1] == UInt8(ascii: ".")
    }

    /// Whether it is `name.com`, `name.de`, `name.co.uk`, `name.com.br` or below one of these.
    func isNational(_ name: StaticString) -> Bool {
        let count = name.utf8CodeUnitCount
        for offset in 0..<max(0, bytes.count - count) {
            guard offset == 0 || bytes[offset - 1] == UInt8(ascii: "."), matches(name, at: offset),
                bytes[offset + count] == UInt8(ascii: ".")
            else { continue }
            let rest = HostText(UnsafeRawBufferPointer(rebasing: bytes[(offset + count + 1)...]))
            if rest.equals("com") || rest.isCountry(from: 0) { return true }
            if rest.begins("co."), rest.isCountry(from: 3) { return true }
            if rest.begins("com."), rest.isCountry(from: 4) { return true }
        }
        return false
    }

    private func isCountry(from offset: Int) -> Bool {
        guard bytes.count == offset + 2 else { return false }
        return bytes[offset...].allSatisfy {
            let letter = AgentTokenTable.lowercase($0)
            return letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "z")
        }
    }
}
