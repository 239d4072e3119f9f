// Where the engine decodes texts that cannot be used as they stand in the request.

/// Offsets into an engine's scratch memory, one place for each text.
enum Scratch {
    static let host = 0
    static let hostBytes = 256
    static let slug = 256
    static let slugBytes = 128
    static let token = 384
    static let language = 416
    static let referrer = 512
    static let referrerBytes = 256
    static let userAgent = 768
    static let userAgentBytes = 512
    /// Ten sub-ids, then the partner's click id, the source and `utm_source`.
    static let texts = 1280
    static let textBytes = 256
    static let textCount = 13
    static let name = texts + textCount * textBytes
    static let nameBytes = 64
    /// All of it.
    static let bytes = name + nameBytes
}
