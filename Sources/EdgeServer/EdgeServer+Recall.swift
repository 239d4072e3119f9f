// What the edge must remember across a restart: the signed messages of the last minutes (contract, 4).
internal import EdgeCore
internal import LinuxIO
internal import RingLog
internal import Synchronization
internal import TLS
internal import Tracking

extension EdgeServer {
    /// Records between two looks at the tailer's memory.
    private static let recallBatch = 1000

    /// Reads the signed messages of the last ten minutes back from the spool, so that the same id with
    /// another body is 409 after a restart too.
    ///
    /// Once, on a control thread; the loops may serve meanwhile.
    /// - Complexity: O(records that the spool still has).
    public func recallMessages() {
        let now = Timestamp(microseconds: SystemClock.wallMicroseconds())
        let oldest = now.advanced(byMicroseconds: -MessageMemory.spanMicroseconds)
        let digests = OpenSSLDigests()
        for ring in store.rings {
            let last = ring.durableSequence
            var tailer = ring.makeTailer(from: 1)
            var count = 0
            while tailer.nextSequence <= last, let record = tailer.next() {
                count += 1
                if record.kind == RecordKind.conversion.rawValue,
                    let conversion = ConversionRecord(payload: record.payload),
                    conversion.receivedAt >= oldest,
                    let message = SignedMessage(conversion, digests: digests)
                {
                    _ = shared.messages.withLock {
                        $0.admit(message, at: conversion.receivedAt)
                    }
                }
                if count % EdgeServer.recallBatch == 0 { tailer.releaseBatch() }
            }
        }
    }
}
