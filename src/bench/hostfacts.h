/* What this machine is, for figures to be understood by: best effort, what cannot be found out is empty or 0. */
#pragma once

#include <stdint.h>

struct hostfacts {
    char cpu[128];    /* the processor's model name */
    char kernel[128]; /* uname release */
    char machine[32]; /* ... machine */
    char backend[160];
    unsigned cores; /* that this process may use */
    uint64_t memory_mib;
    double load; /* of the last minute */
};

/* backend NULL: the default one. */
void hostfacts_load(struct hostfacts *f, const char *backend);
