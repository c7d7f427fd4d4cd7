#include "base/bucket.h"
#include "base/clock.h"
#include "base/macros.h"

void bucket_init(struct bucket *b, uint64_t rate, uint64_t most, uint64_t now)
{
    *b = (struct bucket){.rate = rate, .most = most, .left = most, .filled_at = now};
}

void bucket_fill(struct bucket *b, uint64_t now)
{
    /* Longer than an hour is an hour: that fills it, and the product does not overflow. */
    uint64_t passed = MIN_OF(now - b->filled_at, 3600 * NSEC_PER_SEC), more = passed * b->rate / NSEC_PER_SEC;
    if (!more)
        return;
    b->left = MIN_OF(b->left + more, b->most);
    /* The part of a token that has come stays, except in a full bucket. */
    b->filled_at = b->left == b->most ? now : b->filled_at + more * NSEC_PER_SEC / b->rate;
}

bool bucket_take(struct bucket *b, uint64_t n, uint64_t now)
{
    bucket_fill(b, now);
    if (b->left < n)
        return false;
    b->left -= n;
    return true;
}
