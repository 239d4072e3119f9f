// What Swift sees of libmaxminddb, and two calls that save the look-up from allocating: an address as
// a sockaddr, and the paths as arrays of C strings.
#include <maxminddb.h>
#include <netinet/in.h>
#include <string.h>

/// Looks up an address given as two big-endian halves; IPv4 in the first four bytes.
static inline MMDB_lookup_result_s cmaxminddb_lookup(
    const MMDB_s *database, uint64_t high, uint64_t low, bool is_ipv6, int *error) {
    if (is_ipv6) {
        struct sockaddr_in6 address;
        memset(&address, 0, sizeof address);
        address.sin6_family = AF_INET6;
        for (int i = 0; i < 8; i++) {
            address.sin6_addr.s6_addr[i] = (uint8_t)(high >> (56 - 8 * i));
            address.sin6_addr.s6_addr[8 + i] = (uint8_t)(low >> (56 - 8 * i));
        }
        return MMDB_lookup_sockaddr(database, (const struct sockaddr *)&address, error);
    }
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl((uint32_t)(high >> 32));
    return MMDB_lookup_sockaddr(database, (const struct sockaddr *)&address, error);
}

/// The values that are looked up.
enum cmaxminddb_field {
    CMAXMINDDB_COUNTRY = 0,
    CMAXMINDDB_REGION = 1,
    CMAXMINDDB_CITY = 2,
};

/// Reads one value of an entry; an MMDB error number, MMDB_INVALID_LOOKUP_PATH_ERROR for no field.
static inline int cmaxminddb_value(MMDB_entry_s *entry, int field, MMDB_entry_data_s *value) {
    static const char *const country[] = {"country", "iso_code", NULL};
    static const char *const region[] = {"subdivisions", "0", "iso_code", NULL};
    static const char *const city[] = {"city", "geoname_id", NULL};
    switch (field) {
    case CMAXMINDDB_COUNTRY: return MMDB_aget_value(entry, value, country);
    case CMAXMINDDB_REGION: return MMDB_aget_value(entry, value, region);
    case CMAXMINDDB_CITY: return MMDB_aget_value(entry, value, city);
    }
    return MMDB_INVALID_LOOKUP_PATH_ERROR;
}
