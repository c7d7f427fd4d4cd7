#include "machine/rest.h"
#include "base/clock.h"
#include "machine/conn.h"
#include "wire/msg.h"

#define REST_AFTER_MS 2000

void rest_init(struct rest *r, uv_loop_t *loop)
{
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
}

static void on_unused(uv_timer_t *t)
{
    struct rest *r = t->data;
    if (!r->vm->now || !r->vm->now->channel)
        return;
    conn_send_bare(r->vm->now->channel, MSG_REST);
    r->state = REST_ASKED;
}

void rest_unused(struct rest *r, uint64_t since)
{
    uint64_t ms = (clock_now() - since) / NSEC_PER_MSEC;
    if (r->state == REST_AWAKE)
        uv_timer_start(&r->timer, on_unused, ms < REST_AFTER_MS ? REST_AFTER_MS - ms : 0, 0);
}

void rest_keep(struct rest *r)
{
    uv_timer_stop(&r->timer);
    if (r->state == REST_ASKED)
        r->state = REST_AWAKE;
}

void rest_agreed(struct rest *r)
{
    if (r->state == REST_ASKED)
        r->state = r->vm->backend->pause(r->vm->now->control_fd) < 0 ? REST_AWAKE : REST_STOPPING;
}

void rest_set_clock(struct conn *channel)
{
    CLEAN_BUF struct buf b = BUF_INIT(64);
    const struct msg_clock clock = {.wall_ns = clock_wall()};
    if (msg_clock_encode(&b, &clock) == 0)
        conn_send_frame(channel, FRAME_MSG, 0, 0, b.data, b.len);
}

static void go_on(struct rest *r)
{
    r->state = r->vm->backend->resume(r->vm->now->control_fd) < 0 ? REST_AWAKE : REST_WAKING;
}

void rest_wake(struct rest *r)
{
    rest_keep(r);
    if (!r->vm->now || (r->state != REST_STOPPING && r->state != REST_ASLEEP))
        return;
    rest_set_clock(r->vm->now->channel);
    go_on(r);
}

bool rest_event(struct rest *r, enum vmm_event event, const char **ret_words)
{
    *ret_words = NULL;
    if (r->state != REST_STOPPING && r->state != REST_WAKING)
        return false;
    if (event == VMM_STOPPED && r->state == REST_STOPPING) {
        r->state = REST_ASLEEP;
        *ret_words = "nobody uses the guest: it stands still";
    } else if (event == VMM_NOT_YET && r->state == REST_WAKING) {
        go_on(r);
    } else if (event == VMM_RUNNING || event == VMM_FAILED) {
        r->state = REST_AWAKE;
        *ret_words = "the guest goes on";
    }
    return true;
}
