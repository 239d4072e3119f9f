// The checksum of a record: CRC32C in aligned words, since each record begins on a slot. One chain of the
// processor's instruction waits three cycles for each word; three chains side by side wait once for three.
// What a chain lacks, the words behind it, is a multiplication modulo the polynomial, by a constant of
// the record's size: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction" (2011).
#include "clinux.h"
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>

// Records of so many slots at most have constants; a longer one is one chain.
#define MAXIMUM_SLOTS 32
#define SLOT_WORDS 8

struct shifts {
    uint32_t first;  // Past the second and the third part.
    uint32_t second; // Past the third.
};

static struct shifts shifts[MAXIMUM_SLOTS + 1];
static int has_instructions;

// a × b modulo the polynomial, the highest power in the lowest bit.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = (b >> 1) ^ (b & 1 ? 0x82F63B78u : 0);
    }
    return product;
}

static uint32_t power_of_x(size_t exponent) {
    uint32_t result = 1u << 31;
    for (uint32_t square = 1u << 30; exponent; exponent >>= 1) {
        if (exponent & 1) result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

__attribute__((constructor)) static void prepare(void) {
    __builtin_cpu_init();
    has_instructions = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    for (size_t slots = 2; slots <= MAXIMUM_SLOTS; slots++) {
        size_t words = slots * SLOT_WORDS - 1;
        size_t part = words / 3, last = words - 2 * part;
        // The product of two reflected numbers lacks one power, and the instruction adds 32.
        shifts[slots].first = power_of_x((part + last) * 64 - 33);
        shifts[slots].second = power_of_x(last * 64 - 33);
    }
}

__attribute__((target("sse4.2,pclmul")))
static inline uint64_t shifted(uint32_t crc, uint32_t constant) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)constant), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

__attribute__((target("sse4.2,pclmul")))
static uint32_t record_crc(uint32_t seed, const uint8_t *record, size_t slots) {
    uint32_t shape;
    memcpy(&shape, record + 4, 4);
    const uint64_t *words = (const uint64_t *)(record + 8);
    const size_t count = slots * SLOT_WORDS - 1;
    uint64_t first = _mm_crc32_u32(seed, shape), second = 0, third = 0;
    if (slots < 2 || slots > MAXIMUM_SLOTS) {
        for (size_t index = 0; index < count; index++) first = _mm_crc32_u64(first, words[index]);
        return ~(uint32_t)first;
    }
    const size_t part = count / 3, last = count - 2 * part;
    const uint64_t *middle = words + part, *end = middle + part;
    size_t index = 0;
    for (; index + 1 < part; index++) {
        first = _mm_crc32_u64(first, words[index]);
        second = _mm_crc32_u64(second, middle[index]);
        third = _mm_crc32_u64(third, end[index]);
    }
    first = _mm_crc32_u64(first, words[index]);
    second = _mm_crc32_u64(second, middle[index]);
    for (; index + 1 < last; index++) third = _mm_crc32_u64(third, end[index]);
    uint64_t carried = shifted((uint32_t)first, shifts[slots].first) ^ shifted((uint32_t)second, shifts[slots].second);
    return ~(uint32_t)_mm_crc32_u64(third, words[count - 1] ^ carried);
}
#endif

uint32_t clinux_record_crc(uint32_t seed, const void *record, size_t bytes) {
    const uint8_t *start = record;
#if defined(__x86_64__)
    if (has_instructions) return record_crc(seed, start, bytes / (SLOT_WORDS * 8));
#endif
    return ~clinux_crc32c(seed, start + 4, bytes - 4);
}
