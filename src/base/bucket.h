/* A token bucket: what may be spent comes at a rate, and some of it is saved for bursts. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    uint64_t rate; /* a second */
    uint64_t most; /* that is saved */
    uint64_t left, filled_at;
};

/* Full. now: clock.h. */
void bucket_init(struct bucket *b, uint64_t rate, uint64_t most, uint64_t now);
/* Adds what has come since. */
void bucket_fill(struct bucket *b, uint64_t now);
/* Takes n where so much is there. */
bool bucket_take(struct bucket *b, uint64_t n, uint64_t now);
