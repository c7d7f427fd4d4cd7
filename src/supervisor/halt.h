/*
 * Noticing a guest that has halted for good, as `halt -f` and a kernel that stops do: nothing tells the host, and a
 * client that waits for its agent would wait for ever.
 *
 * Theory of operation. While clients wait for the guest and it has said nothing for a second, the VMM is asked for its
 * processors' state; again after twice that time, and so on. What a client says does not put that off, and brings it
 * back to a second. Nothing is asked while no client waits.
 */
#pragma once

#include "supervisor/vm.h"

#include <uv.h>

struct halt {
    struct vm *vm;                /* what the owner sets */
    bool (*may_ask)(void *owner); /* ...: false while the VMM stands still or is busy with something else */
    void (*halted)(void *owner);  /* ... */
    void *owner;                  /* ... */
    uint64_t wait_ms;
    uv_timer_t timer;
};

void halt_init(struct halt *h, uv_loop_t *loop);
/* Do clients wait for the guest now? When one of them said something, came or went ... */
void halt_watch(struct halt *h, bool clients_wait);
/* ... and when the guest did. */
void halt_guest_spoke(struct halt *h, bool clients_wait);
