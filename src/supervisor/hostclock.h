/* Tells when the host's clock was set, or the host slept: a guest's clock does not follow either. */
#pragma once

#include <uv.h>

struct hostclock {
    void (*jumped)(void *owner); /* what the owner sets */
    void *owner;                 /* ... */
    int fd;
    uv_poll_t poll;
};

/* Without it the clock is not watched: no error. */
void hostclock_watch(struct hostclock *h, uv_loop_t *loop);
