// The words that tell a user agent, and finding all of them in one pass without allocating.

/// What a word in a User-Agent header stands for.
enum AgentToken: UInt8, CaseIterable {
    // Automation.
    case bot, cubot, address, automation, googleSuffix, compatible, oldBrowser
    // Platforms.
    case platform, iphone, ipad, appleMobile, appleTV, watch, darwin, macintosh, desktopApple,
        android
    case windows, windowsPhone, chromeOS, linux, x11, otherSystem, television, console
    case mobile, tablet, featurePhone, opera, operaMini
    // Browsers and apps.
    case instagram, facebook, tiktok, snapchat, pinterest, twitter, linkedin, whatsapp, telegram
    case youtube, line, wechat, googleApp, edge, samsung, ucBrowser, yandex, vivaldi, silk, miui
    case huawei, qq, duckDuckGo, firefox, chrome, explorer, safari, version, webView, webKit
}

/// The tokens that were seen in a header.
struct AgentTokens: BitwiseCopyable {
    private var bits: UInt64 = 0

    mutating func insert(_ token: AgentToken) { bits |= 1 << UInt64(token.rawValue) }
    func has(_ token: AgentToken) -> Bool { bits >> UInt64(token.rawValue) & 1 != 0 }
    func has(_ first: AgentToken, or second: AgentToken) -> Bool { has(first) || has(second) }
}

/// The table of words, by first letter.
struct AgentTokenTable: Sendable {
    /// Bytes of a header that are looked at.
    static let maxBytes = 1024

    static let shared = AgentTokenTable()

    private struct Word {
        var start: UInt16
        var count: UInt8
        var token: AgentToken
    }

    private var text: [UInt8] = []
    private var words: [Word] = []
    /// Where the words of a first byte begin in `words`; one more for the end.
    private var firsts: [UInt16] = []

    private init() {
        precondition(AgentToken.allCases.count <= 64)
        var all: [(bytes: [UInt8], token: AgentToken)] = []
        for (token, list) in AgentTokenTable.vocabulary {
            for word in list.split(separator: "|") {
                all.append((Array(word.utf8), token))
            }
        }
        all.sort { $0.bytes.lexicographicallyPrecedes($1.bytes) }
        for byte in 0...255 {
            firsts.append(UInt16(words.count))
            for (bytes, token) in all where Int(bytes[0]) == byte {
                words.append(
                    Word(start: UInt16(text.count), count: UInt8(bytes.count), token: token))
                text += bytes
            }
        }
        firsts.append(UInt16(words.count))
    }

    /// All tokens in a header, letters compared without case.
    /// - Complexity: O(n × words of one letter); no allocation.
    func tokens(in header: UnsafeRawBufferPointer) -> AgentTokens {
        var found = AgentTokens()
        let end = min(header.count, AgentTokenTable.maxBytes)
        text.withUnsafeBufferPointer { text in
            words.withUnsafeBufferPointer { words in
                firsts.withUnsafeBufferPointer { firsts in
                    for index in 0..<end {
                        let first = Int(AgentTokenTable.lowercase(header[index]))
                        for number in Int(firsts[first])..<Int(firsts[first + 1]) {
                            let word = words[number]
                            if AgentTokenTable.matches(word, text, header, at: index, end: end) {
                                found.insert(word.token)
                            }
                        }
                    }
                }
            }
        }
        return found
    }

    private static func matches(
        _ word: Word, _ text: UnsafeBufferPointer<UInt8>, _ header: UnsafeRawBufferPointer,
        at index: Int, end: Int
    ) -> Bool {
        let count = Int(word.count)
        guard end - index >= count else { return false }
        for offset in 1..<max(1, count) {
            guard lowercase(header[index + offset]) == text[Int(word.start) + offset] else {
                return false
            }
        }
        switch word.token {
        case .bot:
            // A Cubot is a phone.
            return index < 2 || lowercase(header[index - 1]) != UInt8(ascii: "u")
                || lowercase(header[index - 2]) != UInt8(ascii: "c")
        case .googleSuffix:
            // A name that ends in -Google, not one that goes on as -googleplay.
            let next = index + count < end ? lowercase(header[index + count]) : 0
            return next < UInt8(ascii: "a") || next > UInt8(ascii: "z")
        case .address:
            // `bot@example.com`, not `android@101.0`.
            guard index + 1 < end else { return false }
            let next = header[index + 1]
            return next < UInt8(ascii: "0") || next > UInt8(ascii: "9")
        default: return true
        }
    }

    static func lowercase(_ byte: UInt8) -> UInt8 {
        byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
    }

