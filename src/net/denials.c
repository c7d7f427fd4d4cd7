#include "net/denials.h"
#include "base/clock.h"

#include <string.h>

#define LINES_A_SECOND 2
#define LINES_AT_ONCE  100

void denials_init(struct denials *d, uint64_t seed, uint64_t now)
{
    *d = (struct denials){.seed = seed};
    bucket_init(&d->lines, LINES_A_SECOND, LINES_AT_ONCE, now);
}

/* FNV-1a from a start that the guest does not know. */
static uint64_t hash(uint64_t h, const uint8_t *p, size_t n)
{
    h ^= 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h | 1; /* 0 is a free place */
}

/* That destination's place: its own, or the one that was said the longest ago. */
static struct denial *place(struct denials *d, uint64_t key)
{
    struct denial *oldest = d->v;
    for (size_t i = 0; i < DENIALS_REMEMBERED; i++) {
        if (d->v[i].key == key)
            return &d->v[i];
        if (oldest->key && (!d->v[i].key || d->v[i].said_at < oldest->said_at))
            oldest = &d->v[i];
    }
    return oldest;
}

bool denials_note(struct denials *d, const void *what, size_t len, uint64_t now, uint32_t *ret_unsaid)
{
    uint64_t key = hash(d->seed, what, len);
    struct denial *o = place(d, key);
    bool found = o->key == key;
    d->total++;
    if (found && now - o->said_at < DENIALS_AGAIN_S * NSEC_PER_SEC) {
        o->unsaid++;
        return false;
    }
    if (!bucket_take(&d->lines, 1, now)) {
        d->unsaid++;
        return false;
    }
    *ret_unsaid = found ? o->unsaid : 0;
    *o = (struct denial){.key = key, .said_at = now};
    return true;
}
