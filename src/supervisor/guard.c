#include "supervisor/guard.h"
#include "base/clock.h"
#include "base/macros.h"

#include <time.h>

#define REST_FACTOR 6

static const char flooding[] = "for 10 s it sent more than 10,000 frames a second that move no data of an open stream";
static const char not_reading[] = "for 10 s it sent frames that are answered and read no answer";

static uint64_t cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static bool lasted(uint64_t since)
{
    return since && clock_now() - since >= GUARD_MS * NSEC_PER_MSEC;
}

static void begin_unread(struct guard *g, const struct conn *guest)
{
    g->unread_since = clock_now();
    g->unread = conn_queued(guest);
}

/* The time to rest is over, or a guest that does not read had its chance. */
static void on_timer(uv_timer_t *t)
{
    struct guard *g = t->data;
    struct conn *guest = g->guest(g->owner);
    if (!guest || !guest->paused)
        return;
    if (conn_queued(guest) <= GUARD_UNREAD) {
        g->unread_since = 0;
        conn_resume(guest);
        return;
    }
    if (lasted(g->unread_since)) {
        if (conn_queued(guest) >= g->unread) {
            conn_cut_off(guest, not_reading);
            return;
        }
        begin_unread(g, guest); /* slow, but it reads */
    }
    uv_timer_start(&g->timer, on_timer, 100, 0);
}

void guard_init(struct guard *g, uv_loop_t *loop)
{
    uv_timer_init(loop, &g->timer);
    g->timer.data = g;
    bucket_init(&g->budget, GUARD_RATE, GUARD_BURST, clock_now());
}

void guard_begin(struct guard *g)
{
    g->cpu = cpu_now();
}

const char *guard_end(struct guard *g, struct conn *guest, uint64_t cost)
{
    uint64_t rest_ns = 0;
    bucket_fill(&g->budget, clock_now());
    /* A second of rest: what follows is judged anew. */
    if (g->budget.left >= GUARD_BURST / 2)
        g->over_since = 0;
    if (cost > g->budget.left && !g->over_since)
        g->over_since = clock_now();
    g->budget.left -= MIN_OF(cost, g->budget.left);
    if (lasted(g->over_since))
        return flooding;
    if (g->over_since && cost)
        rest_ns = (cpu_now() - g->cpu) * REST_FACTOR;
    if (conn_queued(guest) > GUARD_UNREAD && !g->unread_since)
        begin_unread(g, guest);
    if (rest_ns || g->unread_since) {
        conn_pause(guest);
        uv_timer_start(&g->timer, on_timer, rest_ns / NSEC_PER_MSEC + 1, 0);
    }
    return NULL;
}
