/*
 * Letting a guest that nobody uses stand still, so that it takes no processor time at all: even one with nothing to do
 * wakes its VMM many times a second.
 *
 * Theory of operation. Some seconds after the last client that used the guest has gone, the agent is asked
 * (MSG_QUIESCE) to say when nothing runs in the guest and everything is on its disks (MSG_QUIESCED). Then the
 * processors are stopped. The next request for the guest has them go on; what is sent meanwhile waits in the channel.
 * The guest's clock is set first.
 */
#pragma once

#include "supervisor/vm.h"

#include <uv.h>

struct idle_pause {
    struct vm *vm;                                   /* what the owner sets */
    void (*changed)(void *owner, const char *words); /* ...: it stands still, or runs again */
    void *owner;                                     /* ... */
    bool asked;                                      /* the agent will say when it may be */
    uv_timer_t timer;
};

void idle_pause_init(struct idle_pause *r, uv_loop_t *loop);
/* Nobody has used the guest since then (clock_now()); it is configured and runs. Again where that has changed. */
void idle_pause_unused(struct idle_pause *r, uint64_t since);
/* Somebody may. A guest that stands still stays so. */
void idle_pause_keep(struct idle_pause *r);
/* The agent said MSG_QUIESCED. */
void idle_pause_agreed(struct idle_pause *r);
/* Before anything is sent to the guest. */
void idle_pause_wake(struct idle_pause *r);
