// User agents and sources: common cases by table, rates over the corpora, random bytes.
import LinuxIO
import Testing
import Tracking

@testable import EdgeCore

private func device(_ text: String) -> VisitorDevice {
    Array(text.utf8).withUnsafeBytes { VisitorClassifier.device(userAgent: $0) }
}

/// The values of a JSON corpus; nil, with a message, where the corpora are absent.
private func corpus(_ name: String) throws -> [JSONValue]? {
    let directory = CurrentProcess.environment("CLICKD_CORPORA") ?? "../shared/corpora"
    guard let bytes = try? FileSystem.read("\(directory)/\(name)") else {
        print("skipped: no corpus \(name) in \(directory)")
        return nil
    }
    let value = try bytes.withUnsafeBytes { try JSONReader.parse($0) }
    guard case .array(let elements) = value.content else { return [] }
    return elements
}

extension JSONValue {
    fileprivate func member(_ name: String) -> JSONValue? {
        guard case .object(let members) = content else { return nil }
        return members.first { $0.name == Array(name.utf8) }?.value
    }
    fileprivate var text: String? {
        guard case .string(let bytes) = content else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
    fileprivate var elements: [JSONValue] {
        guard case .array(let values) = content else { return [] }
        return values
    }
}

@Suite("What a user agent tells")
struct VisitorClassifierTests {
    typealias Case = (agent: String, DeviceClass, OperatingSystem, BrowserFamily)

