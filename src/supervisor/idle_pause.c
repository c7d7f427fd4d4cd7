#include "supervisor/idle_pause.h"
#include "base/clock.h"
#include "supervisor/conn.h"
#include "wire/msg.h"

#define IDLE_PAUSE_AFTER_MS 2000

void idle_pause_init(struct idle_pause *r, uv_loop_t *loop)
{
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
}

static void on_unused(uv_timer_t *t)
{
    struct idle_pause *r = t->data;
    if (!r->vm->now || !r->vm->now->channel)
        return;
    conn_send_bare(r->vm->now->channel, MSG_QUIESCE);
    r->asked = true;
}

void idle_pause_unused(struct idle_pause *r, uint64_t since)
{
    uint64_t ms = (clock_now() - since) / NSEC_PER_MSEC;
    if (!r->asked && run_state_is_running(&r->vm->processors))
        uv_timer_start(&r->timer, on_unused, ms < IDLE_PAUSE_AFTER_MS ? IDLE_PAUSE_AFTER_MS - ms : 0, 0);
}

void idle_pause_keep(struct idle_pause *r)
{
    uv_timer_stop(&r->timer);
    r->asked = false;
}

static void on_paused(void *owner, int code, const char *problem)
{
    struct idle_pause *r = owner;
    r->changed(r->owner, code < 0 ? "the guest goes on" : "nobody uses the guest: it stands still");
}

static void on_running(void *owner, int code, const char *problem)
{
    struct idle_pause *r = owner;
    if (code == 0)
        r->changed(r->owner, "the guest goes on");
}

void idle_pause_agreed(struct idle_pause *r)
{
    if (r->asked)
        (void)!run_state_hold(&r->vm->processors, VM_HOLD_IDLE, (struct vmm_done){.done = on_paused, .owner = r});
    r->asked = false;
}

void idle_pause_wake(struct idle_pause *r)
{
    idle_pause_keep(r);
    (void)!run_state_unhold(&r->vm->processors, VM_HOLD_IDLE, (struct vmm_done){.done = on_running, .owner = r});
}
