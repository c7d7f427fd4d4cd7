#include "supervisor/hostclock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* A timer that never expires, and is cancelled by what is waited for: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET; Linux
 * cancels it when it wakes up, too (fs/timerfd.c, timerfd_resume). */
static int arm(int fd)
{
    const struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX}};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_event(uv_poll_t *p, int status, int events)
{
    struct hostclock *h = p->data;
    uint64_t n;
    if (read(h->fd, &n, sizeof(n)) < 0 && errno == ECANCELED)
        h->jumped(h->owner);
    if (arm(h->fd) < 0)
        uv_poll_stop(p);
}

void hostclock_watch(struct hostclock *h, uv_loop_t *loop)
{
    h->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (h->fd < 0 || arm(h->fd) < 0 || uv_poll_init(loop, &h->poll, h->fd) < 0)
        return;
    h->poll.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_event);
}
