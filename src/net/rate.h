/* --net-rate IN/OUT: bytes a second to and from the guest. Whoever moves them waits instead of dropping: TCP does the
 * rest. */
#pragma once

#include "base/bucket.h"
#include "base/error.h"

enum rate_direction { RATE_IN, RATE_OUT };

struct rate {
    uint64_t limit[2];       /* bytes a second, 0: none */
    struct bucket bucket[2]; /* a tenth of a second's worth may come at once, at least one frame of the largest size */
};

/* "10M/1M", "10M" for both, 0 or nothing for none: "/1M". K, M, G count in 1024. -EINVAL; at least 4K. */
int rate_parse(const char *text, struct rate *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* Full buckets. */
void rate_start(struct rate *r, uint64_t now);
/* Takes a frame's bytes: 0, or how many ns from now it may be tried again. */
uint64_t rate_take(struct rate *r, enum rate_direction d, size_t bytes, uint64_t now);
