#include "guest/accept_queue.h"
#include "base/fd.h"
#include "guest/listeners.h"
#include "guest/service_address.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#define TICK_NS 10000000

static struct {
    bool is_known;
    union address of;
    int queue; /* as listeners_queue(): below 0 nothing listens, and the connection is refused */
} seen;

static socklen_t length(const struct sockaddr *a)
{
    return a->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

bool accept_queue_room(const struct sockaddr *to, unsigned under_way)
{
    if (!seen.is_known || memcmp(&seen.of, to, length(to)) != 0) {
        seen.is_known = true;
        memcpy(&seen.of, to, length(to));
        seen.queue = listeners_queue_now(to);
        if (seen.queue >= 0 && seen.queue < ACCEPT_QUEUE)
            seen.queue += (int)under_way;
    }
    bool room = seen.queue < ACCEPT_QUEUE;
    if (room && seen.queue >= 0)
        seen.queue++;
    return room;
}

void accept_queue_changed(void)
{
    seen.is_known = false;
}

int accept_queue_timer(int epoll, void *ptr)
{
    const struct itimerspec every = {.it_value.tv_nsec = TICK_NS, .it_interval.tv_nsec = TICK_NS};
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = ptr};
    CLEAN_FD int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        return -errno;
    return TAKE_FD(fd);
}
