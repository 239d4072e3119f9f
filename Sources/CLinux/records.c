// The checksum of a record: CRC32C in aligned words, since each record begins on a slot.
#include "clinux.h"
#include <string.h>

#if defined(__x86_64__)
static int has_sse42;

__attribute__((constructor)) static void look_for_sse42(void) {
    __builtin_cpu_init();
    has_sse42 = __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2")))
static uint32_t record_crc_sse42(uint32_t seed, const uint8_t *record, size_t bytes) {
    uint32_t shape;
    memcpy(&shape, record + 4, 4);
    uint64_t crc = __builtin_ia32_crc32si(seed, shape);
    for (size_t offset = 8; offset + 8 <= bytes; offset += 8) {
        uint64_t word;
        memcpy(&word, record + offset, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    return ~(uint32_t)crc;
}
#endif

uint32_t clinux_record_crc(uint32_t seed, const void *record, size_t bytes) {
    const uint8_t *start = record;
#if defined(__x86_64__)
    if (has_sse42) return record_crc_sse42(seed, start, bytes);
#endif
    return ~clinux_crc32c(seed, start + 4, bytes - 4);
}
