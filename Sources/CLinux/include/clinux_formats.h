// The persisted layouts of ring and spool, byte by byte as in docs/formats. Little-endian; the
// asserts below are the formats' lock: a layout that moves does not compile.
#ifndef CLINUX_FORMATS_H
#define CLINUX_FORMATS_H

#include <stddef.h>
#include <stdint.h>

/// Sixteen bytes as they lie on disk; a UUID's are in network order.
struct clinux_bytes16 {
    uint64_t first;
    uint64_t second;
};

/// The head of a record, in ring and segment alike (docs/formats/records.md).
struct clinux_record_head {
    uint32_t crc;
    /// Bits 0-10 slots, 11-16 unused bytes of the last slot, 17-20 kind, 21-31 marker.
    uint32_t shape;
    uint64_t sequence;
};
_Static_assert(sizeof(struct clinux_record_head) == 16, "record head");
_Static_assert(offsetof(struct clinux_record_head, shape) == 4, "record shape");
_Static_assert(offsetof(struct clinux_record_head, sequence) == 8, "record sequence");

/// The identity of a ring: bytes 0-127 of its file (docs/formats/ring.md).
struct clinux_ring_header {
    uint64_t magic;
    uint32_t version;
    /// CRC32C of bytes 0-11 and 16-127.
    uint32_t crc;
    struct clinux_bytes16 ring_uuid;
    struct clinux_bytes16 nonce;
    struct clinux_bytes16 spool_uuid;
    struct clinux_bytes16 boot_id;
    uint64_t body_bytes;
    int64_t created_microseconds;
    uint16_t ring_id;
    uint16_t node;
    uint32_t reserved0;
    uint64_t reserved1[3];
};
_Static_assert(sizeof(struct clinux_ring_header) == 128, "ring header");
_Static_assert(offsetof(struct clinux_ring_header, crc) == 12, "ring crc");
_Static_assert(offsetof(struct clinux_ring_header, ring_uuid) == 16, "ring uuid");
_Static_assert(offsetof(struct clinux_ring_header, nonce) == 32, "ring nonce");
_Static_assert(offsetof(struct clinux_ring_header, spool_uuid) == 48, "ring spool");
_Static_assert(offsetof(struct clinux_ring_header, boot_id) == 64, "ring boot");
_Static_assert(offsetof(struct clinux_ring_header, body_bytes) == 80, "ring body");
_Static_assert(offsetof(struct clinux_ring_header, created_microseconds) == 88, "ring created");
_Static_assert(offsetof(struct clinux_ring_header, ring_id) == 96, "ring id");
_Static_assert(offsetof(struct clinux_ring_header, node) == 98, "ring node");

/// The positions of a ring: bytes 128-319 of its file, a cache line for each writer.
struct clinux_ring_positions {
    /// Written by the event loop: slots ever published, and the last record's sequence.
    uint64_t head_slot;
    uint64_t head_sequence;
    uint64_t producer_reserved[6];
    /// Written by the spooler: slots ever freed, and the last freed record's sequence.
    uint64_t tail_slot;
    uint64_t tail_sequence;
    uint64_t consumer_reserved[6];
    /// Written at open: how often the ring's store has been opened.
    uint64_t epoch;
    uint64_t open_reserved[7];
};
_Static_assert(sizeof(struct clinux_ring_positions) == 192, "ring positions");
_Static_assert(offsetof(struct clinux_ring_positions, tail_slot) == 64, "consumer line");
_Static_assert(offsetof(struct clinux_ring_positions, epoch) == 128, "open line");

