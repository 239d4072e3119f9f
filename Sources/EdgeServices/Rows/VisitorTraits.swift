// Which of a click's facts a user agent decides, as one small value to remember.
internal import EdgeCore
internal import Tracking

/// What is remembered of one user agent.
struct VisitorTraits {
    /// The kind of device.
    var device: DeviceClass
    /// The operating system.
    var system: OperatingSystem
    /// The browser.
    var browser: BrowserFamily
    /// Whether it is a known bot.
    var isBot: Bool

    /// Classifies a User-Agent header.
    init(userAgent: UnsafeRawBufferPointer) {
        let found = VisitorClassifier.device(userAgent: userAgent)
        device = found.device
        system = found.operatingSystem
        browser = found.browser
        isBot = found.isBot
    }
}
