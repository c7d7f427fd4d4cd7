#include "supervisor/live_save.h"
#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/vm.h"

#include <stdio.h>
#include <string.h>

#define DRAIN_MS  10000 /* an agent answers in milliseconds; a loaded host takes its time */
#define LIVE_MS   1000  /* a guest that writes faster than it is copied stands still after this */
#define SAVE_MS   60000 /* ... and is left alone after this */
#define CANCEL_MS 10000 /* ... whatever the VMM says, after this */

static void fail(struct live_save *c, const char *why)
{
    if (!c->result.problem[0])
        snprintf(c->result.problem, sizeof(c->result.problem), "%s", why);
}

/* Both sides may speak again. */
static void finish(struct live_save *c)
{
    const struct msg_saved result = c->result;
    c->stage = LIVE_SAVE_IDLE;
    uv_timer_stop(&c->timer);
    fd_closep(&c->file_fd);
    if (c->vm->now)
        conn_release(c->vm->now->channel);
    c->done(c->owner, &result);
}

static void on_running(void *owner, int r, const char *problem)
{
    struct live_save *c = owner;
    if (c->stage != LIVE_SAVE_RESUMING)
        return;
    if (r < 0)
        fail(c, problem);
    c->result.stopped_ns = c->stopped_at ? clock_now() - c->stopped_at : 0;
    finish(c);
}

static void resume(struct live_save *c)
{
    c->stage = LIVE_SAVE_RESUMING;
    uv_timer_stop(&c->timer);
    if (run_state_unhold(&c->vm->processors, VM_HOLD_SAVE, (struct vmm_done){.done = on_running, .owner = c}) < 0)
        finish(c);
}

static void on_saved(void *owner, int r, const char *problem)
{
    struct live_save *c = owner;
    if (c->stage != LIVE_SAVE_SAVING && c->stage != LIVE_SAVE_CANCELLING) {
        (void)!run_state_unhold(&c->vm->processors, VM_HOLD_SAVE, (struct vmm_done){0}); /* given up long ago */
        return;
    }
    if (r < 0)
        fail(c, problem);
    c->stopped_at = c->vm->backend->facts(c->vm->now->vmm)->stopped_at;
    resume(c);
}

static void on_timeout(uv_timer_t *t)
{
    struct live_save *c = t->data;
    if (c->stage == LIVE_SAVE_DRAINING) {
        fail(c, "the guest's agent does not answer (is its image older than this mvmctl?)");
        finish(c);
    } else if (c->stage == LIVE_SAVE_SAVING && !c->hurried) {
        (void)!c->vm->backend->hurry(c->vm->now->vmm);
        c->hurried = true;
        uv_timer_start(&c->timer, on_timeout, c->save_ms, 0);
    } else if (c->stage == LIVE_SAVE_SAVING) {
        fail(c, "writing the state took too long");
        c->stage = LIVE_SAVE_CANCELLING;
        (void)!c->vm->backend->cancel(c->vm->now->vmm);
        uv_timer_start(&c->timer, on_timeout, c->cancel_ms, 0);
    } else if (c->stage == LIVE_SAVE_CANCELLING) {
        finish(c);
    }
}

void live_save_init(struct live_save *c, uv_loop_t *loop)
{
    c->file_fd = -1;
    c->drain_ms = DRAIN_MS;
    c->live_ms = LIVE_MS;
    c->save_ms = SAVE_MS;
    c->cancel_ms = CANCEL_MS;
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
}

void live_save_start(struct live_save *c, int file_fd)
{
    struct conn *channel = c->vm->now->channel;
    c->stage = LIVE_SAVE_DRAINING;
    c->file_fd = file_fd;
    c->result = (struct msg_saved){0};
    c->stopped_at = 0;
    c->hurried = false;
    conn_send_bare(channel, MSG_DRAIN);
    conn_hold(channel);
    conn_send_bare(channel, MSG_UNDRAIN); /* the first of what is kept back */
    uv_timer_start(&c->timer, on_timeout, c->drain_ms, 0);
}

void live_save_drained(struct live_save *c)
{
    if (c->stage != LIVE_SAVE_DRAINING)
        return;
    c->stage = LIVE_SAVE_SAVING;
    uv_timer_start(&c->timer, on_timeout, c->live_ms, 0);
    if (run_state_save(&c->vm->processors, c->file_fd, true, (struct vmm_done){.done = on_saved, .owner = c}) < 0) {
        fail(c, "the backend takes no command");
        finish(c);
    }
}

void live_save_ended(struct live_save *c)
{
    if (c->stage == LIVE_SAVE_IDLE)
        return;
    fail(c, "the vm has ended");
    finish(c);
}
