/* What was denied is said once a minute for each destination, and not more than a few lines a second for all of them;
 * it is always counted. */
#pragma once

#include "base/bucket.h"

#include <stdbool.h>
#include <stddef.h>

#define DENIALS_REMEMBERED 256
#define DENIALS_AGAIN_S    60

struct denial {
    uint64_t key, said_at;
    uint32_t unsaid;
};

struct denials {
    struct denial v[DENIALS_REMEMBERED];
    struct bucket lines;
    uint64_t seed, total, unsaid; /* all; those of destinations that are not remembered */
};

void denials_init(struct denials *d, uint64_t seed, uint64_t now);
/* Counts one. what: the bytes that make up the destination. True where it is to be said now; *ret_unsaid is then how
 * many of the same went unsaid since it last was. */
bool denials_note(struct denials *d, const void *what, size_t len, uint64_t now, uint32_t *ret_unsaid);
