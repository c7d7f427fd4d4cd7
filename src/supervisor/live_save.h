/*
 * Copying a running guest into a file, while it runs on.
 *
 * Theory of operation. A copy continues with the agent's memory as it was, but with a new host at the other end of the
 * channel. It must find no half frame, neither sent nor received. So the agent is asked to be silent (MSG_DRAIN) and
 * answers (MSG_DRAINED) as its last word; from the question on nothing is sent to it either. Between the two ends of
 * the channel nothing is on its way then, and the guest is saved: where the backend can, its memory while it runs and
 * the rest, for some milliseconds, while it stands still. Then it is resumed and both sides may speak again
 * (MSG_UNDRAIN). Whatever goes wrong, the guest goes on.
 */
#pragma once

#include "supervisor/vmm_process.h"
#include "wire/msg.h"

#include <uv.h>

struct vm;

struct live_save {
    struct vm *vm;                                             /* what the owner sets */
    void (*done)(void *owner, const struct msg_saved *result); /* ...: once for each live_save_start that succeeded */
    void *owner;                                               /* ... */
    uint64_t drain_ms, live_ms, save_ms, cancel_ms;            /* how long each part may take */
    enum { LIVE_SAVE_IDLE, LIVE_SAVE_DRAINING, LIVE_SAVE_SAVING, LIVE_SAVE_CANCELLING, LIVE_SAVE_RESUMING } stage;
    int file_fd;
    uint64_t stopped_at; /* clock.h; 0: the processors ran all the time */
    bool hurried;        /* the VMM was told to write the rest while they do not */
    struct msg_saved result;
    uv_timer_t timer;
};

void live_save_init(struct live_save *c, uv_loop_t *loop);
/* Begins; takes the descriptor of an empty file. Nothing else may be in the making, the guest is configured and runs.
 */
void live_save_start(struct live_save *c, int file_fd);
/* The agent said MSG_DRAINED. */
void live_save_drained(struct live_save *c);
/* The VMM has ended. */
void live_save_ended(struct live_save *c);
