/*
 * Noticing a guest that has halted for good, as `halt -f` and a kernel that stops do: nothing tells the host, and a
 * client that waits for its agent would wait for ever.
 *
 * Theory of operation. While clients wait for the guest and it has said nothing for a second, the VMM is asked for its
 * processors' state; again after twice that time, and so on. Nothing is asked while no client waits.
 */
#pragma once

#include "machine/vm.h"

#include <uv.h>

struct halt {
    struct vm *vm;                /* what the owner sets */
    bool (*may_ask)(void *owner); /* ...: false while the VMM stands still or is busy with something else */
    void *owner;                  /* ... */
    uint64_t wait_ms;
    uv_timer_t timer;
};

void halt_init(struct halt *h, uv_loop_t *loop);
/* A client or the guest said something: do clients wait for the guest now? */
void halt_watch(struct halt *h, bool clients_wait);
