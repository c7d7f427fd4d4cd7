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
    r->state = IDLE_PAUSE_ASKED;
}

void idle_pause_unused(struct idle_pause *r, uint64_t since)
{
    uint64_t ms = (clock_now() - since) / NSEC_PER_MSEC;
    if (r->state == IDLE_PAUSE_AWAKE)
        uv_timer_start(&r->timer, on_unused, ms < IDLE_PAUSE_AFTER_MS ? IDLE_PAUSE_AFTER_MS - ms : 0, 0);
}

void idle_pause_keep(struct idle_pause *r)
{
    uv_timer_stop(&r->timer);
    if (r->state == IDLE_PAUSE_ASKED)
        r->state = IDLE_PAUSE_AWAKE;
}

void idle_pause_agreed(struct idle_pause *r)
{
    if (r->state == IDLE_PAUSE_ASKED)
        r->state = r->vm->backend->pause(r->vm->now->control_fd) < 0 ? IDLE_PAUSE_AWAKE : IDLE_PAUSE_STOPPING;
}

void idle_pause_set_clock(struct conn *channel)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    const struct msg_clock clock = {.wall_ns = clock_wall()};
    if (msg_clock_encode(&b, &clock) == 0)
        conn_send_frame(channel, FRAME_MSG, 0, 0, b.data, b.len);
}

static void go_on(struct idle_pause *r)
{
    r->state = r->vm->backend->resume(r->vm->now->control_fd) < 0 ? IDLE_PAUSE_AWAKE : IDLE_PAUSE_WAKING;
}

void idle_pause_wake(struct idle_pause *r)
{
    idle_pause_keep(r);
    if (!r->vm->now || (r->state != IDLE_PAUSE_STOPPING && r->state != IDLE_PAUSE_ASLEEP))
        return;
    idle_pause_set_clock(r->vm->now->channel);
    go_on(r);
}

bool idle_pause_event(struct idle_pause *r, enum vmm_event event, const char **ret_words)
{
    *ret_words = NULL;
    if (r->state != IDLE_PAUSE_STOPPING && r->state != IDLE_PAUSE_WAKING)
        return false;
    if (event == VMM_STOPPED && r->state == IDLE_PAUSE_STOPPING) {
        r->state = IDLE_PAUSE_ASLEEP;
        *ret_words = "nobody uses the guest: it stands still";
    } else if (event == VMM_NOT_YET && r->state == IDLE_PAUSE_WAKING) {
        go_on(r);
    } else if (event == VMM_RUNNING || event == VMM_FAILED) {
        r->state = IDLE_PAUSE_AWAKE;
        *ret_words = "the guest goes on";
    }
    return true;
}
