/*
 * Whether the processors of the VMM that runs do run: the one place that pauses and resumes them.
 *
 * Theory of operation. Who wants them to stand still holds them, each by a cause of its own. They are paused when the
 * first hold comes and resumed when the last one goes; whoever waits for that is told, once. Holds may come and go
 * while the VMM is still at the last command: what it is told next is decided when it has answered. The guest's clock,
 * which stands still with it, is set before it is resumed; one that is restored is told the time with its
 * configuration.
 *
 * Saving stops the processors by itself, when the VMM sees fit: from the begin of a save its cause is held, and nothing
 * else is asked of the VMM until the save has ended.
 */
#pragma once

#include "supervisor/conn.h"
#include "vmm/vmm.h"

#include <uv.h>

enum vm_hold {
    VM_HOLD_START, /* a restored VM that is not told to run yet */
    VM_HOLD_USER,
    VM_HOLD_IDLE,
    VM_HOLD_SAVE,
    VM_HOLDS,
};

enum run {
    RUN_NONE, /* there is no VMM */
    RUN_RUNNING,
    RUN_PAUSING,
    RUN_PAUSED,
    RUN_RESUMING,
    RUN_SAVING,
    RUNS,
};

struct run_state {
    uint64_t answer_ms;          /* who waits is told after so long that the VMM does not answer */
    struct conn *const *channel; /* to the guest, whose clock is set; points to NULL where it is cut off */
    const struct vmm_ops *backend;
    struct vmm *vmm;
    enum run run;
    unsigned holds; /* bits */
    struct {
        bool waits;
        struct vmm_done done;
    } waiters[VM_HOLDS];
    struct vmm_done saved;
    bool restored; /* it was, and has not run yet */
    uint64_t clock_set_at;
    uv_timer_t timer;
};

void run_state_init(struct run_state *r, uv_loop_t *loop);
/* Another VMM: it runs, or is paused (held by VM_HOLD_START). */
void run_state_begin(struct run_state *r, const struct vmm_ops *backend, struct vmm *vmm, struct conn *const *channel,
                     bool paused);
/* It has ended, or is not to be heard any more: those who wait are told -EPIPE. */
void run_state_end(struct run_state *r);

/* Held from now on; `done` when the processors stand still, or a negative number and not held where they do not.
 * -EALREADY where it is held, -EPIPE where there is no VMM. */
int run_state_hold(struct run_state *r, enum vm_hold cause, struct vmm_done d);
/* Not held any more; `done` when the processors run or somebody else holds them, or a negative number where they do not
 * run: then it is held again. 0 where it is not held: `done` is not called. */
int run_state_unhold(struct run_state *r, enum vm_hold cause, struct vmm_done d);
bool run_state_holds(const struct run_state *r, enum vm_hold cause);
/* They run, and nobody has asked for anything else. */
bool run_state_is_running(const struct run_state *r);
/* Saves a guest that runs (vmm.h); VM_HOLD_SAVE is held when it has ended, however it did, until it is released. */
int run_state_save(struct run_state *r, int state_fd, bool whole, struct vmm_done d);
/* The guest's clock has stood still, or its host's was set. */
void run_state_set_clock(struct conn *channel);
