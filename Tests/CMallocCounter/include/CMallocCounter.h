// For tests that must prove that something allocates nothing.
#ifndef CMALLOC_COUNTER_H
#define CMALLOC_COUNTER_H

#include <stdint.h>

/// Allocations that the calling thread has made since it began.
uint64_t malloc_calls(void);

#endif