    private static let cases: [Case] = [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "Chrome/126.0.0.0 Safari/537.36", .desktop, .windows, .chrome
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0", .desktop, .windows, .edge
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like "
                + "Gecko) Version/17.4 Safari/605.1.15", .desktop, .macos, .safari
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", .desktop,
            .linux, .firefox
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "Chrome/126.0.0.0 Safari/537.36", .desktop, .chromeos, .chrome
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
                + "like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", .mobile, .ios, .safari
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
                + "like Gecko) Mobile/15E148 Instagram 334.0.4.32.98 (iPhone14,5; iOS 17_5)",
            .mobile, .ios, .instagram
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
                + " CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1", .tablet, .ios, .chrome
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36", .mobile, .android,
            .samsung
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "Chrome/126.0.0.0 Safari/537.36", .tablet, .android, .chrome
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP1A; wv) AppleWebKit/537.36 (KHTML, "
                + "like Gecko) Version/4.0 Chrome/126.0.0.0 Mobile Safari/537.36 "
                + "[FB_IAB/FB4A;FBAV/470.0.0.0;]", .mobile, .android, .facebook
        ),
        (
            "Mozilla/5.0 (Linux; U; Android 4.2.1; en-gb; CUBOT ONE Build/JOP40D) AppleWebKit/534.30"
                + " (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30", .mobile, .android,
            .android
        ),
        (
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/538.1 (KHTML, like Gecko) "
                + "Version/6.0 TV Safari/538.1", .tv, .other, .other
        ),
        (
            "Opera/9.80 (Android; Opera Mini/7.6.35766/35.5706; U; en) Presto/2.8.119 "
                + "Version/11.10", .mobile, .android, .opera
        ),
        ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)", .desktop, .windows, .explorer),
    ]

    @Test("Common browsers and apps are known", arguments: cases)
    func common(agent: String, class: DeviceClass, system: OperatingSystem, family: BrowserFamily) {
        let found = device(agent)
        #expect(found.device == `class`, "\(agent)")
        #expect(found.operatingSystem == system, "\(agent)")
        #expect(found.browser == family, "\(agent)")
        #expect(!found.isBot, "\(agent)")
    }

    @Test(
        "Programs are bots, and so is a header that says nothing",
        arguments: [
            "", "-", "Mozilla/5.0", "curl/8.5.0", "Wget/1.21", "python-requests/2.31",
            "Go-http-client/2.0", "Java/17.0.6", "okhttp/4.12.0", "axios/1.6.0",
            "WhatsApp/2.23.20.0",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "TelegramBot (like TwitterBot)", "Mozilla/5.0 (compatible; SomethingNew)",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                + "HeadlessChrome/126.0.0.0 Safari/537.36",
        ])
    func programs(agent: String) {
        let found = device(agent)
        #expect(found.isBot && found.device == .bot && found.browser == .bot)
    }

    @Test("Of the crawler corpus nearly all instances are known as bots")
    func crawlers() throws {
        guard let entries = try corpus("useragent/crawlers.json") else { return }
        var total = 0
        var missed: [String] = []
        for entry in entries {
            for instance in entry.member("instances")?.elements ?? [] {
                guard let agent = instance.text else { continue }
                total += 1
                if !device(agent).isBot { missed.append(agent) }
            }
        }
        let found = total - missed.count
        print("crawlers: \(found) of \(total) known (\(found * 1000 / total) per mille)")
        for agent in missed { print("  not known: \(agent)") }
        #expect(found * 1000 >= total * 985)
    }

    /// Browser families whose user agents people drive.
    private static let people: Set<String> = [
        "Chrome", "Chrome Mobile", "Chrome Mobile iOS", "Chrome Mobile WebView", "Chromium",
        "Firefox",
        "Firefox Mobile", "Firefox iOS", "Safari", "Mobile Safari", "Mobile Safari UI/WKWebView",
        "Edge", "Edge Mobile", "Opera", "Opera Mobile", "Opera Mini", "Opera Tablet", "Opera Coast",
        "IE", "IE Mobile", "Samsung Internet", "UC Browser", "QQ Browser", "QQ Browser Mobile",
        "Yandex Browser", "Vivaldi", "Amazon Silk", "Android", "Facebook", "Instagram", "Pinterest",
        "Snapchat", "Twitter", "TikTok", "LinkedIn", "LINE", "WeChat Browser", "Google",
        "MIUI Browser",
        "Brave", "DuckDuckGo", "DuckDuckGo Mobile", "Ecosia Android", "Whale", "Sogou Explorer",
        "Maxthon", "Konqueror", "Camino", "SeaMonkey", "Iceweasel", "BlackBerry",
        "BlackBerry WebKit",
        "Nokia Browser", "Puffin", "Dolphin", "Coc Coc", "Sleipnir", "Avant", "Iron", "Iceape",
        "Epiphany", "Galeon", "Midori", "NetFront", "Dragon", "Comodo Dragon", "Pale Moon",
    ]

    @Test("Of the browsers in the corpora hardly one is taken for a bot")
    func falseBots() throws {
        guard let browsers = try corpus("useragent/uap_ua.json"),
            let systems = try corpus("useragent/uap_os.json")
        else { return }
        let agents =
            browsers.filter { Self.people.contains($0.member("family")?.text ?? "") }
            + systems.filter {
                ["iOS", "Android", "Windows", "Mac OS X", "Chrome OS"]
                    .contains($0.member("family")?.text ?? "")
            }
        var total = 0
        var wrong: [String] = []
        for agent in agents.compactMap({ $0.member("user_agent_string")?.text }) {
            // Programs that the corpora list under the browser or system they name.
            if agent.contains("http") || agent.contains("InspectionTool") { continue }
            total += 1
            if device(agent).isBot { wrong.append(agent) }
        }
        print("browsers: \(wrong.count) of \(total) taken for bots")
        for agent in wrong { print("  taken for a bot: \(agent)") }
        #expect(wrong.count * 1000 <= total * 5)
    }

    private static let systems: [String: OperatingSystem] = [
        "iOS": .ios, "Android": .android, "Windows": .windows, "Mac OS X": .macos, "Linux": .linux,
        "Ubuntu": .linux, "Gentoo": .linux, "Chrome OS": .chromeos, "GoogleTV": .android,
        "Windows Phone": .windows, "Windows Mobile": .windows, "Chromecast Android": .android,
    ]

    @Test("Of the operating systems in the corpus nearly all are right")
    func operatingSystems() throws {
        guard let entries = try corpus("useragent/uap_os.json") else { return }
        var wrong: [String] = []
        for entry in entries {
            guard let agent = entry.member("user_agent_string")?.text,
                let family = entry.member("family")?.text
            else { continue }
            let wanted = Self.systems[family] ?? .other
            let found = device(agent).operatingSystem
            if found != wanted { wrong.append("\(family) as \(found.name): \(agent)") }
        }
        print("systems: \(entries.count - wrong.count) of \(entries.count) right")
        for line in wrong { print("  wrong: \(line)") }
        #expect(wrong.count * 100 <= entries.count * 4)
    }

    @Test("No header crashes the classifier, whatever its bytes")
    func fuzz() {
        var random = SystemRandomNumberGenerator()
        let words = Self.cases.map { Array($0.agent.utf8) }
        for _ in 0..<5000 {
            var bytes = (0..<Int.random(in: 0...80, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if let word = words.randomElement(using: &random), Bool.random() {
                bytes += word.shuffled().prefix(Int.random(in: 0...word.count))
            }
            let found = bytes.withUnsafeBytes { VisitorClassifier.device(userAgent: $0) }
            #expect(found.isBot == (found.device == .bot))
            _ = bytes.withUnsafeBytes {
                VisitorClassifier.source(
                    referrerHost: $0, userAgent: $0, utmSource: $0, isQR: false)
            }
        }
    }
}

@Suite("Where a click came from")
struct SourceClassifierTests {
    private func source(
        host: String = "", agent: String = "", utm: String = "", qr: Bool = false
    ) -> TrafficSource {
        Array(host.utf8).withUnsafeBytes { host in
            Array(agent.utf8).withUnsafeBytes { agent in
                Array(utm.utf8).withUnsafeBytes { utm in
                    VisitorClassifier.source(
                        referrerHost: host, userAgent: agent, utmSource: utm, isQR: qr)
                }
            }
        }
    }

    @Test(
        "Known referrers, with their national domains and apps",
        arguments: [
            ("l.instagram.com", TrafficSource.instagram), ("instagram.com", .instagram),
            ("www.tiktok.com", .tiktok), ("m.youtube.com", .youtube), ("youtu.be", .youtube),
            ("lm.facebook.com", .facebook), ("t.co", .x), ("x.com", .x), ("wa.me", .whatsapp),
            ("web.whatsapp.com", .whatsapp), ("t.me", .telegram), ("web.telegram.org", .telegram),
            ("pinterest.co.uk", .pinterest), ("www.pinterest.de", .pinterest),
            ("pin.it", .pinterest), ("www.snapchat.com", .snapchat), ("lnkd.in", .linkedin),
            ("www.google.com", .google), ("GOOGLE.CO.JP", .google), ("www.google.com.br", .google),
            ("mail.google.com", .email), ("com.google.android.gm", .email),
            ("outlook.live.com", .email), ("com.instagram.android", .instagram),
        ])
    func referrers(host: String, wanted: TrafficSource) {
        #expect(source(host: host) == wanted)
    }

    @Test(
        "Hosts that only look like them are other",
        arguments: [
            "instagram.com.example.org", "notinstagram.com", "google.evil.com", "google.", "google",
            "mygoogle.com", "xx.com", "t.com", "example.com", "google.co.evil", ".", "com",
        ])
    func lookalikes(host: String) {
        #expect(source(host: host) == .other)
    }

    @Test("A QR code goes before the app, the app before the referrer, that before the link's word")
    func order() {
        let agent = "Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 Mobile/15E148 Instagram 334.0"
        #expect(source(host: "t.co", agent: agent, utm: "tiktok", qr: true) == .qr)
        #expect(source(host: "t.co", agent: agent, utm: "tiktok") == .instagram)
        #expect(source(host: "t.co", utm: "tiktok") == .x)
        #expect(source(host: "example.com", utm: "TikTok") == .tiktok)
        #expect(source(utm: "newsletter") == .email)
        #expect(source(utm: "x") == .x)
        #expect(source(utm: "instagram.com") == .instagram)
        #expect(source(utm: "autumn") == .other)
        #expect(source() == .direct)
    }
}
