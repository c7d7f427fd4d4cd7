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
    struct vm *vm; /* what the owner sets */
    enum {
        IDLE_PAUSE_AWAKE,
        IDLE_PAUSE_ASKED,    /* the agent will say when it may be */
        IDLE_PAUSE_STOPPING, /* the VMM was told to */
        IDLE_PAUSE_ASLEEP,
        IDLE_PAUSE_WAKING,
    } state;
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
/* The VMM said something: true where that was about this, with *ret_words (static) where there is something to log. */
bool idle_pause_event(struct idle_pause *r, enum vmm_event event, const char **ret_words);
/* The guest's clock has stood still: sets it. */
void idle_pause_set_clock(struct conn *channel);