/// The head of a segment file, twice in its first 4,096 bytes: at 0 and at 2,048
/// (docs/formats/spool.md).
struct clinux_segment_header {
    uint64_t magic;
    uint32_t version;
    /// CRC32C of the copy's bytes 0-11 and 16-2047.
    uint32_t crc;
    struct clinux_bytes16 spool_uuid;
    struct clinux_bytes16 ring_uuid;
    struct clinux_bytes16 nonce;
    uint64_t first_sequence;
    uint64_t epoch;
    uint64_t number;
    uint64_t segment_bytes;
    int64_t created_microseconds;
    uint16_t ring_id;
    uint16_t node;
    /// 0 free, 1 in use.
    uint32_t state;
    uint64_t reserved[2];
};
_Static_assert(sizeof(struct clinux_segment_header) == 128, "segment header");
_Static_assert(offsetof(struct clinux_segment_header, spool_uuid) == 16, "segment spool");
_Static_assert(offsetof(struct clinux_segment_header, ring_uuid) == 32, "segment ring");
_Static_assert(offsetof(struct clinux_segment_header, nonce) == 48, "segment nonce");
_Static_assert(offsetof(struct clinux_segment_header, first_sequence) == 64, "segment first");
_Static_assert(offsetof(struct clinux_segment_header, epoch) == 72, "segment epoch");
_Static_assert(offsetof(struct clinux_segment_header, number) == 80, "segment number");
_Static_assert(offsetof(struct clinux_segment_header, segment_bytes) == 88, "segment bytes");
_Static_assert(offsetof(struct clinux_segment_header, created_microseconds) == 96, "segment made");
_Static_assert(offsetof(struct clinux_segment_header, ring_id) == 104, "segment ring id");
_Static_assert(offsetof(struct clinux_segment_header, state) == 108, "segment state");

/// The identity of a spool: the start of each of the two 4,096-byte slots of its identity file.
struct clinux_spool_identity {
    uint64_t magic;
    uint32_t version;
    /// CRC32C of the slot's bytes 0-11 and 16-4095.
    uint32_t crc;
    /// Rises with each write; the valid slot with the higher one holds.
    uint64_t generation;
    struct clinux_bytes16 spool_uuid;
    struct clinux_bytes16 boot_id;
    uint64_t epoch;
    int64_t created_microseconds;
    uint16_t node;
    /// 1 when the last run ended with everything spooled and synced.
    uint8_t clean_stop;
    /// 1 when this spool has claimed its node in the database.
    uint8_t claimed;
    uint32_t reserved;
    /// The machine's ID, zero-terminated.
    uint8_t machine[64];
};
_Static_assert(sizeof(struct clinux_spool_identity) == 144, "spool identity");
_Static_assert(offsetof(struct clinux_spool_identity, generation) == 16, "identity generation");
_Static_assert(offsetof(struct clinux_spool_identity, spool_uuid) == 24, "identity spool");
_Static_assert(offsetof(struct clinux_spool_identity, boot_id) == 40, "identity boot");
_Static_assert(offsetof(struct clinux_spool_identity, epoch) == 56, "identity epoch");
_Static_assert(offsetof(struct clinux_spool_identity, created_microseconds) == 64, "identity made");
_Static_assert(offsetof(struct clinux_spool_identity, node) == 72, "identity node");
_Static_assert(offsetof(struct clinux_spool_identity, clean_stop) == 74, "identity stop");
_Static_assert(offsetof(struct clinux_spool_identity, claimed) == 75, "identity claim");
_Static_assert(offsetof(struct clinux_spool_identity, machine) == 80, "identity machine");

/// What a spool remembers of each of its 32 rings: at byte 1,024 of the identity slot.
struct clinux_spool_ring {
    struct clinux_bytes16 ring_uuid;
    /// No identity of the ring is at or beyond this time, milliseconds since 1970; 0 for none yet.
    int64_t lease_milliseconds;
    uint64_t reserved;
};
_Static_assert(sizeof(struct clinux_spool_ring) == 32, "spool ring");

/// A loss that has not yet been acknowledged: 32 of these at byte 2,048 of the identity slot.
struct clinux_spool_gap {
    struct clinux_bytes16 ring_uuid;
    uint64_t first_sequence;
    /// 0 when nothing tells how many there were.
    uint64_t last_sequence;
    int64_t noticed_microseconds;
    uint16_t ring_id;
    /// 0 no gap, else docs/formats/spool.md.
    uint16_t cause;
    uint32_t reserved0;
    uint64_t reserved1[2];
};
_Static_assert(sizeof(struct clinux_spool_gap) == 64, "spool gap");
_Static_assert(offsetof(struct clinux_spool_gap, first_sequence) == 16, "gap first");
_Static_assert(offsetof(struct clinux_spool_gap, noticed_microseconds) == 32, "gap noticed");
_Static_assert(offsetof(struct clinux_spool_gap, ring_id) == 40, "gap ring");
_Static_assert(offsetof(struct clinux_spool_gap, cause) == 42, "gap cause");

/// CRC32C of a record: its bytes from the fifth on, continued from the ring's seed, inverted.
/// The same as `~clinux_crc32c(seed, record + 4, bytes - 4)`; `bytes` is a multiple of 8.
uint32_t clinux_record_crc(uint32_t seed, const void *record, size_t bytes);

#endif
