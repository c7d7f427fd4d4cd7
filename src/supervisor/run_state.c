#include "supervisor/run_state.h"
#include "base/clock.h"
#include "wire/msg.h"

#include <errno.h>

#define ANSWER_MS 60000 /* a VMM answers in milliseconds; a loaded host takes its time */
#define CLOCK_MS  50    /* a clock that was set so long before the guest ran is set again */

static void step(struct run_state *r);

void run_state_set_clock(struct conn *channel)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    const struct msg_clock clock = {.wall_ns = clock_wall()};
    if (msg_clock_encode(&b, &clock) == 0)
        conn_send_frame(channel, FRAME_MSG, 0, 0, b.data, b.len);
}

static unsigned bit(enum vm_hold cause)
{
    return 1u << cause;
}

static void tell(struct run_state *r, enum vm_hold cause, int code, const char *problem)
{
    const struct vmm_done d = r->waiters[cause].done;
    r->waiters[cause].waits = false;
    if (d.done)
        d.done(d.owner, code, problem);
}

/* Those who wait for a hold, or for the end of theirs. A negative code undoes what they have asked for. */
static void tell_all(struct run_state *r, bool held, int code, const char *problem)
{
    for (enum vm_hold c = 0; c < VM_HOLDS; c++) {
        if (!r->waiters[c].waits || run_state_holds(r, c) != held)
            continue;
        if (code < 0)
            r->holds ^= bit(c);
        tell(r, c, code, problem);
    }
}

/* ---- The VMM's answers ---- */

static void on_timeout(uv_timer_t *t)
{
    struct run_state *r = t->data;
    tell_all(r, r->run == RUN_PAUSING, -ETIMEDOUT, "the backend does not answer");
}

static void on_paused(void *owner, int code, const char *problem)
{
    struct run_state *r = owner;
    uv_timer_stop(&r->timer);
    r->run = code < 0 ? RUN_RUNNING : RUN_PAUSED;
    if (code < 0)
        tell_all(r, true, code, problem);
    step(r);
}

static void on_running(void *owner, int code, const char *problem)
{
    struct run_state *r = owner;
    uv_timer_stop(&r->timer);
    r->run = code < 0 ? RUN_PAUSED : RUN_RUNNING;
    if (code < 0) {
        tell_all(r, false, code, problem);
        return; /* asking again at once would give the same */
    }
    if (!r->restored && clock_now() - r->clock_set_at > (uint64_t)CLOCK_MS * NSEC_PER_MSEC)
        run_state_set_clock(*r->channel);
    r->restored = false;
    tell_all(r, false, 0, "");
    step(r);
}

static void on_saved(void *owner, int code, const char *problem)
{
    struct run_state *r = owner;
    const struct vmm_done d = r->saved;
    r->run = RUN_PAUSED; /* where it is not, resuming is nothing */
    if (d.done)
        d.done(d.owner, code, problem);
    step(r);
}

/* ---- What it is told ---- */

static void command(struct run_state *r, enum run next)
{
    const bool pauses = next == RUN_PAUSING;
    const struct vmm_done d = {.done = pauses ? on_paused : on_running, .owner = r};
    if (!pauses && !r->restored)
        run_state_set_clock(*r->channel); /* the first that the guest hears */
    r->clock_set_at = clock_now();
    int code = pauses ? r->backend->pause(r->vmm, d) : r->backend->resume(r->vmm, d);
    if (code < 0) {
        tell_all(r, pauses, code, "the backend takes no command");
        return;
    }
    r->run = next;
    uv_timer_start(&r->timer, on_timeout, r->answer_ms, 0);
}

static void step(struct run_state *r)
{
    if (r->run == RUN_RUNNING && r->holds)
        command(r, RUN_PAUSING);
    else if (r->run == RUN_PAUSED && !r->holds)
        command(r, RUN_RESUMING);
    if (r->run == RUN_RUNNING || (r->run == RUN_PAUSED && r->holds))
        tell_all(r, false, 0, "");
    if (r->run == RUN_PAUSED)
        tell_all(r, true, 0, "");
}

static int change(struct run_state *r, enum vm_hold cause, struct vmm_done d)
{
    if (r->run == RUN_NONE)
        return -EPIPE;
    if (r->waiters[cause].waits) /* who asked for the opposite hears that it came otherwise */
        tell(r, cause, -ECANCELED, "it was taken back");
    r->holds ^= bit(cause);
    r->waiters[cause].waits = true;
    r->waiters[cause].done = d;
    step(r);
    return 0;
}

int run_state_hold(struct run_state *r, enum vm_hold cause, struct vmm_done d)
{
    return run_state_holds(r, cause) ? -EALREADY : change(r, cause, d);
}

int run_state_unhold(struct run_state *r, enum vm_hold cause, struct vmm_done d)
{
    return run_state_holds(r, cause) ? change(r, cause, d) : 0;
}

bool run_state_holds(const struct run_state *r, enum vm_hold cause)
{
    return r->holds & bit(cause);
}

bool run_state_is_running(const struct run_state *r)
{
    return r->run == RUN_RUNNING && !r->holds;
}

int run_state_save(struct run_state *r, int state_fd, bool whole, struct vmm_done d)
{
    if (r->run == RUN_NONE)
        return -EPIPE;
    if (!run_state_is_running(r))
        return -EBUSY;
    r->saved = d;
    int code = r->backend->save(r->vmm, state_fd, whole, (struct vmm_done){.done = on_saved, .owner = r});
    if (code < 0)
        return code;
    r->run = RUN_SAVING;
    r->holds |= bit(VM_HOLD_SAVE);
    return 0;
}

/* ---- Begin and end ---- */

void run_state_init(struct run_state *r, uv_loop_t *loop)
{
    r->answer_ms = ANSWER_MS;
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
}

void run_state_begin(struct run_state *r, const struct vmm_ops *backend, struct vmm *vmm, struct conn *const *channel,
                     bool paused)
{
    run_state_end(r);
    r->backend = backend;
    r->vmm = vmm;
    r->channel = channel;
    r->run = paused ? RUN_PAUSED : RUN_RUNNING;
    r->holds = paused ? bit(VM_HOLD_START) : 0;
    r->restored = paused;
}

void run_state_end(struct run_state *r)
{
    uv_timer_stop(&r->timer);
    r->run = RUN_NONE;
    for (enum vm_hold c = 0; c < VM_HOLDS; c++)
        if (r->waiters[c].waits)
            tell(r, c, -EPIPE, "the vm has ended");
    r->holds = 0;
    r->vmm = NULL;
}
