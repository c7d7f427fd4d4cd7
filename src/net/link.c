#include "net/link.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BEHIND      (256u * 1024)      /* the host's connections rest from here on */
#define MAX_WAITING (8u * 1024 * 1024) /* what connections have under way may still come */

struct link_frame {
    struct link_frame *next;
    size_t len;
    uint8_t bytes[];
};

void link_init(struct link *l, int fd)
{
    *l = (struct link){.fd = fd, .last = &l->first, .most = MAX_WAITING, .pcap = {.fd = -1}};
}

void link_done(struct link *l)
{
    for (struct link_frame *f = l->first, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    pcap_done(&l->pcap);
    l->first = NULL;
    l->last = &l->first;
    l->waiting = 0;
}

static bool is_time(const struct link *l, enum rate_direction d)
{
    uint64_t at = rate_at(&l->rate, d);
    return at == 0 || at <= clock_now();
}

/* 0, or -EAGAIN where it can be taken later. What is refused for another reason is lost. */
static int send_now(struct link *l, const void *frame, size_t n)
{
    ssize_t r;
    if (!is_time(l, RATE_IN))
        return -EAGAIN;
    do
        r = send(l->fd, frame, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == ENOBUFS))
        return -EAGAIN;
    if (r < 0) {
        l->lost++;
        return 0;
    }
    l->sent += n;
    pcap_frame(&l->pcap, frame, n, clock_wall());
    rate_spend(&l->rate, RATE_IN, n, clock_now());
    return 0;
}

void link_send(struct link *l, const void *frame, size_t n)
{
    if (n > LINK_FRAME_MAX || (!l->first && send_now(l, frame, n) == 0))
        return;
    struct link_frame *f = l->waiting + n > l->most ? NULL : malloc(sizeof(*f) + n);
    if (!f) {
        l->lost++;
        return;
    }
    *f = (struct link_frame){.len = n};
    memcpy(f->bytes, frame, n);
    *l->last = f;
    l->last = &f->next;
    l->waiting += n;
}

bool link_is_behind(const struct link *l)
{
    /* With a rate no more waits than goes in that tenth of a second that may be saved for a burst. */
    uint64_t limit = l->rate.limit[RATE_IN];
    return l->waiting > (limit ? MIN_OF(limit / 10, BEHIND) : BEHIND);
}

static short event(const struct link *l, enum rate_direction d, short event, uint64_t now, uint64_t *next)
{
    uint64_t at = rate_at(&l->rate, d);
    if (at <= now)
        return event;
    *next = *next ? MIN_OF(*next, at) : at;
    return 0;
}

short link_events(const struct link *l, uint64_t now, uint64_t *ret_next)
{
    *ret_next = 0;
    return (short)(event(l, RATE_OUT, POLLIN, now, ret_next) |
                   (l->first ? event(l, RATE_IN, POLLOUT, now, ret_next) : 0));
}

void link_flush(struct link *l)
{
    for (struct link_frame *f; (f = l->first) && send_now(l, f->bytes, f->len) == 0;) {
        l->first = f->next;
        l->waiting -= f->len;
        if (!l->first)
            l->last = &l->first;
        free(f);
    }
}

int link_receive(struct link *l, uint8_t ret[static LINK_FRAME_MAX])
{
    ssize_t n;
    if (!is_time(l, RATE_OUT))
        return 0;
    do /* one that is longer than any is cut, and then refused by what reads it */
        n = recv(l->fd, ret, LINK_FRAME_MAX, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    l->received += (uint64_t)n;
    pcap_frame(&l->pcap, ret, (size_t)n, clock_wall());
    rate_spend(&l->rate, RATE_OUT, (size_t)n, clock_now());
    return n == 0 ? -ENODATA : (int)n;
}
