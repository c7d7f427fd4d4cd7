/*
 * What a guest may cost the host: a hostile one can send frames that move nothing for anybody (HELLO, LOG, OPEN,
 * WINDOW, frames of streams that are gone) as fast as the VMM takes them.
 *
 * Theory of operation. Such frames have a budget (router_cost): GUARD_RATE a second, with GUARD_BURST saved. A guest
 * above it is read slower: after each read its channel rests for so long that reading takes at most a seventh of a
 * core. A channel on which the guest does not read what its own frames are answered with is not read, either. After
 * GUARD_MS of one or the other the guest is cut off.
 */
#pragma once

#include "base/bucket.h"
#include "supervisor/conn.h"

#include <uv.h>

#define GUARD_RATE   10000ull
#define GUARD_BURST  20000ull
#define GUARD_MS     10000
#define GUARD_UNREAD (6u << 20) /* bytes for a guest that it does not read */

struct guard {
    struct conn *(*guest)(void *owner); /* what the owner sets: the channel now, NULL where there is none */
    void *owner;                        /* ... */
    uv_timer_t timer;
    struct bucket budget;
    uint64_t over_since, unread_since; /* clock.h; 0: it is not */
    size_t unread;                     /* then */
    uint64_t cpu;                      /* at the begin of what is measured */
};

void guard_init(struct guard *g, uv_loop_t *loop);
/* Before the guest's frames of one read are worked on. */
void guard_begin(struct guard *g);
/* Afterwards, with what they cost: NULL, or why the guest is to be cut off. May pause the channel. */
const char *guard_end(struct guard *g, struct conn *guest, uint64_t cost);
