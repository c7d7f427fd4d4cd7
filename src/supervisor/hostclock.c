#include "supervisor/hostclock.h"
#include "host/os.h"

static void on_event(uv_poll_t *p, int status, int events)
{
    struct hostclock *h = p->data;
    bool jumped;
    int r = os_clock_jumped(h->fd, &jumped);
    if (jumped)
        h->jumped(h->owner);
    if (r < 0)
        uv_poll_stop(p);
}

void hostclock_watch(struct hostclock *h, uv_loop_t *loop)
{
    h->fd = os_watch_clock();
    if (h->fd < 0 || uv_poll_init(loop, &h->poll, h->fd) < 0)
        return;
    h->poll.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_event);
}
