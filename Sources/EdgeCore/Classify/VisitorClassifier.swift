// Device, operating system, browser and bot from a User-Agent header; the source of a click. Simple
// rules over bytes that are right for the common cases; nothing here is a proof.
public import Tracking

/// A browser, or an app that shows pages itself; `clicks_logs.browser`.
public enum BrowserFamily: UInt8, CaseIterable, Sendable {
    case chrome = 1, safari, firefox, edge, opera, samsung, uc, yandex, vivaldi, silk, miui, huawei
    case qq, duckduckgo, explorer, android, webview, google, instagram, facebook, tiktok, snapchat
    case pinterest, twitter, linkedin, whatsapp, telegram, youtube, line, wechat, bot, other

    /// The word that is stored.
    public var name: String { "\(self)" }
}

/// What a User-Agent header tells.
public struct VisitorDevice: Hashable, Sendable {
    /// The kind of device; ``DeviceClass/bot`` for a bot.
    public var device: DeviceClass
    /// The operating system.
    public var operatingSystem: OperatingSystem
    /// The browser or app.
    public var browser: BrowserFamily
    /// Whether it is a program and no person: crawlers, previews, monitors, HTTP libraries.
    public var isBot: Bool
}

/// Classifies visitors by what they send.
public enum VisitorClassifier {
    /// Device, system, browser and bot of a User-Agent header; an absent header is a bot's.
    /// - Complexity: O(n) over its first ``maxAgentBytes`` bytes; no allocation.
    public static func device(userAgent: UnsafeRawBufferPointer) -> VisitorDevice {
        let tokens = AgentTokenTable.shared.tokens(in: userAgent)
        let system = system(tokens)
        if isBot(tokens, userAgent) {
            return VisitorDevice(device: .bot, operatingSystem: system, browser: .bot, isBot: true)
        }
        return VisitorDevice(
            device: deviceClass(tokens, system), operatingSystem: system,
            browser: browser(tokens, system), isBot: false)
    }

    /// Bytes of a User-Agent that are looked at.
    public static let maxAgentBytes = AgentTokenTable.maxBytes

    private static func isBot(_ tokens: AgentTokens, _ header: UnsafeRawBufferPointer) -> Bool {
        if tokens.has(.bot) || tokens.has(.address, or: .automation) || tokens.has(.googleSuffix) {
            return true
        }
        // Old browsers call themselves compatible; all others that do so are robots.
        if tokens.has(.compatible), !tokens.has(.oldBrowser) { return true }
        // WhatsApp fetches previews under its own name; its users come with a browser's.
        if tokens.has(.whatsapp), !tokens.has(.webKit) { return true }
        // A browser tells where it runs; HTTP libraries seldom do.
        return !runsSomewhere(tokens) || header.count < 12
    }

    private static func runsSomewhere(_ tokens: AgentTokens) -> Bool {
        tokens.has(.platform) || tokens.has(.iphone, or: .ipad) || tokens.has(.appleTV, or: .watch)
            || tokens.has(.appleMobile)
            || tokens.has(.darwin, or: .macintosh) || tokens.has(.android, or: .windows)
            || tokens.has(.chromeOS, or: .linux) || tokens.has(.x11, or: .otherSystem)
            || tokens.has(.television, or: .console) || tokens.has(.featurePhone, or: .opera)
            || tokens.has(.ucBrowser, or: .qq)
    }

    private static func system(_ tokens: AgentTokens) -> OperatingSystem {
        if tokens.has(.windowsPhone) { return .windows }
        if tokens.has(.appleTV, or: .watch) { return .other }
        if tokens.has(.otherSystem), !tokens.has(.android) || tokens.has(.television) {
            let isApple = tokens.has(.iphone, or: .ipad) || tokens.has(.appleMobile)
            return isApple ? .ios : .other
        }
        if tokens.has(.android) { return .android }
        if tokens.has(.windows) { return .windows }
        if tokens.has(.iphone, or: .ipad) || tokens.has(.appleMobile) { return .ios }
        if tokens.has(.chromeOS) { return .chromeos }
        if tokens.has(.macintosh) { return .macos }
        if tokens.has(.darwin) { return tokens.has(.desktopApple) ? .macos : .ios }
        if tokens.has(.television) { return .other }
        return tokens.has(.linux) ? .linux : .other
    }

    private static func deviceClass(
        _ tokens: AgentTokens, _ system: OperatingSystem
    ) -> DeviceClass {
        if tokens.has(.television, or: .appleTV) || tokens.has(.console) { return .tv }
        if tokens.has(.ipad) { return .tablet }
        if tokens.has(.iphone, or: .windowsPhone) { return .mobile }
        if tokens.has(.tablet), !tokens.has(.windows) { return .tablet }
        if tokens.has(.featurePhone) { return .mobile }
        switch system {
        case .android:
            // Tablets leave the word out; so does Opera Mini, on phones.
            return tokens.has(.mobile, or: .operaMini) || !tokens.has(.webKit) ? .mobile : .tablet
        // An iPad that asks for desktop pages calls itself a Macintosh.
        case .ios: return tokens.has(.macintosh) ? .tablet : .mobile
        case .windows, .macos, .chromeos: return .desktop
        case .linux: return tokens.has(.mobile) ? .mobile : .desktop
        case .other:
            if tokens.has(.mobile) { return .mobile }
            return tokens.has(.x11) ? .desktop : .other
        }
    }

    private static func browser(_ tokens: AgentTokens, _ system: OperatingSystem) -> BrowserFamily {
        // Most special first: nearly all call themselves Chrome or Safari too.
        let special: InlineArray<22, (AgentToken, BrowserFamily)> = [
            (.instagram, .instagram), (.tiktok, .tiktok), (.snapchat, .snapchat),
            (.pinterest, .pinterest), (.twitter, .twitter), (.linkedin, .linkedin),
            (.facebook, .facebook), (.telegram, .telegram), (.whatsapp, .whatsapp),
            (.youtube, .youtube), (.line, .line), (.wechat, .wechat), (.googleApp, .google),
            (.edge, .edge), (.opera, .opera), (.samsung, .samsung), (.ucBrowser, .uc),
            (.yandex, .yandex), (.vivaldi, .vivaldi), (.silk, .silk), (.miui, .miui),
            (.huawei, .huawei),
        ]
        for index in special.indices where tokens.has(special[index].0) { return special[index].1 }
        if tokens.has(.qq) { return .qq }
        if tokens.has(.duckDuckGo) { return .duckduckgo }
        if tokens.has(.explorer) { return .explorer }
        if tokens.has(.firefox) { return .firefox }
        if tokens.has(.chrome) { return tokens.has(.webView) ? .webview : .chrome }
        if tokens.has(.safari) {
            if system == .android { return .android }
            return system == .ios || system == .macos || system == .windows ? .safari : .other
        }
        return system == .ios && tokens.has(.webKit) ? .webview : .other
    }
}
