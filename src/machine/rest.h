/*
 * Letting a guest that nobody uses stand still, so that it takes no processor time at all: even one with nothing to do
 * wakes its VMM many times a second.
 *
 * Theory of operation. Some seconds after the last client that used the guest has gone, the agent is asked (MSG_REST)
 * to say when nothing runs in the guest and everything is on its disks (MSG_RESTS). Then the processors are stopped.
 * The next request for the guest has them go on; what is sent meanwhile waits in the channel. The guest's clock is set
 * first.
 */
#pragma once

#include "machine/vm.h"

#include <uv.h>

struct rest {
    struct vm *vm; /* what the owner sets */
    enum {
        REST_AWAKE,
        REST_ASKED,    /* the agent will say when it may be */
        REST_STOPPING, /* the VMM was told to */
        REST_ASLEEP,
        REST_WAKING,
    } state;
    uv_timer_t timer;
};

void rest_init(struct rest *r, uv_loop_t *loop);
/* Nobody has used the guest since then (clock_now()); it is configured and runs. Again where that has changed. */
void rest_unused(struct rest *r, uint64_t since);
/* Somebody may. A guest that stands still stays so. */
void rest_keep(struct rest *r);
/* The agent said MSG_RESTS. */
void rest_agreed(struct rest *r);
/* Before anything is sent to the guest. */
void rest_wake(struct rest *r);
/* The VMM said something: true where that was about this, with *ret_words (static) where there is something to log. */
bool rest_event(struct rest *r, enum vmm_event event, const char **ret_words);
/* The guest's clock has stood still: sets it. */
void rest_set_clock(struct conn *channel);
