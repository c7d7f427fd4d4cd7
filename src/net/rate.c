#include "net/rate.h"
#include "base/clock.h"
#include "base/macros.h"

#include <errno.h>
#include <string.h>

#define MIN_RATE  4096
#define MAX_RATE  (1ull << 40)
#define MAX_FRAME (65535 + 14)

/* Digits and perhaps K, M or G. False for what is none. */
static bool parse_bytes(const char *s, size_t n, uint64_t *ret)
{
    static const char units[] = "KMG";
    uint64_t v = 0;
    size_t i = 0;
    for (; i < n && s[i] >= '0' && s[i] <= '9' && v < MAX_RATE; i++)
        v = v * 10 + (uint64_t)(s[i] - '0');
    if (i == 0)
        return false;
    const char *unit = i < n && s[i] ? strchr(units, s[i]) : NULL;
    if (unit) {
        v <<= 10 * (unit - units + 1);
        i++;
    }
    *ret = v;
    return i == n && v <= MAX_RATE && (v == 0 || v >= MIN_RATE);
}

int rate_parse(const char *text, struct rate *ret, struct mvm_error *err)
{
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    struct rate r = {0};
    bool good = *text && (n == 0 || parse_bytes(text, n, &r.limit[RATE_IN]));
    if (good && slash)
        good = slash[1] ? parse_bytes(slash + 1, strlen(slash + 1), &r.limit[RATE_OUT]) : n > 0;
    else
        r.limit[RATE_OUT] = r.limit[RATE_IN];
    if (!good) {
        mvm_error_set(err, -EINVAL, "'%s' is no rate", text);
        mvm_error_hint(err, "bytes a second to and from the VM, at least 4K each: 10M/1M, 10M for both, /1M for one");
        return -EINVAL;
    }
    *ret = r;
    return 0;
}

void rate_start(struct rate *r, uint64_t now)
{
    for (int d = RATE_IN; d <= RATE_OUT; d++)
        bucket_init(&r->bucket[d], r->limit[d], MAX_OF(r->limit[d] / 10, MAX_FRAME), now);
}

uint64_t rate_take(struct rate *r, enum rate_direction d, size_t bytes, uint64_t now)
{
    struct bucket *b = &r->bucket[d];
    if (!r->limit[d] || bucket_take(b, bytes, now))
        return 0;
    return (bytes - b->left) * NSEC_PER_SEC / b->rate + 1;
}
