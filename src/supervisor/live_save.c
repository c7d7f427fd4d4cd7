#include "supervisor/live_save.h"
#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/idle_pause.h"
#include "supervisor/vm.h"

#include <stdio.h>
#include <string.h>

#define HOLD_MS 10000 /* an agent answers in milliseconds; a loaded host takes its time */
#define LIVE_MS 1000  /* a guest that writes faster than it is copied stands still after this */
#define SAVE_MS 60000 /* ... and is left alone after this */

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
    if (c->vm->now) {
        conn_release(c->vm->now->channel);
        if (c->stopped_at)
            idle_pause_set_clock(c->vm->now->channel);
    }
    c->done(c->owner, &result);
}

static void resume(struct live_save *c)
{
    c->stage = LIVE_SAVE_RESUMING;
    if (c->vm->backend->resume(c->vm->now->control_fd) < 0) {
        fail(c, "the backend takes no command");
        finish(c);
    }
}

static void on_timeout(uv_timer_t *t)
{
    struct live_save *c = t->data;
    if (c->stage == LIVE_SAVE_HOLDING) {
        fail(c, "the guest's agent does not answer (is its image older than this mvmctl?)");
        finish(c);
    } else if (c->stage == LIVE_SAVE_STOPPING) {
        fail(c, "the backend does not stop the guest");
        resume(c);
    } else if (c->stage == LIVE_SAVE_SAVING && !c->hurried) {
        (void)!c->vm->backend->hurry(c->vm->now->control_fd);
        c->hurried = true;
        uv_timer_start(&c->timer, on_timeout, SAVE_MS, 0);
    } else if (c->stage == LIVE_SAVE_SAVING) {
        fail(c, "writing the state took too long");
        (void)!c->vm->backend->cancel(c->vm->now->control_fd);
    }
}

void live_save_init(struct live_save *c, uv_loop_t *loop)
{
    c->file_fd = -1;
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
}

void live_save_start(struct live_save *c, int file_fd)
{
    struct conn *channel = c->vm->now->channel;
    c->stage = LIVE_SAVE_HOLDING;
    c->file_fd = file_fd;
    c->result = (struct msg_saved){0};
    c->stopped_at = 0;
    c->hurried = false;
    conn_send_bare(channel, MSG_DRAIN);
    conn_hold(channel);
    conn_send_bare(channel, MSG_UNDRAIN); /* the first of what is kept back */
    uv_timer_start(&c->timer, on_timeout, HOLD_MS, 0);
}

static void save(struct live_save *c)
{
    c->stage = LIVE_SAVE_SAVING;
    c->hurried = c->stopped_at != 0;
    uv_timer_start(&c->timer, on_timeout, c->hurried ? SAVE_MS : LIVE_MS, 0);
    if (c->vm->backend->save(c->vm->now->control_fd, c->file_fd, true) < 0) {
        fail(c, "the backend takes no command");
        finish(c);
    }
}

/*
 * In software emulation the guest stands still for all of it. QEMU 7.2 notes what a guest writes by a mark in each
 * processor's TLB; where the saving thread takes a page's mark back just as the processor removes it for good
 * (notdirty_write in accel/tcg/cputlb.c), later writes to the page are in no state. A copy then finds a lock taken
 * that nobody holds.
 */
void live_save_held(struct live_save *c)
{
    if (c->stage != LIVE_SAVE_HOLDING)
        return;
    if (strcmp(c->vm->run->accel.name, "kvm") == 0) {
        save(c);
        return;
    }
    c->stage = LIVE_SAVE_STOPPING;
    uv_timer_start(&c->timer, on_timeout, SAVE_MS, 0);
    if (c->vm->backend->pause(c->vm->now->control_fd) < 0) {
        fail(c, "the backend takes no command");
        finish(c);
    }
}

void live_save_event(struct live_save *c, enum vmm_event event, const char *problem)
{
    switch (event) {
    case VMM_STOPPED:
        c->stopped_at = c->stopped_at ? c->stopped_at : clock_now();
        if (c->stage == LIVE_SAVE_STOPPING)
            save(c);
        break;
    case VMM_FAILED:
        fail(c, problem);
        __attribute__((fallthrough));
    case VMM_COMPLETED:
        if (c->stage == LIVE_SAVE_SAVING || c->stage == LIVE_SAVE_STOPPING)
            resume(c);
        break;
    case VMM_NOT_YET:
        if (c->stage == LIVE_SAVE_RESUMING)
            resume(c);
        break;
    case VMM_RUNNING:
        if (c->stage != LIVE_SAVE_RESUMING)
            break;
        c->result.stopped_ns = c->stopped_at ? clock_now() - c->stopped_at : 0;
        finish(c);
        break;
    case VMM_HALTED:
    case VMM_NOTHING:
        break;
    }
}

void live_save_ended(struct live_save *c)
{
    if (c->stage == LIVE_SAVE_IDLE)
        return;
    fail(c, "the vm has ended");
    finish(c);
}
