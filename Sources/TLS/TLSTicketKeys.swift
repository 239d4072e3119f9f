// The keys that session tickets are sealed with: made at random in this process, shared by all loops,
// replaced twice a day. No file holds them, so that no disk can open recorded traffic later.
internal import COpenSSL
internal import LinuxIO
internal import Synchronization

/// Session ticket keys: the current one seals, it and its predecessor open.
public final class TLSTicketKeys: Sendable {
    /// Limits of ticket keys.
    public enum Limits {
        /// Microseconds for which a key seals; it opens for as long again.
        public static let periodMicroseconds: Int64 = 12 * 3600 * 1_000_000
        /// Seconds for which a client may resume: what every ticket's key certainly lives.
        public static let sessionSeconds = 12 * 3600
    }

    struct Key {
        static let nameBytes = 16
        static let sealBytes = 32
        let name = Randomness.bytes(Key.nameBytes)
        var seal = Randomness.bytes(Key.sealBytes)
        var mac = Randomness.bytes(Key.sealBytes)

        mutating func wipe() {
            seal.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
            mac.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        }
    }

    private struct State: Sendable {
        var current = Key()
        var previous: Key?
        var madeAt: Int64
    }

    private let state: Mutex<State>
    private let now: @Sendable () -> Int64

    /// New keys.
    ///
    /// - Parameter now: Microseconds of a clock that never steps and counts while the machine sleeps.
    init(now: @escaping @Sendable () -> Int64) {
        self.now = now
        state = Mutex(State(madeAt: now()))
    }

    /// New keys, by the clock that counts since the machine's start.
    public convenience init() { self.init(now: { SystemClock.bootMicroseconds() }) }

    /// Replaces what is too old, and forgets it; once a second is often enough.
    public func rotateIfDue() {
        let time = now()
        state.withLock { TLSTicketKeys.rotate(&$0, time) }
    }

    private static func rotate(_ state: inout State, _ time: Int64) {
        let periods = (time - state.madeAt) / Limits.periodMicroseconds
        guard periods > 0 else { return }
        state.previous?.wipe()
        if periods == 1 {
            state.previous = state.current
        } else {
            state.current.wipe()
            state.previous = nil
        }
        state.current = Key()
        state.madeAt += periods * Limits.periodMicroseconds
    }

    /// The key that seals now.
    func sealing() -> Key {
        let time = now()
        return state.withLock {
            TLSTicketKeys.rotate(&$0, time)
            return $0.current
        }
    }

    /// The key of that name, and whether the ticket should be replaced; nil when it is forgotten.
    func opening(_ name: UnsafeBufferPointer<UInt8>) -> (key: Key, isOld: Bool)? {
        let time = now()
        return state.withLock {
            TLSTicketKeys.rotate(&$0, time)
            if name.elementsEqual($0.current.name) { return ($0.current, false) }
            if let previous = $0.previous, name.elementsEqual(previous.name) {
                return (previous, true)
            }
            return nil
        }
    }

    /// OpenSSL's question: seal a new ticket, or open one.
    ///
    /// - Returns: 1 done, 2 done and a new ticket is due, 0 unknown key, -1 failure.
    func answer(
        name: UnsafeMutablePointer<UInt8>, vector: UnsafeMutablePointer<UInt8>,
        cipher: OpaquePointer, mac: OpaquePointer, seals: Bool
    ) -> CInt {
        let names = UnsafeMutableBufferPointer(start: name, count: Key.nameBytes)
        var key: Key
        var isOld = false
        if seals {
            key = sealing()
            for index in names.indices { names[index] = key.name[index] }
            let bytes = EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())
            guard RAND_bytes(vector, bytes) == 1 else { return -1 }
        } else {
            guard let found = opening(UnsafeBufferPointer(names)) else { return 0 }
            (key, isOld) = found
        }
        guard copenssl_ticket_mac(mac, key.mac, key.mac.count) == 1,
            EVP_CipherInit_ex(
                cipher, EVP_aes_256_cbc(), nil, key.seal, vector, seals ? 1 : 0) == 1
        else { return -1 }
        return isOld ? 2 : 1
    }
}