    /// Lower-case words, separated by bars.
    private static let vocabulary: [(AgentToken, String)] = [
        (.bot, "bot"), (.address, "@"), (.googleSuffix, "-google"), (.compatible, "compatible"),
        (
            .automation,
            "crawl|spider|slurp|http:|https:|www.|python|wget|libwww|headless|phantomjs|preview|scrap"
                + "|fetch|monitor|httpclient|http-client|apache-http|winhttp|httpunit|lwp::|synthetic"
                + "|validator|check_|checker|scanner|scanning|scan.|archiv|google-|googleagent"
                + "|inspection|mediapartners|facebookexternal|facebookcatalog|externalhit|meta-external"
                + "|lighthouse|pingdom|nutch|feed|indexer|harvest|imageproxy|playwright|selenium"
                + "|puppeteer|cypress|urllib|httpie|postman|axios|node-fetch|guzzle|go-http|ruby/|perl/"
                + "|php/|libcurl|curl/|java/1|java/2|httrack|resolver|parser|screenshot|thumb|sitemap"
                + "|uptime|probe|site24x7|sleuth|zapier|.com/|.io/|capture|auditor|indy library"
                + "|securityheaders|linkcheck|link-check|sitecheck|analyzer|seo-|-seo|newsai|hardenize"
                + "|silktide|datanyze|okhttp/|researchscan"
        ),
        (
            .oldBrowser,
            "msie|konqueror|opera|trident|khtml/|icab|avant|netfront|windows ce|iemobile|webtv"
                + "|elaine|symbian|nokia|series|xbox|msoffice"
        ),
        (
            .platform,
            "mozilla/|cfnetwork|netfront|j2me|brew|series60|dalvik|nintendo|obigo|up.|outlook|office|freebsd|fban"
                + "|fbav|windows|linux|mac os|ios|samsung|pinterest|instagram|alamofire"
        ),
        (.iphone, "iphone|ipod"), (.ipad, "ipad"),
        (.appleMobile, "(ios;|-ios/|; ios |(ios |edgios/|crios/|fxios/|opios/|iph os"),
        (.appleTV, "tvos|appletv|apple tv"),
        (.watch, "watchos|watch os"), (.darwin, "darwin/|cfnetwork"),
        (.macintosh, "macintosh|mac os x|macos|mac_powerpc"),
        (.desktopApple, "x86_64)|i386)|i386/|macbook|imac|macmini"),
        (.android, "android|silk/|; kf|adr |googletv|google tv|; quest"),
        (.windows, "windows|win32|win64|winnt|win98|win95"),
        (.windowsPhone, "windows phone|iemobile|windows mobile|windows ce|xblwp7|zunewp7"),
        (.chromeOS, "cros "), (.linux, "linux|ubuntu|gentoo"), (.x11, "x11"),
        (
            .otherSystem,
            "tizen|webos|web0s|kaios|symbian|series60|series40|s60;|bada/|blackberry|bb10|playbook"
                + "|freebsd|openbsd|netbsd|sunos|solaris|nintendo|playstation|meego|maemo|sailfish|rim "
                + "|serenityos|harmonyos|openharmony|hp-tablet|webkit/sony|haiku|nokia|brew|mobile; rv"
                + "|mobile;rv|tablet; rv|wetab|roku"
        ),
        (
            .television,
            "smart-tv|smarttv|smart tv|hbbtv|googletv|google tv|roku|bravia|netcast|web0s|viera"
                + "|opera tv|crkey|; aft|dtv|philipstv|tv safari|aquos|ce-html|netrange"
        ),
        (.console, "playstation|xbox|nintendo"), (.mobile, "mobile|mobi/"),
        (.tablet, "tablet|playbook|kindle|silk/|; kf|xoom|sm-t|gt-p"),
        (
            .featurePhone,
            "blackberry|bb10|symbian|nokia|midp|kaios|j2me|brew|opera mini|up.browser|webos/|palm|bada/"
                + "|docomo|kddi|series60|maemo|meego|sailfish|obigo"
        ),
        (.opera, "opera|opr/|opt/|opios/"), (.operaMini, "opera mini"),
        (.instagram, "instagram"), (.facebook, "fban|fbav|fb_iab|fbios"),
        (.tiktok, "tiktok|musical_ly|bytedance|trill_|bytelocale"), (.snapchat, "snapchat"),
        (.pinterest, "pinterest"), (.twitter, "twitter"), (.linkedin, "linkedinapp"),
        (.whatsapp, "whatsapp"), (.telegram, "telegram"),
        (.youtube, "com.google.android.youtube|com.google.ios.youtube"), (.line, " line/"),
        (.wechat, "micromessenger"), (.googleApp, "gsa/"),
        (.edge, "edg/|edge/|edga/|edgios/"), (.samsung, "samsungbrowser"),
        (.ucBrowser, "ucbrowser|ucweb"), (.yandex, "yabrowser|yowser"), (.vivaldi, "vivaldi"),
        (.silk, "silk/"), (.miui, "miuibrowser"), (.huawei, "huaweibrowser"), (.qq, "qqbrowser"),
        (.duckDuckGo, "duckduckgo|ddg/"), (.firefox, "firefox|fxios|focus/"),
        (.chrome, "chrome|crios|chromium"), (.explorer, "msie|trident"), (.safari, "safari"),
        (.version, "version/"), (.webView, "; wv)"), (.webKit, "applewebkit"),
    ]
}
