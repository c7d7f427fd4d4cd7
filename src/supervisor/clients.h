/*
 * The clients of a supervisor, in the order in which they came: who is not read at the moment because what it sends has
 * to wait, and who has to go because it does not read.
 */
#pragma once

#include "supervisor/conn.h"

#include <uv.h>

struct clients {
    /* Whether what this one sends can be taken now. */
    bool (*may_go_on)(void *owner, const struct conn *c); /* what the owner sets */
    void *owner;                                          /* ... */
    struct conn *first, *last;
    unsigned n;
    uv_timer_t wake;
};

void clients_init(struct clients *l, uv_loop_t *loop);
void clients_add(struct clients *l, struct conn *c);
void clients_remove(struct clients *l, struct conn *c);
/* How many have asked something of the guest. */
unsigned clients_using(const struct clients *l);
/* Something may have got room: those that are paused go on, in the loop's next round. */
void clients_wake(struct clients *l);
/* Where more than `max` bytes wait for all clients together: cuts off the one for which most do. */
void clients_bound(struct clients *l, size_t max);
/* Makes room for another by cutting off the oldest that has asked nothing of the guest. False where there is none. */
bool clients_evict(struct clients *l);
