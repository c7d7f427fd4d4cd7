/*
 * Copying a running guest into a file, while it runs on.
 *
 * Theory of operation. A copy continues with the agent's memory as it was, but with a new host at the other end of the
 * channel. It must find no half frame, neither sent nor received. So the agent is asked to be silent (MSG_DRAIN) and
 * answers (MSG_DRAINED) as its last word; from the question on nothing is sent to it either. Between the two ends of
 * the channel nothing is on its way then, and the guest is saved: with KVM its memory while it runs, in the end, for
 * some milliseconds, while it stands still; in software emulation all of it while it stands still. Then it goes on and
 * both sides may speak again (MSG_UNDRAIN). Whatever goes wrong, the guest goes on.
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
    enum { LIVE_SAVE_IDLE, LIVE_SAVE_HOLDING, LIVE_SAVE_STOPPING, LIVE_SAVE_SAVING, LIVE_SAVE_RESUMING } stage;
    int file_fd;
    uint64_t stopped_at; /* clock.h; 0: the processors run */
    bool hurried;        /* the VMM was told to write the rest while they do not */
    struct msg_saved result;
    uv_timer_t timer;
};

void live_save_init(struct live_save *c, uv_loop_t *loop);
/* Begins; takes the descriptor of an empty file. Nothing else may be in the making, the guest is configured and runs.
 */
void live_save_start(struct live_save *c, int file_fd);
/* The agent said MSG_DRAINED. */
void live_save_held(struct live_save *c);
/* The VMM said something while stage is not LIVE_SAVE_IDLE. */
void live_save_event(struct live_save *c, enum vmm_event event, const char *problem);
/* The VMM has ended. */
void live_save_ended(struct live_save *c);
