#include "net/rate.h"
#include "base/clock.h"
#include "base/macros.h"

#define SAVED_NS (NSEC_PER_SEC / 10)

uint64_t rate_at(const struct rate *r, enum rate_direction d)
{
    return r->limit[d] ? r->paid[d] : 0;
}

void rate_spend(struct rate *r, enum rate_direction d, size_t bytes, uint64_t now)
{
    if (r->limit[d])
        r->paid[d] = MAX_OF(r->paid[d], now - MIN_OF(now, SAVED_NS)) + bytes * NSEC_PER_SEC / r->limit[d];
}
