// CRC32C: the SSE4.2 instruction where the processor has it, a byte table elsewhere.
#define _GNU_SOURCE
#include "clinux.h"
#include <string.h>

static uint32_t table[256];

__attribute__((constructor)) static void fill_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = (value & 1) ? (value >> 1) ^ 0x82F63B78u : value >> 1;
        table[i] = value;
    }
}

uint32_t clinux_crc32c_table(uint32_t crc, const void *bytes, size_t length) {
    const uint8_t *next = bytes;
    while (length--) crc = table[(crc ^ *next++) & 0xFF] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2")))
static uint32_t crc32c_sse42(uint32_t crc, const void *bytes, size_t length) {
    const uint8_t *next = bytes;
    uint64_t wide = crc;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        wide = __builtin_ia32_crc32di(wide, word);
        next += 8;
        length -= 8;
    }
    crc = (uint32_t)wide;
    while (length--) crc = __builtin_ia32_crc32qi(crc, *next++);
    return crc;
}

static int has_sse42;

__attribute__((constructor)) static void look_for_sse42(void) {
    __builtin_cpu_init();
    has_sse42 = __builtin_cpu_supports("sse4.2");
}

uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t length) {
    return has_sse42 ? crc32c_sse42(crc, bytes, length) : clinux_crc32c_table(crc, bytes, length);
}
#else
uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t length) {
    return clinux_crc32c_table(crc, bytes, length);
}
#endif
