// What Swift sees of libmaxminddb.
#include <maxminddb.h>
