/* Bytes a second to and from a guest. Whoever moves frames asks first and waits: nothing is dropped, TCP slows down by
 * itself. A frame goes whole, whatever its size, and is paid for afterwards. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum rate_direction { RATE_IN, RATE_OUT, RATES };

struct rate {
    uint64_t limit[RATES]; /* 0: none */
    uint64_t paid[RATES];  /* when all that has passed is paid for */
};

/* When a frame may pass: now or before, or the time to wait for. 0 without a limit. */
uint64_t rate_at(const struct rate *r, enum rate_direction d);
/* One passes. What was not used lately is saved for a burst: a tenth of a second's worth. */
void rate_spend(struct rate *r, enum rate_direction d, size_t bytes, uint64_t now);
